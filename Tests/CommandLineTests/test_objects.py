"""Objects, versions and buckets through the command line, and the shapes of --json."""

import re
import unittest

import support
from support import Exit, StoreTestCase, random_bytes, sha256

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
VERSION = re.compile(r"^[0-9a-v]{26}$")
DIGEST = re.compile(r"^[0-9a-f]{64}$")


class History(StoreTestCase):
    def test_every_version_is_kept_and_can_be_had(self):
        contents = [random_bytes(size, size) for size in (0, 1, 4096, 300_000, 6 << 20)]
        ids = [self.put("models/x", content)["versionID"] for content in contents]
        self.assertEqual(len(set(ids)), len(ids))
        self.assertEqual(sorted(ids), ids, "later versions compare greater")
        self.assertEqual([version["versionID"] for version in self.versions("models/x")], ids[::-1])
        for content, version in zip(contents, ids):
            self.assertEqual(self.content("models/x", "--version", version), content)
        self.assertEqual(self.content("models/x"), contents[-1])

    def test_a_delete_hides_and_a_restore_brings_back(self):
        self.put("models/x", b"one")
        self.put("models/x", b"two")
        self.do("rm", "models/x")
        self.assertEqual(self.keys(), [])
        self.refuse(Exit.NOT_FOUND, "get", "models/x", "-")
        self.do("restore", "models/x")
        self.assertEqual(self.content("models/x"), b"two")
        first = self.versions("models/x")[-1]["versionID"]
        restored = self.do("restore", "models/x", "--version", first, "--json").json["version"]
        self.assertNotEqual(restored["versionID"], first)
        self.assertEqual(self.content("models/x"), b"one")
        kinds = [version["kind"] for version in self.versions("models/x")]
        self.assertEqual(kinds, ["object", "object", "deleteMarker", "object", "object"])

    def test_restore_of_what_is_not_deleted_asks_for_a_version(self):
        self.put("models/x", b"one")
        self.refuse(Exit.USAGE, "restore", "models/x")
        self.refuse(Exit.NOT_FOUND, "restore", "models/nothing")

    def test_a_version_can_be_removed_for_good(self):
        first = self.put("models/x", b"one")["versionID"]
        self.put("models/x", b"two")
        report = self.do("rm", "models/x", "--version", first, "--json").json
        self.assertEqual(report["removedVersion"], first)
        self.refuse(Exit.NOT_FOUND, "get", "models/x", "-", "--version", first)
        self.assertEqual(self.content("models/x"), b"two")

    def test_removing_a_delete_marker_uncovers_the_object(self):
        self.put("models/x", b"one")
        marker = self.do("rm", "models/x", "--json").json["deleteMarker"]
        self.do("rm", "models/x", "--version", marker)
        self.assertEqual(self.content("models/x"), b"one")

    def test_removing_a_prefix_hides_what_is_under_it(self):
        for key in ["a/1", "a/2", "b/1"]:
            self.put("models/" + key, key.encode())
        self.assertEqual(self.do("rm", "--recursive", "--json", "models/a/").json["deleted"], 2)
        self.assertEqual(self.keys(), ["b/1"])
        self.refuse(Exit.USAGE, "rm", "--recursive", "models/a")

    def test_a_copy_is_an_object_of_its_own(self):
        content = random_bytes(3 << 20, 5)
        self.put("models/x", content)
        before = self.stored_bytes()
        copy = self.do("cp", "models/x", "models/y", "--json").json["version"]
        self.assertEqual(copy["sha256"], sha256(content))
        self.do("rm", "models/x")
        self.assertEqual(self.content("models/y"), content)
        self.assertLess(self.stored_bytes() - before, 1 << 20, "a copy moves no bytes")

    def test_equal_content_is_stored_once(self):
        content = random_bytes(4 << 20, 6)
        self.put("models/x", content)
        before = self.stored_bytes()
        self.put("models/y", content)
        self.assertLess(self.stored_bytes() - before, 1 << 20)
        self.assertEqual(self.do("status", "--json").json["logicalBytes"], 2 * len(content))


class Conditions(StoreTestCase):
    def test_if_none_match_never_overwrites(self):
        self.do("put", "-", "models/x", "--if-none-match", input=b"one")
        outcome = self.refuse(Exit.CONFLICT, "put", "-", "models/x", "--if-none-match", "--json", input=b"two")
        self.assertEqual(outcome.error["code"], "preconditionFailed")
        self.assertEqual(self.content("models/x"), b"one")
        self.do("rm", "models/x")
        self.do("put", "-", "models/x", "--if-none-match", input=b"three")

    def test_if_match_replaces_only_what_it_names(self):
        etag = self.put("models/x", b"one")["etag"]
        self.do("put", "-", "models/x", "--if-match", etag, input=b"two")
        self.refuse(Exit.CONFLICT, "put", "-", "models/x", "--if-match", etag, input=b"three")
        self.assertEqual(self.content("models/x"), b"two")

    def test_a_wrong_digest_stores_nothing(self):
        self.do("put", "-", "models/x", "--sha256", sha256(b"right"), input=b"right")
        self.refuse(Exit.CONFLICT, "put", "-", "models/y", "--sha256", sha256(b"right"), input=b"wrong")
        self.assertEqual(self.keys(), ["x"])


class Listing(StoreTestCase):
    def test_slashes_make_folders_unless_recursive(self):
        for key in ["a", "b/1", "b/2/3", "c", "b.txt"]:
            self.put("models/" + key, b"x")
        entries = self.do("ls", "--json", "models").json["entries"]
        self.assertEqual([entry.get("key", entry.get("prefix")) for entry in entries], ["a", "b.txt", "b/", "c"])
        entries = self.do("ls", "--json", "models/b/").json["entries"]
        self.assertEqual([entry.get("key", entry.get("prefix")) for entry in entries], ["b/1", "b/2/"])
        self.assertEqual(self.keys("models/b"), ["b.txt", "b/1", "b/2/3"])

    def test_more_than_a_page_comes_whole_and_in_byte_order(self):
        tree = self.directory / "tree"
        tree.mkdir()
        names = [f"{number:04}-é" for number in range(1203)]
        for name in names:
            (tree / name).write_bytes(name.encode())
        self.assertEqual(self.do("put", tree, "models/", "--json").json["transferred"], len(names))
        self.assertEqual(self.keys(), names)
        self.assertEqual(len(self.do("ls", "--recursive", "models").text.splitlines()), len(names))
        page = self.do("ls", "--limit", "7", "--json", "models").json
        self.assertEqual(len(page["entries"]), 7)
        self.assertFalse(page["isComplete"])

    def test_versions_are_listed_newest_first(self):
        for content in (b"1", b"2"):
            self.put("models/x", content)
        self.put("models/y", b"3")
        self.do("rm", "models/y")
        entries = self.do("ls", "--versions", "--json", "models").json["entries"]
        shape = [(entry["key"], entry["kind"], entry["isLatest"]) for entry in entries]
        self.assertEqual(shape, [("x", "object", True), ("x", "object", False), ("y", "deleteMarker", True),
                                 ("y", "object", False)])


class Buckets(StoreTestCase):
    def test_they_are_made_listed_and_removed(self):
        self.do("bucket", "create", "other")
        self.refuse(Exit.CONFLICT, "bucket", "create", "other")
        self.assertEqual([bucket["name"] for bucket in self.do("bucket", "ls", "--json").json["buckets"]],
                         ["models", "other"])
        version = self.put("other/x", b"1")["versionID"]
        self.refuse(Exit.CONFLICT, "bucket", "rm", "other")
        self.do("rm", "other/x", "--version", version)
        self.do("bucket", "rm", "other")
        self.refuse(Exit.NOT_FOUND, "bucket", "rm", "other")

    def test_a_bucket_may_keep_no_versions(self):
        self.do("bucket", "create", "scratch", "--versioning", "off")
        self.put("scratch/x", b"one")
        self.put("scratch/x", b"two")
        self.assertEqual(len(self.versions("scratch/x")), 1)
        self.assertTrue(self.versions("scratch/x")[0]["isNull"])
        self.assertEqual(self.content("scratch/x", "--version", "null"), b"two")
        self.do("rm", "scratch/x")
        self.do("bucket", "rm", "scratch")

    def test_suspended_versioning_keeps_what_is_there(self):
        self.put("models/x", b"one")
        self.do("bucket", "versioning", "models", "suspended")
        self.put("models/x", b"two")
        self.put("models/x", b"three")
        self.assertEqual([version["isNull"] for version in self.versions("models/x")], [True, False])
        self.refuse(Exit.USAGE, "bucket", "versioning", "models", "off")


class Shapes(StoreTestCase):
    """The field names of --json are an interface."""

    def test_of_a_version(self):
        version = self.do("put", support.MODEL, "models/m", "--content-type", "application/x-model", "--meta",
                          "run=7", "--tag", "stage=test", "--json").json["version"]
        self.assertEqual(version["bucket"], "models")
        self.assertEqual(version["key"], "m")
        self.assertRegex(version["versionID"], VERSION)
        self.assertRegex(version["createdAt"], TIME)
        self.assertRegex(version["sha256"], DIGEST)
        self.assertEqual(version["size"], support.MODEL.stat().st_size)
        self.assertEqual(version["contentType"], "application/x-model")
        self.assertEqual(version["metadata"], {"run": "7"})
        self.assertEqual(version["tags"], {"stage": "test"})
        self.assertEqual(version["kind"], "object")
        self.assertFalse(version["isNull"])

    def test_of_statistics(self):
        content = random_bytes(5 << 20, 8)
        self.put("models/x", content)
        report = self.do("stat", "--json", "models/x").json
        self.assertEqual(report["version"]["sha256"], sha256(content))
        self.assertEqual(sum(chunk["length"] for chunk in report["chunks"]), len(content))
        offset = 0
        for chunk in report["chunks"]:
            self.assertEqual(chunk["offset"], offset)
            offset += chunk["length"]
            self.assertEqual(chunk["sha256"], sha256(content[chunk["offset"] : offset]))
            self.assertEqual(len(chunk["replicas"]), 3)
            self.assertEqual({replica["state"] for replica in chunk["replicas"]}, {"present"})
        text = self.do("stat", "--chunks", "models/x").text
        self.assertIn(sha256(content), text)

    def test_of_statistics_with_verification(self):
        content = random_bytes(2 << 20, 9)
        self.put("models/x", content)
        damaged = self.flip_payload(self.volumes[1], content, 1 << 20)
        looked = self.do("stat", "models/x", "--json").json
        self.assertEqual(looked["copiesNotPresent"], 0)
        verified = self.do("stat", "--verify", "models/x", "--json").json
        self.assertEqual(verified["copiesNotPresent"], 1)
        replicas = [replica for chunk in verified["chunks"] for replica in chunk["replicas"]]
        self.assertEqual([replica["volume"] for replica in replicas if replica["state"] == "damaged"],
                         [str(self.volumes[1])], damaged)
        self.assertTrue(all(replica["verifiedAt"] for replica in replicas if replica["state"] == "present"))
        self.assertIn("verified 2", self.do("stat", "--verify", "models/x").text)

    def test_of_status_verify_and_fsck(self):
        content = random_bytes(2 << 20, 9)
        self.put("models/x", content)
        status = self.do("status", "--json").json
        for field in ["store", "storeID", "formatVersion", "replicas", "writeQuorum", "isWritable", "isReadable",
                      "isFullyRedundant", "copiesWaitingForRepair", "volumes", "sharedDevices", "buckets", "objects",
                      "versions", "logicalBytes", "physicalBytes"]:
            self.assertIn(field, status)
        self.assertEqual((status["replicas"], status["writeQuorum"], len(status["volumes"])), (3, 2, 3))
        self.assertEqual(status["logicalBytes"], len(content))
        self.assertGreaterEqual(status["physicalBytes"], 3 * len(content))
        self.assertTrue(status["isFullyRedundant"])
        self.assertEqual(status["sharedDevices"], [[str(volume) for volume in self.volumes]])
        self.assertIn("SHARED", self.do("status").text)
        for volume in status["volumes"]:
            self.assertEqual(volume["state"], "healthy")
        self.do("status", "--check", "--quiet")
        verified = self.do("verify", "--json").json
        self.assertTrue(verified["isComplete"])
        self.assertEqual(verified["findingCount"] + verified["versionsLost"], 0)
        self.assertGreaterEqual(verified["chunkBytes"], len(content))
        self.assertEqual(verified["copiesGood"], 3 * verified["chunks"])
        checked = self.do("fsck", "--deep", "--json").json
        self.assertTrue(checked["isClean"])
        self.assertEqual(checked["findings"], [])

    def test_human_output_names_what_was_done(self):
        self.assertIn("models/m", self.do("put", support.MODEL, "models/m").text)
        self.assertIn("verified", self.do("get", "models/m", "out").text)
        self.assertIn("newest", self.do("log", "models/m").text)
        self.assertIn("redundancy", self.do("status").text)
        self.assertIn("Every chunk", self.do("verify").text)
        self.assertEqual(self.do("put", support.MODEL, "models/m", "--quiet").errors, "")

    def test_an_empty_store_answers_too(self):
        self.assertEqual(self.do("ls", "--json", "models").json["entries"], [])
        self.assertEqual(self.do("ls", "models").text, "")
        self.do("status")
        self.do("verify")


if __name__ == "__main__":
    unittest.main()

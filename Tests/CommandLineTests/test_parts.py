"""Large objects over the network: their SHA-256 is found after they came in parts, a killed put goes on with its upload, a
get fetches ranges side by side."""

import json
import os
import unittest
import urllib.request
import xml.etree.ElementTree

import support
from support import Exit, poll, random_bytes, sha256
from test_answers import FarAndNear
from test_endpoint import Gate

PART = 8 << 20


class FoundSHA256(FarAndNear):
    def version(self, key):
        return self.do("stat", f"models/{key}", "--json").json["version"]

    def wait(self, key, content):
        found = poll(lambda: self.version(key).get("sha256"), "the SHA-256", support.DEADLINE)
        self.assertEqual(found, sha256(content))

    def test_a_server_finds_it_and_puts_and_gets_profit(self):
        content = random_bytes(11 << 20, 91)
        self.upload_in_parts("t/pl", content)
        before = self.version("t/pl")
        self.wait("t/pl", content)
        after = self.version("t/pl")
        for field in ("versionID", "etag", "createdAt", "size"):
            self.assertEqual(after[field], before[field])
        self.assertEqual(len(self.do("log", "models/t/pl", "--json").json["versions"]), 1)
        self.file("t/pl", content)
        again = self.do("put", "t", "models/t/", "--json").json
        self.assertEqual((again["transferred"], again["unchanged"]), (0, 1))
        self.assertTrue(self.do("get", "models/t/pl", "out", "--json").json["isVerified"])
        self.assertTrue(self.do("get", "models/t/pl", "out", "--json").json["isUnchanged"])
        with urllib.request.urlopen(f"http://{self.operations}/metrics", timeout=60) as answer:
            metrics = answer.read().decode()
        self.assertIn("holdfast_digests_waiting 0", metrics)
        self.assertIn("holdfast_digests_found_total 1", metrics)
        self.near()
        self.assertEqual(self.version("t/pl")["sha256"], sha256(content))
        self.do("rebuild-catalog")
        self.assertEqual(self.version("t/pl")["sha256"], sha256(content))

    def test_a_server_that_is_killed_goes_on_with_it(self):
        content = random_bytes(26 << 20, 92)
        self.upload_in_parts("pl", content)
        self.server.kill()
        self.server.wait(60)
        far, self.far = self.far, {}
        # They have no SHA-256 to take over, unless the server was very quick.
        self.do("cp", "models/pl", "models/copy")
        version = self.version("pl")["versionID"]
        self.do("put", self.file("other", b"other"), "models/pl")
        self.do("restore", "models/pl", "--version", version)
        self.serve()
        self.far = far
        self.far["HOLDFAST_ENDPOINT"] = f"http://{self.address}"
        self.wait("pl", content)
        self.wait("copy", content)
        self.near()
        self.assertEqual(self.do("status", "--json").json["objectsWaitingForSHA256"], 0)

    def test_without_a_server_verify_finds_it(self):
        content = random_bytes(26 << 20, 93)
        self.upload_in_parts("pl", content)
        self.server.kill()
        self.server.wait(60)
        self.far = {}
        known = self.version("pl").get("sha256")
        waiting = self.do("status", "--json").json["objectsWaitingForSHA256"]
        if known is None:
            self.assertEqual(waiting, 1)
            self.assertIn("still to be found of 1 object", self.do("status").text)
            self.assertIn("not known", self.do("stat", "models/pl").text)
        self.do("verify", "--no-repair")
        self.assertEqual(self.version("pl").get("sha256"), known)
        self.assertEqual(self.do("verify", "--json").json["sha256Found"], 0 if known else 1)
        self.assertEqual(self.version("pl")["sha256"], sha256(content))
        self.assertEqual(self.do("status", "--json").json["objectsWaitingForSHA256"], 0)

    def test_of_what_is_encrypted_none_is_kept_and_that_is_said(self):
        self.upload_in_parts("pl", random_bytes(11 << 20, 94), [("x-amz-server-side-encryption", "AES256")])
        self.near()
        self.assertEqual(self.do("status", "--json").json["objectsWaitingForSHA256"], 0)
        self.assertEqual(self.do("verify", "--json").json["sha256Found"], 0)
        self.assertNotIn("sha256", self.version("pl"))
        self.assertIn("not kept: the object is encrypted", self.do("stat", "models/pl").text)


class KilledPuts(FarAndNear):
    size = 6 * PART + 12345

    def setUp(self):
        super().setUp()
        self.state = self.directory / "state"
        self.far["XDG_STATE_HOME"] = str(self.state)
        self.bytes = random_bytes(self.size, 95)
        self.path = self.file("big", self.bytes)

    def elements(self, answer, name):
        tree = xml.etree.ElementTree.fromstring(answer.body)
        return [element.text for element in tree.iter() if element.tag.endswith("}" + name)]

    def part_count(self):
        service = self.service()
        ids = self.elements(service.request("GET", "/models", [("uploads", "")]), "UploadId")
        answers = [service.request("GET", "/models/big", [("uploadId", name)]) for name in ids]
        return sum(len(self.elements(answer, "PartNumber")) for answer in answers)

    def start_and_kill(self, *options):
        process = self.start("put", self.path, "models/big", *options)
        poll(lambda: process.poll() is not None or self.part_count() >= 2, "two parts", support.DEADLINE)
        process.kill()
        process.wait()
        self.assertEqual(len(self.uploads()), 1)

    def uploads(self):
        return self.do("upload", "ls", "models", "--json").json["uploads"]

    def notes(self):
        place = self.state / "holdfast" / "uploads"
        return sorted(place.iterdir()) if place.exists() else []

    def finish(self, *options, content=None):
        report = self.do("put", self.path, "models/big", "--json", *options).json
        self.assertEqual(self.uploads(), [])
        self.assertEqual(self.notes(), [])
        self.assertEqual(sha256(self.content("models/big")), sha256(content or self.bytes))
        self.assertEqual(len(self.do("log", "models/big", "--json").json["versions"]), 1)
        return report["resumedBytes"]

    def test_the_same_command_goes_on_with_its_upload(self):
        self.start_and_kill()
        self.assertEqual(len(self.notes()), 1)
        resumed = self.finish()
        self.assertGreaterEqual(resumed, 2 * PART)
        self.assertLess(resumed, self.size + 1)

    def test_parts_that_differ_now_are_sent_again(self):
        self.start_and_kill()
        changed = bytearray(self.bytes)
        for start in range(0, self.size, PART):
            changed[start] ^= 1
        self.path.write_bytes(changed)
        self.assertEqual(self.finish(content=changed), 0)

    def test_another_command_begins_anew_and_ends_the_old_upload(self):
        self.start_and_kill()
        self.assertEqual(self.finish("--meta", "a=b"), 0)
        self.assertEqual(self.do("stat", "models/big", "--json").json["version"]["metadata"], {"a": "b"})

    def test_without_resume_it_begins_anew(self):
        self.start_and_kill()
        self.assertEqual(self.finish("--no-resume"), 0)

    def test_what_is_gone_at_the_server_is_begun_anew(self):
        self.start_and_kill()
        self.do("upload", "abort", "models/big", "--all")
        self.assertEqual(self.finish(), 0)

    def setting(self, name, body):
        answer = self.service().request("PUT" if body else "DELETE", "/models", [(name, "")], body=body)
        self.assertIn(answer.status, (200, 204), answer)

    def test_an_encryption_that_the_bucket_was_given_meanwhile_counts(self):
        self.start_and_kill()
        self.setting(
            "encryption",
            b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256"
            b"</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>",
        )
        self.assertEqual(self.finish(), 0)
        sealed = lambda: self.service().request("HEAD", "/models/big").header("x-amz-server-side-encryption")
        self.assertEqual(sealed(), "AES256")
        # And one that it has had all along is no reason to begin anew.
        self.do("rm", "models/big", "--version", self.do("stat", "models/big", "--json").json["version"]["versionID"])
        self.start_and_kill()
        self.assertGreaterEqual(self.finish(), 2 * PART)
        self.assertEqual(sealed(), "AES256")

    def test_an_upload_that_can_not_be_ended_yet_is_ended_later(self):
        self.start_and_kill()
        old = self.uploads()
        refusal = {"Effect": "Deny", "Principal": "*", "Action": "s3:AbortMultipartUpload", "Resource": "arn:aws:s3:::models/*"}
        self.setting("policy", json.dumps({"Version": "2012-10-17", "Statement": [refusal]}).encode())
        self.do("put", self.path, "models/big", "--meta", "a=b")
        self.assertEqual(self.uploads(), old)
        self.assertEqual(len(self.notes()), 1)
        self.setting("policy", b"")
        self.do("put", self.path, "models/big", "--meta", "a=c")
        self.assertEqual(self.uploads(), [])
        self.assertEqual(self.notes(), [])

    def test_a_small_object_ends_the_upload_of_a_large_one(self):
        self.put("models/other", b"small")
        self.assertEqual(self.notes(), [])
        self.start_and_kill()
        self.path.write_bytes(b"small by now")
        self.assertEqual(self.finish(content=b"small by now"), 0)

    def test_uploads_of_others_are_left_alone(self):
        service = self.service()
        begun = service.request("POST", "/models/big", [("uploads", "")])
        name = self.elements(begun, "UploadId")[0]
        items = [("partNumber", "1"), ("uploadId", name)]
        self.assertEqual(service.request("PUT", "/models/big", items, body=self.bytes[:PART]).status, 200)
        report = self.do("put", self.path, "models/big", "--json").json
        self.assertEqual(report["resumedBytes"], 0)
        self.assertEqual([upload["uploadID"] for upload in self.uploads()], [name])

    def test_two_at_a_time_and_a_home_that_can_not_be_written(self):
        process = self.start("put", self.path, "models/big")
        poll(lambda: process.poll() is not None or self.notes(), "the note of the first", support.DEADLINE)
        process.send_signal(support.signal.SIGSTOP)
        self.do("put", self.path, "models/big")
        process.send_signal(support.signal.SIGCONT)
        process.communicate(timeout=support.DEADLINE)
        self.assertEqual(process.returncode, Exit.DONE)
        self.assertEqual(len(self.do("log", "models/big", "--json").json["versions"]), 2)
        self.assertEqual(self.uploads(), [])
        self.do("put", self.path, "models/big", env={"XDG_STATE_HOME": "/proc/nowhere"})
        self.assertEqual(sha256(self.content("models/big")), sha256(self.bytes))


class Ranges(FarAndNear):
    def test_a_large_get_uses_several_connections_and_goes_on_after_a_kill(self):
        content = random_bytes((48 << 20) + 77, 96)
        self.do("put", self.file("big", content), "models/big")
        gate = Gate(self.address)
        self.addCleanup(gate.close)
        far = {"HOLDFAST_ENDPOINT": f"http://{gate.address}"}
        process = self.start("get", "models/big", "out", env=far)
        partial = self.directory / ".out.holdfast-partial"
        poll(
            lambda: process.poll() is not None or partial.exists() and partial.stat().st_size >= PART,
            "the first range",
            support.DEADLINE,
        )
        process.kill()
        process.wait()
        self.assertGreaterEqual(gate.accepted, 2)
        report = self.do("get", "models/big", "out", "--json").json
        self.assertGreaterEqual(report["resumedBytes"], PART)
        self.assertEqual(sha256((self.directory / "out").read_bytes()), sha256(content))
        self.assertEqual(sha256(self.content("models/big")), sha256(content))

    def test_an_object_that_is_replaced_meanwhile_is_not_mixed(self):
        self.do("bucket", "create", "plain", "--versioning", "off")
        old, new = random_bytes(48 << 20, 97), random_bytes(48 << 20, 98)
        self.do("put", self.file("old", old), "plain/big")
        self.file("new", new)
        reading, writing = os.pipe()
        process = self.start("get", "plain/big", "-", stdout=writing)
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            got = pipe.read(1 << 16)
            self.do("put", self.directory / "new", "plain/big")
            while data := pipe.read(1 << 20):
                got += data
        process.communicate(timeout=support.DEADLINE)
        self.assertEqual(sha256(got), sha256(old[: len(got)]))
        self.assertEqual(process.returncode == Exit.DONE, len(got) == len(old))


if __name__ == "__main__":
    unittest.main()

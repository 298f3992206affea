"""Bad input: every mistake gets a clear error, its own exit code, and changes nothing."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import unittest

import support
from support import Exit, StoreTestCase


class LocalFiles(StoreTestCase):
    def test_a_missing_file_is_named(self):
        outcome = self.refuse(Exit.LOCAL_FILE, "put", "nowhere.bin", "models/x", "--json")
        self.assertEqual(outcome.error["code"], "fileNotFound")
        self.assertIn("nowhere.bin", outcome.error["message"])
        self.assertEqual(self.keys(), [])

    def test_a_directory_where_a_file_is_meant_is_refused_on_put(self):
        (self.directory / "d").mkdir()
        outcome = self.refuse(Exit.LOCAL_FILE, "put", "d", "models/x", "--json")
        self.assertEqual(outcome.error["code"], "isDirectory")
        self.assertIn("slash", outcome.error["advice"])

    def test_a_directory_where_a_file_is_meant_is_refused_on_get(self):
        self.put("models/x", b"1")
        (self.directory / "d").mkdir()
        for target in ["d", "d/", "."]:
            outcome = self.refuse(Exit.LOCAL_FILE, "get", "models/x", target, "--json")
            self.assertEqual(outcome.error["code"], "isDirectory")
        self.assertEqual(os.listdir(self.directory / "d"), [])

    def test_a_missing_directory_for_the_download_is_named(self):
        self.put("models/x", b"1")
        outcome = self.refuse(Exit.LOCAL_FILE, "get", "models/x", "no/such/x")
        self.assertIn("no/such", outcome.errors)

    def test_a_device_is_not_replaced_by_a_download(self):
        self.put("models/x", b"1")
        os.mkfifo(self.directory / "pipe")
        self.refuse(Exit.LOCAL_FILE, "get", "models/x", "pipe")
        self.assertTrue((self.directory / "pipe").is_fifo())
        self.refuse(Exit.LOCAL_FILE, "put", "/dev/null", "models/null")

    @unittest.skipUnless(support.can_drop_privileges(), "needs root, to become another user")
    def test_an_unreadable_file_is_named(self):
        path = self.file("secret.bin", b"secret")
        path.chmod(0)
        program = self.directory / "holdfast"
        shutil.copy(support.PROGRAM, program)
        program.chmod(0o755)
        for folder, _, files in os.walk(self.directory):
            os.chown(folder, 65534, 65534)
            for name in files:
                if name != "secret.bin":
                    os.chown(pathlib.Path(folder) / name, 65534, 65534)
        done = subprocess.run(
            [program, "put", path, "models/x", "--json"],
            env=self.environment(),
            cwd=self.directory,
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            timeout=support.DEADLINE,
        )
        self.assertEqual(done.returncode, Exit.LOCAL_FILE, done.stderr)
        error = json.loads(done.stderr)["error"]
        self.assertEqual(error["code"], "fileUnreadable")
        self.assertIn("secret.bin", error["message"])

    def test_special_files_in_a_directory_are_skipped_loudly(self):
        self.file("tree/a.bin", b"a")
        os.mkfifo(self.directory / "tree" / "pipe")
        os.symlink("/etc", self.directory / "tree" / "elsewhere")
        os.symlink("nothing", self.directory / "tree" / "dangling")
        os.symlink("a.bin", self.directory / "tree" / "link.bin")
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        here = os.getcwd()
        os.chdir(self.directory / "tree")
        listener.bind("socket")
        os.chdir(here)
        outcome = self.run_program("put", "tree", "models/t/", "--json")
        self.assertEqual(outcome.code, Exit.PARTLY, outcome)
        report = outcome.json
        self.assertEqual(report["transferred"], 2)
        self.assertEqual(sorted(item["name"] for item in report["skipped"]), ["elsewhere", "pipe", "socket"])
        self.assertEqual([item["name"] for item in report["failed"]], ["dangling"])
        self.assertEqual(self.keys(), ["t/a.bin", "t/link.bin"])

    def test_file_names_that_are_not_utf8_are_reported(self):
        self.file("tree/a.bin", b"a")
        with open(os.fsencode(self.directory) + b"/tree/\xff\xfe.bin", "wb") as file:
            file.write(b"b")
        outcome = self.run_program("put", "tree", "models/t/", "--json")
        self.assertEqual(outcome.code, Exit.PARTLY, outcome)
        self.assertEqual(outcome.json["failed"][0]["code"], "invalidKey")
        self.assertEqual(self.keys(), ["t/a.bin"])


class Names(StoreTestCase):
    def test_bucket_names_that_s3_forbids_are_refused(self):
        for name in ["ab", "x" * 64, "Models", "mod_els", "-models", "models-", "mo..dels", "192.168.1.1", "xn--x1"]:
            with self.subTest(name=name):
                outcome = self.refuse(Exit.USAGE, "bucket", "create", "--json", "--", name)
                self.assertEqual(outcome.error["code"], "invalidBucketName")
                self.refuse(Exit.USAGE, "put", "--", support.MODEL, f"{name}/k")

    def test_a_missing_bucket_tells_how_to_make_it(self):
        outcome = self.refuse(Exit.NOT_FOUND, "put", support.MODEL, "other/k", "--json")
        self.assertEqual(outcome.error["code"], "noSuchBucket")
        self.assertIn("holdfast bucket create other", outcome.error["advice"])
        self.assertIn("--create-bucket", outcome.error["advice"])
        self.do("put", support.MODEL, "other/k", "--create-bucket")
        self.do("put", support.MODEL, "other/k2", "--create-bucket")
        for command in ["ls other2", "log other2/k", "stat other2/k", "rm other2/k", "get other2/k -"]:
            self.refuse(Exit.NOT_FOUND, *command.split())

    def test_keys_that_are_too_long_are_refused(self):
        self.put("models/" + "k" * 1024, b"longest")
        outcome = self.refuse(Exit.USAGE, "put", support.MODEL, "models/" + "k" * 1025, "--json")
        self.assertEqual(outcome.error["code"], "keyTooLong")
        self.put("models/" + "é" * 512, b"longest in bytes")
        self.refuse(Exit.USAGE, "put", support.MODEL, "models/" + "é" * 513)

    def test_keys_that_are_not_utf8_are_refused_and_never_mended(self):
        for key in [b"models/\xff", b"models/\xc3", b"models/\xed\xa0\x80"]:
            outcome = self.refuse(Exit.USAGE, "put", os.fspath(support.MODEL), key)
            self.assertIn("UTF-8", outcome.errors)
        self.assertEqual(self.keys(), [])

    def test_an_address_without_a_key_is_refused(self):
        for arguments in ["get models -", "stat models", "log models", "rm models", "restore models", "put - models"]:
            with self.subTest(arguments=arguments):
                self.refuse(Exit.USAGE, *arguments.split(), "--json")

    def test_local_paths_and_urls_are_not_taken_for_addresses(self):
        for address in ["/models/x", "./models/x", "s3://models/x", ""]:
            self.refuse(Exit.USAGE, "get", address, "-")

    def test_unknown_versions_keys_and_version_texts_are_told_apart(self):
        version = self.put("models/x", b"1")
        self.assertEqual(self.refuse(Exit.NOT_FOUND, "get", "models/y", "-").raw, b"")
        unknown = version["versionID"][:-1] + ("0" if version["versionID"][-1] != "0" else "1")
        outcome = self.refuse(Exit.NOT_FOUND, "get", "models/x", "y", "--version", unknown, "--json")
        self.assertEqual(outcome.error["code"], "noSuchVersion")
        outcome = self.refuse(Exit.NOT_FOUND, "get", "models/x", "y", "--version", "nonsense", "--json")
        self.assertEqual(outcome.error["code"], "noSuchVersion")
        self.assertFalse((self.directory / "y").exists())

    def test_a_delete_marker_can_not_be_read(self):
        self.put("models/x", b"1")
        marker = self.do("rm", "models/x", "--json").json["deleteMarker"]
        self.refuse(Exit.NOT_FOUND, "get", "models/x", "y")
        self.refuse(Exit.NOT_FOUND, "get", "models/x", "y", "--version", marker)


class HostileKeys(StoreTestCase):
    """Keys that are legal in S3: stored as they are, and never leading out of the target directory."""

    UNSAFE = ["../escape", "../../escape", "a/../../escape", "/etc/escape", "//double", "a//b", "./dot", "a/.", "a/..",
              "..", ".", "dir/", "/", "x" * 300]

    def test_they_are_stored_as_they_are(self):
        for index, key in enumerate(self.UNSAFE):
            self.put("models/" + key, f"content {index}".encode())
        self.assertEqual(sorted(self.keys()), sorted(self.UNSAFE))
        for index, key in enumerate(self.UNSAFE):
            self.assertEqual(self.content("models/" + key), f"content {index}".encode())
            self.assertEqual(self.versions("models/" + key)[0]["key"], key)

    def test_a_download_of_all_never_leaves_the_directory(self):
        for key in self.UNSAFE + ["good", "sub/good", "..good", "good..", "sp ace/\u00e9", "line\nbreak"]:
            self.put("models/" + key, key.encode())
        inner = self.directory / "outer" / "inner"
        outcome = self.run_program("get", "models/", inner, "--json")
        self.assertEqual(outcome.code, Exit.PARTLY, outcome)
        self.assertEqual(sorted(item["name"] for item in outcome.json["skipped"]), sorted(self.UNSAFE))
        found = sorted(str(path.relative_to(self.directory / "outer")) for path in inner.rglob("*") if path.is_file())
        expected = ["good", "sub/good", "..good", "good..", "sp ace/\u00e9", "line\nbreak"]
        self.assertEqual(found, sorted("inner/" + name for name in expected))
        self.assertEqual(os.listdir(self.directory / "outer"), ["inner"])
        self.assertFalse((self.directory / "escape").exists())

    def test_a_link_in_the_target_directory_is_not_followed(self):
        self.put("models/sub/x", b"payload")
        self.put("models/file", b"payload")
        outside = self.directory / "outside"
        outside.mkdir()
        target = self.directory / "target"
        target.mkdir()
        victim = self.file("victim", b"untouched")
        os.symlink(outside, target / "sub")
        os.symlink(victim, target / "file")
        outcome = self.run_program("get", "models/", target, "--json")
        self.assertEqual(outcome.code, Exit.PARTLY, outcome)
        self.assertEqual([item["name"] for item in outcome.json["failed"]], ["sub/x"])
        self.assertEqual(os.listdir(outside), [])
        self.assertEqual(victim.read_bytes(), b"untouched")
        self.assertEqual((target / "file").read_bytes(), b"payload")

    def test_a_key_without_a_usable_name_needs_a_file_name(self):
        self.put("models/a/..", b"1")
        self.refuse(Exit.USAGE, "get", "models/a/..")
        self.do("get", "models/a/..", "named")
        self.assertEqual((self.directory / "named").read_bytes(), b"1")

    def test_keys_that_can_not_stand_beside_each_other_as_files_are_reported(self):
        self.put("models/a", b"file")
        self.put("models/a/b", b"below the file")
        outcome = self.run_program("get", "models/", "target", "--json")
        self.assertEqual(outcome.code, Exit.PARTLY, outcome)
        self.assertEqual(outcome.json["transferred"] + len(outcome.json["failed"]), 2)

    def test_control_characters_do_not_reach_the_terminal(self):
        self.put("models/\x1b[31mred", b"1")
        self.assertNotIn("\x1b", self.do("ls", "models").text)
        self.assertNotIn("\x1b", self.do("stat", "models/\x1b[31mred").text)
        self.assertEqual(self.keys(), ["\x1b[31mred"])


class Usage(StoreTestCase):
    makes_store = False

    def test_wrong_usage_has_its_own_code(self):
        for arguments in [["frobnicate"], ["put"], ["get", "--no-such-option", "a/b"], ["ls", "--limit", "0", "abc"],
                          ["ls", "--lock-timeout", "-1"], ["put", "-", "abc/k", "--sha256", "12"],
                          ["put", "-", "abc/k", "--meta", "nonsense"]]:
            with self.subTest(arguments=arguments):
                self.refuse(Exit.USAGE, *arguments, "--json")
                self.refuse(Exit.USAGE, *arguments)

    def test_every_command_teaches(self):
        commands = ["", "init", "put", "get", "ls", "log", "stat", "rm", "restore", "cp", "verify", "status", "fsck",
                    "rebuild-catalog", "bucket", "bucket create", "bucket rm", "bucket ls", "bucket versioning",
                    "volume", "volume replace", "volume ls", "volume add", "volume drain", "volume remove", "volume readonly",
                    "volume log-set", "volume check", "version"]
        for command in commands:
            outcome = self.do(*command.split(), "--help")
            self.assertIn("OVERVIEW", outcome.text)
            self.assertLessEqual(max(len(line) for line in outcome.text.splitlines() if "USAGE" not in line), 100)

    def test_completions_are_there_for_three_shells(self):
        for shell in ["bash", "zsh", "fish"]:
            self.assertIn("rebuild-catalog", self.do("--generate-completion-script", shell).text)

    def test_a_store_that_is_not_there_tells_how_to_make_one(self):
        outcome = self.refuse(Exit.NOT_FOUND, "ls", "--json")
        self.assertEqual(outcome.error["code"], "storeNotFound")
        self.assertIn("holdfast init", outcome.error["advice"])
        self.assertFalse(self.store.exists())

    def test_a_second_init_changes_nothing(self):
        self.do("init")
        self.do("bucket", "create", "models")
        self.refuse(Exit.CONFLICT, "init", "--json")
        self.assertEqual([bucket["name"] for bucket in self.do("ls", "--json").json["buckets"]], ["models"])

    def test_init_refuses_directories_that_are_not_empty(self):
        self.file("disk1/important", b"data")
        arguments = [f"--volume={self.directory}/disk{number}" for number in (1, 2, 3)]
        self.refuse(Exit.CONFLICT, "init", *arguments)
        self.assertEqual(os.listdir(self.directory / "disk1"), ["important"])

    def test_a_store_that_can_not_be_opened_tells_why(self):
        outcome = self.refuse(Exit.DISK, "--store", self.file("file", b""), "ls", "--json")
        self.assertIn("Not a directory", outcome.error["message"])
        self.refuse(Exit.USAGE, "init", "--store", "", "--json")

    def test_a_server_that_can_not_listen_makes_no_store(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for options in (
                ("--listen", f"127.0.0.1:{port}"),
                ("--listen", "127.0.0.1:0", "--operations", f"127.0.0.1:{port}"),
                ("--listen", "no-such-host.invalid:9000"),
            ):
                outcome = self.refuse(Exit.DISK, "serve", "--json", *options)
                self.assertIn("can't listen", outcome.error["message"])
                self.assertFalse(self.store.exists())

    def test_quorums_that_could_lose_writes_are_refused(self):
        self.refuse(Exit.USAGE, "init", "--replicas", "3", "--write-quorum", "1")
        self.refuse(Exit.USAGE, "init", "--replicas", "0")
        self.refuse(Exit.USAGE, "init", "--replicas", "99")
        self.assertFalse(self.store.exists() and any(self.store.iterdir()))

    def test_the_store_may_be_named_before_the_command(self):
        self.do("--store", self.directory / "other", "init")
        self.do("--json", "--store", self.directory / "other", "ls")
        self.assertFalse(self.store.exists())

    def test_a_reader_that_goes_away_is_no_crash(self):
        self.do("init")
        self.do("bucket", "create", "models")
        self.do("put", "-", "models/x", input=support.random_bytes(8 << 20, 1))
        process = self.start("get", "models/x", "-")
        process.stdout.close()
        process.stdout = None
        self.assertEqual(process.wait(support.DEADLINE), 141)


if __name__ == "__main__":
    unittest.main()

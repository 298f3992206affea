"""Uploads and downloads: whole or not at all, resumed, in directories, with progress on terminals only."""

import os
import pty
import signal
import subprocess
import sys
import unittest

import support
from support import Exit, StoreTestCase, interrupt, poll, random_bytes, sha256


class Resume(StoreTestCase):
    SIZE = 96 << 20

    def setUp(self):
        super().setUp()
        self.bytes = random_bytes(self.SIZE, 11)
        self.put("models/big", self.bytes)
        self.target = self.directory / "big"
        self.partial = self.directory / ".big.holdfast-partial"
        self.state = self.directory / ".big.holdfast-state"

    def break_off(self, number):
        """Starts a get and stops it by a signal when some bytes are here; tries again when it was too fast."""
        for _ in range(50):
            process = self.start("get", "models/big", "big")
            poll(lambda: process.poll() is not None or self.has_bytes(), "the download to start")
            interrupt(process, number)
            code = process.wait(support.DEADLINE)
            if not self.target.exists():
                return code
            self.target.unlink()
        self.skipTest("the download is too fast to be interrupted")

    def has_bytes(self):
        try:
            return self.partial.stat().st_size > 4 << 20
        except FileNotFoundError:
            return False

    def assert_resumes(self, low=1):
        report = self.do("get", "models/big", "big", "--json").json
        self.assertGreaterEqual(report["resumedBytes"], low)
        # All of it, when the signal came between the last byte and the rename.
        self.assertLessEqual(report["resumedBytes"], self.SIZE)
        self.assertEqual(sha256(self.target.read_bytes()), sha256(self.bytes))
        self.assertFalse(self.partial.exists() or self.state.exists())

    def test_an_interrupted_get_goes_on_where_it_stopped(self):
        self.assertEqual(self.break_off(signal.SIGINT), Exit.INTERRUPTED)
        self.assertTrue(self.partial.exists() and self.state.exists())
        self.assert_resumes()

    def test_a_terminated_get_has_its_own_code(self):
        self.assertEqual(self.break_off(signal.SIGTERM), Exit.TERMINATED)
        self.assert_resumes()

    def test_a_killed_get_goes_on_too(self):
        self.assertEqual(self.break_off(signal.SIGKILL), -signal.SIGKILL)
        self.assert_resumes()

    def test_damaged_bytes_of_the_first_attempt_are_not_used(self):
        self.break_off(signal.SIGINT)
        support.flip(self.partial, 10)
        report = self.do("get", "models/big", "big", "--json").json
        self.assertEqual(report["resumedBytes"], 0)
        self.assertEqual(sha256(self.target.read_bytes()), sha256(self.bytes))

    def test_a_longer_tail_of_zeros_is_not_used(self):
        self.break_off(signal.SIGINT)
        os.truncate(self.partial, self.SIZE)
        self.assert_resumes()

    def test_bytes_of_another_version_are_not_used(self):
        self.break_off(signal.SIGINT)
        other = random_bytes(self.SIZE // 4, 12)
        self.put("models/big", other)
        report = self.do("get", "models/big", "big", "--json").json
        self.assertEqual(report["resumedBytes"], 0)
        self.assertEqual(self.target.read_bytes(), other)

    def test_the_old_file_stays_until_the_new_one_is_whole(self):
        self.target.write_bytes(b"old")
        for _ in range(50):
            process = self.start("get", "models/big", "big")
            poll(lambda: process.poll() is not None or self.has_bytes(), "the download to start")
            interrupt(process, signal.SIGKILL)
            process.wait(support.DEADLINE)
            if self.target.read_bytes() == b"old":
                break
            self.target.write_bytes(b"old")
        else:
            self.skipTest("the download is too fast to be interrupted")
        self.assert_resumes()

    def test_a_file_that_is_there_already_is_not_fetched_again(self):
        self.do("get", "models/big", "big")
        before = self.target.stat().st_mtime_ns
        self.assertTrue(self.do("get", "models/big", "big", "--json").json["isUnchanged"])
        self.assertEqual(self.target.stat().st_mtime_ns, before)


class Upload(StoreTestCase):
    def test_an_interrupted_put_leaves_nothing_visible(self):
        for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]:
            process = self.start("put", "-", "models/x", stdin=subprocess.PIPE)
            process.stdin.write(random_bytes(8 << 20, 13))
            process.stdin.flush()
            process.send_signal(number)
            self.assertEqual(process.wait(support.DEADLINE), code)
            process.stdin.close()
            process.stdin = None
            self.assertEqual(self.keys(), [])
        self.assertTrue(self.do("verify", "--json").json["isComplete"])

    def test_standard_input_may_be_a_pipe_or_a_file(self):
        content = random_bytes(3_000_001, 14)
        self.do("put", "-", "models/pipe", input=content)
        path = self.file("source", content)
        with path.open("rb") as source:
            self.do("put", "-", "models/file", stdin=source)
        self.assertEqual(self.content("models/pipe"), content)
        self.assertEqual(self.content("models/file"), content)

    def test_a_file_gives_its_name_to_a_prefix(self):
        self.do("put", support.MODEL, "models/tiny/")
        self.do("put", support.MODEL, "models")
        self.assertEqual(self.keys(), ["tiny-mlp.safetensors", "tiny/tiny-mlp.safetensors"])
        self.do("get", "models/tiny-mlp.safetensors")
        self.assertEqual((self.directory / support.MODEL.name).read_bytes(), support.MODEL.read_bytes())

    def test_sizes_around_every_boundary_come_back(self):
        for size in [0, 1, 63, 64, 65, 4095, 4096, (64 << 10) - 1, 64 << 10, (128 << 10) - 1, 128 << 10,
                     (128 << 10) + 1, (256 << 10) - 1, 256 << 10, 1 << 20, (4 << 20) + 1, 20 << 20]:
            with self.subTest(size=size):
                content = random_bytes(size, size)
                self.put("models/x", content)
                self.assertEqual(sha256(self.content("models/x")), sha256(content))


class Directories(StoreTestCase):
    def tree(self):
        files = {"config.json": b"{}", "weights/a.bin": random_bytes(2 << 20, 15), "weights/b.bin": b"b" * 70_000,
                 "empty": b"", "deep/er/still/x": b"x", ".hidden": b"h", "sp ace/é\u4e2d": b"utf8"}
        for name, content in files.items():
            self.file("tree/" + name, content)
        return files

    def found(self, directory):
        return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    def test_a_tree_goes_in_and_comes_back_bit_for_bit(self):
        files = self.tree()
        report = self.do("put", "tree", "models/run/7/", "--json").json
        self.assertEqual(report["transferred"], len(files))
        self.assertEqual(report["bytes"], sum(len(content) for content in files.values()))
        self.do("get", "models/run/7/", "back")
        self.assertEqual(self.found(self.directory / "back"), files)

    def test_what_the_store_has_already_is_skipped(self):
        files = self.tree()
        self.do("put", "tree", "models/t/")
        report = self.do("put", "tree/", "models/t/", "--json").json
        self.assertEqual((report["transferred"], report["unchanged"]), (0, len(files)))
        self.file("tree/config.json", b"[]")
        self.file("tree/new", b"new")
        report = self.do("put", "tree", "models/t/", "--json").json
        self.assertEqual((report["transferred"], report["unchanged"]), (2, len(files) - 1))
        self.assertEqual(len(self.versions("models/t/config.json")), 2)
        self.assertEqual(len(self.versions("models/t/empty")), 1)

    def test_a_second_get_fetches_only_what_is_missing(self):
        files = self.tree()
        self.do("put", "tree", "models/t/")
        self.do("get", "models/t/", "back")
        (self.directory / "back" / "empty").unlink()
        (self.directory / "back" / "config.json").write_bytes(b"??")
        report = self.do("get", "models/t/", "back", "--json").json
        self.assertEqual((report["transferred"], report["unchanged"]), (2, len(files) - 2))
        self.assertEqual(self.found(self.directory / "back"), files)

    def test_a_prefix_without_keys_gives_an_empty_directory(self):
        report = self.do("get", "models/none/", "back", "--json").json
        self.assertEqual(report["transferred"], 0)

    def test_a_directory_needs_a_prefix(self):
        self.tree()
        self.refuse(Exit.LOCAL_FILE, "put", "tree", "models/t")
        self.refuse(Exit.USAGE, "get", "models/t/")


class Terminals(StoreTestCase):
    def run_on_terminal(self, arguments, extra=None):
        """Runs a put of slow standard input with a terminal as standard error, and returns what it drew."""
        leader, follower = pty.openpty()
        self.addCleanup(os.close, leader)
        process = self.start("put", "-", "models/slow", *arguments, stdin=subprocess.PIPE, stderr=follower,
                             env={"TERM": "xterm", **(extra or {})})
        os.close(follower)
        drawn = b""
        os.set_blocking(leader, False)

        def read():
            nonlocal drawn
            try:
                drawn += os.read(leader, 65536)
            except (BlockingIOError, OSError):
                pass
            return drawn

        for _ in range(40):
            process.stdin.write(bytes(1 << 20))
            process.stdin.flush()
            deadline = support.time.monotonic() + 0.02
            while support.time.monotonic() < deadline:
                read()
        process.stdin.close()
        process.stdin = None
        self.assertEqual(process.wait(support.DEADLINE), Exit.DONE)
        return read().decode(errors="replace")

    def test_progress_with_a_rate_is_drawn_on_a_terminal(self):
        self.assertIn("iB/s", self.run_on_terminal([]))

    def test_no_progress_with_json_or_quiet(self):
        self.assertEqual(self.run_on_terminal(["--json"]), "")
        self.assertEqual(self.run_on_terminal(["--quiet"]), "")

    def test_no_color_is_respected(self):
        self.assertNotIn("\x1b[36m", self.run_on_terminal([], {"NO_COLOR": "1"}))

    def test_nothing_is_drawn_into_a_file(self):
        outcome = self.do("put", "-", "models/x", input=random_bytes(4 << 20, 16))
        self.assertNotIn("\x1b", outcome.errors)
        self.assertNotIn("\r", outcome.errors)


if __name__ == "__main__":
    unittest.main()

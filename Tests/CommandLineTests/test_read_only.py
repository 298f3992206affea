"""A store on a read-only file system, and one that the user may not read: what works, and what is said where it does not."""

import os
import pathlib
import shlex
import shutil
import subprocess
import unittest

import support
from support import Exit, StoreTestCase, random_bytes


def can_mount():
    if not support.can_drop_privileges():
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def state_of(directory):
    """Every file below, with its bytes and times."""
    return {
        path.relative_to(directory): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(pathlib.Path(directory).rglob("*"))
        if path.is_file()
    }


@unittest.skipUnless(can_mount(), "needs root and mount namespaces")
class ReadOnlyFileSystem(StoreTestCase):
    def setUp(self):
        super().setUp()
        self.small, self.big = random_bytes(1000, 71), random_bytes((3 << 20) + 7, 72)
        self.first = self.put("models/small", b"an older version")
        self.put("models/small", self.small)
        self.put("models/big", self.big)

    def run_mounted(self, *arguments, places=None, input=None, env=None):
        """Runs the program where the store (or `places`) is mounted read-only."""
        steps = [
            f"mount --bind {shlex.quote(str(place))} {shlex.quote(str(place))} && "
            f"mount -o remount,bind,ro {shlex.quote(str(place))}"
            for place in places or [self.store]
        ]
        steps.append(" ".join(["exec", *map(shlex.quote, map(os.fspath, [support.PROGRAM, *arguments]))]))
        process = subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount --make-rprivate / && " + " && ".join(steps)],
            env=self.environment(env),
            input=input,
            capture_output=True,
            cwd=self.directory,
            timeout=support.DEADLINE,
        )
        return support.Outcome(
            arguments, process.returncode, process.stdout, process.stderr.decode(errors="replace")
        )

    def do_mounted(self, *arguments, **options):
        outcome = self.run_mounted(*arguments, **options)
        self.assertEqual(outcome.code, Exit.DONE, outcome)
        return outcome

    def test_everything_that_reads_works_and_writes_nothing(self):
        before = state_of(self.store)
        self.assertEqual(self.do_mounted("get", "models/small", "-").raw, self.small)
        self.assertEqual(self.do_mounted("get", "models/big", "-").raw, self.big)
        older = self.do_mounted("get", "models/small", "-", "--version", self.first["versionID"])
        self.assertEqual(older.raw, b"an older version")
        entries = self.do_mounted("ls", "--json", "models").json["entries"]
        self.assertEqual([entry["key"] for entry in entries], ["big", "small"])
        self.assertEqual(len(self.do_mounted("log", "--json", "models/small").json["versions"]), 2)
        self.assertEqual(self.do_mounted("stat", "--json", "models/big").json["version"]["size"], len(self.big))
        status = self.do_mounted("status", "--json").json
        self.assertTrue(status["isReadable"])
        self.assertTrue(status["isFullyRedundant"], status)
        self.assertFalse(status["isWritable"], status)
        self.assertTrue(self.do_mounted("fsck", "--deep", "--json").json["isClean"])
        self.assertTrue(self.do_mounted("verify", "--no-repair", "--json").json["isComplete"])
        self.do_mounted("du")
        self.assertEqual(state_of(self.store), before)
        self.assertEqual(self.content("models/big"), self.big)

    def test_after_a_crash_and_with_a_volume_away_reads_work(self):
        source = self.file("more", random_bytes(5 << 20, 73))
        process = self.start("put", source, "models/more")
        support.poll(lambda: process.poll() is not None or any(self.store.rglob("*.bulk")), "the upload")
        process.kill()
        process.wait()
        shutil.rmtree(self.volumes[0])
        self.assertEqual(self.do_mounted("get", "models/big", "-").raw, self.big)
        self.assertEqual(self.do_mounted("get", "models/small", "-").raw, self.small)
        self.assertFalse(self.do_mounted("status", "--json").json["isFullyRedundant"])

    def test_damage_is_read_around_and_not_called_repaired(self):
        self.flip_payload(self.volumes[0], self.big, 1000)
        outcome = self.run_mounted("verify", "--no-repair", "--json")
        self.assertEqual(outcome.code, Exit.DAMAGED, outcome)
        self.assertEqual(outcome.json["repairedCount"], 0)
        for _ in range(3):
            outcome = self.do_mounted("get", "models/big", "-")
            self.assertEqual(outcome.raw, self.big)
            self.assertNotIn("repaired from", outcome.errors)
        self.assertEqual(self.run_mounted("fsck").code, Exit.DAMAGED)

    def test_the_index_is_built_in_memory_where_it_is_lost(self):
        shutil.rmtree(self.store / "catalog")
        self.assertEqual(self.do_mounted("get", "models/big", "-").raw, self.big)
        self.assertFalse((self.store / "catalog").exists())

    def test_volumes_that_are_mounted_read_only_can_be_read(self):
        self.assertEqual(self.do_mounted("get", "models/big", "-", places=self.volumes).raw, self.big)
        outcome = self.run_mounted("rm", "models/big", places=self.volumes)
        self.assertEqual(outcome.code, Exit.LOCAL_FILE, outcome)
        self.assertIn("Read-only file system", outcome.errors)

    def test_what_writes_is_refused_with_the_reason(self):
        before = state_of(self.store)
        for arguments in [
            ["put", "-", "models/new", "--exact"], ["rm", "models/small"], ["bucket", "create", "other"],
            ["verify"], ["gc", "run"], ["rebuild-catalog"], ["scrub", "start", "--wait"],
        ]:
            with self.subTest(arguments):
                outcome = self.run_mounted(*arguments, "--json", input=b"x")
                self.assertEqual(outcome.code, Exit.LOCAL_FILE, outcome)
                self.assertEqual(outcome.error["code"], "fileAccessDenied")
                self.assertIn("Read-only file system", outcome.error["message"])
                self.assertIn("verify --no-repair", outcome.error["advice"])
        self.assertEqual(state_of(self.store), before)

    def test_the_copy_of_the_catalog_goes_and_a_lack_of_room_for_it_is_said(self):
        temporary = self.directory / "tmp"
        temporary.mkdir()
        self.do_mounted("ls", env={"TMPDIR": str(temporary)})
        self.assertEqual(list(temporary.iterdir()), [])
        outcome = self.run_mounted("ls", env={"TMPDIR": str(self.store)})
        self.assertEqual(outcome.code, Exit.LOCAL_FILE, outcome)
        self.assertIn("TMPDIR", outcome.errors)

    def test_readers_share_it_and_a_writer_keeps_them_out(self):
        reader = self.start("get", "models/big", "-")
        reader.stdout.read(1)
        outcome = self.run_mounted("ls", "--lock-timeout", "0.2")
        self.assertEqual(outcome.code, Exit.IN_USE, outcome)
        self.assertIn(str(reader.pid), outcome.errors)


@unittest.skipUnless(support.can_drop_privileges(), "needs root")
class ForeignUser(StoreTestCase):
    def setUp(self):
        super().setUp()
        self.put("models/small", b"content")
        self.directory.chmod(0o755)

    def run_as_nobody(self, *arguments):
        program = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", support.PROGRAM]
        process = subprocess.run(
            [*program, *arguments], env=self.environment(), capture_output=True, cwd="/", timeout=support.DEADLINE
        )
        return support.Outcome(
            arguments, process.returncode, process.stdout, process.stderr.decode(errors="replace")
        )

    def assert_denied(self, outcome):
        self.assertEqual(outcome.code, Exit.LOCAL_FILE, outcome)
        self.assertEqual(outcome.error["code"], "fileAccessDenied", outcome)
        text = outcome.error["message"]
        self.assertIn("Permission denied (errno 13)", text)
        self.assertIn("as the user that the store belongs to", outcome.error["advice"])

    def test_each_place_that_may_not_be_read_is_named_with_the_reason(self):
        program = pathlib.Path(support.PROGRAM)
        if subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "test", "-x", program]).returncode:
            self.skipTest("nobody may not run the program")
        for mode, commands in [
            (0o700, ["status", "ls", "fsck", "rebuild-catalog"]),
            (0o755, ["status", "ls", "fsck"]),
        ]:
            self.store.chmod(mode)
            for command in commands:
                with self.subTest(f"{mode:o} {command}"):
                    self.assert_denied(self.run_as_nobody(command, "--json"))

    def test_volumes_that_may_not_be_read(self):
        program = pathlib.Path(support.PROGRAM)
        if subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "test", "-x", program]).returncode:
            self.skipTest("nobody may not run the program")
        # The store's own files belong to the user, the volumes don't.
        for path in [self.store, *self.store.iterdir(), *(self.store / "catalog").iterdir()]:
            os.chown(path, 65534, 65534)
        (self.store / "volumes").chmod(0o755)
        self.assert_denied(self.run_as_nobody("ls", "--json"))
        outcome = self.run_as_nobody("fsck", "--json")
        self.assertEqual(outcome.code, Exit.LOCAL_FILE, outcome)
        self.assertIn("Permission denied (errno 13)", outcome.text)
        # One of three: the others serve.
        for path in (path for volume in self.volumes[1:] for path in [volume, *volume.rglob("*")]):
            os.chown(path, 65534, 65534)
        self.assertEqual(self.run_as_nobody("get", "models/small", "-").raw, b"content")
        status = self.run_as_nobody("status").text
        self.assertIn("Permission denied (errno 13)", status)


if __name__ == "__main__":
    unittest.main()

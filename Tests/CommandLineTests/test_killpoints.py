"""kill -9 at every call that changes a file of the store, of put, overwrite and rm: nothing acknowledged is lost,
nothing is half visible, the store opens, verify is clean.

killpoints/killpoints.c counts the calls and kills. Before each run the store is as it was; only k changes. A normal
run takes a sample of the calls; HOLDFAST_LONG=1 takes all. HOLDFAST_SEED=N repeats a sample, and
HOLDFAST_KILL=COMMAND:WHEN:K one single case.
"""

import os
import random
import shutil
import signal
import subprocess
import unittest

import support
from support import Exit, StoreTestCase, random_bytes, sha256

IS_LONG = os.environ.get("HOLDFAST_LONG") == "1"
SEED = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(1 << 32)))
CASES_EACH = 7
library = None


def setUpModule():
    global library
    library = support.fault_library()
    print(f"kill points: {'all' if IS_LONG else f'a sample, HOLDFAST_SEED={SEED}'}", flush=True)


class KillPoints(StoreTestCase):
    """Each test names a command; `check` says what may be there after it was killed."""

    OLD_SMALL = random_bytes(900, 41)
    OLD_BIG = random_bytes((1 << 20) + 77, 42)
    NEW_SMALL = random_bytes(1100, 43)
    NEW_BIG = random_bytes(2 << 20, 44)

    def setUp(self):
        super().setUp()
        self.put("models/small", self.OLD_SMALL)
        self.put("models/big", self.OLD_BIG)
        self.file("new-small", self.NEW_SMALL)
        self.file("new-big", self.NEW_BIG)
        self.pristine = self.directory / "pristine"
        self.copy(self.store, self.pristine)

    @staticmethod
    def copy(source, target):
        shutil.rmtree(target, ignore_errors=True)
        # Sparse, because most of a log segment is zeros that were allocated ahead.
        subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)

    def reset(self):
        self.copy(self.pristine, self.store)

    def run_until(self, when, at, *arguments):
        """Runs a command that dies at its call number `at`; returns its exit code, and the number of calls when it
        lived."""
        count = self.directory / "count"
        count.unlink(missing_ok=True)
        outcome = self.run_program(
            *arguments,
            env={
                "LD_PRELOAD": str(library),
                "KILLPOINTS_ROOT": str(self.store),
                "KILLPOINTS_AT": str(at),
                "KILLPOINTS_WHEN": when,
                "KILLPOINTS_COUNT": str(count),
                "SWIFT_BACKTRACE": "enable=no",
            },
        )
        self.assertIn(outcome.code, (Exit.DONE, -signal.SIGKILL), outcome)
        return outcome.code, int(count.read_text()) if outcome.code == Exit.DONE else None

    def cases(self, name, total):
        single = os.environ.get("HOLDFAST_KILL")
        if single:
            command, when, at = single.split(":")
            return [(when, int(at))] if command == name else []
        everything = [(when, at) for when in ("before", "after", "half") for at in range(1, total + 1)]
        if IS_LONG:
            return everything
        # Every n-th one, from a place of chance: the sample is spread over the whole command.
        step = max(1, len(everything) // CASES_EACH)
        return everything[random.Random(f"{SEED}{name}").randrange(step) :: step]

    def kill_everywhere(self, name, arguments, check):
        code, total = self.run_until("before", 0, *arguments)
        self.assertEqual(code, Exit.DONE)
        self.assertGreater(total, 20, "the library does not see the program's calls")
        check(True)
        killed = 0
        for when, at in self.cases(name, total):
            with self.subTest(repeat=f"HOLDFAST_KILL={name}:{when}:{at}"):
                self.reset()
                code, _ = self.run_until(when, at, *arguments)
                killed += code != Exit.DONE
                # What is whole on disk may have died before it said so: only the other way round is wrong.
                check(code == Exit.DONE)
                report = self.do("verify", "--json").json
                self.assertTrue(report["isComplete"], report)
                # The next writer goes on from there.
                self.put("models/after", b"after")
                self.assertEqual(self.content("models/after"), b"after")
                self.do("fsck")
        if not os.environ.get("HOLDFAST_KILL"):
            self.assertGreater(killed, 0)

    def assert_content(self, address, *allowed):
        self.assertIn(sha256(self.content(address)), [sha256(content) for content in allowed])

    def assert_version_count(self, address, *allowed):
        versions = self.versions(address)
        self.assertIn(len(versions), allowed)
        for version in versions:
            if version["kind"] == "object":
                content = self.content(address, "--version", version["versionID"])
                self.assertEqual(sha256(content), version["sha256"])

    def check_put(self, content):
        def check(is_acknowledged):
            self.assert_content("models/small", self.OLD_SMALL)
            self.assert_content("models/big", self.OLD_BIG)
            keys = self.keys()
            self.assertIn(keys, [["big", "new", "small"]] + ([] if is_acknowledged else [["big", "small"]]))
            if "new" in keys:
                self.assert_content("models/new", content)
                self.assert_version_count("models/new", 1)
            else:
                self.assertEqual(self.run_program("log", "models/new").code, Exit.NOT_FOUND)

        return check

    def test_put_of_a_small_object(self):
        self.kill_everywhere("put-small", ["put", "new-small", "models/new"], self.check_put(self.NEW_SMALL))

    def test_put_of_a_large_object(self):
        self.kill_everywhere("put-big", ["put", "new-big", "models/new"], self.check_put(self.NEW_BIG))

    def test_overwrite(self):
        def check(is_acknowledged):
            self.assert_content("models/small", self.OLD_SMALL)
            if is_acknowledged:
                self.assert_content("models/big", self.NEW_BIG)
            else:
                self.assert_content("models/big", self.OLD_BIG, self.NEW_BIG)
            self.assert_version_count("models/big", 2, *([] if is_acknowledged else [1]))
            self.assertEqual(self.keys(), ["big", "small"])

        self.kill_everywhere("overwrite", ["put", "new-big", "models/big"], check)

    def test_rm(self):
        def check(is_acknowledged):
            self.assert_content("models/small", self.OLD_SMALL)
            keys = self.keys()
            self.assertIn(keys, [["small"]] + ([] if is_acknowledged else [["big", "small"]]))
            self.assert_version_count("models/big", 2 if keys == ["small"] else 1)

        self.kill_everywhere("rm", ["rm", "models/big"], check)

    def test_renewing_the_master_key(self):
        """The credentials of a mirror are sealed anew, whenever it dies: then the older key is not needed any more."""
        credentials = self.file("keys", b"[a]\naws_access_key_id = a\naws_secret_access_key = b\n")
        self.do("mirror", "add", "m", "--endpoint", "http://127.0.0.1:1", "--bucket", "b", "--credentials-file", credentials)
        self.do("mirror", "pause", "m")
        self.copy(self.store, self.pristine)
        path = self.store / "master.key"

        def key_lines():
            return [line for line in path.read_text().splitlines() if line.startswith("key ")]

        def check(is_acknowledged):
            self.assertIn(len(key_lines()), [2] if is_acknowledged else [1, 2])
            if not is_acknowledged:
                # Brings it to its end.
                self.do("mirror", "run", "--until-idle")
            line = key_lines()[-1] + "\n"
            path.write_text(f"holdfast-master-key 1\n{line}check {sha256(line.encode())[:16]}\n")
            mirror = self.do("mirror", "run", "--until-idle", "--json").json["mirrors"][0]
            self.assertIsNone(mirror.get("lastError"))

        self.kill_everywhere("rotate-master", ["key", "rotate", "--master"], check)


if __name__ == "__main__":
    unittest.main()

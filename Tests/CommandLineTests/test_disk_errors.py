"""Disks that answer with errors: EIO on every write, fsync and read of one volume, or of all, from some call on."""

import os
import random
import unittest

import support
from support import Exit, StoreTestCase, random_bytes, sha256

SEED = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(1 << 32)))
IS_LONG = os.environ.get("HOLDFAST_LONG") == "1"
library = None


def setUpModule():
    global library
    library = support.fault_library()
    print(f"disk errors: HOLDFAST_SEED={SEED}", flush=True)


class DiskErrors(StoreTestCase):
    def setUp(self):
        super().setUp()
        self.small = random_bytes(1000, 51)
        self.big = random_bytes((2 << 20) + 5, 52)
        self.put("models/small", self.small)
        self.put("models/big", self.big)
        self.source = self.file("source", random_bytes((1 << 20) + 5, 53))

    def run_failing(self, root, when, at, *arguments):
        """Runs a command while calls below `root` fail from number `at` on; 0 only counts them."""
        count = self.directory / "count"
        count.unlink(missing_ok=True)
        outcome = self.run_program(*arguments, env=self.faults(root, when, count, AT=at))
        self.assertTrue(count.exists(), f"the program crashed\n{outcome}")
        return outcome, int(count.read_text())

    @staticmethod
    def faults(root, when, count, **more):
        settings = {"ROOT": root, "WHEN": when, "COUNT": count, **more}
        preload = {"LD_PRELOAD": str(library), "SWIFT_BACKTRACE": "enable=no"}
        return {**preload, **{f"KILLPOINTS_{name}": str(value) for name, value in settings.items()}}

    def cases(self, name, total, number):
        step = 1 if IS_LONG else max(1, total // number)
        return range(1 + random.Random(f"{SEED}{name}").randrange(step), total + 1, step)

    def assert_old_content(self):
        self.assertEqual(self.content("models/small"), self.small)
        self.assertEqual(sha256(self.content("models/big")), sha256(self.big))

    def assert_recovers(self):
        self.assertTrue(self.do("verify", "--json").json["isComplete"])
        status = self.do("status", "--json").json
        self.assertTrue(status["isFullyRedundant"], status)

    def test_a_volume_that_can_not_be_written_any_more_does_not_stop_a_put(self):
        root = self.volumes[1]
        total = self.run_failing(root, "fail", 0, "put", self.source, "models/new")[1]
        for at in self.cases("one", total, 8):
            with self.subTest(failing_from=at, seed=SEED):
                self.source.write_bytes(random_bytes((1 << 20) + 5, 1000 + at))
                outcome, _ = self.run_failing(root, "fail", at, "put", self.source, "models/new")
                self.assertEqual(outcome.code, Exit.DONE, outcome)
                self.assertEqual(sha256(self.content("models/new")), sha256(self.source.read_bytes()))
                self.assert_old_content()
                self.assert_recovers()

    def test_the_failure_is_shown_while_it_lasts(self):
        outcome, _ = self.run_failing(self.volumes[1], "fail", 1, "status", "--json")
        self.assertEqual(outcome.code, Exit.DONE, outcome)
        volume = outcome.json["volumes"][1]
        self.assertEqual(volume["state"], "failed", outcome)
        self.assertTrue(volume["reason"])
        self.assertFalse(outcome.json["isFullyRedundant"])
        self.assert_recovers()

    def test_when_all_volumes_fail_nothing_is_half_visible(self):
        root = self.store / "volumes"
        total = self.run_failing(root, "fail", 0, "put", self.source, "models/counted")[1]
        for at in self.cases("all", total, 8):
            with self.subTest(failing_from=at, seed=SEED):
                content = random_bytes((1 << 20) + 5, 2000 + at)
                self.source.write_bytes(content)
                outcome, _ = self.run_failing(root, "fail", at, "put", self.source, f"models/n{at}")
                if outcome.code != Exit.DONE:
                    self.assertIn(outcome.code, (Exit.UNAVAILABLE, Exit.UNKNOWN, Exit.DISK), outcome)
                    self.assertIn("volumes", outcome.errors)
                keys = self.keys()
                if outcome.code == Exit.DONE:
                    self.assertIn(f"n{at}", keys)
                if f"n{at}" in keys:
                    self.assertEqual(sha256(self.content(f"models/n{at}")), sha256(content))
                self.assert_old_content()
                self.assert_recovers()

    def test_a_volume_that_can_not_be_read_is_passed_over(self):
        root = self.volumes[0]
        total = self.run_failing(root, "reads", 0, "get", "models/big", "-")[1]
        for at in self.cases("reads", total, 6):
            with self.subTest(failing_from=at, seed=SEED):
                outcome, _ = self.run_failing(root, "reads", at, "get", "models/big", "-")
                self.assertEqual(outcome.code, Exit.DONE, outcome)
                self.assertEqual(sha256(outcome.raw), sha256(self.big))
                self.assert_old_content()
                self.assert_recovers()

    def test_one_readable_volume_is_enough_for_a_store_that_is_open(self):
        """Which read is the first one after opening differs from run to run: the faults begin when bytes have come."""
        huge = random_bytes(48 << 20, 54)
        self.put("models/huge", huge)
        for good in range(3):
            with self.subTest(readable=good + 1):
                broken = self.directory / f"broken{good}"
                count = self.directory / f"count{good}"
                root = ":".join(str(volume) for volume in self.volumes if volume != self.volumes[good])
                process = self.start("get", "models/huge", "-", env=self.faults(root, "reads", count, SWITCH=broken))
                # More than a pipe and what is read ahead can hold is still to come.
                first = os.read(process.stdout.fileno(), 1)
                broken.touch()
                rest, errors = process.communicate(timeout=support.DEADLINE)
                self.assertEqual(process.returncode, Exit.DONE, errors)
                self.assertEqual(sha256(first + rest), sha256(huge))
                self.assertGreater(int(count.read_text()), 0, "no read failed")
                self.assert_recovers()

    def test_two_volumes_that_fail_while_the_store_opens_are_told_from_later_ones(self):
        """Two volumes are needed to know the newest state, afterwards one. Which k is which, nobody can tell."""
        root = f"{self.volumes[0]}:{self.volumes[2]}"
        total = self.run_failing(root, "reads", 0, "get", "models/big", "-")[1]
        for at in [*self.cases("two", total, 6), total]:
            with self.subTest(failing_from=at, seed=SEED):
                outcome, _ = self.run_failing(root, "reads", at, "get", "models/big", "-")
                if outcome.code != Exit.DONE:
                    self.assertEqual(outcome.code, Exit.UNAVAILABLE, outcome)
                    self.assertIn("The store can't be opened", outcome.errors)
                    self.assertEqual(outcome.raw, b"")
                else:
                    self.assertEqual(sha256(outcome.raw), sha256(self.big))
                self.assert_recovers()

if __name__ == "__main__":
    unittest.main()

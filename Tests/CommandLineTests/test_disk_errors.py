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
        outcome = self.run_program(
            *arguments,
            env={
                "LD_PRELOAD": str(library),
                "KILLPOINTS_ROOT": str(root),
                "KILLPOINTS_AT": str(at),
                "KILLPOINTS_WHEN": when,
                "KILLPOINTS_COUNT": str(count),
                "SWIFT_BACKTRACE": "enable=no",
            },
        )
        self.assertTrue(count.exists(), f"the program crashed\n{outcome}")
        return outcome, int(count.read_text())

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
        root = f"{self.volumes[0]}:{self.volumes[2]}"
        total = self.run_failing(root, "reads", 0, "get", "models/big", "-")[1]
        for at in [*self.cases("two", total, 6), total]:
            with self.subTest(failing_from=at, seed=SEED):
                outcome, _ = self.run_failing(root, "reads", at, "get", "models/big", "-")
                # While the store opens two volumes are needed, to know its newest state; afterwards one.
                if outcome.code != Exit.DONE:
                    self.assertLess(at, total)
                    self.assertEqual(outcome.code, Exit.UNAVAILABLE, outcome)
                self.assertEqual(outcome.raw, self.big[: len(outcome.raw)])
                self.assertEqual(outcome.code == Exit.DONE, len(outcome.raw) == len(self.big))
                self.assert_recovers()


if __name__ == "__main__":
    unittest.main()

"""Garbage collection, headroom and what du says, with the real program.

What is deleted goes from the disks, what is alive stays bit for bit, whatever kills the program in between; a full disk
takes deletes and gc, and puts again after them.
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import unittest

import support
from support import Exit, StoreTestCase, random_bytes, sha256

IS_LONG = os.environ.get("HOLDFAST_LONG") == "1"
SEED = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(1 << 32)))
CASES = 18
library = None


def setUpModule():
    global library
    library = support.fault_library()


class GarbageCase(StoreTestCase):
    def allocated(self):
        """Bytes that the bulk segments of all volumes have on the file system."""
        return sum(
            path.stat().st_blocks * 512
            for volume in self.volumes
            for path in self.segments(volume)
            if path.suffix == ".bulk"
        )

    def collect(self, *options):
        return self.do("gc", "run", "--wait", "--json", *options).json["run"]

    def assert_whole(self):
        report = self.do("verify", "--json").json
        self.assertTrue(report["isComplete"], report)
        self.do("fsck")


class Collection(GarbageCase):
    def test_a_dry_run_says_what_a_run_frees_and_changes_nothing(self):
        big, kept = random_bytes(8 << 20, 1), random_bytes(3 << 20, 2)
        self.put("models/big", big)
        self.put("models/kept", kept)
        self.do("rm", "models/big")
        before = self.allocated()
        self.assertEqual(self.collect("--dry-run")["volumes"][0]["unreferencedRecords"], 0, "history keeps it")
        version = [each for each in self.versions("models/big") if each["kind"] == "object"][0]
        self.do("rm", "models/big", "--version", version["versionID"])
        dry = self.collect("--dry-run")
        self.assertTrue(dry["dryRun"])
        self.assertEqual(self.allocated(), before)
        for volume in dry["volumes"]:
            self.assertGreaterEqual(volume["unreferencedBytes"], len(big))
            self.assertEqual(volume["condemnedRecords"], 0)
        run = self.collect()
        self.assertEqual(run["outcome"], "done")
        for volume, expected in zip(run["volumes"], dry["volumes"]):
            self.assertEqual(volume["condemnedRecords"], expected["unreferencedRecords"])
        self.assertLess(self.allocated(), before - 3 * len(big) * 9 // 10)
        self.assertEqual(self.content("models/kept"), kept)
        self.assert_whole()
        # Nothing is left for another run.
        self.assertTrue(all(volume["condemnedRecords"] == 0 for volume in self.collect()["volumes"]))
        self.put("models/again", big)
        self.assertEqual(self.content("models/again"), big)
        self.assert_whole()

    def test_what_a_broken_off_upload_left_goes(self):
        # The expected digest is wrong: the bytes are written, and refused at the end.
        content = random_bytes(4 << 20, 3)
        outcome = self.run_program("put", "-", "models/x", "--exact", "--sha256", "0" * 64, input=content)
        self.assertNotEqual(outcome.code, Exit.DONE)
        run = self.collect()
        self.assertGreaterEqual(run["volumes"][0]["condemnedBytes"], len(content))
        self.assert_whole()

    def test_the_last_run_is_remembered(self):
        self.assertIsNone(self.do("gc", "status", "--json").json.get("run"))
        self.collect()
        self.assertEqual(self.do("gc", "status", "--json").json["run"]["outcome"], "done")

    def test_nothing_is_collected_after_a_rebuild_until_everything_was_verified(self):
        self.put("models/a", random_bytes(1 << 20, 4))
        self.do("rebuild-catalog")
        self.refuse(Exit.CONFLICT, "gc", "run", "--wait")
        self.assertIsNotNone(self.do("gc", "status", "--json").json.get("hold"))
        self.do("verify")
        self.assertEqual(self.collect()["outcome"], "done")

    def test_a_clean_audit_ends_the_hold_and_one_that_finds_something_does_not(self):
        content = random_bytes(1 << 20, 4)
        self.put("models/a", content)
        self.do("rebuild-catalog")
        away = self.volumes[1].with_name("away")
        self.volumes[1].rename(away)
        self.run_program("scrub", "start", "--kind", "audit", "--wait")
        self.refuse(Exit.CONFLICT, "gc", "run", "--wait")
        away.rename(self.volumes[1])
        self.do("verify", "models/a")
        self.refuse(Exit.CONFLICT, "gc", "run", "--wait")
        self.do("scrub", "start", "--kind", "audit", "--wait")
        self.assertIsNone(self.do("gc", "status", "--json").json.get("hold"))
        self.assertEqual(self.collect()["outcome"], "done")
        self.assertEqual(self.content("models/a"), content)

    def test_the_hold_survives_a_crash_at_any_call_of_the_rebuild(self):
        self.put("models/a", random_bytes(300_000, 4))
        pristine = self.directory / "pristine"
        KilledCollection.copy(self.store, pristine)
        points = [("before", 0)]
        while points:
            when, at = points.pop()
            KilledCollection.copy(pristine, self.store)
            count = self.directory / "count"
            count.unlink(missing_ok=True)
            outcome = self.run_program(
                "rebuild-catalog",
                env={
                    "LD_PRELOAD": str(library), "KILLPOINTS_ROOT": str(self.store), "KILLPOINTS_AT": str(at),
                    "KILLPOINTS_WHEN": when, "KILLPOINTS_COUNT": str(count), "SWIFT_BACKTRACE": "enable=no",
                },
            )
            self.assertIn(outcome.code, (Exit.DONE, -signal.SIGKILL), outcome)
            if at == 0:
                total = int(count.read_text())
                step = 1 if IS_LONG else max(1, total // 6)
                points = [("after", place) for place in range(random.Random(SEED).randrange(step) + 1, total + 1, step)]
                self.assertGreater(total, 3)
            # Either the old index is there still, or the new one is under suspicion.
            hold = self.do("gc", "status", "--json").json.get("hold")
            names = subprocess.run(["ls", self.store / "catalog"], capture_output=True, text=True).stdout
            if hold is None:
                self.assertEqual(outcome.code, -signal.SIGKILL, f"HOLDFAST_SEED={SEED} {when}:{at}")
                self.assertNotIn("rebuilt", names)
                self.assertLess(at, total // 2 + 1, f"HOLDFAST_SEED={SEED} {when}:{at}")
            else:
                self.refuse(Exit.CONFLICT, "gc", "run", "--wait")

    def test_du_says_what_each_part_of_the_store_takes(self):
        # Contents of one chunk each, so that the sums are plain: 200,000 bytes shared, 150,000 and 90,000 alone.
        shared, first, second = (random_bytes(size, 40 + size) for size in (200_000, 150_000, 90_000))
        old = self.put("models/a/x", first)
        self.put("models/a/x", shared)
        self.put("models/a/y", shared)
        self.put("models/b/z", second)
        self.do("bucket", "create", "other")
        self.put("other/copy", shared)

        def space(*arguments):
            return self.do("du", *arguments, "--json").json

        def sums(figures):
            return tuple(figures[name] for name in ("logicalBytes", "uniqueBytes", "sharedBytes"))

        buckets = space("--by", "bucket")
        self.assertEqual(sums(buckets["total"]), (840_000, 440_000, 0))
        self.assertEqual(
            [(row["name"], sums(row["space"])) for row in buckets["rows"]],
            [("models", (640_000, 240_000, 200_000)), ("other", (200_000, 0, 200_000))],
        )
        physical = buckets["total"]["physicalBytes"]
        self.assertTrue(3 * 440_000 <= physical <= 3 * (440_000 + 3 * 8192), physical)
        prefixes = space("models", "--by", "prefix")
        self.assertEqual([row["name"] for row in prefixes["rows"]], ["a/", "b/"])
        self.assertEqual(sums(prefixes["rows"][0]["space"]), (550_000, 150_000, 200_000))
        self.assertEqual(sums(space("models/a/")["total"]), (550_000, 150_000, 200_000))
        versions = space("models/a/x", "--exact", "--by", "version")["rows"]
        self.assertEqual([sums(row["space"]) for row in versions], [(200_000, 0, 200_000), (150_000, 150_000, 0)])
        one = space("models/a/x", "--version", old["versionID"])
        self.assertEqual(sums(one["total"]), (150_000, 150_000, 0))
        # What it says would be freed is what is freed.
        before = sum(volume["liveBytes"] for volume in self.do("du", "--json").json["volumes"])
        self.do("rm", "models/a/x", "--version", old["versionID"])
        self.collect()
        after = sum(volume["liveBytes"] for volume in self.do("du", "--json").json["volumes"])
        self.assertEqual(before - after, one["total"]["freedBytes"])
        self.assertEqual(sums(space("models/a/x", "--exact")["total"]), (200_000, 0, 200_000))
        text = self.do("du", "models", "--by", "object").text
        self.assertIn("b/z", text)
        self.assertEqual(text.splitlines()[0].split()[:2], ["LOGICAL", "UNIQUE"])
        self.refuse(Exit.NOT_FOUND, "du", "models/none", "--exact", "--json")
        self.refuse(Exit.NOT_FOUND, "du", "nobody", "--json")
        self.assertEqual(self.run_program("du", "--by", "object").code, Exit.USAGE)

    def test_du_adds_up(self):
        self.put("models/a", random_bytes(5 << 20, 5))
        version = self.put("models/b", random_bytes(6 << 20, 6))
        self.do("rm", "models/b", "--version", version["versionID"])
        before = self.do("du", "--json").json["volumes"]
        for usage, volume in zip(before, self.volumes):
            files = [path for path in volume.rglob("*") if path.is_file() and path.parent.name in ("segments", "quarantine")]
            total = sum(path.stat().st_blocks * 512 for path in files)
            named = sum(usage[name] for name in ("liveBytes", "reclaimableBytes", "quarantineBytes", "logBytes"))
            self.assertAlmostEqual(named, total, delta=1 << 20)
            self.assertGreaterEqual(usage["liveBytes"], 11 << 20)
        self.collect()
        for usage in self.do("du", "--json").json["volumes"]:
            self.assertLess(usage["liveBytes"], 6 << 20)
            self.assertGreaterEqual(usage["liveBytes"], 5 << 20)
            self.assertLess(usage["reclaimableBytes"], 1 << 20)


class Surplus(GarbageCase):
    """A fourth volume takes its share; what the others need no more of goes."""

    def setUp(self):
        super().setUp()
        self.contents = {f"models/k{number}": random_bytes((1 << 20) + number, number) for number in range(12)}
        self.contents |= {f"models/s{number}": random_bytes(4000 + number, 100 + number) for number in range(4)}
        for address, content in self.contents.items():
            self.put(address, content)

    def live(self):
        return sum(volume["liveBytes"] for volume in self.do("du", "--json").json["volumes"])

    def assert_contents(self):
        for address, content in self.contents.items():
            self.assertEqual(sha256(self.content(address)), sha256(content), address)
        self.assert_whole()
        self.do("status", "--check")

    def test_an_added_volume_costs_no_space_after_gc(self):
        # So much that every volume gives up more than an open segment may keep of what is dead.
        for number in range(8):
            content = random_bytes(5 << 20, 200 + number)
            self.contents[f"models/big{number}"] = content
            self.put(f"models/big{number}", content)
        # The slowest volume has all of it.
        self.assert_whole()
        before = self.live()
        self.do("volume", "add", self.directory / "extra")
        self.volumes.append(self.directory / "extra")
        grown = self.live()
        self.assertGreater(grown, before + (4 << 20))
        dry = self.collect("--dry-run")
        self.assertEqual(self.live(), grown)
        surplus = sum(volume["surplusBytes"] for volume in dry["volumes"])
        self.assertGreater(surplus, 4 << 20)
        run = self.collect()
        self.assertEqual(sum(volume["surplusBytes"] for volume in run["volumes"]), surplus)
        self.assertEqual([volume["strayRecords"] for volume in run["volumes"]], [0] * 4)
        # Three of everything, each once.
        self.assertEqual(self.live(), before)
        self.assertLess(self.allocated(), before + (6 << 20))
        self.assert_contents()
        audit = self.do("scrub", "start", "--kind", "audit", "--wait", "--json").json
        job = [each for each in audit["jobs"] if each["kind"] == "audit"][0]
        self.assertEqual((job["state"], job["found"]), ("completed", 0), job)
        misplaced = self.do("scrub", "findings", "--kind", "misplaced", "--json").json["findings"]
        self.assertEqual(misplaced, [])
        self.assertEqual(sum(volume["surplusRecords"] for volume in self.collect()["volumes"]), 0)
        # Any one of the four may be away.
        for volume in self.volumes:
            away = volume.with_name("away")
            volume.rename(away)
            for address, content in self.contents.items():
                self.assertEqual(sha256(self.content(address)), sha256(content), address)
            away.rename(volume)

    def test_a_kill_at_any_call_loses_nothing(self):
        self.do("volume", "add", self.directory / "store" / "extra")
        self.volumes.append(self.directory / "store" / "extra")
        pristine = self.directory / "pristine"
        KilledCollection.copy(self.store, pristine)
        killed = KilledCollection.run_until
        code, total = killed(self, "before", 0)
        self.assertEqual(code, Exit.DONE)
        chance = random.Random(SEED)
        cases = [(chance.choice(["before", "after", "half"]), chance.randrange(1, total + 1)) for _ in range(IS_LONG and 40 or 3)]
        for when, at in cases:
            with self.subTest(repeat=f"HOLDFAST_SEED={SEED} {when}:{at}"):
                KilledCollection.copy(pristine, self.store)
                killed(self, when, at)
                self.assert_contents()
                self.assertEqual(self.collect()["outcome"], "done")
                self.assert_contents()


class KilledCollection(GarbageCase):
    """kill -9 at calls that change files, in sweep, holes and compaction."""

    def setUp(self):
        super().setUp()
        self.kept = {}
        for number in range(12):
            content = random_bytes((1 << 20) + number if number % 3 == 0 else 20_000 + number, 100 + number)
            version = self.put(f"models/k{number}", content)
            if number % 2:
                self.kept[f"models/k{number}"] = content
            else:
                self.do("rm", f"models/k{number}", "--version", version["versionID"])
        self.pristine = self.directory / "pristine"
        self.copy(self.store, self.pristine)

    @staticmethod
    def copy(source, target):
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)

    def run_until(self, when, at):
        count = self.directory / "count"
        count.unlink(missing_ok=True)
        outcome = self.run_program(
            "gc", "run", "--wait",
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

    def test_nothing_alive_is_lost(self):
        code, total = self.run_until("before", 0)
        self.assertEqual(code, Exit.DONE)
        self.assertGreater(total, 20)
        cases = [(when, at) for when in ("before", "after", "half") for at in range(1, total + 1)]
        if not IS_LONG:
            step = max(1, len(cases) // CASES)
            cases = cases[random.Random(SEED).randrange(step) :: step]
        killed = 0
        for when, at in cases:
            with self.subTest(repeat=f"HOLDFAST_SEED={SEED} {when}:{at}"):
                self.copy(self.pristine, self.store)
                code, _ = self.run_until(when, at)
                killed += code != Exit.DONE
                for address, content in self.kept.items():
                    self.assertEqual(sha256(self.content(address)), sha256(content), address)
                self.assert_whole()
                self.assertEqual(self.collect()["outcome"], "done")
                self.assert_whole()
                self.put("models/after", random_bytes(1 << 20, 100))
                self.assertEqual(self.content("models/after"), random_bytes(1 << 20, 100))
        self.assertGreater(killed, 0)


@unittest.skipUnless(os.geteuid() == 0, "small file systems are mounted by root only")
class Watermarks(GarbageCase):
    """What a server was told of its headroom holds for commands without a server too."""

    def serve_once(self, config):
        log = open(self.directory / "server.log", "ab")
        self.addCleanup(log.close)
        path = self.file("server.yaml", config.encode())
        server = self.start(
            "serve", "--listen", "127.0.0.1:0", "--config", path, stdout=subprocess.PIPE, stderr=log
        )
        self.assertIn(b"Ready", server.stdout.readline())
        server.terminate()
        server.wait(support.DEADLINE)

    def test_commands_obey_the_watermarks_of_the_server(self):
        kept, old = random_bytes(1 << 20, 1), random_bytes(1 << 20, 2)
        self.put("models/kept", kept)
        version = self.put("models/old", old)
        # More than any disk has free.
        self.serve_once("gc: {everySeconds: 0, softReserveMiB: 1073741824, hardReserveMiB: 1073741824}\n")
        for content in (random_bytes(3 << 20, 3), b"small"):
            outcome = self.run_program("put", "-", "models/new", "--exact", "--json", input=content)
            self.assertEqual(outcome.code, Exit.FULL, outcome)
            self.assertEqual(outcome.error["code"], "storeFull", outcome)
        self.assertEqual(self.keys(), ["kept", "old"])
        self.assertEqual(self.content("models/kept"), kept)
        # Deletes and garbage collection work.
        self.do("rm", "models/old", "--version", version["versionID"])
        before = self.allocated()
        self.assertEqual(self.collect()["outcome"], "done")
        self.assertLess(self.allocated(), before)
        # A configuration that says nothing: the standard again.
        self.serve_once("gc: {everySeconds: 0}\n")
        self.put("models/new", b"small")
        self.assertEqual(self.content("models/new"), b"small")
        self.assert_whole()


class FullDisk(GarbageCase):
    makes_store = False
    SIZE = 320 << 20

    def setUp(self):
        super().setUp()
        self.mounts = []
        for number in range(3):
            path = self.directory / f"disk{number}"
            path.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "tmpfs", path], capture_output=True
            )
            if done.returncode != 0:
                self.skipTest(f"mount: {done.stderr.decode()}")
            self.mounts.append(path)
            self.addCleanup(subprocess.run, ["umount", "-l", path], capture_output=True)
        self.volumes = [path / "volume" for path in self.mounts]
        options = [item for volume in self.volumes for item in ("--volume", volume)]
        self.do("init", *options)
        self.do("bucket", "create", "models")

    def fill(self):
        """Puts until the store says that it is full; returns what is there."""
        stored = {}
        for number in range(200):
            content = random_bytes(12 << 20, 500 + number)
            outcome = self.run_program("put", "-", f"models/f{number}", "--exact", "--json", input=content)
            if outcome.code != Exit.DONE:
                self.assertEqual(outcome.code, Exit.FULL, outcome)
                return stored
            stored[f"models/f{number}"] = (outcome.json["version"]["versionID"], sha256(content))
        self.fail("the disk never became full")

    def test_deletes_and_gc_make_room_on_a_full_disk(self):
        stored = self.fill()
        self.assertGreater(len(stored), 5)
        # Someone else takes the rest of every disk, to the last block.
        for mount in self.mounts:
            with open(mount / "ballast", "wb") as file:
                try:
                    while True:
                        file.write(b"x" * (1 << 20))
                        file.flush()
                except OSError:
                    pass
            self.assertLess(os.statvfs(mount).f_bavail * 4096, 1 << 20)
        names = sorted(stored)
        for name in names[: len(names) // 2]:
            self.do("rm", name, "--version", stored.pop(name)[0])
        run = self.collect()
        self.assertEqual(run["outcome"], "done", run)
        for mount in self.mounts:
            self.assertGreater(os.statvfs(mount).f_bavail * 4096, 30 << 20)
        for name, (_, digest) in stored.items():
            self.assertEqual(sha256(self.content(name)), digest)
        self.assert_whole()
        for mount in self.mounts:
            (mount / "ballast").unlink()
        content = random_bytes(12 << 20, 999)
        self.put("models/after", content)
        self.assertEqual(self.content("models/after"), content)
        self.assert_whole()

    def test_an_upload_that_can_not_fit_is_refused_before_its_body(self):
        outcome = self.refuse(
            Exit.FULL, "put", self.file("huge", b"\0" * (self.SIZE + (64 << 20))), "models/huge", "--json"
        )
        self.assertIn("Nothing was taken in", outcome.error["message"])
        self.assertEqual(self.collect("--dry-run")["volumes"][0]["unreferencedRecords"], 0, "bytes were written")


class Retention(GarbageCase):
    def setUp(self):
        super().setUp()
        self.put_versions("models/a", 6)
        self.put_versions("models/b", 2)

    def put_versions(self, address, count):
        for number in range(count):
            tags = ["--tag", "release=yes"] if number == 1 and address == "models/a" else []
            content = f"{address} {number}".encode()
            self.do("put", "-", address, "--exact", *tags, input=content)

    def apply(self, *options):
        return self.do("retention", "apply", "models", "--json", *options).json

    def test_every_version_is_explained_and_only_what_no_rule_keeps_is_dropped(self):
        self.do("retention", "set", "models", "--keep-last", "2", "--keep-tagged", "release")
        rules = self.do("retention", "show", "models", "--json").json["rules"]
        self.assertEqual(rules, {"keepLast": 2, "keepTagged": ["release"]})
        dry = self.apply("--dry-run")
        self.assertEqual(len(self.versions("models/a")), 6)
        self.assertEqual(dry["examined"], 8)
        self.assertEqual(dry["dropped"], 2)
        self.assertTrue(all(version["reason"] for version in dry["versions"]))
        by_key = [version for version in dry["versions"] if version["key"] == "a"]
        self.assertEqual([version["kept"] for version in by_key], [True, True, True, False, True, False])
        self.assertIn("current", by_key[0]["reason"])
        self.assertIn("number 2", by_key[2]["reason"])
        self.assertIn("release", by_key[4]["reason"])
        done = self.apply()
        self.assertEqual((done["dropped"], done["refused"]), (2, 0))
        self.assertEqual(len(self.versions("models/a")), 4)
        self.assertEqual(len(self.versions("models/b")), 2)
        self.assertEqual(self.content("models/a"), b"models/a 5")
        self.assertEqual(self.apply()["dropped"], 0)

    def test_young_versions_stay(self):
        self.do("retention", "set", "models", "--keep-last", "0", "--keep-younger-than", "86400")
        self.assertEqual(self.apply("--dry-run")["dropped"], 0)
        self.do("retention", "set", "models", "--keep-last", "0")
        self.assertEqual(self.apply()["dropped"], 6)
        self.assertEqual(len(self.versions("models/a")), 1)

    def test_a_bucket_without_a_policy_keeps_everything(self):
        self.refuse(Exit.NOT_FOUND, "retention", "apply", "models")
        self.assertNotEqual(self.run_program("retention", "set", "models").code, Exit.DONE)
        self.do("retention", "set", "models", "--keep-last", "0")
        self.do("retention", "rm", "models")
        self.assertIsNone(self.do("retention", "show", "models", "--json").json.get("rules"))
        self.assertEqual(len(self.versions("models/a")), 6)


if __name__ == "__main__":
    unittest.main()

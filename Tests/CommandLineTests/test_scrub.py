"""Scrub and repair: bits flipped everywhere, kills, an emptied volume, pausing, exit codes, the ledger."""

import hashlib
import random
import shutil
import subprocess
import time

import support
from support import Exit, StoreTestCase, flip, poll, random_bytes, sha256

REPAIRED = 14
SEED = int(support.os.environ.get("HOLDFAST_SEED", "20261122"))


class ScrubCase(StoreTestCase):
    big_size = 20 << 20

    def setUp(self):
        super().setUp()
        self.content_by_key = {f"small-{number:03}": random_bytes(900 + 1371 * number, number) for number in range(60)}
        self.content_by_key["big"] = random_bytes(self.big_size, 999)
        for key, content in self.content_by_key.items():
            self.file(f"tree/{key}", content)
        self.do("put", self.directory / "tree", "models/tree/")
        for round in range(6):
            self.put("models/again", random_bytes(5000, 100 + round))
        self.content_by_key = {f"tree/{key}": content for key, content in self.content_by_key.items()}

    def assert_content(self):
        for key, content in self.content_by_key.items():
            self.assertEqual(sha256(self.content(f"models/{key}")), sha256(content), key)

    def files(self, volume):
        """Everything that the volume consists of; what is set aside and the lock are no part of it."""
        return sorted(
            path
            for path in volume.rglob("*")
            if path.is_file() and path.parent.name != "quarantine" and path.name != "lock" and path.stat().st_size
        )

    def flip_bits(self, volume, count, chance):
        """Flips bits anywhere in a volume's files. One copy of the identity stays: without both there is no volume."""
        files = [path for path in self.files(volume) if path.name != "volume.json.2"]
        sizes = [path.stat().st_size for path in files]
        for _ in range(count):
            path = chance.choices(files, sizes)[0]
            flip(path, chance.randrange(path.stat().st_size), chance.randrange(8))
        # Small files are seldom hit by chance.
        flip(volume / "volume.json", chance.randrange((volume / "volume.json").stat().st_size), chance.randrange(8))

    def scrub(self, *arguments):
        outcome = self.run_program("scrub", "start", "--wait", "--json", *arguments)
        self.assertIn(outcome.code, (Exit.DONE, REPAIRED, Exit.DAMAGED, Exit.UNAVAILABLE, Exit.PARTLY), outcome)
        return outcome

    def assert_clean(self):
        outcome = self.scrub()
        if outcome.code != Exit.DONE:
            findings = self.do("scrub", "findings", "--limit", "1000", "--json").json["findings"]
            began = min(job["startedAt"] for job in outcome.json["jobs"])
            self.fail(f"{outcome.code}: {[finding for finding in findings if finding.get('lastSeenAt', began) >= began]}\n{outcome}")
        verified = self.do("verify", "--no-repair", "--json").json
        self.assertTrue(verified["isComplete"])
        self.do("fsck", "--deep")
        self.assert_content()


class Flips(ScrubCase):
    def test_a_sound_store_is_clean_and_nothing_is_written_down(self):
        outcome = self.scrub()
        self.assertEqual(outcome.code, Exit.DONE, outcome)
        jobs = outcome.json["jobs"]
        self.assertEqual({job["state"] for job in jobs}, {"completed"})
        self.assertEqual(len(jobs), 4)
        for job in jobs:
            self.assertEqual((job["found"], job["repaired"]), (0, 0))
            self.assertGreater(job["records"], 60)
            self.assertIn("lastPassEndedAt", job)
        self.assertEqual(self.do("scrub", "findings", "--json").json["findings"], [])

    def test_a_thousand_bits_of_one_volume(self):
        print(f"HOLDFAST_SEED={SEED}")
        self.flip_bits(self.volumes[0], 1000, random.Random(SEED))
        outcome = self.scrub()
        self.assertEqual(outcome.code, REPAIRED, outcome)
        job = next(job for job in outcome.json["jobs"] if job.get("volume", "") == str(self.volumes[0]))
        self.assertGreater(job["found"], 0)
        self.assertEqual(job["found"], job["repaired"])
        findings = self.do("scrub", "findings", "--limit", "1000", "--json").json["findings"]
        self.assertTrue(findings)
        self.assertEqual({finding["volume"] for finding in findings}, {str(self.volumes[0])})
        self.assertEqual([finding for finding in findings if finding["outcome"] not in ("repaired", "mended")], [])
        for finding in findings:
            if finding["outcome"] == "repaired":
                self.assertIn("verifiedAt", finding)
                self.assertIn(finding["repairedFrom"], [str(self.volumes[1]), str(self.volumes[2])])
        self.assert_clean()

    def test_a_thousand_bits_of_two_volumes_at_different_places(self):
        print(f"HOLDFAST_SEED={SEED}")
        chance = random.Random(SEED + 1)
        # A chunk with two bad copies keeps one. So does the commit log: what is damaged in front of its end still votes.
        self.flip_bits(self.volumes[0], 1000, chance)
        self.flip_bits(self.volumes[1], 1000, chance)
        outcome = self.scrub()
        self.assertEqual(outcome.code, REPAIRED, outcome)
        self.assert_clean()
        # Each of the volumes carries its share again.
        self.volumes[2].rename(f"{self.volumes[2]}.away")
        self.assert_content()

    def test_what_no_volume_has_is_named(self):
        content = random_bytes(3000, 4711)
        first = self.put("models/lost", random_bytes(3000, 4712))
        version = self.put("models/lost", content)
        twin = self.put("models/twin", content)
        newest = self.put("models/lost", random_bytes(3000, 4713))
        self.do("rm", "models/twin")
        for volume in self.volumes:
            self.flip_payload(volume, content, 100)
        outcome = self.scrub()
        self.assertEqual(outcome.code, Exit.DAMAGED, outcome)
        findings = self.do("scrub", "findings", "--closed", "--kind", "corruptPayload", "--json").json["findings"]
        lost = [finding for finding in findings if finding["outcome"] == "unrepairable"]
        self.assertTrue(lost)
        self.assertEqual(len(lost), 3)
        for finding in lost:
            self.assertIn(f"models/lost {version['versionID']}", finding["neededBy"])
            self.assertEqual(finding["neededCount"], 2)
            # Both versions that need the chunk, then what else there is of their keys.
            versions = [
                (entry["key"], entry["versionID"], entry["state"], entry["isNewest"]) for entry in finding["versions"]
            ]
            self.assertEqual(
                versions[:2],
                [("lost", version["versionID"], "lost", False), ("twin", twin["versionID"], "lost", False)],
            )
            self.assertEqual(
                sorted(versions[2:]),
                sorted([
                    ("lost", newest["versionID"], "whole", True),
                    ("lost", first["versionID"], "whole", False),
                ]),
            )
            self.assertEqual({copy["volume"] for copy in finding["copies"]}, {str(volume) for volume in self.volumes})
            self.assertFalse(any(copy["isGood"] for copy in finding["copies"]))
        text = self.do("scrub", "findings", "--closed").text
        # Each chunk once.
        self.assertEqual(text.count("can't be repaired"), 1, text)
        self.assertEqual(text.count("needs it"), 2, text)
        self.assertEqual(text.count(" whole "), 2, text)
        # What it says is whole is whole.
        for entry in lost[0]["versions"][2:]:
            self.content("models/lost", "--version", entry["versionID"])
        self.assert_content()


    def batches(self, volume):
        """Places in batches of a volume's log, each in another block: file and offset."""
        found = []
        for path in sorted(volume.rglob("*.log")):
            content = path.read_bytes()
            place = content.find(b"tree/small-0")
            while place >= 0:
                found.append((path, place))
                place = content.find(b"tree/small-0", place + 4096)
        return found

    def test_two_logs_with_holes_open_with_the_third_and_stay_shut_without_it(self):
        for volume, number in ((self.volumes[0], 0), (self.volumes[1], -1)):
            path, place = self.batches(volume)[number]
            flip(path, place)
        whole = self.volumes[2]
        away = whole.with_name("away")
        whole.rename(away)
        for _ in range(2):
            refused = self.refuse(Exit.UNAVAILABLE, "ls", "models/", "--json")
            self.assertIn("is known to end at", refused.errors)
        away.rename(whole)
        self.assert_content()
        # Each of them votes with what it was given again.
        whole.rename(away)
        self.assert_content()
        away.rename(whole)
        self.scrub()
        self.assert_clean()


class Nobodys(ScrubCase):
    """What no version needs and no volume has is garbage, and no loss."""

    def put_gone(self, count):
        """Objects of one chunk each, removed for good; of which the names are."""
        contents = [random_bytes(200_000, 7000 + number) for number in range(count)]
        for number, content in enumerate(contents):
            put = self.put(f"models/gone-{number}", content)
            self.do("rm", f"models/gone-{number}", "--version", put["versionID"])
        return contents

    def assert_mended(self, outcome):
        self.assertEqual(outcome.code, REPAIRED, outcome)
        jobs = outcome.json["jobs"]
        self.assertEqual(sum(job["unrepairable"] for job in jobs), 0)
        self.assertEqual(sum(job["found"] for job in jobs), sum(job["repaired"] for job in jobs))
        findings = self.do("scrub", "findings", "--limit", "1000", "--json").json["findings"]
        self.assertEqual({finding["outcome"] for finding in findings} - {"mended", "repaired"}, set())
        return [finding for finding in findings if "nothing needs it" in finding.get("detail", "")]

    def test_what_was_deleted_and_is_damaged_everywhere_is_no_loss(self):
        content, = self.put_gone(1)
        for volume in self.volumes:
            self.flip_payload(volume, content, 100)
        garbage = self.assert_mended(self.scrub())
        self.assertEqual({finding["volume"] for finding in garbage}, {str(volume) for volume in self.volumes})
        self.assert_clean()
        # The same content put again is written anew, in full.
        self.put("models/again-whole", content)
        self.assertEqual(self.content("models/again-whole"), content)
        self.assert_clean()

    def test_buried_records_come_back_with_the_log_that_buried_them_and_go_again(self):
        # As much as it takes for the segment to be closed, so that holes are made in it.
        contents = self.put_gone(30)
        self.do("gc", "run", "--wait", "--grace", "0", "--json")
        names = [hashlib.sha256(content).digest() for content in contents]
        volume = self.volumes[0]
        harmed = 0
        for path in sorted(volume.rglob("*.log")):
            log = path.read_bytes()
            # Tombstones stand one behind the other: 32 bytes of name, 8 of place.
            for first in names:
                place = log.find(first)
                while place >= 0:
                    if log[place + 40 : place + 72] in names:
                        flip(path, place + 32)
                        harmed += 1
                    place = log.find(first, place + 1)
        self.assertGreater(harmed, 0, "no tombstones were found")
        garbage = self.assert_mended(self.scrub())
        self.assertEqual(len(garbage), len(contents))
        self.assertEqual({finding["volume"] for finding in garbage}, {str(volume)})
        self.assert_clean()


class Interrupted(ScrubCase):
    big_size = 96 << 20

    def test_killed_in_the_middle_it_goes_on_to_the_end(self):
        chance = random.Random(SEED + 2)
        self.flip_bits(self.volumes[1], 300, chance)
        for _ in range(6):
            process = self.start("scrub", "start", "--wait", "--json")
            try:
                process.wait(0.3 + chance.random())
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate(timeout=support.DEADLINE)
            self.assertLess(process.returncode, 15)
        self.scrub()
        self.assert_clean()

    def test_paused_cancelled_and_resumed(self):
        process = self.start("scrub", "start", "--wait")
        try:
            process.wait(0.4)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=support.DEADLINE)
        self.do("scrub", "pause")
        status = self.do("scrub", "status", "--json").json
        running = [job for job in status["jobs"] if job["state"] == "running"]
        self.assertEqual(running, [])
        if any(job["state"] == "paused" for job in status["jobs"]):
            self.assertEqual(self.scrub().code, Exit.PARTLY)
            self.assertEqual(self.run_program("scrub", "resume", "--wait").code, Exit.DONE)
        self.do("scrub", "cancel")
        self.assertEqual(self.scrub().code, Exit.DONE)


class Commands(StoreTestCase):
    def test_wrong_arguments(self):
        self.refuse(Exit.USAGE, "scrub", "start", "--kind", "nonsense")
        self.refuse(Exit.USAGE, "scrub", "start", "--kind", "audit", "--volume", self.volumes[0])
        self.refuse(Exit.USAGE, "scrub", "start", "--volume", "nowhere", "--json")
        self.refuse(Exit.USAGE, "scrub", "findings", "--kind", "nonsense", "--json")
        self.refuse(Exit.USAGE, "scrub", "findings", "--limit", "0")

    def test_the_schedule_is_shown(self):
        schedule = self.do("scrub", "schedule", "--json").json
        self.assertEqual(schedule["volumeSchedule"], "17 1 * * 0")
        for job in schedule["jobs"]:
            self.assertIn("nextRunAt", job)

    def test_one_volume_only(self):
        outcome = self.do("scrub", "start", "--volume", self.volumes[1], "--json")
        states = {job.get("volume"): job["state"] for job in outcome.json["jobs"]}
        self.assertEqual(states.pop(str(self.volumes[1])), "completed")
        self.assertEqual(set(states.values()), {"idle"})

    def test_a_volume_that_is_away_is_a_scrub_that_could_not_be_done(self):
        self.volumes[2].rename(f"{self.volumes[2]}.away")
        self.assertEqual(self.run_program("scrub", "start", "--wait").code, Exit.UNAVAILABLE)


class Ledger(StoreTestCase):
    """Pages and filters of the findings, without a server and asked of one."""

    def findings(self, *options):
        return self.do("scrub", "findings", *options, "--json").json

    def pages(self, size, *options):
        found, after = [], []
        while True:
            page = self.findings("--limit", str(size), *options, *after)
            self.assertLessEqual(len(page["findings"]), size)
            found += page["findings"]
            if "next" not in page:
                return found
            after = ["--after", page["next"]]

    def check(self, everything):
        for size in (1, 3, 1000):
            self.assertEqual(self.pages(size), everything)
        for volume in self.volumes:
            wanted = [finding for finding in everything if finding["volume"] == str(volume)]
            self.assertEqual(self.pages(2, "--volume", volume), wanted)
        self.assertEqual(self.pages(2, "--kind", "missing,corruptPayload", "--volume", self.volumes[0]),
                         [finding for finding in everything if finding["volume"] == str(self.volumes[0])])
        self.assertEqual(self.pages(2, "--kind", "missing"), [])
        self.assertEqual(self.pages(2, "--open"), [])
        self.assertEqual(self.pages(2, "--closed", "--kind", "corruptPayload"), everything)
        for wrong in (["--volume", "nowhere"], ["--kind", "nonsense"], ["--after", "x"]):
            self.refuse(Exit.USAGE, "scrub", "findings", *wrong, "--json")
        shown = self.do("scrub", "findings", "--limit", "2")
        self.assertIn(f"--after {everything[1]['id']}", shown.errors)

    def test_pages_and_filters(self):
        contents = [random_bytes(3000 + number, 800 + number) for number in range(3)]
        for number, content in enumerate(contents):
            self.put(f"models/k{number}", content)
        for content in contents:
            for volume in self.volumes[:2]:
                self.flip_payload(volume, content, 100)
        self.assertEqual(self.run_program("scrub", "start", "--wait").code, REPAIRED)
        everything = self.findings("--limit", "1000")["findings"]
        self.assertEqual(len({(finding["chunk"], finding["volume"]) for finding in everything}), 6, everything)
        self.assertEqual({finding["outcome"] for finding in everything}, {"repaired"})
        self.assertEqual([finding["id"] for finding in everything], sorted(finding["id"] for finding in everything))
        self.check(everything)
        log = open(self.directory / "server.log", "ab")
        self.addCleanup(log.close)
        server = self.start("serve", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE, stderr=log)
        self.assertIn(b"Ready", server.stdout.readline())
        self.check(everything)


class Served(ScrubCase):
    def serve(self, config=None):
        log = open(self.directory / "server.log", "ab")
        self.addCleanup(log.close)
        options = []
        if config:
            options = ["--config", self.file("server.yaml", config.encode())]
        server = self.start("serve", "--listen", "127.0.0.1:0", *options, stdout=subprocess.PIPE, stderr=log)
        self.assertIn(b"Ready", server.stdout.readline())
        return server

    def test_a_server_scrubs_on_command_and_goes_on_after_a_kill(self):
        self.flip_bits(self.volumes[2], 200, random.Random(SEED + 3))
        server = self.serve()
        self.do("scrub", "start", "--json")
        server.kill()
        server.wait(support.DEADLINE)
        self.serve()
        outcome = self.run_program("scrub", "start", "--wait", "--json")
        self.assertIn(outcome.code, (Exit.DONE, REPAIRED), outcome)
        outcome = self.run_program("scrub", "start", "--wait", "--json")
        self.assertEqual(outcome.code, Exit.DONE, outcome)
        self.assertTrue(self.do("status", "--json").json["isFullyRedundant"])

    def job(self):
        jobs = self.do("scrub", "status", "--json").json["jobs"]
        return next(job for job in jobs if job.get("volume") == str(self.volumes[0]))

    def test_a_scrub_goes_on_where_it_was_after_a_kill(self):
        # What the steps of 4 MiB read is noted every two seconds: those have gone when the third one shows.
        slow = "scrub: {volumes: never, audit: never, bytesPerSecond: 3000000, unlimitedWhenIdle: false}\n"
        server = self.serve(slow)
        self.do("scrub", "start", "--volume", self.volumes[0], "--json")
        poll(lambda: self.job()["bytes"] > 12_000_000, "the scrub is on its way")
        time.sleep(1)
        begun = self.job()
        self.assertEqual(begun["state"], "running")
        self.assertLess(begun["bytes"], begun["totalBytes"])
        server.kill()
        server.wait(support.DEADLINE)
        # Kept with the store: nobody is there to be asked.
        kept = self.job()
        self.assertEqual(kept["state"], "running")
        self.assertEqual(kept["startedAt"], begun["startedAt"])
        self.assertGreater((kept["segment"], kept["offset"]), (0, 0))
        self.assertGreater(kept["bytes"], 0)
        self.serve("scrub: {volumes: never, audit: never}\n")
        poll(lambda: self.job()["state"] == "completed", "it went on by itself")
        done = self.job()
        self.assertEqual((done["startedAt"], done["found"], done["passes"]), (begun["startedAt"], 0, 1))
        # Only what lay behind the cursor was read again.
        self.assertLess(done["bytes"], done["totalBytes"] + kept["bytes"])

    def test_a_volume_that_is_added_while_it_is_served_has_its_scrub(self):
        self.serve()
        before = self.do("scrub", "status", "--json").json["jobs"]
        self.assertEqual(len(before), 4)
        extra = self.directory / "extra"
        self.do("volume", "add", extra)
        jobs = self.do("scrub", "schedule", "--json").json["jobs"]
        new = [job for job in jobs if job.get("volume") == str(extra)]
        self.assertEqual(len(new), 1, jobs)
        self.assertEqual(new[0]["state"], "idle")
        self.assertIn("nextRunAt", new[0])
        outcome = self.do("scrub", "start", "--volume", extra, "--wait", "--json")
        job = next(job for job in outcome.json["jobs"] if job.get("volume") == str(extra))
        self.assertEqual(job["state"], "completed")
        self.assertIn("lastPassEndedAt", job)

    def test_a_volume_that_is_emptied_under_it_is_out_and_never_written_to(self):
        self.serve()
        for path in self.volumes[1].iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        outcome = self.run_program("scrub", "start", "--wait", "--json")
        self.assertEqual(outcome.code, Exit.UNAVAILABLE, outcome)
        states = [volume["state"] for volume in self.do("status", "--json").json["volumes"]]
        self.assertEqual(states, ["healthy", "failed", "healthy"])
        self.assertEqual(list(self.volumes[1].iterdir()), [])

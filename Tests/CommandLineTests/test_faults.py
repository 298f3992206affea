"""The promises, by breaking things: lost, damaged, empty, full and foreign volumes, kills, a lost catalog."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import unittest

import support
from support import Exit, StoreTestCase, flip, poll, random_bytes, sha256


class FaultCase(StoreTestCase):
    def setUp(self):
        super().setUp()
        self.small = random_bytes(1000, 21)
        self.bytes = random_bytes(9 << 20, 22)
        self.put("models/small", self.small)
        self.put("models/big", self.bytes)

    def lose(self, *numbers):
        """Takes volumes away, as an unmounted disk would be."""
        for number in numbers:
            self.volumes[number].rename(f"{self.volumes[number]}.away")

    def bring_back(self, *numbers):
        for number in numbers:
            pathlib.Path(f"{self.volumes[number]}.away").rename(self.volumes[number])

    def assert_everything_reads(self):
        self.assertEqual(self.content("models/small"), self.small)
        self.assertEqual(sha256(self.content("models/big")), sha256(self.bytes))

    def assert_fully_redundant(self):
        self.assertTrue(self.do("verify", "--json").json["isComplete"])
        self.assertTrue(self.do("status", "--json").json["isFullyRedundant"])
        self.assertEqual(self.do("status", "--check", "--quiet").text, "")


class LostVolumes(FaultCase):
    def test_with_one_of_three_lost_all_goes_on(self):
        for number in range(3):
            with self.subTest(lost=number):
                self.lose(number)
                self.assert_everything_reads()
                written = random_bytes(3 << 20, number)
                self.put(f"models/written-{number}", written)
                status = self.do("status", "--json").json
                self.assertFalse(status["isFullyRedundant"])
                self.assertTrue(status["isWritable"])
                self.assertEqual([volume["state"] for volume in status["volumes"]].count("healthy"), 2)
                self.refuse(Exit.UNAVAILABLE, "status", "--check")
                outcome = self.run_program("status", "--check", "--quiet")
                self.assertEqual((outcome.code, outcome.raw, outcome.errors), (Exit.UNAVAILABLE, b"", ""))
                self.bring_back(number)
                self.assertEqual(self.content(f"models/written-{number}"), written)
                self.assert_fully_redundant()

    def test_with_two_lost_a_write_names_them_and_leaves_nothing(self):
        self.lose(1, 2)
        outcome = self.refuse(Exit.UNAVAILABLE, "put", support.MODEL, "models/new", "--json")
        for number in (1, 2):
            self.assertIn(self.volumes[number].name, outcome.error["message"])
        self.bring_back(1, 2)
        self.assertEqual(self.keys(), ["big", "small"])
        self.assert_fully_redundant()

    def test_with_two_lost_a_restarted_store_says_why_it_does_not_read(self):
        self.lose(0, 2)
        outcome = self.refuse(Exit.UNAVAILABLE, "get", "models/small", "x", "--json")
        for number in (0, 2):
            self.assertIn(self.volumes[number].name, outcome.error["message"])
        self.assertFalse((self.directory / "x").exists())
        self.bring_back(0, 2)
        self.assert_everything_reads()

    def test_with_all_lost_the_error_is_clear_and_nothing_is_made_in_their_place(self):
        self.lose(0, 1, 2)
        self.refuse(Exit.UNAVAILABLE, "get", "models/small", "x")
        self.refuse(Exit.UNAVAILABLE, "put", support.MODEL, "models/new")
        for volume in self.volumes:
            self.assertFalse(volume.exists(), "an unmounted disk's place is never written to")
        self.bring_back(0, 1, 2)
        self.assert_everything_reads()

    def test_an_empty_mount_point_is_never_written_to(self):
        self.lose(1)
        self.volumes[1].mkdir()
        self.put("models/new", b"new")
        self.assertEqual(os.listdir(self.volumes[1]), [])

    def test_a_volume_that_is_away_is_not_damage(self):
        self.lose(1)
        outcome = self.refuse(Exit.UNAVAILABLE, "verify", "--json")
        self.assertEqual(outcome.error["code"], "notEnoughReplicas")
        outcome = self.refuse(Exit.UNAVAILABLE, "fsck", "--json")
        self.assertNotIn("verify", outcome.error["advice"])
        self.flip_payload(self.volumes[0], self.bytes, 5 << 20)
        self.refuse(Exit.DAMAGED, "verify", "--no-repair")
        self.refuse(Exit.DAMAGED, "fsck")
        self.bring_back(1)
        self.do("verify")
        self.do("verify", "--no-repair")

    def test_an_empty_replacement_is_filled(self):
        shutil.rmtree(self.volumes[1])
        self.volumes[1].mkdir()
        self.do("volume", "replace", self.volumes[1])
        self.assert_fully_redundant()
        # The replacement carries its share: each of the others may go now.
        self.lose(0)
        self.assert_everything_reads()
        self.put("models/after", b"after")
        self.bring_back(0)
        self.lose(2)
        self.assert_everything_reads()
        self.assertEqual(self.content("models/after"), b"after")

    def test_a_directory_with_other_files_is_not_taken_for_a_replacement(self):
        shutil.rmtree(self.volumes[1])
        self.volumes[1].mkdir()
        (self.volumes[1] / "important").write_bytes(b"data")
        outcome = self.refuse(Exit.CONFLICT, "volume", "replace", self.volumes[1], "--json")
        self.assertIn("important", outcome.error["message"])
        self.assertEqual(os.listdir(self.volumes[1]), ["important"])
        self.assert_everything_reads()

    def test_a_replaced_volume_that_comes_back_is_not_let_in(self):
        self.lose(1)
        self.do("volume", "replace", self.volumes[1])
        self.assert_fully_redundant()
        replacement = pathlib.Path(f"{self.volumes[1]}.replacement")
        self.volumes[1].rename(replacement)
        self.bring_back(1)
        self.put("models/meanwhile", b"meanwhile")
        self.assertEqual(self.do("status", "--json").json["volumes"][1]["state"], "failed")
        self.assert_everything_reads()
        self.lose(1)
        replacement.rename(self.volumes[1])
        self.assert_fully_redundant()

    def test_one_replacement_after_the_other_renews_the_whole_store(self):
        for volume in self.volumes:
            shutil.rmtree(volume)
            self.do("volume", "replace", volume)
            self.assert_fully_redundant()
        self.assert_everything_reads()
        self.assertEqual(self.keys(), ["big", "small"])

    def test_a_replacement_that_was_killed_is_taken_up_again(self):
        chance = random.Random(27)
        for round in range(6):
            with self.subTest(round=round):
                shutil.rmtree(self.volumes[2])
                process = self.start("volume", "replace", self.volumes[2])
                try:
                    process.wait(chance.random() * 0.25)
                except subprocess.TimeoutExpired:
                    process.kill()
                process.wait(support.DEADLINE)
                outcome = self.run_program("volume", "replace", self.volumes[2])
                self.assertIn(outcome.code, (Exit.DONE, Exit.CONFLICT), outcome)
                self.assert_fully_redundant()
                self.lose(0)
                self.assert_everything_reads()
                self.bring_back(0)
                self.assert_fully_redundant()

    def test_a_volume_that_was_away_for_long_is_caught_up(self):
        """It comes back as it was: behind by puts, overwrites, deletes, and by more batches than are kept in memory."""
        self.lose(1)
        for number in range(40):
            self.file(f"tree/{number:03}", random_bytes(3000, 500 + number))
        self.do("put", self.directory / "tree", "models/tree/")
        for number in range(30):
            self.put(f"models/one-by-one-{number % 7}", random_bytes(200, 600 + number))
        changed = random_bytes(5 << 20, 700)
        self.put("models/big", changed)
        self.do("rm", "models/small")
        self.do("rm", "--recursive", "models/tree/")
        before = self.do("ls", "--versions", "--json", "models").json
        self.bring_back(1)
        self.assert_fully_redundant()
        # It carries its share: with another one away it must know all of it.
        for number in (0, 2):
            self.lose(number)
            self.assertEqual(self.do("ls", "--versions", "--json", "models").json, before)
            self.assertEqual(sha256(self.content("models/big")), sha256(changed))
            self.assertNotIn("small", self.keys())
            self.bring_back(number)
        self.assert_fully_redundant()

    def test_volumes_that_take_turns_in_being_away_lose_nothing(self):
        expected = {}
        for round in range(9):
            self.lose(round % 3)
            expected[f"t{round}"] = random_bytes(40_000 if round % 2 else 2 << 20, 800 + round)
            self.put(f"models/t{round}", expected[f"t{round}"])
            if round > 3:
                self.do("rm", f"models/t{round - 4}")
                del expected[f"t{round - 4}"]
            self.bring_back(round % 3)
            self.assertEqual(self.keys(), sorted([*expected, "big", "small"]))
        for key, content in expected.items():
            self.assertEqual(sha256(self.content(f"models/{key}")), sha256(content))
        self.assert_fully_redundant()

    def test_a_volume_that_still_has_data_is_not_replaced(self):
        self.assertNotEqual(self.run_program("volume", "replace", self.volumes[1]).code, Exit.DONE)
        self.assert_fully_redundant()

    def test_volumes_that_changed_places_are_told_apart(self):
        spare = self.volumes[0].with_name("spare")
        self.volumes[0].rename(spare)
        self.volumes[1].rename(self.volumes[0])
        spare.rename(self.volumes[1])
        outcome = self.run_program("get", "models/small", "-")
        self.assertTrue(outcome.code != Exit.DONE or outcome.raw == self.small)

    def test_a_volume_of_another_store_is_refused(self):
        other = self.directory / "other"
        foreign = pathlib.Path(self.do("--store", other, "init", "--json").json["volumes"][1])
        self.lose(1)
        shutil.copytree(foreign, self.volumes[1])
        before = sorted(str(path) for path in self.volumes[1].rglob("*"))
        self.assert_everything_reads()
        self.assertNotEqual(self.do("status", "--json").json["volumes"][1]["state"], "healthy")
        self.assertEqual(sorted(str(path) for path in self.volumes[1].rglob("*")), before)


class Damage(FaultCase):
    def test_a_flipped_bit_is_served_from_another_copy_and_repaired(self):
        for content, address in [(self.small, "models/small"), (self.bytes, "models/big")]:
            for volume in self.volumes:
                with self.subTest(address=address, volume=volume.name):
                    self.flip_payload(volume, content)
                    self.assertEqual(sha256(self.content(address)), sha256(content))
                    self.assert_fully_redundant()
                    self.assertEqual(self.do("verify", "--no-repair", "--json").json["copiesDamaged"], 0)

    def test_a_get_tells_what_it_met_and_repaired(self):
        # Of two volumes one is damaged: each read meets it with a chance of one half.
        self.lose(0)
        self.flip_payload(self.volumes[2], self.small)
        for _ in range(30):
            told = self.do("get", "models/small", "-", "--exact").errors
            if told:
                break
        self.assertIn(f"{self.volumes[2]}: damaged copy of 1 chunk, repaired", told)
        self.assertEqual(self.do("get", "models/small", "-", "--exact").errors, "")

    def test_damage_in_two_copies_of_every_chunk_is_survived(self):
        for position in range(0, len(self.bytes) - 64, 300_000):
            self.flip_payload(self.volumes[0], self.bytes, position)
            self.flip_payload(self.volumes[2], self.bytes, position)
        self.assertEqual(sha256(self.content("models/big")), sha256(self.bytes))
        self.assert_fully_redundant()

    def test_verify_without_repair_tells_and_changes_nothing(self):
        path = self.flip_payload(self.volumes[1], self.bytes, 5 << 20)
        self.refuse(Exit.DAMAGED, "verify", "--no-repair")
        report = self.run_program("verify", "--no-repair", "--json").json
        self.assertFalse(report["isComplete"])
        self.assertEqual(report["copiesDamaged"], 1)
        self.assertIn(self.volumes[1].name, str(report["findings"]))
        self.assertEqual(self.run_program("fsck").code, Exit.DAMAGED)
        self.assertTrue(path.exists())
        report = self.do("verify", "--json").json
        self.assertEqual(report["repairedCount"], 1)
        self.assertEqual(self.do("verify", "--no-repair", "--json").json["copiesDamaged"], 0)

    def test_the_damaged_original_is_quarantined(self):
        self.flip_payload(self.volumes[1], self.bytes, 5 << 20)
        self.do("verify")
        self.assertTrue(any((self.volumes[1] / "quarantine").iterdir()))

    def test_damage_in_all_copies_never_gives_wrong_bytes(self):
        for volume in self.volumes:
            self.flip_payload(volume, self.bytes, 5 << 20)
        outcome = self.refuse(Exit.DAMAGED, "get", "models/big", "x", "--json")
        self.assertEqual(outcome.error["code"], "dataUnavailable")
        self.assertFalse((self.directory / "x").exists())
        streamed = self.run_program("get", "models/big", "-")
        self.assertEqual(streamed.code, Exit.DAMAGED)
        self.assertLess(len(streamed.raw), len(self.bytes))
        self.assertEqual(streamed.raw, self.bytes[: len(streamed.raw)])
        self.assertEqual(self.content("models/small"), self.small)
        self.assertGreaterEqual(self.run_program("verify", "--json").json["versionsLost"], 1)
        # The damaged version does not stand in the way of a new one, nor of its deletion.
        self.put("models/big", self.bytes)
        self.assertEqual(sha256(self.content("models/big")), sha256(self.bytes))
        self.assert_fully_redundant()
        self.do("rm", "models/big")

    def test_random_flips_anywhere_on_one_volume_lose_nothing(self):
        chance = random.Random(23)
        for round in range(12):
            volume = self.volumes[round % 3]
            files = [path for path in volume.rglob("*") if path.is_file() and path.stat().st_size > 0]
            path = chance.choice(files)
            offset = chance.randrange(min(path.stat().st_size, 12 << 20))
            with self.subTest(file=str(path.relative_to(self.store)), offset=offset):
                flip(path, offset, chance.randrange(8))
                self.assert_everything_reads()
                self.assertEqual(self.run_program("verify").code, Exit.DONE)

    def assert_made_good(self):
        self.assert_everything_reads()
        self.assertEqual(self.run_program("verify").code, Exit.DONE)
        self.assert_fully_redundant()

    def records(self, path):
        """Offsets and types of a segment's records, found by their magic."""
        content = path.read_bytes()
        found, place = [], content.find(b"HFRC", 4096)
        while place >= 0:
            if place % 64 == 0:
                found.append((place, content[place + 4]))
            place = content.find(b"HFRC", place + 4)
        self.assertTrue(found, path)
        return found

    PAYLOAD, BATCH, FOOTER = 1, 2, 7

    def test_every_field_of_a_record_header_is_guarded(self):
        """Magic, type, format, length, place, tag, SHA-256, table checksum, header checksum, block table."""
        segments = [path for path in self.segments(self.volumes[0]) if path.suffix in (".log", ".bulk")]
        for suffix, kind in [(".bulk", self.PAYLOAD), (".log", self.PAYLOAD)]:
            path = next(path for path in segments if path.suffix == suffix)
            for field in (1, 4, 5, 9, 17, 21, 25, 40, 66, 75, 90, 97):
                place = next(place for place, type in self.records(path) if type == kind)
                with self.subTest(segment=path.name, offset=field):
                    flip(path, place + field)
                    outcome = self.run_program("fsck", "--json")
                    self.assertEqual(outcome.code, Exit.DAMAGED, outcome)
                    self.assert_everything_reads()
                    self.assertEqual(self.run_program("verify").code, Exit.DONE)
        self.assert_fully_redundant()

    def test_every_field_of_a_commit_batch_is_guarded(self):
        path = next(path for path in self.segments(self.volumes[2]) if path.suffix == ".log")
        for field in (1, 4, 9, 17, 40, 90, 97, 120, 150, 200):
            # One that stands before others: not the end of the log, which may be torn.
            place = [place for place, type in self.records(path) if type == self.BATCH][2]
            with self.subTest(offset=field):
                flip(path, place + field)
                self.assertEqual(self.run_program("fsck").code, Exit.DAMAGED)
                self.assert_made_good()
                path = [path for path in self.segments(self.volumes[2]) if path.suffix == ".log"][-1]

    def test_damage_in_a_footer_is_noticed_and_survived(self):
        for number in range(110):
            self.file(f"many/{number:03}", random_bytes(100_000, 900 + number))
        self.do("put", self.directory / "many", "models/many/")
        path = next(path for path in self.segments(self.volumes[1]) if path.suffix == ".log")
        content = path.read_bytes()
        place = content.rfind(b"HFRC")
        self.assertEqual((content[place + 4], content[-64:-60]), (self.FOOTER, b"HFTR"))
        for offset in (place + 1, place + 9, place + 40, place + 97, place + 120, place + 400, len(content) - 62,
                       len(content) - 54, len(content) - 3):
            with self.subTest(offset=offset - place):
                path.write_bytes(content)
                flip(path, offset)
                self.assertEqual(self.run_program("fsck").code, Exit.DAMAGED)
                self.assert_everything_reads()
                self.assertEqual(self.content("models/many/007"), random_bytes(100_000, 907))
                self.assertEqual(self.run_program("verify").code, Exit.DONE)

    def test_one_damaged_copy_of_the_identity_is_mended(self):
        for number, name in enumerate(["volume.json", "volume.json.2"]):
            path = self.volumes[number] / name
            for damage in ["flip", "empty", "gone"]:
                with self.subTest(copy=name, damage=damage):
                    {
                        "flip": lambda: flip(path, path.stat().st_size // 2),
                        "empty": lambda: path.write_bytes(b""),
                        "gone": path.unlink,
                    }[damage]()
                    self.assert_fully_redundant()
                    self.assert_everything_reads()
                    self.assertTrue(path.read_bytes())

    def test_a_volume_without_a_readable_identity_is_offline_until_replaced(self):
        for name in ["volume.json", "volume.json.2"]:
            path = self.volumes[1] / name
            flip(path, path.stat().st_size // 2)
        before = self.segments(self.volumes[1])
        self.put("models/new", b"new")
        self.assert_everything_reads()
        status = self.do("status", "--json").json
        self.assertEqual(status["volumes"][1]["state"], "failed")
        self.assertTrue(status["isWritable"])
        self.assertEqual(self.segments(self.volumes[1]), before)
        self.refuse(Exit.CONFLICT, "volume", "replace", self.volumes[1])
        self.lose(1)
        self.do("volume", "replace", self.volumes[1])
        self.assert_fully_redundant()
        self.assert_everything_reads()

    def test_truncated_and_removed_segments_are_made_good(self):
        segments = self.segments(self.volumes[0])
        for path in segments:
            with self.subTest(segment=path.name):
                os.truncate(path, path.stat().st_size // 2)
                self.assert_everything_reads()
                self.do("verify")
        for path in self.segments(self.volumes[1]):
            path.unlink()
        self.assert_everything_reads()
        self.do("verify")
        self.lose(2)
        self.assert_everything_reads()


class Catalog(FaultCase):
    def remove_catalog(self):
        for path in self.catalog_files():
            for suffix in ["", "-wal", "-shm", "-journal"]:
                pathlib.Path(f"{path}{suffix}").unlink(missing_ok=True)

    def test_a_removed_catalog_is_rebuilt(self):
        self.do("rm", "models/small")
        before = self.do("ls", "--versions", "--json", "models").json
        self.remove_catalog()
        self.assertEqual(self.do("ls", "--versions", "--json", "models").json, before)
        self.assertEqual(sha256(self.content("models/big")), sha256(self.bytes))

    def test_a_catalog_of_rubbish_is_rebuilt(self):
        before = self.do("ls", "--versions", "--json", "models").json
        for path in self.catalog_files():
            path.write_bytes(random_bytes(40_000, 24))
        self.assertEqual(self.do("ls", "--versions", "--json", "models").json, before)

    def test_a_flipped_bit_in_the_catalog_never_shows(self):
        before = self.do("ls", "--versions", "--json", "models").json
        chance = random.Random(25)
        for _ in range(20):
            path = self.catalog_files()[0]
            flip(path, 100 + chance.randrange(path.stat().st_size - 100), chance.randrange(8))
            self.assertEqual(self.do("ls", "--versions", "--json", "models").json, before)
            self.assertEqual(self.content("models/small"), self.small)

    def test_an_older_catalog_catches_up(self):
        path = self.catalog_files()[0]
        copy = self.directory / "older"
        shutil.copy(path, copy)
        self.put("models/new", b"new")
        for suffix in ["-wal", "-shm"]:
            pathlib.Path(f"{path}{suffix}").unlink(missing_ok=True)
        shutil.copy(copy, path)
        self.assertEqual(self.content("models/new"), b"new")
        self.assertEqual(self.keys(), ["big", "new", "small"])

    def test_it_is_rebuilt_from_two_volumes_by_command(self):
        before = self.do("ls", "--versions", "--json", "models").json
        self.lose(0)
        self.do("rebuild-catalog")
        self.assertEqual(self.do("ls", "--versions", "--json", "models").json, before)


class Sharing(FaultCase):
    def test_a_store_in_use_names_the_process(self):
        holder = self.start("put", "-", "models/held", stdin=subprocess.PIPE)
        outcome = poll(self.try_while_held, "the first process to hold the store")
        self.assertEqual(outcome.code, Exit.IN_USE, outcome)
        self.assertEqual(outcome.error["code"], "storeInUse")
        self.assertIn(str(holder.pid), outcome.error["message"])
        waiting = self.start("get", "models/small", "-", "--lock-timeout", "60")
        holder.stdin.write(b"held")
        holder.stdin.close()
        holder.stdin = None
        self.assertEqual(holder.wait(support.DEADLINE), Exit.DONE)
        output, errors = waiting.communicate(timeout=support.DEADLINE)
        self.assertEqual((waiting.returncode, output), (Exit.DONE, self.small), errors)

    def try_while_held(self):
        outcome = self.run_program("ls", "--lock-timeout", "0", "--json")
        return outcome if outcome.code != Exit.DONE else None

    def test_a_killed_process_leaves_no_lock(self):
        holder = self.start("put", "-", "models/held", stdin=subprocess.PIPE)
        poll(self.try_while_held, "the first process to hold the store")
        holder.kill()
        holder.wait(support.DEADLINE)
        self.do("ls", "--lock-timeout", "0")


class Formats(FaultCase):
    def test_a_store_of_an_unknown_format_is_refused_untouched(self):
        for volume in self.volumes:
            for name in ["volume.json", "volume.json.2"]:
                self.raise_format(volume / name)
        before = self.snapshot()
        self.assert_refused_as_unknown()
        self.assertEqual(self.snapshot(), before)

    def test_one_volume_of_an_unknown_format_is_enough_to_refuse(self):
        for name in ["volume.json", "volume.json.2"]:
            self.raise_format(self.volumes[1] / name)
        before = self.snapshot()
        self.assert_refused_as_unknown()
        self.assertEqual(self.snapshot(), before)

    def test_a_description_of_an_unknown_format_is_refused_untouched(self):
        path = self.store / "store.json"
        content = json.loads(path.read_bytes())
        content["format"]["major"] = 999
        path.write_text(json.dumps(content))
        before = self.snapshot()
        self.assertIn("store.json", self.assert_refused_as_unknown().error["message"])
        self.assertEqual(self.snapshot(), before)

    def test_a_damaged_description_is_refused(self):
        path = self.store / "store.json"
        content = path.read_bytes()
        for damaged in [b"", b"{}", content[: len(content) // 2], content.replace(b'"path"', b'"poth"')]:
            with self.subTest(content=damaged[:40]):
                path.write_bytes(damaged)
                outcome = self.refuse(Exit.DAMAGED, "stat", "models/small", "--json")
                self.assertIn("store.json", outcome.error["message"])
        path.write_bytes(content)
        self.assert_everything_reads()

    def assert_refused_as_unknown(self):
        outcome = self.refuse(Exit.FORMAT, "stat", "models/small", "--json")
        self.assertEqual(outcome.error["code"], "unsupportedFormat")
        self.refuse(Exit.FORMAT, "put", support.MODEL, "models/x")
        return outcome

    def snapshot(self):
        return {
            str(path): path.read_bytes()
            for volume in [*self.volumes, self.store / "store.json"]
            for path in ([volume] if volume.is_file() else volume.rglob("*"))
            if path.is_file() and path.name != "lock"
        }

    @staticmethod
    def raise_format(path):
        """Makes a volume one of a later version, with the checksum that such a one would have."""
        content = path.read_bytes()
        body = content[: content.rindex(b'  "checksum"')]
        changed = body.replace(b'"formatMajor": 1,', b'"formatMajor": 999,')
        assert changed != body
        digest = sha256(changed).encode()
        path.write_bytes(changed + b'  "checksum": "' + digest + b'"\n}\n')


class Kills(FaultCase):
    def test_what_was_acknowledged_survives_a_kill_at_any_time(self):
        chance = random.Random(26)
        acknowledged = {"big": self.bytes, "small": self.small}
        for round in range(32):
            content = random_bytes(chance.choice([10, 5000, 200_000, 3 << 20]), 1000 + round)
            path = self.file("source", content)
            process = self.start("put", path, f"models/k{round:02}")
            try:
                process.wait(chance.random() * 0.12)
            except subprocess.TimeoutExpired:
                process.kill()
            if process.wait(support.DEADLINE) == Exit.DONE:
                acknowledged[f"k{round:02}"] = content
            keys = self.keys()
            self.assertLessEqual(set(acknowledged), set(keys))
            for key in keys:
                if key not in acknowledged:
                    # Durable, though no one was told: then it must be whole.
                    self.assertEqual(self.content(f"models/{key}"), content)
                    acknowledged[key] = content
        for key, content in acknowledged.items():
            self.assertEqual(sha256(self.content(f"models/{key}")), sha256(content))
        self.do("fsck")
        self.assert_fully_redundant()

    def test_an_acknowledged_delete_survives_a_kill(self):
        process = self.start("rm", "models/small")
        self.assertEqual(process.wait(support.DEADLINE), Exit.DONE)
        holder = self.start("put", "-", "models/held", stdin=subprocess.PIPE)
        holder.send_signal(signal.SIGKILL)
        holder.wait(support.DEADLINE)
        self.assertEqual(self.keys(), ["big"])


@unittest.skipUnless(os.geteuid() == 0, "needs root, to mount small file systems")
class FullDisks(StoreTestCase):
    makes_store = False
    SIZE = 640 << 20

    def mount(self, number, size=SIZE):
        path = self.directory / f"disk{number}"
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "holdfast-test", path], check=False)
        if done.returncode != 0:
            self.skipTest("file systems can't be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", path], check=False)
        return path / "volume"

    def fill(self, disk, leave):
        """Fills a disk with something that is not the store's, but for some bytes."""
        free = shutil.disk_usage(disk).free
        filler = disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - leave))
        return filler

    def make(self, *small):
        volumes = [self.mount(number) if number in small else self.directory / f"roomy{number}" for number in range(3)]
        self.do("init", *[f"--volume={volume}" for volume in volumes])
        self.do("bucket", "create", "models")
        return volumes

    def test_volumes_on_disks_of_their_own_are_not_reported_as_sharing_one(self):
        self.make(0, 1, 2)
        self.assertEqual(self.do("status", "--json").json["sharedDevices"], [])

    def test_one_full_disk_does_not_stop_writes_and_is_caught_up_later(self):
        volumes = self.make(1)
        self.put("models/before", b"before")
        filler = self.fill(volumes[1].parent, leave=1 << 20)
        content = random_bytes(24 << 20, 31)
        self.put("models/big", content)
        self.assertEqual(sha256(self.content("models/big")), sha256(content))
        self.assertFalse(self.do("status", "--json").json["isFullyRedundant"])
        filler.unlink()
        self.assertTrue(self.do("verify", "--json").json["isComplete"])
        self.assertTrue(self.do("status", "--json").json["isFullyRedundant"])

    def test_full_disks_refuse_new_bytes_and_still_delete(self):
        volumes = self.make(0, 1, 2)
        content = random_bytes(5 << 20, 32)
        version = self.put("models/kept", content)["versionID"]
        fillers = [self.fill(volume.parent, leave=1 << 20) for volume in volumes]
        outcome = self.refuse(Exit.FULL, "put", "-", "models/new", "--json", input=random_bytes(24 << 20, 33))
        self.assertEqual(outcome.error["code"], "storeFull")
        self.assertEqual(self.keys(), ["kept"])
        self.assertEqual(sha256(self.content("models/kept")), sha256(content))
        self.do("rm", "models/kept")
        self.assertEqual(self.keys(), [])
        self.do("restore", "models/kept")
        self.do("rm", "models/kept", "--version", version)
        for filler in fillers:
            filler.unlink()
        self.put("models/new", content)
        self.assertEqual(sha256(self.content("models/new")), sha256(content))
        self.assertEqual(sha256(self.content("models/kept")), sha256(content))


if __name__ == "__main__":
    unittest.main()

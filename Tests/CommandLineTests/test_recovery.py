"""A store whose directory is lost is made again from its volumes."""

import json
import shutil
import subprocess

from support import Exit, StoreTestCase, random_bytes, sha256

COPY = "store.json.copy"


class RecoveryCase(StoreTestCase):
    makes_store = False

    def setUp(self):
        super().setUp()
        self.volumes = [self.directory / f"disk{number}" for number in (1, 2, 3)]
        self.do("init", *self.named(*self.volumes))
        self.do("bucket", "create", "models")
        self.contents = {f"models/k{number}": random_bytes(40_000 + number, number) for number in range(4)}
        for address, content in self.contents.items():
            self.put(address, content)

    @staticmethod
    def named(*volumes):
        return [f"--volume={volume}" for volume in volumes]

    def description(self):
        return json.loads((self.store / "store.json").read_bytes())

    def lose_directory(self):
        before = self.description()
        shutil.rmtree(self.store)
        return before

    def recover(self, *volumes):
        return self.do("init", "--recover", "--json", *self.named(*volumes)).json

    def assert_everything_reads(self):
        for address, content in self.contents.items():
            self.assertEqual(sha256(self.content(address)), sha256(content), address)
        self.assertTrue(self.do("verify", "--json").json["isComplete"])

    def entries(self, description):
        return {volume["id"]: volume for volume in description["volumes"]}


class LostDirectory(RecoveryCase):
    def test_it_is_made_again_and_the_key_put_back(self):
        self.do("key", "backup", self.directory / "saved.key")
        before = self.lose_directory()
        self.assertIn("--recover", self.refuse(Exit.NOT_FOUND, "ls", "--json").error["advice"])
        self.assertIn(
            "--recover", self.refuse(Exit.CONFLICT, "init", "--json", *self.named(*self.volumes)).error["advice"]
        )
        report = self.recover(*self.volumes)
        self.assertEqual((report["storeID"], report["hasMasterKey"]), (before["storeID"], False))
        self.assertEqual(sorted(report["sources"]), sorted(map(str, self.volumes)))
        self.do("key", "restore", self.directory / "saved.key")
        self.assert_everything_reads()
        after = self.description()
        self.assertEqual(self.entries(after), self.entries(before))
        self.assertGreater(after["generation"], before["generation"])
        self.put("models/new", b"new")
        self.assertEqual(self.content("models/new"), b"new")

    def test_volumes_that_were_moved_are_named_where_they_are(self):
        moved = self.directory / "elsewhere" / "two"
        moved.parent.mkdir()
        self.lose_directory()
        self.volumes[1].rename(moved)
        self.recover(self.volumes[0], moved)
        self.assertEqual(
            {volume["path"] for volume in self.description()["volumes"]},
            {str(self.volumes[0]), str(moved), str(self.volumes[2])},
        )
        self.assert_everything_reads()

    def test_a_replacement_keeps_the_name_that_it_is_placed_under(self):
        shutil.rmtree(self.volumes[2])
        self.do("volume", "replace", self.volumes[2])
        before = self.lose_directory()
        self.assertEqual(sum("placementID" in volume for volume in before["volumes"]), 1)
        self.recover(*self.volumes)
        self.assertEqual(self.entries(self.description()), self.entries(before))
        self.assert_everything_reads()

    def test_the_newest_whole_copy_counts(self):
        self.volumes[2].rename(self.directory / "away")
        extra = self.directory / "disk4"
        self.do("volume", "add", extra)
        before = self.lose_directory()
        (self.directory / "away").rename(self.volumes[2])
        # Disk 3 has an older copy, that of disk 1 is damaged, disk 4 is not named.
        copy = self.volumes[0] / COPY
        content = bytearray(copy.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
        report = self.recover(*self.volumes)
        self.assertEqual((report["generation"], report["sources"]), (before["generation"], [str(self.volumes[1])]))
        self.assertEqual(self.entries(self.description()), self.entries(before))
        self.assert_everything_reads()
        # The store has brought every volume the newest state again.
        after = (self.store / "store.json").read_bytes()
        for volume in [*self.volumes, extra]:
            self.assertEqual((volume / COPY).read_bytes().split(b"\n", 1)[1][: -(7 + 64 + 1)], after, volume)

    def test_an_older_copy_is_not_taken_while_a_newer_one_may_be_damaged(self):
        self.volumes[2].rename(self.directory / "away")
        self.do("volume", "add", self.directory / "disk4")
        self.lose_directory()
        (self.directory / "away").rename(self.volumes[2])
        copy = self.volumes[0] / COPY
        copy.write_bytes(copy.read_bytes()[:-9])
        outcome = self.refuse(
            Exit.UNAVAILABLE, "init", "--recover", "--json", *self.named(self.volumes[0], self.volumes[2])
        )
        self.assertIn("disk1", outcome.error["message"])
        self.recover(*self.volumes)
        self.assert_everything_reads()

    def test_an_old_store_json_that_was_put_back_opens_nothing(self):
        path = self.store / "store.json"
        old = path.read_bytes()
        self.do("volume", "add", self.directory / "disk4")
        new = path.read_bytes()
        path.write_bytes(old)
        outcome = self.refuse(Exit.DAMAGED, "ls", "--json")
        self.assertIn("older than its copy", outcome.error["message"])
        path.write_bytes(new)
        self.assert_everything_reads()

    def test_no_server_makes_a_new_store_where_one_was_lost(self):
        (self.store / "store.json").rename(self.directory / "saved")
        outcome = self.refuse(Exit.DAMAGED, "serve", "--json", "--listen", "127.0.0.1:0")
        self.assertIn("--recover", outcome.error["advice"])

    def test_without_a_whole_copy_nothing_is_made(self):
        self.lose_directory()
        for volume in self.volumes:
            (volume / COPY).write_bytes((volume / COPY).read_bytes()[:-9])
        self.refuse(Exit.DAMAGED, "init", "--recover", "--json", *self.named(*self.volumes))
        self.assertFalse(self.store.exists())

    def test_copies_of_one_generation_that_differ_are_a_question(self):
        self.lose_directory()
        path = self.volumes[0] / COPY
        head, body = path.read_bytes()[:-72].split(b"\n", 1)
        changed = head + b"\n" + body.replace(b"disk2", b"diskX")
        path.write_bytes(changed + b"sha256 " + sha256(changed).encode() + b"\n")
        outcome = self.refuse(Exit.DAMAGED, "init", "--recover", "--json", *self.named(*self.volumes))
        self.assertIn("same generation", outcome.error["message"])
        self.recover(*self.volumes[1:])
        self.assert_everything_reads()

    def test_too_few_volumes_of_two_stores_and_of_none_are_refused(self):
        self.lose_directory()
        outcome = self.refuse(Exit.UNAVAILABLE, "init", "--recover", "--json", *self.named(self.volumes[0]))
        self.assertIn(str(self.volumes[1]), outcome.error["advice"])
        other = self.directory / "other"
        self.do("--store", other, "init")
        (self.directory / "empty").mkdir()
        for foreign in (other / "volumes" / "1", self.directory / "empty", self.directory / "missing"):
            with self.subTest(foreign=foreign.name):
                volumes = self.named(*self.volumes[:2], foreign)
                outcome = self.run_program("init", "--recover", "--json", *volumes)
                self.assertIn(outcome.code, (Exit.USAGE, Exit.DISK), outcome)
        self.assertFalse(self.store.exists())
        shutil.copytree(self.volumes[0], self.directory / "twin")
        self.refuse(Exit.USAGE, "init", "--recover", *self.named(*self.volumes, self.directory / "twin"))

    def test_volumes_in_use_are_left_alone(self):
        server = self.start("serve", "--listen", "127.0.0.1:0", stderr=subprocess.DEVNULL)
        self.assertIn(b"Ready", server.stdout.readline())
        self.store.rename(self.directory / "lost")
        self.refuse(Exit.IN_USE, "init", "--recover", *self.named(*self.volumes))
        server.kill()
        server.wait()
        self.recover(*self.volumes)
        self.assert_everything_reads()


class DamagedDescription(StoreTestCase):
    def test_it_is_made_again_from_the_volumes_inside(self):
        self.put("models/x", b"x")
        self.refuse(Exit.CONFLICT, "init", "--recover", "--json")
        path = self.store / "store.json"
        damaged = path.read_bytes()[:40]
        path.write_bytes(damaged)
        self.assertIn("--recover", self.refuse(Exit.DAMAGED, "ls", "--json").error["advice"])
        report = self.do("init", "--recover", "--json").json
        self.assertTrue(report["hasMasterKey"])
        self.assertEqual(self.content("models/x"), b"x")
        self.assertEqual((self.store / "store.json.damaged").read_bytes(), damaged)
        self.assertEqual(
            {volume["path"] for volume in json.loads(path.read_bytes())["volumes"]},
            {"volumes/1", "volumes/2", "volumes/3"},
        )

    def test_a_store_without_copies_gets_them(self):
        for volume in self.volumes:
            (volume / COPY).unlink()
        self.do("ls")
        for volume in self.volumes:
            self.assertTrue((volume / COPY).is_file())

    def test_a_store_that_was_moved_is_recovered_at_its_new_place(self):
        self.put("models/x", b"x")
        moved = self.directory / "moved"
        self.store.rename(moved)
        self.do("--store", moved, "ls")
        shutil.move(moved / "volumes", self.directory / "kept")
        shutil.rmtree(moved)
        volumes = [f"--volume={self.directory / 'kept' / name}" for name in "123"]
        self.do("--store", moved, "init", "--recover", *volumes)
        self.assertEqual(self.do("--store", moved, "get", "models/x", "-").raw, b"x")

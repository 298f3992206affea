"""The life cycle of volumes: add, drain, remove, replace, readonly, log set, check; on a store that nobody holds and on a
running server, under load, killed half-way, and with volumes that vanish."""

import concurrent.futures
import http.client
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "ClientTests"))

import sigv4
from support import Exit, StoreTestCase, fault_library, poll, random_bytes, sha256
from test_admin import ROOT_KEY, ROOT_SECRET, ServedTestCase


def by_path(listing):
    return {pathlib.Path(volume["path"]).name: volume for volume in listing["volumes"]}


def payloads(volume):
    """Bytes in a volume's segments."""
    return b"".join(path.read_bytes() for path in sorted((volume / "segments").rglob("*")) if path.is_file())


class VolumeTestCase(StoreTestCase):
    def fill(self, count=6, size=900_000):
        self.contents = {f"models/k{number}": random_bytes(size + number, number) for number in range(count)}
        self.contents |= {f"models/small{number}": random_bytes(3000 + number, 100 + number) for number in range(count)}
        for address, content in self.contents.items():
            self.put(address, content)

    def check_all(self):
        for address, content in self.contents.items():
            self.assertEqual(sha256(self.content(address)), sha256(content), address)
        report = self.do("verify", "--json").json
        self.assertTrue(report["isComplete"], report)

    def listing(self):
        return self.do("volume", "ls", "--json").json

    def new(self, name="extra"):
        return self.directory / name


class WithoutServer(VolumeTestCase):
    def test_an_added_volume_takes_its_share_and_a_drained_one_is_removed(self):
        self.fill()
        extra = self.new()
        self.do("volume", "add", extra)
        listed = by_path(self.listing())
        self.assertEqual((listed["extra"]["state"], listed["extra"]["isWhole"]), ("active", True))
        self.assertGreater(listed["extra"]["payloadBytes"], 0)
        # Nothing was taken away at the old places.
        self.assertEqual({listed[name]["records"] for name in "123"}, {listed["1"]["records"]})
        self.check_all()

        self.do("volume", "drain", self.volumes[0])
        listed = by_path(self.listing())
        self.assertTrue(listed["1"]["isDrained"], listed)
        self.assertEqual([name for name in sorted(listed) if listed[name]["carriesLog"]], ["2", "3", "extra"])
        self.do("volume", "remove", self.volumes[0])
        shutil.rmtree(self.volumes[0])
        self.assertEqual(sorted(by_path(self.listing())), ["2", "3", "extra"])
        self.check_all()
        self.do("status", "--check")
        # Each of the three that are left carries its share.
        self.volumes[1].rename(f"{self.volumes[1]}.away")
        for address, content in self.contents.items():
            self.assertEqual(sha256(self.content(address)), sha256(content), address)

    def test_what_would_cost_redundancy_is_refused(self):
        self.fill(1)
        refused = self.refuse(Exit.CONFLICT, "volume", "drain", self.volumes[0], "--json")
        self.assertIn("2 active volumes would be left for 3 copies", refused.error["message"])
        self.refuse(Exit.CONFLICT, "volume", "remove", self.volumes[0], "--json")
        self.refuse(Exit.CONFLICT, "volume", "remove", "--force", self.volumes[0], "--json")
        self.refuse(Exit.CONFLICT, "volume", "add", self.volumes[0], "--json")
        taken = self.new("taken")
        taken.mkdir()
        (taken / "thesis.txt").write_text("mine")
        self.refuse(Exit.CONFLICT, "volume", "add", taken, "--json")
        self.assertEqual(os.listdir(taken), ["thesis.txt"])
        foreign = self.new("foreign")
        self.do("init", "--store", foreign)
        self.refuse(Exit.CONFLICT, "volume", "add", foreign / "volumes" / "1", "--json")
        self.refuse(Exit.USAGE, "volume", "add", self.volumes[0] / "inside", "--json")
        self.refuse(Exit.USAGE, "volume", "drain", self.new("nowhere"), "--json")
        self.refuse(Exit.USAGE, "volume", "log-set", self.volumes[0], self.volumes[1], "--json")
        self.do("volume", "add", self.new())
        self.refuse(Exit.CONFLICT, "volume", "remove", self.new(), "--json")
        self.do("volume", "drain", self.new())
        self.refuse(Exit.CONFLICT, "volume", "drain", self.volumes[0], "--json")
        self.refuse(Exit.CONFLICT, "volume", "remove", "--force", self.new(), "--json")
        self.check_all()

    def test_a_drain_can_be_taken_back(self):
        self.fill(3)
        self.do("volume", "add", self.new())
        self.do("volume", "drain", self.volumes[1])
        self.put("models/meanwhile", random_bytes(700_000, 77))
        self.contents["models/meanwhile"] = random_bytes(700_000, 77)
        self.do("volume", "drain", "--cancel", self.volumes[1])
        listed = by_path(self.listing())
        self.assertEqual((listed["2"]["state"], listed["2"]["isWhole"]), ("active", True))
        self.check_all()

    def test_a_readonly_volume_gets_no_payloads(self):
        self.fill(2)
        self.do("volume", "readonly", "on", self.volumes[2])
        self.assertEqual(by_path(self.listing())["3"]["state"], "readonly")
        large, small = random_bytes(600_000, 88), random_bytes(4000, 89)
        self.put("models/large", large)
        self.put("models/small", small)
        stored = payloads(self.volumes[2])
        self.assertNotIn(large[1000:1064], stored)
        self.assertNotIn(small[1000:1064], stored)
        self.assertIn(large[1000:1064], payloads(self.volumes[0]))
        self.contents |= {"models/large": large, "models/small": small}
        self.check_all()
        # Not both: a write needs two.
        self.refuse(Exit.CONFLICT, "volume", "readonly", "on", self.volumes[1])
        self.do("volume", "readonly", "off", self.volumes[2])
        stored = payloads(self.volumes[2])
        self.assertIn(large[1000:1064], stored)
        self.assertIn(small[1000:1064], stored)
        self.check_all()

    def test_with_a_spare_volume_a_readonly_one_costs_no_copies(self):
        self.fill(2)
        self.do("volume", "add", self.new())
        self.do("volume", "readonly", "on", self.volumes[2])
        before = self.stored_bytes()
        content = random_bytes(700_000, 90)
        self.put("models/new", content)
        self.contents["models/new"] = content
        self.assertNotIn(content[1000:1064], payloads(self.volumes[2]))
        self.assertGreaterEqual(self.stored_bytes() - before, 3 * len(content))
        self.check_all()

    def test_the_log_moves_and_every_pair_of_its_volumes_opens_the_store(self):
        self.fill(2)
        extra = self.new()
        self.do("volume", "add", extra)
        wanted = [self.volumes[1], self.volumes[2], extra]
        self.do("volume", "log-set", *wanted)
        listed = by_path(self.listing())
        self.assertEqual([name for name in sorted(listed) if listed[name]["carriesLog"]], ["2", "3", "extra"])
        self.put("models/after", b"after")
        self.contents["models/after"] = b"after"
        for away in [self.volumes[0], *wanted]:
            away.rename(f"{away}.away")
            for address, content in self.contents.items():
                self.assertEqual(sha256(self.content(address)), sha256(content), (away, address))
            pathlib.Path(f"{away}.away").rename(away)
        # Two of its members away are one too many, whatever else is there.
        for away in wanted[:2]:
            away.rename(f"{away}.away")
        self.refuse(Exit.UNAVAILABLE, "ls", "models", "--json")
        for away in wanted[:2]:
            pathlib.Path(f"{away}.away").rename(away)
        self.check_all()

    def test_a_lost_volume_is_removed_by_force_only_when_nothing_is_lost(self):
        self.fill(3)
        self.do("volume", "add", self.new())
        lost = self.volumes[0]
        lost.rename(f"{lost}.away")
        report = self.do("volume", "remove", "--force", lost, "--json").json
        self.assertTrue(any("none is lost" in remark or "elsewhere" in remark for remark in report["remarks"]), report)
        self.assertEqual(sorted(by_path(self.listing())), ["2", "3", "extra"])
        self.check_all()
        self.do("status", "--check")

    def test_check_finds_what_is_damaged_and_changes_nothing(self):
        self.fill(2)
        self.assertTrue(self.do("volume", "check", self.volumes[0], "--deep", "--json").json["isClean"])
        self.flip_payload(self.volumes[0], self.contents["models/k0"], 1000)
        outcome = self.run_program("volume", "check", self.volumes[0], "--json")
        self.assertEqual(outcome.code, Exit.DAMAGED, outcome)
        self.assertEqual(outcome.json["damaged"], 1, outcome)
        self.assertFalse(list((self.volumes[0] / "quarantine").iterdir()))

    def test_a_drain_and_a_rebalance_that_are_killed_go_on(self):
        self.fill(8, 1_500_000)
        extra = self.new()
        for command in (["add", extra], ["drain", self.volumes[0]]):
            kills = 0
            for delay in (0.05, 0.15, 0.3, 0.5, 0.8):
                process = self.start("volume", *command)
                try:
                    process.wait(delay)
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                process.communicate()
            self.assertGreater(kills, 0)
            # By itself, whenever the store is open; a second 'add' has nothing to add.
            self.run_program("volume", *command)
            settled = lambda: [v for v in [self.listing()] if not v["isLogChanging"] and all(
                volume["isWhole"] for volume in v["volumes"])]
            poll(settled, "the volumes to be whole")
            self.check_all()
        poll(lambda: by_path(self.listing())["1"]["isDrained"], "the drain")
        self.do("volume", "remove", self.volumes[0])
        self.check_all()


class LoadedTestCase(ServedTestCase, VolumeTestCase):
    """A server, and a client that writes to it and reads back."""

    def setUp(self):
        super().setUp()
        self.acknowledged, self.failures = {}, []

    def ask_store(self, method, key, content=b""):
        address = self.address.removeprefix("http://")
        path = sigv4.encode_path(f"/models/{key}")
        headers = sigv4.Signer(ROOT_KEY, ROOT_SECRET).sign(
            method, path, [], [("host", address)], sigv4.sha256(content)
        )
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request(method, path, content, dict(headers))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise AssertionError(f"{method} {key}: {answer.status} {body[:500]}")
        return body

    def put_object(self, key, content):
        self.ask_store("PUT", key, content)
        self.acknowledged[key] = sha256(content)

    def get_object(self, key):
        return sha256(self.ask_store("GET", key))

    def verify_all(self):
        for key, digest in list(self.acknowledged.items()):
            self.assertEqual(self.get_object(key), digest, key)

    def under_load(self):
        """Starts a writer that also reads back; returns what ends it."""
        stop = threading.Event()

        def work():
            number = 0
            while not stop.is_set():
                key = f"load/{number}"
                content = random_bytes(300_000 if number % 3 == 0 else 2000, number)
                try:
                    self.put_object(key, content)
                    if self.get_object(key) != sha256(content):
                        self.failures.append(f"{key} reads as something else")
                except Exception as error:  # noqa: BLE001
                    self.failures.append(f"{key}: {error}")
                number += 1

        thread = threading.Thread(target=work)
        thread.start()

        def end():
            stop.set()
            thread.join(60)
            self.assertEqual(self.failures, [])
            self.assertGreater(len(self.acknowledged), 0)

        return end

    def when_whole(self, *names, timeout=90):
        def settled():
            listing = self.listing()
            volumes = by_path(listing)
            return not listing["isLogChanging"] and all(volumes[name]["isWhole"] for name in names)

        poll(settled, f"{names} to be whole", timeout)

    def stop_and_check(self):
        self.stop()
        report = self.do("verify", "--json").json
        self.assertTrue(report["isComplete"], report)


class Served(LoadedTestCase):
    """The life cycle on a running server, while clients write and read."""

    def test_add_drain_and_remove_under_load(self):
        for number in range(6):
            self.put_object(f"before/{number}", random_bytes(800_000, 500 + number))
        end = self.under_load()
        self.do("volume", "add", self.new())
        self.when_whole("extra")
        self.do("volume", "drain", self.volumes[0])
        poll(lambda: by_path(self.listing())["1"]["isDrained"], "the drain", 90)
        self.do("volume", "remove", self.volumes[0])
        end()
        self.assertEqual(sorted(by_path(self.listing())), ["2", "3", "extra"])
        self.verify_all()
        shutil.rmtree(self.volumes[0])
        self.stop_and_check()

    def test_a_lost_volume_is_replaced_under_load(self):
        for number in range(6):
            self.put_object(f"before/{number}", random_bytes(800_000, 600 + number))
        end = self.under_load()
        shutil.rmtree(self.volumes[1])
        poll(lambda: by_path(self.listing())["2"]["state"] == "absent", "the loss to be noticed")
        self.assertFalse(self.volumes[1].exists())
        self.do("volume", "replace", self.volumes[1])
        self.when_whole("2")
        end()
        self.verify_all()
        self.stop_and_check()
        self.volumes[0].rename(f"{self.volumes[0]}.away")
        self.assertEqual(len(self.keys()), len(self.acknowledged))

    def test_the_log_set_changes_under_load(self):
        end = self.under_load()
        self.do("volume", "add", self.new(), "--wait")
        self.do("volume", "log-set", self.volumes[0], self.volumes[2], self.new(), "--wait")
        listed = by_path(self.listing())
        self.assertEqual([name for name in sorted(listed) if listed[name]["carriesLog"]], ["1", "3", "extra"])
        end()
        self.stop()
        count = len(self.acknowledged)
        for away in [*self.volumes, self.new()]:
            away.rename(f"{away}.away")
            self.assertEqual(len(self.keys()), count, away)
            pathlib.Path(f"{away}.away").rename(away)
        self.assertTrue(self.do("verify", "--json").json["isComplete"])

    def test_a_server_killed_in_the_middle_of_moves_goes_on(self):
        for number in range(20):
            self.put_object(f"before/{number}", random_bytes(900_000, 700 + number))
        self.do("volume", "add", self.new())
        self.stop(signal.SIGKILL)
        self.serve()
        self.when_whole("1", "2", "3", "extra")
        self.do("volume", "drain", self.volumes[0])
        self.stop(signal.SIGKILL)
        self.serve()
        poll(lambda: by_path(self.listing())["1"]["isDrained"], "the drain", 90)
        self.do("volume", "remove", self.volumes[0])
        self.stop(signal.SIGKILL)
        self.assertEqual(sorted(by_path(self.listing())), ["2", "3", "extra"])
        self.assertTrue(self.do("verify", "--json").json["isComplete"])
        self.assertEqual(len(self.keys()), 20)

    def test_a_volume_that_is_moved_away_and_back_takes_part_again(self):
        self.put_object("before", random_bytes(500_000, 1))
        away = pathlib.Path(f"{self.volumes[2]}.away")
        self.volumes[2].rename(away)
        poll(lambda: by_path(self.listing())["3"]["state"] == "absent", "the loss to be noticed")
        self.put_object("meanwhile", random_bytes(500_000, 2))
        away.rename(self.volumes[2])
        self.when_whole("3")
        self.verify_all()
        self.stop_and_check()

    def test_a_foreign_volume_in_its_place_is_not_touched(self):
        self.put_object("before", random_bytes(200_000, 3))
        other = self.new("other")
        self.do("init", "--store", other)
        before = sorted(os.listdir(other / "volumes" / "1"))
        self.volumes[2].rename(f"{self.volumes[2]}.away")
        (other / "volumes" / "1").rename(self.volumes[2])
        volume = poll(
            lambda: [v for v in [by_path(self.listing())["3"]] if v["state"] == "absent"], "the stranger to be noticed"
        )[0]
        self.assertTrue(volume["reason"])
        self.put_object("after", random_bytes(200_000, 4))
        self.assertEqual(sorted(os.listdir(self.volumes[2])), before)
        self.verify_all()


class Unmounted(LoadedTestCase):
    """A volume on a file system that is unmounted under the server. Needs root."""

    makes_store = False

    def setUp(self):
        VolumeTestCase.setUp(self)
        self.acknowledged, self.failures = {}, []
        self.mounted = self.directory / "disk"
        self.mounted.mkdir()
        self.mount()
        self.volumes = [self.directory / "a", self.directory / "b", self.mounted]
        self.do("init", *[f"--volume={volume}" for volume in self.volumes])
        self.do("bucket", "create", "models")
        self.serve()

    def mount(self):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=640m", "holdfast-test", self.mounted], check=False, capture_output=True
        )
        if done.returncode != 0:
            self.skipTest("file systems can't be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", self.mounted], check=False, capture_output=True)

    def test_it_is_noticed_and_its_mount_point_stays_empty(self):
        self.put_object("before", random_bytes(300_000, 5))
        subprocess.run(["umount", "-l", self.mounted], check=True)
        writes = 0
        while by_path(self.listing())["disk"]["state"] != "absent":
            # New segments would be made about now.
            self.put_object(f"load/{writes}", random_bytes(300_000, writes))
            writes += 1
            self.assertLess(writes, 500)
        for number in range(20):
            self.put_object(f"later/{number}", random_bytes(300_000, number))
        self.assertEqual(os.listdir(self.mounted), [])
        self.refuse(Exit.CONFLICT, "volume", "drain", self.mounted)
        self.assertEqual(os.listdir(self.mounted), [])
        # An empty disk in its place is not taken for it either.
        self.mount()
        self.assertEqual(by_path(self.listing())["disk"]["state"], "absent")
        self.assertEqual(os.listdir(self.mounted), [])
        self.do("volume", "replace", self.mounted)
        self.when_whole("disk")
        self.verify_all()
        self.stop()
        self.assertTrue(self.do("verify", "--json").json["isComplete"])


class FailSlow(LoadedTestCase):
    """A volume whose every read takes much longer."""

    DELAY = 250

    def setUp(self):
        VolumeTestCase.setUp(self)
        self.acknowledged, self.failures = {}, []
        self.switch = self.directory / "slow"
        self.serve(
            env={
                "HOLDFAST_ROOT_ACCESS_KEY": ROOT_KEY,
                "HOLDFAST_ROOT_SECRET_KEY": ROOT_SECRET,
                "LD_PRELOAD": os.fspath(fault_library()),
                "KILLPOINTS_ROOT": os.fspath(self.volumes[0]),
                "KILLPOINTS_WHEN": "slow",
                "KILLPOINTS_DELAY": str(self.DELAY),
                "KILLPOINTS_SWITCH": os.fspath(self.switch),
            }
        )

    def latencies(self, count):
        taken = []
        for number in range(count):
            key = f"k{number % 8}"
            start = time.monotonic()
            self.assertEqual(self.get_object(key), self.acknowledged[key])
            taken.append(time.monotonic() - start)
        return sorted(taken)

    def test_it_is_noticed_and_read_around(self):
        for number in range(8):
            self.put_object(f"k{number}", random_bytes(1_200_000, number))
        before = self.latencies(100)
        self.switch.touch()
        volume = None
        end = time.monotonic() + 120
        # Many at a time: on a busy machine the volume may have been the slower one before, and is read only when the others
        # have enough to do.
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            while time.monotonic() < end:
                list(pool.map(lambda number: self.get_object(f"k{number % 8}"), range(32)))
                volume = by_path(self.listing())["1"]
                if volume["state"] == "suspect":
                    break
        self.assertEqual((volume["state"], volume["health"]), ("suspect", "suspect"), volume)
        self.assertIn("slower", volume["reason"])
        during = self.latencies(200)
        print(
            f"p99 before {before[98] * 1000:.1f} ms, with one volume {self.DELAY} ms slower {during[197] * 1000:.1f} ms",
            file=sys.stderr,
        )
        self.switch.unlink()
        self.verify_all()

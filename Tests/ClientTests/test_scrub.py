"""Scrubs of a store that is being served: clients notice nothing, and what was damaged is found, exactly."""

import json
import os
import random
import subprocess
import threading
import time

import support
from support import OwnServerCase, random_bytes

SEED = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(1 << 32)))


class UnderLoad(OwnServerCase):
    def command(self, *arguments, codes=(0,)):
        environment = {**self.server.environment, "HOLDFAST_STORE": str(self.server.store)}
        done = subprocess.run([support.PROGRAM, *map(str, arguments)], env=environment, capture_output=True, timeout=300)
        self.assertIn(done.returncode, codes, done.stderr.decode())
        return done

    def damage(self, volume, content):
        """Flips a bit of the copy of a payload that this volume has."""
        wanted = content[1000:1064]
        for path in sorted((volume / "segments").iterdir()):
            place = path.read_bytes().find(wanted)
            if place >= 0:
                with open(path, "r+b") as file:
                    file.seek(place + 32)
                    byte = file.read(1)[0]
                    file.seek(place + 32)
                    file.write(bytes([byte ^ 8]))
                return
        self.fail(f"{volume} does not hold the bytes that were to be damaged")

    def client(self, bucket, number, stop, errors, counts):
        chance = random.Random(f"{SEED}/{number}")
        s3 = self.server.client()
        content = {}
        try:
            while not stop.is_set():
                key = f"c{number}/{chance.randrange(6)}"
                if key not in content or chance.randrange(3) == 0:
                    content[key] = chance.randbytes(chance.choice([400, 30_000, 700_000]))
                    s3.put_object(Bucket=bucket, Key=key, Body=content[key])
                elif s3.get_object(Bucket=bucket, Key=key)["Body"].read() != content[key]:
                    errors.append(f"{key} reads as other bytes")
                counts[number] += 1
        except Exception as error:  # noqa: BLE001: whatever it is, it is told
            errors.append(f"client {number}: {error!r}")

    def test_clients_get_no_errors_and_every_damaged_copy_is_found_once(self):
        bucket = self.bucket()
        objects = {f"o{number}": random_bytes(250_000, 5000 + number) for number in range(160)}
        for key, content in objects.items():
            self.put(bucket, key, content)
        damaged = [(number % 3, objects[f"o{number}"]) for number in range(0, 160, 20)]
        for volume, content in damaged:
            self.damage(self.server.volumes[volume], content)
        errors, counts, stop = [], [0] * 3, threading.Event()
        threads = [
            threading.Thread(target=self.client, args=(bucket, number, stop, errors, counts)) for number in range(3)
        ]
        for thread in threads:
            thread.start()
        try:
            self.command("scrub", "start", "--json")
            end = time.monotonic() + 240
            while time.monotonic() < end:
                jobs = json.loads(self.command("scrub", "status", "--json").stdout)["jobs"]
                if all(job["state"] == "completed" for job in jobs) and min(counts) > 10:
                    break
                time.sleep(0.3)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [], f"HOLDFAST_SEED={SEED}")
        self.assertEqual({job["state"] for job in jobs}, {"completed"}, jobs)
        self.assertGreater(min(counts), 10)
        findings = json.loads(self.command("scrub", "findings", "--limit", "1000", "--json").stdout)["findings"]
        self.assertEqual({finding["outcome"] for finding in findings}, {"repaired"}, findings)
        self.assertEqual({finding["kind"] for finding in findings}, {"corruptPayload"}, findings)
        found = sorted(finding["volume"] for finding in findings)
        self.assertEqual(found, sorted(str(self.server.volumes[volume]) for volume, _ in damaged))
        self.assertEqual(sum(job["found"] for job in jobs), sum(job["repaired"] for job in jobs))
        # Nothing is left, measured again.
        self.command("scrub", "start", "--wait", "--json")
        for key, content in objects.items():
            self.assertEqual(self.get(bucket, key), content)

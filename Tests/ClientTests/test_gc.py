"""Garbage collection of a store that is being served: uploads of the same content come and go meanwhile, and nothing that
was acknowledged is lost."""

import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import support
from support import OwnServerCase, random_bytes

SECONDS = 120 if os.environ.get("HOLDFAST_LONG") == "1" else 20
SEED = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(1 << 32)))
# Small ones ride in the log, large ones are cut into chunks that others share.
POOL = [random_bytes(size, 7000 + number) for number, size in enumerate([300, 20_000, 150_000, 900_000, 2 << 20, 5 << 20])]


class Racing(OwnServerCase):
    def command(self, *arguments):
        environment = {**self.server.environment, "HOLDFAST_STORE": str(self.server.store)}
        return subprocess.run(
            [support.PROGRAM, *arguments], env=environment, capture_output=True, timeout=120
        )

    def client(self, bucket, number, end, expected, errors):
        """Puts, copies, deletes and reads under keys of its own; content is everybody's."""
        chance = random.Random(f"{SEED}{number}")
        s3 = self.server.client()
        mine = {}
        try:
            while time.monotonic() < end:
                key = f"c{number}/{chance.randrange(8)}"
                action = chance.randrange(10)
                if chance.randrange(5) == 0:
                    # What nobody shares is garbage at once.
                    s3.put_object(Bucket=bucket, Key=f"c{number}/own", Body=chance.randbytes(3000))
                    s3.delete_object(Bucket=bucket, Key=f"c{number}/own")
                if action < 4:
                    content = chance.randrange(len(POOL))
                    s3.put_object(Bucket=bucket, Key=key, Body=POOL[content])
                    mine[key] = content
                elif action < 7:
                    s3.delete_object(Bucket=bucket, Key=key)
                    mine.pop(key, None)
                elif action == 7 and key in mine:
                    target = f"c{number}/copy"
                    s3.copy_object(Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": key})
                    s3.delete_object(Bucket=bucket, Key=key)
                    mine[target] = mine.pop(key)
                elif action == 8:
                    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
                    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=POOL[5])
                    time.sleep(chance.random() / 10)
                    s3.complete_multipart_upload(
                        Bucket=bucket, Key=key, UploadId=upload,
                        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
                    )
                    mine[key] = 5
                elif key in mine:
                    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                    if body != POOL[mine[key]]:
                        errors.append(f"{key} reads as other bytes")
        except Exception as error:  # noqa: BLE001: whatever it is, it is told
            errors.append(f"client {number}: {error!r}")
        expected.update(mine)

    def race(self):
        bucket = self.bucket()
        end = time.monotonic() + SECONDS
        expected, errors = {}, []
        threads = [
            threading.Thread(target=self.client, args=(bucket, number, end, expected, errors)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        runs = condemned = 0
        while time.monotonic() < end:
            done = self.command("gc", "run", "--wait", "--grace", "0", "--json")
            if done.returncode != 0:
                errors.append(done.stderr.decode())
                break
            runs += 1
            condemned += sum(volume["condemnedRecords"] for volume in json.loads(done.stdout)["run"]["volumes"])
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [], f"HOLDFAST_SEED={SEED}")
        self.assertGreater(runs, 1)
        self.assertGreater(condemned, 0)
        return bucket, expected

    def assert_everything(self, bucket, expected):
        s3 = self.server.client()
        for key, content in expected.items():
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            self.assertEqual(hashlib.sha256(body).digest(), hashlib.sha256(POOL[content]).digest(), key)

    def test_uploads_of_the_same_content_lose_nothing(self):
        bucket, expected = self.race()
        self.assert_everything(bucket, expected)
        self.server.stop(signal.SIGKILL)
        report = json.loads(self.server.run("verify", "--json"))
        self.assertTrue(report["isComplete"], report)
        self.server.run("fsck")
        self.server.start()
        self.assert_everything(bucket, expected)

    def test_metrics_and_status_tell_of_runs(self):
        self.assertEqual(self.command("gc", "run", "--wait").returncode, 0)
        status = json.loads(self.command("gc", "status", "--json").stdout)
        self.assertEqual(status["run"]["outcome"], "done")
        text = self.server.operation("/metrics")[1]
        self.assertIn("holdfast_gc_runs_total 1", text)


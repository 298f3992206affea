"""Garbage collection of a store that is being served: uploads of the same content come and go meanwhile, and nothing that
was acknowledged is lost."""

import datetime
import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time
import unittest

import sigv4
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


class LockedRetention(OwnServerCase):
    """Retention policies never touch what is locked or held, and say so."""

    def command(self, *arguments):
        environment = {**self.server.environment, "HOLDFAST_STORE": str(self.server.store)}
        done = subprocess.run([support.PROGRAM, *arguments], env=environment, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout)

    def put(self, bucket, number, **options):
        return self.s3.put_object(Bucket=bucket, Key="k", Body=b"version %d" % number, **options)["VersionId"]

    def test_locked_and_held_versions_stay_with_a_reason(self):
        bucket = self.bucket(ObjectLockEnabledForBucket=True)
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
        lock = {"ObjectLockRetainUntilDate": until}
        locked = {
            "governance": self.put(bucket, 0, ObjectLockMode="GOVERNANCE", **lock),
            "compliance": self.put(bucket, 1, ObjectLockMode="COMPLIANCE", **lock),
            "held": self.put(bucket, 2, ObjectLockLegalHoldStatus="ON"),
        }
        free = [self.put(bucket, number) for number in (3, 4, 5)]
        for rules in (
            ["--keep-last", "0"], ["--keep-younger-than", "0"], ["--keep-tagged", "none"],
            ["--keep-last", "1", "--keep-tagged", "none"],
        ):
            self.command("retention", "set", bucket, *rules, "--json")
            dry = self.command("retention", "apply", bucket, "--dry-run", "--json")
            told = {version["versionID"]: version for version in dry["versions"]}
            self.assertEqual(len(told), 6, rules)
            for name, version in locked.items():
                self.assertTrue(told[version]["kept"], (rules, name))
                self.assertIn("legal hold" if name == "held" else "locked", told[version]["reason"])
        self.command("retention", "set", bucket, "--keep-last", "0", "--json")
        run = self.command("retention", "apply", bucket, "--json")
        self.assertEqual((run["dropped"], run["refused"]), (2, 0))
        left = {version["VersionId"] for version in self.s3.list_object_versions(Bucket=bucket)["Versions"]}
        self.assertEqual(left, {*locked.values(), free[-1]})
        self.command("gc", "run", "--wait", "--grace", "0", "--json")
        for number, version in enumerate(locked.values()):
            body = self.s3.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read()
            self.assertEqual(body, b"version %d" % number)
        # The hold is lifted: the next run takes that one, and no other.
        self.s3.put_object_legal_hold(
            Bucket=bucket, Key="k", VersionId=locked["held"], LegalHold={"Status": "OFF"}
        )
        run = self.command("retention", "apply", bucket, "--json")
        self.assertEqual((run["dropped"], run["kept"]), (1, 3))
        left = {version["VersionId"] for version in self.s3.list_object_versions(Bucket=bucket)["Versions"]}
        self.assertEqual(left, {locked["governance"], locked["compliance"], free[-1]})


@unittest.skipUnless(os.geteuid() == 0, "small file systems are mounted by root only")
class FullServer(OwnServerCase):
    """A server whose disks fill up: 507 before the body, deletes and gc go on, and then uploads again."""

    SIZE = 200 << 20

    def setUp(self):
        self.mounts = []

    def mount(self, server):
        """Moves every volume to a small disk of its own."""
        for volume in server.volumes:
            contents = volume.with_name(volume.name + ".moved")
            volume.rename(contents)
            volume.mkdir(mode=0o700)
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=700", "tmpfs", volume], capture_output=True)
            if done.returncode != 0:
                self.skipTest(f"mount: {done.stderr.decode()}")
            self.addCleanup(subprocess.run, ["umount", "-l", volume], capture_output=True)
            subprocess.run(["cp", "-a", "--sparse=always", f"{contents}/.", volume], check=True)
        config = server.directory / "server.yaml"
        config.write_text("gc: {everySeconds: 0, softReserveMiB: 80, hardReserveMiB: 48}\n")
        server.options = ["--config", config]

    def command(self, *arguments):
        environment = {**self.server.environment, "HOLDFAST_STORE": str(self.server.store)}
        return subprocess.run([support.PROGRAM, *arguments], env=environment, capture_output=True, timeout=120)

    def test_uploads_are_refused_early_and_come_back_after_gc(self):
        self.begin(prepare=self.mount)
        bucket = self.bucket()
        stored = {}
        for number in range(100):
            content = random_bytes(6 << 20, 9000 + number)
            try:
                self.s3.put_object(Bucket=bucket, Key=f"k{number}", Body=content)
            except Exception as error:  # noqa: BLE001: looked at below
                answer = error.response
                break
            stored[f"k{number}"] = content
        else:
            self.fail("the disks never became full")
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 507, answer)
        self.assertGreater(len(stored), 2)
        for volume in self.server.volumes:
            free = os.statvfs(volume).f_bavail * 4096
            self.assertTrue((40 << 20) < free < (100 << 20), f"{free} bytes are free: the watermarks are 80 and 48 MiB")
        # By its declared length: the answer comes without a byte of the body.
        head, _ = self.service.build(
            "PUT", f"/{bucket}/huge", headers=[("content-length", str(1 << 30)), ("expect", "100-continue")],
            payload=sigv4.UNSIGNED,
        )
        with self.service.wire(timeout=60) as wire:
            wire.send(head)
            self.assertEqual(wire.receive("PUT").status, 507)
        for key, content in stored.items():
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), content)
        names = sorted(stored)
        for key in names[: len(names) * 2 // 3]:
            self.s3.delete_object(Bucket=bucket, Key=key)
            del stored[key]
        done = self.command("gc", "run", "--wait", "--grace", "0", "--json")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        again = random_bytes(6 << 20, 9999)

        def is_written():
            try:
                self.s3.put_object(Bucket=bucket, Key="again", Body=again)
                return True
            except Exception as error:  # noqa: BLE001
                self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 507)
                return False

        support.poll(is_written, "uploads are taken again", 60)
        stored["again"] = again
        for key, content in stored.items():
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), content)

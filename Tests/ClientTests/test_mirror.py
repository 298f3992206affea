"""Mirrors: the real program against real backends. Another Holdfast, rclone's server, SeaweedFS and moto where they are there."""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import botocore.exceptions
import requests

from support import (
    ACCESS_KEY,
    CLIENTS,
    IS_LONG,
    MIB,
    PROGRAM,
    SECRET_KEY,
    Server,
    free_port,
    make_client,
    needs_own_server,
    poll,
    random_bytes,
    resolver_library,
    sha256,
)


def program(store, *arguments, environment=None):
    """Runs the program on a store, served or not, and returns what came of it."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        env={**os.environ, "HOLDFAST_STORE": str(store), "LC_ALL": "C.UTF-8", **(environment or {})},
        capture_output=True,
        timeout=600,
    )


class Backend:
    """Any S3 server as a backend: its address, its keys, a client."""

    def __init__(self, url, access_key=ACCESS_KEY, secret_key=SECRET_KEY, bucket="mirror"):
        self.url, self.access_key, self.secret_key, self.bucket = url, access_key, secret_key, bucket
        self.s3 = make_client(url, access_key, secret_key, False, "{}")

    def versions(self, prefix=""):
        """Keys with their versions, oldest first: (is a delete marker, size, version id)."""
        found = {}
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix):
            entries = [(e["Key"], e["LastModified"], e["VersionId"], False, e["Size"]) for e in page.get("Versions", [])]
            entries += [(e["Key"], e["LastModified"], e["VersionId"], True, 0) for e in page.get("DeleteMarkers", [])]
            for key, _, version, marker, size in entries:
                found.setdefault(key, []).append((version, marker, size))
        return found


@needs_own_server
class MirrorCase(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-mirror-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.server = Server()
        self.addCleanup(self.server.remove)
        self.s3 = self.server.client()
        self.s3.create_bucket(Bucket="models")
        self.s3.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Enabled"})

    def holdfast_backend(self, versioning=True, **options):
        self.other = Server(**options)
        self.addCleanup(self.other.remove)
        backend = Backend(self.other.url)
        backend.s3.create_bucket(Bucket="mirror")
        if versioning:
            backend.s3.put_bucket_versioning(Bucket="mirror", VersioningConfiguration={"Status": "Enabled"})
        return backend

    def credentials(self, access_key, secret_key, name="credentials"):
        path = self.directory / name
        path.write_text(f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n")
        return path

    def do(self, *arguments, store=None, code=0, **options):
        done = program(store or self.server.store, *arguments, **options)
        self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout.decode()}\n{done.stderr.decode()}")
        return done.stdout

    def where(self, backend):
        return [
            "--endpoint", backend.url, "--bucket", backend.bucket,
            "--credentials-file", self.credentials(backend.access_key, backend.secret_key),
        ]

    def add(self, backend, *options):
        return self.do("mirror", "add", "offsite", *self.where(backend), *options)

    def status(self):
        return json.loads(self.do("mirror", "status", "offsite", "--json"))["mirrors"][0]

    def wait(self, seconds=120):
        self.do("mirror", "status", "offsite", "--wait", "--timeout", seconds)

    def verify(self, *options, code=0):
        return json.loads(self.do("mirror", "verify", "offsite", "--json", *options, code=code))

    def put(self, key, content, **options):
        return self.s3.put_object(Bucket="models", Key=key, Body=content, **options)

    def upload_in_parts(self, key, parts):
        upload = self.s3.create_multipart_upload(Bucket="models", Key=key)["UploadId"]
        done = []
        for number, part in enumerate(parts, 1):
            answer = self.s3.upload_part(Bucket="models", Key=key, UploadId=upload, PartNumber=number, Body=part)
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
        self.s3.complete_multipart_upload(
            Bucket="models", Key=key, UploadId=upload, MultipartUpload={"Parts": done}
        )

    def destroy(self, needles):
        """Overwrites every copy of some bytes, on every volume; the server must not run."""
        damaged = 0
        for needle in needles:
            for volume in self.server.volumes:
                for path in volume.rglob("*"):
                    if path.is_file() and (found := path.read_bytes().find(needle)) >= 0:
                        with path.open("r+b") as file:
                            file.seek(found)
                            file.write(bytes(len(needle)))
                        damaged += 1
        return damaged

    def replication(self, key):
        return self.s3.head_object(Bucket="models", Key=key).get("ReplicationStatus")


class HistoryTests(MirrorCase):
    def test_the_history_arrives_and_can_be_read_by_anyone(self):
        backend = self.holdfast_backend()
        old = random_bytes(1000, 1)
        self.put("a/b", old, Metadata={"colour": "green"}, Tagging="tier=gold", ContentType="text/plain", CacheControl="no-cache")
        self.assertIsNone(self.replication("a/b"))
        self.add(backend)
        new = random_bytes(2000, 2)
        self.put("a/b", new)
        large = [random_bytes(9 * MIB, 3), random_bytes(9 * MIB, 4), random_bytes(1 * MIB, 5)]
        self.upload_in_parts("large", large)
        self.put("gone", b"x")
        self.s3.delete_object(Bucket="models", Key="gone")
        self.put("empty", b"")
        self.put("ümläut/ä b+c%", b"y")
        self.wait()
        report = self.verify("--deep")
        self.assertEqual([report["missing"], report["different"], report["extra"]], [0, 0, 0], report)
        self.assertEqual(self.replication("a/b"), "COMPLETED")
        history = backend.s3.list_object_versions(Bucket="mirror", Prefix="models/a/b")["Versions"]
        self.assertEqual(len(history), 2)
        first = backend.s3.get_object(Bucket="mirror", Key="models/a/b", VersionId=history[1]["VersionId"])
        self.assertEqual(first["Body"].read(), old)
        self.assertEqual(first["Metadata"]["colour"], "green")
        self.assertEqual(first["Metadata"]["holdfast-sha256"], sha256(old))
        self.assertEqual((first["ContentType"], first["CacheControl"], first["TagCount"]), ("text/plain", "no-cache", 1))
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/a/b")["Body"].read(), new)
        copy = backend.s3.get_object(Bucket="mirror", Key="models/large")
        self.assertEqual(copy["Metadata"]["holdfast-sha256"], sha256(b"".join(large)))
        self.assertEqual(sha256(copy["Body"].read()), sha256(b"".join(large)))
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/ümläut/ä b+c%")["Body"].read(), b"y")
        gone = backend.s3.list_object_versions(Bucket="mirror", Prefix="models/gone")
        self.assertEqual((len(gone["Versions"]), len(gone["DeleteMarkers"])), (1, 1))
        # Tags and removals follow.
        self.s3.put_object_tagging(Bucket="models", Key="a/b", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
        marker = self.s3.list_object_versions(Bucket="models", Prefix="gone")["DeleteMarkers"][0]["VersionId"]
        self.s3.delete_object(Bucket="models", Key="gone", VersionId=marker)
        self.wait()
        tags = backend.s3.get_object_tagging(Bucket="mirror", Key="models/a/b")["TagSet"]
        self.assertEqual(tags, [{"Key": "k", "Value": "v"}])
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/gone")["Body"].read(), b"x")
        metrics = self.server.operation("/metrics")[1]
        self.assertIn('holdfast_mirror_pending{mirror="offsite"} 0', metrics)
        self.assertIn('holdfast_mirror_breaker{mirror="offsite"} 0', metrics)

    def test_many_versions_of_one_key_and_many_keys(self):
        backend = self.holdfast_backend()
        versions, keys = (1000, 10_000) if IS_LONG else (150, 300)
        for number in range(versions):
            self.put("one", f"{number}".encode())
        self.add(backend)
        for number in range(keys):
            self.put(f"many/{number:05}", f"{number}".encode() * 50)
        started = time.monotonic()
        self.wait(900)
        print(f"{keys} small objects caught up in {time.monotonic() - started:.1f} s after the last put", flush=True)
        self.assertTrue(self.verify()["checked"] >= versions + keys)
        sizes = []
        for page in backend.s3.get_paginator("list_object_versions").paginate(Bucket="mirror", Prefix="models/one"):
            sizes += [entry["VersionId"] for entry in page["Versions"]]
        self.assertEqual(len(sizes), versions)
        for place in (0, versions // 2, versions - 1):
            body = backend.s3.get_object(Bucket="mirror", Key="models/one", VersionId=sizes[place])["Body"].read()
            self.assertEqual(body, f"{versions - 1 - place}".encode())


    @unittest.skipUnless(IS_LONG, "a gibibyte: HOLDFAST_LONG=1")
    def test_an_object_of_a_gibibyte(self):
        backend = self.holdfast_backend()
        piece = random_bytes(64 * MIB, 50)
        self.upload_in_parts("gibibyte", [piece[number:] + piece[:number] for number in range(16)])
        started = time.monotonic()
        self.add(backend)
        self.wait(1800)
        seconds = time.monotonic() - started
        print(f"1 GiB mirrored in {seconds:.1f} s: {1024 / seconds:.0f} MiB/s", flush=True)
        self.assertEqual(self.verify("--deep")["checked"], 1)
        with open(f"/proc/{self.server.process.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
        print(f"the server's memory at most: {peak} MiB", flush=True)
        self.assertLess(peak, 700)


class FaultTests(MirrorCase):
    def test_a_backend_that_is_down_costs_clients_nothing_and_gets_everything_later(self):
        backend = self.holdfast_backend()
        self.add(backend)
        self.put("a", b"1")
        self.wait()
        for turn in range(3):
            self.other.stop(signal.SIGKILL)
            for number in range(20):
                self.put(f"k{number}", f"{turn} {number}".encode())
            self.assertEqual(self.replication("k0"), "PENDING")
            poll(lambda: self.status()["breaker"] != "closed", "the breaker opens")
            self.assertGreaterEqual(self.status()["pending"], 20)
            self.assertTrue(self.status().get("lastError"))
            self.other.start()
            self.do("mirror", "retry", "offsite")
            self.wait()
        self.assertEqual(self.verify("--deep")["checked"], 61)
        self.assertEqual(self.replication("k0"), "COMPLETED")

    def test_a_crash_in_the_middle_of_an_upload_leaves_one_version(self):
        backend = self.holdfast_backend()
        content = random_bytes(48 * MIB, 8)
        self.add(backend, "--part-size", "5", "--bytes-per-second", 8 * MIB)
        self.put("large", content)
        for _ in range(2):
            def parts():
                uploads = backend.s3.list_multipart_uploads(Bucket="mirror").get("Uploads", [])
                if not uploads:
                    return 0
                return len(backend.s3.list_parts(Bucket="mirror", Key="models/large", UploadId=uploads[0]["UploadId"]).get("Parts", []))
            before = parts()
            poll(lambda: parts() > before, "parts arrive")
            self.server.stop(signal.SIGKILL)
            self.server.start()
        self.wait(300)
        history = backend.s3.list_object_versions(Bucket="mirror", Prefix="models/large")["Versions"]
        self.assertEqual(len(history), 1)
        self.assertEqual(sha256(backend.s3.get_object(Bucket="mirror", Key="models/large")["Body"].read()), sha256(content))
        self.assertEqual(backend.s3.list_multipart_uploads(Bucket="mirror").get("Uploads", []), [])

    def test_rotated_credentials_are_told_and_put_right(self):
        backend = self.holdfast_backend()
        made = json.loads(program(self.other.store, "key", "create", "--json").stdout)
        backend.access_key, backend.secret_key = made["accessKeyID"], made["secretAccessKey"]
        self.add(backend)
        self.put("a", b"1")
        self.wait()
        self.assertEqual(program(self.other.store, "key", "rm", made["accessKeyID"]).returncode, 0)
        self.put("b", b"2")
        poll(lambda: self.status()["state"] == "waiting" and self.status().get("lastError"), "the refusal is told")
        self.assertIn("denied", self.status().get("lastError"))
        self.assertEqual(self.status()["failed"], 0)
        self.assertNotIn(made["secretAccessKey"], json.dumps(self.status()) + self.server.log_text(100_000))
        path = self.credentials(ACCESS_KEY, SECRET_KEY, "new")
        self.do("mirror", "credentials", "offsite", "--credentials-file", path)
        self.wait()
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/a")["Body"].read(), b"1")

    def test_a_certificate_that_is_not_trusted_stops_it_and_a_trusted_one_does_not(self):
        certificate, key = self.directory / "c.pem", self.directory / "k.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )
        front = Server(options=["--tls-certificate", certificate, "--tls-key", key])
        self.addCleanup(front.remove)
        backend = Backend.__new__(Backend)
        backend.url, backend.bucket = front.url.replace("http:", "https:"), "mirror"
        backend.access_key, backend.secret_key = ACCESS_KEY, SECRET_KEY
        self.add(backend)
        self.put("a", b"secret")
        poll(lambda: (self.status().get("lastError") or "").startswith("untrusted"), "the certificate is told")
        self.assertEqual(self.status()["pending"], 1)
        self.server.stop()
        self.server.environment["HOLDFAST_MIRROR_CA_FILE"] = str(certificate)
        self.server.start()
        # Trusted now: what is missing is the bucket, and that is what it says.
        poll(lambda: (self.status().get("lastError") or "").startswith("noBucket"), "the missing bucket is told")

    def test_a_backend_that_hangs_holds_up_nobody(self):
        with socket.socket() as trap:
            trap.bind(("127.0.0.1", 0))
            trap.listen(64)
            backend = Backend(f"http://127.0.0.1:{trap.getsockname()[1]}")
            self.add(backend)
            for number in range(20):
                self.put(f"k{number}", b"x")
                self.assertEqual(self.s3.get_object(Bucket="models", Key=f"k{number}")["Body"].read(), b"x")
            self.assertEqual(self.status()["pending"], 20)
            self.do("mirror", "rm", "offsite")
        self.assertEqual(json.loads(self.do("mirror", "ls", "--json"))["mirrors"], [])
        self.assertEqual(self.server.stop(), 0)

    def test_what_cannot_be_mirrored_is_listed_and_not_in_the_way(self):
        backend = self.holdfast_backend()
        self.add(backend, "--rule", "models/keep/")
        key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
        self.put("keep/c", b"1", **key)
        self.put("keep/d", b"2")
        self.put("other", b"3")
        poll(lambda: self.status()["failed"] == 1 and self.status()["pending"] == 0, "it is given up")
        failures = json.loads(self.do("mirror", "failures", "offsite", "--json"))["failures"]
        self.assertIn("SSE-C", failures[0]["reason"])
        keys = [entry["Key"] for entry in backend.s3.list_objects_v2(Bucket="mirror")["Contents"]]
        self.assertEqual(keys, ["models/keep/d"])
        self.assertEqual(self.s3.head_object(Bucket="models", Key="keep/c", **key)["ReplicationStatus"], "FAILED")

    def test_a_bucket_that_is_deleted_stops_it_and_one_that_is_made_again_goes_on(self):
        backend = self.holdfast_backend()
        self.add(backend)
        self.put("a", b"1")
        self.wait()
        for version in backend.s3.list_object_versions(Bucket="mirror")["Versions"]:
            backend.s3.delete_object(Bucket="mirror", Key=version["Key"], VersionId=version["VersionId"])
        backend.s3.delete_bucket(Bucket="mirror")
        for number in range(20):
            self.put(f"k{number}", b"2")
        poll(lambda: (self.status().get("lastError") or "").startswith("noBucket"), "the missing bucket is told")
        self.assertEqual((self.status()["pending"], self.status()["failed"], self.status()["breaker"]), (20, 0, "open"))
        backend.s3.create_bucket(Bucket="mirror")
        backend.s3.put_bucket_versioning(Bucket="mirror", VersioningConfiguration={"Status": "Enabled"})
        self.do("mirror", "retry", "offsite")
        self.wait()
        # What went with the old bucket is named.
        report = self.verify(code=6)
        self.assertEqual([report["missing"], report["different"], report["extra"]], [1, 0, 0])
        self.assertEqual([difference["key"] for difference in report["differences"]], ["models/a"])

    def test_wrong_arguments_are_refused(self):
        path = self.credentials("key", "secret")
        for endpoint in ("http://169.254.169.254", "ftp://x", "http://2852039166"):
            self.do("mirror", "add", "x", "--endpoint", endpoint, "--bucket", "b", "--credentials-file", path, code=2)
        self.do("mirror", "add", "x", "--endpoint", "http://h", "--bucket", "b", "--credentials-file", "/nowhere", code=11)
        self.do("mirror", "pause", "nobody", code=3)


class AddressTests(MirrorCase):
    def lead(self, address):
        """Where backend.example.org leads from the next start of the server on."""
        self.server.stop(signal.SIGKILL)
        self.names.write_text(f"backend.example.org {address}\n")
        self.server.start()

    def setUp(self):
        super().setUp()
        self.names = self.directory / "names"
        self.server.environment |= {"LD_PRELOAD": str(resolver_library()), "RESOLVER_FILE": str(self.names)}

    def is_refused(self, address):
        def told():
            error = self.status().get("lastError") or ""
            return error.startswith("forbidden") and address in error
        poll(told, f"{address} is refused")
        self.assertEqual((self.status()["breaker"], self.status()["failed"]), ("open", 0))

    def test_a_name_that_leads_into_the_house_is_not_connected_to(self):
        with socket.socket() as trap:
            trap.bind(("127.0.0.1", 0))
            trap.listen(64)
            trap.setblocking(False)
            self.lead("127.0.0.1")
            self.put("a", b"1")
            self.add(Backend(f"http://backend.example.org:{trap.getsockname()[1]}"))
            for address, shown in (
                ("127.0.0.1", "127.0.0.1"), ("169.254.169.254", "169.254.169.254"), ("::ffff:127.0.0.1", "ffff:7f00:1"),
            ):
                self.lead(address)
                self.is_refused(shown)
            with self.assertRaises(BlockingIOError):
                trap.accept()

    def test_a_name_that_was_allowed_and_leads_elsewhere_later_is_refused(self):
        backend = self.holdfast_backend()
        there = Backend(backend.url.replace("127.0.0.1", "backend.example.org"))
        self.lead("127.0.0.1")
        self.put("a", b"1")
        self.add(there, "--allow-private")
        self.wait()
        self.lead("169.254.169.254")
        self.put("a", b"2")
        self.is_refused("169.254.169.254")
        self.lead("127.0.0.1")
        self.wait()
        history = backend.s3.list_object_versions(Bucket="mirror", Prefix="models/a")["Versions"]
        self.assertEqual(len(history), 2)


class AcknowledgementTests(MirrorCase):
    def wait_for_mirrors(self, seconds=60):
        self.do("mirror", "ack", "models", "--mirror", "offsite", "--timeout", seconds)

    def versions_of(self, s3, bucket, key):
        return s3.list_object_versions(Bucket=bucket, Prefix=key).get("Versions", [])

    def is_refused(self, call):
        """The version that is stored although the answer is an error."""
        with self.assertRaises(botocore.exceptions.ClientError) as refused:
            call()
        answer = refused.exception.response
        self.assertEqual(answer["Error"]["Code"], "ServiceUnavailable")
        self.assertIn("The version is stored here", answer["Error"]["Message"])
        return answer["ResponseMetadata"]

    def test_every_write_is_there_when_it_is_acknowledged(self):
        backend = self.holdfast_backend()
        self.add(backend, "--rule", "models/kept/")
        self.wait_for_mirrors()
        read = lambda key: backend.s3.get_object(Bucket="mirror", Key="models/kept/" + key)["Body"].read()
        for number in range(20):
            self.put("kept/put", b"%d" % number)
            self.assertEqual(read("put"), b"%d" % number)
        self.s3.copy_object(Bucket="models", Key="kept/copy", CopySource="models/kept/put")
        self.assertEqual(read("copy"), b"19")
        self.upload_in_parts("kept/parts", [random_bytes(5 * MIB, 1), b"end"])
        self.assertEqual(sha256(read("parts")), sha256(random_bytes(5 * MIB, 1) + b"end"))
        form = self.server.client(signature_version="s3v4").generate_presigned_post("models", "kept/form", ExpiresIn=60)
        answer = requests.post(form["url"], data=form["fields"], files={"file": b"formed"}, timeout=60)
        self.assertEqual((answer.status_code, read("form")), (204, b"formed"))
        self.do("put", "--endpoint", self.server.url, self.credentials("a", "b"), "models/kept/remote", environment={
            "HOLDFAST_ACCESS_KEY": ACCESS_KEY, "HOLDFAST_SECRET_KEY": SECRET_KEY,
        })
        self.assertIn(b"default", read("remote"))
        # What no rule takes waits for nothing, also when the mirror stands still.
        self.do("mirror", "pause", "offsite")
        self.put("other", b"x")
        self.do("mirror", "resume", "offsite")
        # Without a server the command works on the mirror itself.
        self.server.stop()
        self.do("put", self.credentials("c", "d", "local"), "models/kept/local")
        self.assertIn(b"default", read("local"))
        self.other.stop(signal.SIGKILL)
        told = program(self.server.store, "put", self.credentials("e", "f", "down"), "models/kept/down")
        self.assertEqual((told.returncode, b"The version is stored here" in told.stderr), (15, True), told.stderr)
        self.other.start()
        self.server.start()

    def test_a_backend_that_is_down_is_told_and_a_repetition_makes_no_second_version(self):
        backend = self.holdfast_backend()
        self.add(backend)
        self.put("source", b"s")
        upload = self.s3.create_multipart_upload(Bucket="models", Key="parts")["UploadId"]
        part = self.s3.upload_part(Bucket="models", Key="parts", UploadId=upload, PartNumber=1, Body=b"p")["ETag"]
        self.wait()
        # Longer than the client waits: whoever is told before the end of it is told at once.
        self.wait_for_mirrors(300)
        writes = {
            "a": lambda: self.put("a", b"1", Metadata={"k": "v"}),
            "copy": lambda: self.s3.copy_object(Bucket="models", Key="copy", CopySource="models/source"),
            "parts": lambda: self.s3.complete_multipart_upload(
                Bucket="models", Key="parts", UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]},
            ),
        }
        self.other.stop(signal.SIGKILL)
        stored = {}
        for key, write in writes.items():
            told = self.is_refused(write)
            stored[key] = told["HTTPHeaders"]["x-amz-version-id"]
            self.assertIn("retry-after", told["HTTPHeaders"])
        self.assertNotEqual(self.status()["breaker"], "closed")
        self.assertEqual(self.s3.get_object(Bucket="models", Key="a")["Body"].read(), b"1")
        self.assertEqual(self.replication("a"), "PENDING")
        self.is_refused(writes["a"])
        self.do("mirror", "rm", "offsite", code=4)
        self.other.start()
        self.do("mirror", "retry", "offsite")
        poll(lambda: self.status()["breaker"] == "closed", "the backend is known to be back")
        for key, write in writes.items():
            # A version that arrives while its write is repeated is one that the repetition waits for no more.
            if self.replication(key) == "PENDING":
                self.assertEqual(write()["VersionId"], stored[key])
            self.assertEqual(backend.s3.head_object(Bucket="mirror", Key="models/" + key)["Metadata"]["holdfast-version"], stored[key])
        self.wait()
        for key in writes:
            self.assertEqual([v["VersionId"] for v in self.versions_of(self.s3, "models", key)], [stored[key]])
            self.assertEqual(len(self.versions_of(backend.s3, "mirror", "models/" + key)), 1)
        # A paused mirror is told at once; a write that is repeated waits and is answered as soon as it goes on.
        self.do("mirror", "pause", "offsite")
        first = self.is_refused(lambda: self.put("b", b"2"))["HTTPHeaders"]["x-amz-version-id"]
        self.assertEqual(self.is_refused(lambda: self.put("b", b"2"))["HTTPHeaders"]["x-amz-version-id"], first)
        self.do("mirror", "resume", "offsite")
        poll(lambda: self.replication("b") == "COMPLETED", "it is mirrored")
        self.assertEqual(len(self.versions_of(self.s3, "models", "b")), 1)
        self.do("mirror", "ack", "models", "--off")
        self.do("mirror", "pause", "offsite")
        self.put("c", b"3")

    def test_commands_that_are_repeated_wait_for_the_same_versions(self):
        backend = self.holdfast_backend()
        self.add(backend)
        self.wait_for_mirrors(300)
        tree = self.directory / "tree"
        tree.mkdir()
        for name in "abc":
            (tree / name).write_bytes(name.encode() * 1000)
        large = self.directory / "large"
        large.write_bytes(random_bytes(9 * MIB, 7))
        self.put("source", b"s")
        keys = {"HOLDFAST_ACCESS_KEY": ACCESS_KEY, "HOLDFAST_SECRET_KEY": SECRET_KEY}
        def run(code, *arguments):
            self.do(arguments[0], "--endpoint", self.server.url, *arguments[1:], code=code, environment=keys)
        self.do("mirror", "pause", "offsite")
        # Until every file is there, and then again.
        for _ in range(5):
            run(15, "put", tree, "models/tree/")
        for _ in range(2):
            run(15, "put", large, "models/large")
            run(15, "cp", "models/source", "models/copy")
        # Sealed, its parts differ each time.
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        self.s3.put_bucket_encryption(Bucket="models", ServerSideEncryptionConfiguration={"Rules": [rule]})
        for _ in range(2):
            run(15, "put", large, "models/sealed")
        self.s3.delete_bucket_encryption(Bucket="models")
        self.server.stop()
        for _ in range(5):
            self.do("put", tree, "models/tree/", code=15)
            self.do("put", tree, "models/local/", code=15)
        for _ in range(2):
            self.do("cp", "models/source", "models/copied", code=15)
            self.do("put", large, "models/whole", code=15)
        self.server.start()
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket="models"))
        self.do("mirror", "resume", "offsite")
        run(0, "put", tree, "models/tree/")
        self.wait()
        run(0, "put", tree, "models/tree/")
        self.server.stop()
        self.do("put", tree, "models/local/")
        self.server.start()
        self.assertNotIn("x-holdfast-mirror-wait", self.s3.head_object(Bucket="models", Key="tree/a")["ResponseMetadata"]["HTTPHeaders"])
        names = {"source", "large", "sealed", "copy", "copied", "whole", *(f"{place}/{name}" for place in ("tree", "local") for name in "abc")}
        self.assertEqual(sorted(entry["Key"] for entry in self.versions_of(self.s3, "models", "")), sorted(names))
        self.assertEqual(self.verify("--deep")["missing"], 0)

    def test_what_no_mirror_can_have_is_refused_at_once(self):
        self.add(self.holdfast_backend(), "--rule", "models/kept/", "--rule", "models/#tier=gold")
        self.wait_for_mirrors(300)
        secret = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
        self.put("source", b"s")
        writes = [
            lambda key, **more: self.put(key, b"x", **secret, **more),
            lambda key, **more: self.s3.create_multipart_upload(Bucket="models", Key=key, **secret, **more),
            lambda key, **more: self.s3.copy_object(
                Bucket="models", Key=key, CopySource="models/source", **secret, **({"TaggingDirective": "REPLACE"} | more if more else {})
            ),
        ]
        for write in writes:
            for key, more in (("kept/a", {}), ("other", {"Tagging": "tier=gold"})):
                with self.assertRaises(botocore.exceptions.ClientError) as refused:
                    write(key, **more)
                answer = refused.exception.response
                self.assertEqual((answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]), ("InvalidArgument", 400))
                self.assertIn("SSE-C", answer["Error"]["Message"])
        # Before the body: the client that waits to be told to go on is told not to.
        head = self.s3.generate_presigned_url("put_object", Params={"Bucket": "models", "Key": "kept/b", **secret})
        answer = requests.put(head, data=b"x" * 10, timeout=60, headers={
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-server-side-encryption-customer-key": base64.b64encode(b"k" * 32).decode(),
            "x-amz-server-side-encryption-customer-key-MD5": base64.b64encode(hashlib.md5(b"k" * 32).digest()).decode(),
        })
        self.assertEqual(answer.status_code, 400, answer.text)
        self.assertEqual(self.versions_of(self.s3, "models", "kept/"), [])
        # What no rule takes waits for nobody.
        writes[0]("other")
        self.assertEqual(self.status()["failed"], 0)

    @unittest.skipUnless(IS_LONG, "a wait of 18 seconds: HOLDFAST_LONG=1")
    def test_a_long_completion_keeps_its_client_waiting(self):
        backend = self.holdfast_backend()
        self.add(backend, "--bytes-per-second", MIB // 2)
        self.wait_for_mirrors(100)
        # Nine mebibytes at half a mebibyte a second, for a client that doesn't wait so long in silence.
        self.s3 = self.server.client(read_timeout=14)
        self.upload_in_parts("large", [random_bytes(5 * MIB, 1), random_bytes(4 * MIB, 2)])
        self.assertEqual(backend.s3.head_object(Bucket="mirror", Key="models/large")["ContentLength"], 9 * MIB)

    def test_settings_are_kept_and_wrong_ones_refused(self):
        self.add(self.holdfast_backend())
        self.wait_for_mirrors(100)
        shown = json.loads(self.do("mirror", "ack", "models", "--json"))
        self.assertEqual(shown, {"bucket": "models", "rules": {"mirrors": ["offsite"], "timeoutSeconds": 100}})
        self.do("mirror", "ack", "models", "--mirror", "nobody", code=3)
        self.do("mirror", "ack", "nothing", "--mirror", "offsite", code=3)
        self.do("mirror", "ack", "models", "--mirror", "offsite", "--timeout", 0.01, code=2)
        self.do("mirror", "ack", "models", "--mirror", "offsite", "--off", code=2)
        self.server.stop()
        self.server.start()
        self.assertEqual(json.loads(self.do("mirror", "ack", "models", "--json")), shown)


class YieldTests(MirrorCase):
    def metric(self, name):
        lines = self.server.operation("/metrics")[1].splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f'holdfast_mirror_{name}{{mirror="offsite"}}'))

    def test_a_mirror_yields_to_clients_and_drains_beside_them(self):
        backend = self.holdfast_backend()
        settings = self.directory / "serve.yaml"
        settings.write_text("mirror:\n  requestsPerSecondBesideClients: 5\n")
        self.server.stop()
        self.server.options = ["--config", str(settings)]
        self.server.start()
        self.add(backend)
        self.put("read", random_bytes(300_000, 1))
        self.wait()
        done, failed = threading.Event(), []
        def read():
            s3 = self.server.client()
            try:
                while not done.is_set():
                    s3.get_object(Bucket="models", Key="read")["Body"].read()
            except Exception as error:  # noqa: BLE001: told below
                failed.append(error)
        clients = [threading.Thread(target=read) for _ in range(3)]
        for client in clients:
            client.start()
        try:
            self.do("mirror", "pause", "offsite")
            for number in range(30):
                self.put(f"k{number}", b"%d" % number)
            self.do("mirror", "resume", "offsite")
            poll(lambda: self.metric("yielding") == 1 or self.metric("pending") == 0, "it yields")
            self.wait()
            waited = self.metric("yielded_seconds_total")
            self.assertGreater(waited, 1)
        finally:
            done.set()
            for client in clients:
                client.join()
        self.assertEqual(failed, [])
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/k29")["Body"].read(), b"29")
        self.assertEqual((self.metric("yielding"), self.status().get("isYielding")), (0, None))


class WayBackTests(MirrorCase):
    def test_an_empty_machine_gets_everything_back_with_its_history(self):
        backend = self.holdfast_backend()
        self.add(backend)
        for number in range(12):
            self.put(f"k{number % 3}", random_bytes(5000 + number, number), Tagging=f"n={number}")
        self.s3.delete_object(Bucket="models", Key="k0")
        self.upload_in_parts("large", [random_bytes(6 * MIB, 20), random_bytes(5 * MIB, 21)])
        self.wait()
        expected = self.hashes(self.s3)
        self.server.stop(signal.SIGKILL)
        shutil.rmtree(self.server.store)
        self.do("init", "--json", store=self.directory / "again")
        report = json.loads(
            self.do("mirror", "restore", *self.where(backend), "--json", store=self.directory / "again")
        )
        self.assertEqual((report["versions"], report["deleteMarkers"]), (13, 1))
        self.server.store = self.directory / "again"
        self.server.start()
        self.assertEqual(self.hashes(self.s3), expected)

    @staticmethod
    def hashes(s3):
        found = {}
        listing = s3.list_object_versions(Bucket="models")
        for entry in listing["Versions"]:
            body = s3.get_object(Bucket="models", Key=entry["Key"], VersionId=entry["VersionId"])
            tags = s3.get_object_tagging(Bucket="models", Key=entry["Key"], VersionId=entry["VersionId"])["TagSet"]
            found.setdefault(entry["Key"], []).append((sha256(body["Body"].read()), str(tags), str(body["Metadata"])))
        return found, sorted(entry["Key"] for entry in listing.get("DeleteMarkers", []))

    def test_a_read_whose_copies_are_all_bad_comes_from_the_mirror_and_is_repaired(self):
        backend = self.holdfast_backend()
        self.add(backend)
        content = random_bytes(3 * MIB, 30)
        self.put("precious", content)
        self.wait()
        self.server.stop()
        damaged = self.destroy(content[place : place + 64] for place in (MIB // 2, 2 * MIB))
        self.assertEqual(damaged, 6)
        self.server.start()
        body = self.s3.get_object(Bucket="models", Key="precious", Range="bytes=1000-3000000")["Body"].read()
        self.assertEqual(sha256(body), sha256(content[1000:3000001]))
        self.other.stop()
        self.assertEqual(sha256(self.s3.get_object(Bucket="models", Key="precious")["Body"].read()), sha256(content))

    def findings(self, *options):
        return json.loads(self.do("scrub", "findings", "--limit", "1000", *options, "--json"))["findings"]

    def test_a_scrub_brings_back_from_the_mirror_what_no_volume_has(self):
        backend = self.holdfast_backend()
        self.add(backend)
        content = {name: random_bytes(2 * MIB, seed) for seed, name in enumerate(("one", "two", "three"), 70)}
        for name, body in content.items():
            self.put(name, body)
        self.put("small", small := random_bytes(3000, 80))
        self.wait()
        self.server.stop()
        needles = [body[MIB : MIB + 64] for body in content.values()] + [small[100:164]]
        self.assertEqual(self.destroy(needles), 12)
        # The mirror is away: what can't be repaired says who has it.
        self.other.stop()
        self.do("scrub", "start", code=6)
        lost = [finding for finding in self.findings("--closed") if finding["outcome"] == "unrepairable"]
        self.assertEqual({tuple(finding["heldBy"]) for finding in lost}, {("offsite",)}, lost)
        self.assertIn(b"mirror offsite has it", self.do("scrub", "findings", "--closed"))
        held = {(entry["key"], entry["state"], *entry["mirrors"]) for finding in lost for entry in finding["versions"]}
        self.assertEqual(held, {(key, "lost", "offsite") for key in (*content, "small")})
        self.assertIn(b"mirror offsite has the version", self.do("verify", "--no-repair", code=6))
        # It is back: nobody reads, and all is well again.
        self.other.start()
        self.server.start()
        self.do("scrub", "start", "--wait", code=14)
        rescued = [finding for finding in self.findings("--closed") if finding.get("repairedFrom") == "mirror offsite"]
        self.assertGreaterEqual(len(rescued), 4)
        self.assertEqual({finding["outcome"] for finding in rescued}, {"repaired"})
        self.assertIn(b"repaired from mirror offsite", self.do("scrub", "findings", "--closed"))
        self.server.stop()
        self.other.stop()
        report = json.loads(self.do("verify", "--json"))
        self.assertEqual((report["findingCount"], report["versionsLost"]), (0, 0), report)
        self.server.start()
        for name, body in content.items():
            self.assertEqual(self.s3.get_object(Bucket="models", Key=name)["Body"].read(), body)

    def test_who_leaves_ends_what_is_fetched_for_it(self):
        backend = self.holdfast_backend()
        self.add(backend)
        content = {"chunk": random_bytes(3 * MIB, 33), "manifest": random_bytes(40 * MIB, 34)}
        for key, body in content.items():
            self.put(key, body)
        self.wait()
        self.server.stop()
        self.assertEqual(self.destroy([content["chunk"][100:164]]), 3)
        self.assertGreater(self.lose_manifests(), 0)
        self.server.start()
        in_flight = re.compile(r"^holdfast_s3_requests_in_flight\S* (\d+)", re.MULTILINE)
        def count():
            return sum(map(int, in_flight.findall(self.server.operation("/metrics")[1])))
        service = self.server.service()
        for key, body in content.items():
            request = service.build("GET", f"/models/{key}")[0]
            # Its listening queue takes connections, and nothing is answered.
            self.other.process.send_signal(signal.SIGSTOP)
            try:
                with service.wire(timeout=120) as staying:
                    with service.wire(timeout=120) as leaving:
                        leaving.send(request)
                        poll(lambda: count() == 1, "it waits for the mirror")
                        staying.send(request)
                        poll(lambda: count() == 2, "the second one waits as well")
                    # Long before the backend is given up: who stays is not answered meanwhile.
                    poll(lambda: count() == 1, "the one that left is not worked for any more")
                    self.other.process.send_signal(signal.SIGCONT)
                    answer = staying.receive()
                    self.assertEqual((answer.status, sha256(answer.body)), (200, sha256(body)), key)
            finally:
                self.other.process.send_signal(signal.SIGCONT)
            poll(lambda: count() == 0, "nothing is under way")

    def test_verify_and_the_audit_bring_back_lost_manifests(self):
        backend = self.holdfast_backend()
        self.add(backend)
        whole = random_bytes(40 * MIB, 90)
        parts = [random_bytes(size * MIB, 91 + size) for size in (9, 5, 23)]
        self.put("whole", whole)
        self.upload_in_parts("parts", parts)
        self.wait()
        for turn, repair in enumerate((["verify"], ["scrub", "start", "--kind", "audit"])):
            self.server.stop()
            self.assertGreater(self.lose_manifests(), 0)
            self.assertEqual(json.loads(self.do("verify", "--no-repair", "--json", code=6))["versionsLost"], 2)
            self.do(*repair, code=0 if turn == 0 else 14)
            self.assertEqual(json.loads(self.do("verify", "--no-repair", "--json"))["findingCount"], 0)
            self.server.start()
            for key, body in (("whole", whole), ("parts", b"".join(parts))):
                self.assertEqual(sha256(self.s3.get_object(Bucket="models", Key=key)["Body"].read()), sha256(body))

    def test_a_read_whose_manifest_is_lost_comes_from_the_mirror_and_puts_it_right(self):
        backend = self.holdfast_backend()
        self.add(backend)
        whole = random_bytes(24 * MIB, 95)
        parts = [random_bytes(size * MIB, 96 + size) for size in (9, 5, 8)]
        self.put("whole", whole)
        self.upload_in_parts("parts", parts)
        self.wait()
        self.server.stop()
        self.assertGreater(self.lose_manifests(), 0)
        # Without the mirror they can't be read.
        self.other.stop()
        self.server.start()
        with self.assertRaises(botocore.exceptions.ClientError):
            self.s3.get_object(Bucket="models", Key="whole")
        self.other.start()
        def piece():
            with contextlib.suppress(botocore.exceptions.ClientError):
                return self.s3.get_object(Bucket="models", Key="whole", Range="bytes=9000000-20000000")["Body"].read()
        poll(lambda: piece() == whole[9_000_000:20_000_001], "the mirror is asked again")
        read = lambda key: sha256(self.s3.get_object(Bucket="models", Key=key)["Body"].read())
        self.assertEqual(read("parts"), sha256(b"".join(parts)))
        self.other.stop()
        self.assertEqual((read("whole"), read("parts")), (sha256(whole), sha256(b"".join(parts))))
        self.assertEqual(json.loads(self.do("verify", "--no-repair", "--json", store=self.stopped()))["versionsLost"], 0)

    def stopped(self):
        self.server.stop()
        return self.server.store

    def test_an_encrypted_read_whose_copies_are_all_bad_is_sealed_anew_from_the_mirror(self):
        backend = self.holdfast_backend()
        self.add(backend)
        content = random_bytes(5 * MIB + 77, 97)
        self.put("whole", content, ServerSideEncryption="AES256")
        upload = self.s3.create_multipart_upload(Bucket="models", Key="parts", ServerSideEncryption="AES256")["UploadId"]
        done = [
            {"PartNumber": number, "ETag": self.s3.upload_part(
                Bucket="models", Key="parts", UploadId=upload, PartNumber=number, Body=part)["ETag"]}
            for number, part in enumerate((content, content[:3 * MIB]), 1)
        ]
        self.s3.complete_multipart_upload(Bucket="models", Key="parts", UploadId=upload, MultipartUpload={"Parts": done})
        self.wait()
        self.server.stop()
        self.lose_chunks("whole")
        # Not the chunks that begin a part: its salt is nowhere else.
        self.lose_chunks("parts", lambda before: before == 16 << 16)
        self.server.start()
        both = content + content[:3 * MIB]
        read = lambda key, **options: self.s3.get_object(Bucket="models", Key=key, **options)["Body"].read()
        self.assertEqual(read("whole", Range="bytes=2000000-4000000"), content[2_000_000:4_000_001])
        self.assertEqual(read("parts", Range="bytes=4000000-7000000"), both[4_000_000:7_000_001])
        self.assertEqual([sha256(read(key)) for key in ("whole", "parts")], [sha256(content), sha256(both)])
        self.other.stop()
        self.assertEqual([sha256(read(key)) for key in ("whole", "parts")], [sha256(content), sha256(both)])

    def test_lost_chunks_and_manifests_of_encrypted_versions_are_made_again_without_a_reader(self):
        backend = self.holdfast_backend()
        self.add(backend)
        content, tall = random_bytes(5 * MIB + 77, 98), random_bytes(24 * MIB + 5, 100)
        self.put("whole", content, ServerSideEncryption="AES256")
        self.put("tall", tall, ServerSideEncryption="AES256")
        self.wait()
        for repair, code in ((["verify"], 0), (["scrub", "start"], 14)):
            self.server.stop()
            self.lose_chunks("whole")
            self.assertGreater(self.lose_manifests(), 0)
            self.assertEqual(json.loads(self.do("verify", "--no-repair", "--json", code=6))["versionsLost"], 2)
            self.do(*repair, code=code)
            self.assertEqual(json.loads(self.do("verify", "--no-repair", "--json"))["findingCount"], 0)
            self.server.start()
        self.server.stop()
        self.assertGreater(self.lose_manifests(), 0)
        self.server.start()
        read = lambda key: sha256(self.s3.get_object(Bucket="models", Key=key)["Body"].read())
        self.assertEqual((read("whole"), read("tall")), (sha256(content), sha256(tall)))
        self.other.stop()
        self.assertEqual((read("whole"), read("tall")), (sha256(content), sha256(tall)))

    def lose_chunks(self, key, is_meant=lambda before: True):
        """Damages every copy of an object's chunks, or of those whose predecessor has such a length."""
        before, damaged = 0, 0
        for chunk in json.loads(self.do("stat", "--chunks", "--json", f"models/{key}"))["chunks"]:
            digest, length = bytes.fromhex(chunk["sha256"]), chunk["length"]
            wanted, before = is_meant(before), length
            for path in [path for volume in self.server.volumes for path in volume.rglob("*") if path.is_file()]:
                content, place = path.read_bytes() if wanted else b"", -1
                while (place := content.find(digest, place + 1)) >= 0:
                    start = place + 64 + 8 * -(-length // 65536)
                    if sha256(content[start : start + length]) == digest.hex():
                        with path.open("r+b") as file:
                            file.seek(start + length // 2)
                            file.write(bytes(64))
                        damaged += 1
        self.assertGreaterEqual(damaged, 9)

    def lose_manifests(self):
        """Damages every node of a manifest on every volume."""
        lost = 0
        for volume in self.server.volumes:
            for path in volume.rglob("*"):
                if not path.is_file():
                    continue
                content, place = path.read_bytes(), -1
                while (place := content.find(b"HFMN", place + 1)) >= 0:
                    with path.open("r+b") as file:
                        file.seek(place + 40)
                        file.write(bytes(16))
                    lost += 1
        return lost


class FullDiskTests(MirrorCase):
    """Volumes on small disks of their own that get full to the last byte."""

    SIZE = 320 << 20

    def setUp(self):
        super().setUp()
        self.server.stop()
        for volume in self.server.volumes:
            contents = volume.with_name(volume.name + ".moved")
            volume.rename(contents)
            volume.mkdir(mode=0o700)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=700", "tmpfs", volume], capture_output=True
            )
            if done.returncode != 0:
                self.skipTest(f"mount: {done.stderr.decode()}")
            self.addCleanup(subprocess.run, ["umount", "-l", volume], capture_output=True)
            subprocess.run(["cp", "-a", "--sparse=always", f"{contents}/.", volume], check=True)
        self.server.start()

    def fill(self):
        fillers = [volume / "filler" for volume in self.server.volumes]
        for filler in fillers:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(1 << 16)):
                    pass
        self.assertEqual({os.statvfs(volume).f_bavail for volume in self.server.volumes}, {0})
        return fillers

    def test_a_full_store_keeps_its_outbox_and_gives_rescued_bytes(self):
        backend = self.holdfast_backend()
        self.add(backend)
        precious = random_bytes(3 * MIB, 30)
        self.put("precious", precious)
        self.wait()
        self.server.stop()
        self.assertEqual(self.destroy([precious[MIB // 2 : MIB // 2 + 64]]), 3)
        self.server.start()
        self.other.stop()
        for number in range(30):
            self.put(f"k{number}", b"%d" % number * 1000)
        fillers = self.fill()
        with self.assertRaises(botocore.exceptions.ClientError) as refused:
            self.put("large", random_bytes(24 * MIB, 31))
        self.assertEqual(refused.exception.response["ResponseMetadata"]["HTTPStatusCode"], 507)
        self.other.start()
        program(self.server.store, "mirror", "retry", "offsite")
        # What is sent, and what can't be noted, is asked for again and not sent twice.
        poll(lambda: len(backend.versions("models/k")) > 0, "the worker goes on")
        def piece():
            with contextlib.suppress(botocore.exceptions.ClientError):
                return self.s3.get_object(Bucket="models", Key="precious")["Body"].read()
        poll(lambda: piece() == precious, "the bytes come from the mirror although they can't be kept")
        # Nothing of it is forgotten by a crash.
        self.server.stop(signal.SIGKILL)
        for filler in fillers:
            filler.unlink()
        self.server.start()
        self.wait()
        self.assertEqual(self.status()["failed"], 0)
        found = backend.versions("models/k")
        self.assertEqual({key: len(entries) for key, entries in found.items()}, {f"models/k{number}": 1 for number in range(30)})
        report = self.verify("--deep")
        self.assertEqual([report["missing"], report["different"], report["extra"]], [0, 0, 0], report)
        self.assertEqual(self.s3.get_object(Bucket="models", Key="precious")["Body"].read(), precious)
        self.other.stop()
        self.assertEqual(self.s3.get_object(Bucket="models", Key="precious")["Body"].read(), precious)


class AuditTests(MirrorCase):
    def diff(self, *options, code=6):
        found = json.loads(self.do("mirror", "diff", *options, "--json", code=code))
        self.assertTrue(found["isComplete"])
        return {(entry["key"], entry["kind"]) for entry in found["differences"]}

    def findings(self, *options):
        found = json.loads(self.do("scrub", "findings", "--mirror", "offsite", *options, "--json"))["findings"]
        return {(entry["detail"].split()[0].rstrip(":"), entry["kind"], entry["outcome"]) for entry in found}

    def audit(self, *options, code=0):
        return json.loads(self.do("mirror", "audit", "start", *options, "--wait", "--json", code=code))["audits"][0]

    def test_differences_are_listed_and_put_right(self):
        backend = self.holdfast_backend(versioning=False)
        self.add(backend)
        for name in "abcd":
            self.put(name, name.encode() * 100)
        self.wait()
        self.assertEqual(self.diff(code=0), set())
        backend.s3.delete_object(Bucket="mirror", Key="models/b")
        backend.s3.put_object(Bucket="mirror", Key="models/c", Body=b"other")
        backend.s3.put_object(Bucket="mirror", Key="models/stranger", Body=b"x")
        found = {("models/b", "missing"), ("models/c", "different"), ("models/stranger", "extra")}
        self.assertEqual(self.diff("offsite"), found)
        self.assertEqual(self.diff("--bucket", "models", "--prefix", "b"), {("models/b", "missing")})
        # What only waits is told as well, and is no finding.
        self.do("mirror", "pause", "offsite")
        self.put("d", b"newer")
        self.assertIn(b"stale  models/d", listed := self.do("mirror", "diff", code=6))
        self.assertIn(b"(waits to be sent)", listed)
        self.server.stop()
        self.assertEqual(self.diff(), found | {("models/d", "stale")})
        self.server.start()
        self.do("mirror", "resume", "offsite")
        self.wait()
        report = self.audit(code=6)
        self.assertEqual((report["missing"], report["different"], report["extra"], report["queuedAgain"]), (1, 1, 1, 2))
        self.assertEqual(self.findings(), {
            ("models/b", "missing", "mended"), ("models/c", "different", "mended"), ("models/stranger", "extra", "open"),
        })
        for name in "abc":
            body = backend.s3.get_object(Bucket="mirror", Key="models/" + name)["Body"].read()
            self.assertEqual(body, name.encode() * 100)
        self.assertIn(b"audit of mirror offsite", self.do("scrub", "findings", "--open"))
        backend.s3.delete_object(Bucket="mirror", Key="models/stranger")
        self.audit()
        self.assertEqual(self.findings("--open"), set())
        self.assertEqual(self.findings("--kind", "extra"), {("models/stranger", "extra", "mended")})
        status = self.status()["audit"]
        self.assertEqual((status["state"], status["passes"], status["checked"]), ("completed", 2, 4))
        self.assertTrue(status["nextRunAt"])
        self.assertIn(
            'holdfast_mirror_audit_found{mirror="offsite",kind="extra"} 0', self.server.operation("/metrics")[1]
        )

    def test_a_history_without_its_newest_version_is_stale_and_gets_it_back_without_a_server(self):
        backend = self.holdfast_backend()
        self.add(backend)
        for number in range(3):
            self.put("k", b"%d" % number)
        self.wait()
        ids = [entry["VersionId"] for entry in backend.s3.list_object_versions(Bucket="mirror")["Versions"]]
        backend.s3.delete_object(Bucket="mirror", Key="models/k", VersionId=ids[0])
        self.assertEqual(self.diff(), {("models/k", "stale")})
        self.server.stop()
        self.assertEqual(self.audit(code=14)["queuedAgain"], 1)
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/k")["Body"].read(), b"2")
        self.assertEqual(self.findings(), {("models/k", "different", "mended")})
        # In the middle of a history there is no place any more.
        backend.s3.delete_object(Bucket="mirror", Key="models/k", VersionId=ids[1])
        self.assertEqual(self.audit(code=6)["missing"], 1)
        self.assertIn(("models/k", "missing", "failed"), self.findings())
        self.assertEqual(len(backend.s3.list_object_versions(Bucket="mirror")["Versions"]), 2)
        self.server.start()

    def test_an_audit_is_deep_once_when_it_is_started_so(self):
        backend = self.holdfast_backend()
        self.add(backend)
        for number in range(3):
            self.put(f"k{number}", b"x")
        self.wait()
        def heads():
            lines = self.other.operation("/metrics")[1].splitlines()
            found = [line for line in lines if 'api="HeadObject"' in line and line.startswith("holdfast_s3_requests_total")]
            return sum(float(line.split()[-1]) for line in found)
        backend.s3.head_object(Bucket="mirror", Key="models/k0")
        before = heads()
        self.assertEqual((self.audit("offsite")["isDeep"], heads()), (False, before))
        self.assertEqual((self.audit("offsite", "--deep")["isDeep"], heads()), (True, before + 3))
        self.assertTrue(self.status()["audit"]["isDeep"])
        self.assertEqual((self.audit("offsite")["isDeep"], heads()), (False, before + 3))
        # Without a server, and of all mirrors.
        self.server.stop()
        self.assertEqual((self.audit("--deep")["isDeep"], heads()), (True, before + 6))

    def test_an_audit_goes_on_after_a_kill_and_what_was_given_up_is_a_finding(self):
        settings = self.directory / "serve.yaml"
        settings.write_text("mirror: {audit: never, auditRequestsPerSecond: 1}\n")
        self.server.stop()
        self.server.options = ["--config", str(settings)]
        self.server.start()
        backend = self.holdfast_backend()
        self.add(backend)
        for number in range(300):
            self.put(f"k{number:03}", b"x")
        self.wait()
        backend.s3.delete_object(
            Bucket="mirror", Key="models/k299",
            VersionId=backend.s3.head_object(Bucket="mirror", Key="models/k299")["VersionId"],
        )
        self.do("mirror", "audit", "start", "offsite")
        poll(lambda: self.status()["audit"].get("position"), "the audit is under way")
        self.server.stop(signal.SIGKILL)
        self.server.start()
        audit = lambda: self.status()["audit"]
        self.assertEqual((audit()["state"], audit()["checked"] >= 250), ("running", True))
        poll(lambda: audit()["state"] == "completed", "the audit comes to its end")
        self.assertEqual((audit()["checked"], audit()["missing"], audit()["passes"]), (300, 1, 1))
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/k299")["Body"].read(), b"x")
        self.assertNotIn("nextRunAt", audit())
        self.put("secret", b"y", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
        poll(lambda: self.findings("--open", "--kind", "givenUp"), "it is a finding")
        self.assertEqual(self.findings("--open"), {("models/secret", "givenUp", "open")})
        version = self.s3.list_object_versions(Bucket="models", Prefix="secret")["Versions"][0]["VersionId"]
        self.s3.delete_object(Bucket="models", Key="secret", VersionId=version)
        self.do("mirror", "retry", "offsite")
        poll(lambda: not self.findings("--open"), "it is no finding any more")


class ConfigurationTests(MirrorCase):
    def test_declared_mirrors_are_made_once_and_kept_as_declared(self):
        backend = self.holdfast_backend()
        settings = self.directory / "serve.yaml"
        def declare(credentials, more=""):
            settings.write_text(
                "mirror:\n  audit: 17 3 * * TUE\n  timeZone: Europe/Berlin\n  mirrors:\n"
                f"    - name: offsite\n      endpoint: {backend.url}\n      bucket: mirror\n"
                f"      credentialsFile: {credentials}\n      rules: [models]\n{more}"
            )
            self.server.stop()
            self.server.options = ["--config", str(settings)]
            self.server.start()
        declare(self.credentials(ACCESS_KEY, "wrong" * 8, "wrong"))
        self.put("a", b"1")
        poll(lambda: "denied" in self.status().get("lastError", ""), "the wrong key is refused")
        good = self.credentials(ACCESS_KEY, SECRET_KEY)
        declare(good, "      concurrency: 4\n      audit: never\n")
        self.wait()
        self.assertNotIn("nextRunAt", self.status()["audit"])
        self.assertEqual(backend.s3.get_object(Bucket="mirror", Key="models/a")["Body"].read(), b"1")
        declare(good, "      concurrency: 4\n")
        self.assertEqual(self.status()["audit"]["schedule"], "17 3 * * TUE")
        self.assertEqual([m["name"] for m in json.loads(self.do("mirror", "ls", "--json"))["mirrors"]], ["offsite"])
        self.assertTrue(self.status()["isUpToDate"])
        # What is wrong is told with file and line, before anything is served.
        self.server.stop()
        text = settings.read_text()
        for old, new, told in (
            ("bucket: mirror", "bucket: mirror\n      buckett: x", b'line 8: there is no entry "mirror.mirrors.buckett"'),
            ("rules: [models]", "rules: [other]", b"has other rules"),
            (backend.url, "http://127.0.0.1:1", b"in " + backend.url.encode()),
            ("concurrency: 4", "concurrency: 400", b"mirror.mirrors.concurrency: give 1 to 64"),
            ("17 3 * * TUE", "17 3 * *", b"mirror.audit"),
            (str(good), "/nowhere", b"credentialsFile"),
            ("endpoint: ", "endpoint: ftp", b"line 6: mirror.mirrors.endpoint"),
        ):
            settings.write_text(text.replace(old, new, 1))
            done = program(self.server.store, "serve", "--config", str(settings))
            self.assertNotEqual(done.returncode, 0, new)
            self.assertIn(told, done.stderr, new)
            self.assertIn(b"serve.yaml", done.stderr, new)
        settings.write_text(text)
        self.server.start()


    def serve(self, text):
        settings = self.directory / "serve.yaml"
        settings.write_text(text)
        self.server.stop()
        self.server.options = ["--config", str(settings)]
        self.server.start()

    def declaration(self, backend, name, more=""):
        return (
            f"    - name: {name}\n      endpoint: {backend.url}\n      bucket: mirror\n      prefix: {name}/\n"
            f"      credentialsFile: {self.credentials(ACCESS_KEY, SECRET_KEY)}\n{more}"
        )

    def test_without_the_master_key_the_server_starts_and_says_what_is_unusable(self):
        backend = self.holdfast_backend()
        first = "mirror:\n  mirrors:\n" + self.declaration(backend, "offsite")
        self.serve(first)
        self.put("a", b"1")
        self.wait()
        self.server.stop()
        key = self.server.store / "master.key"
        key.rename(self.directory / "away.key")
        self.serve(first + self.declaration(backend, "second"))
        found = {mirror["name"]: mirror for mirror in json.loads(self.do("mirror", "ls", "--json"))["mirrors"]}
        self.assertEqual({name: mirror["state"] for name, mirror in found.items()}, {"offsite": "unusable", "second": "unusable"})
        for mirror in found.values():
            self.assertIn("master key", mirror["lastError"])
            self.assertFalse(mirror["name"] == "second" and mirror["isUpToDate"])
        (self.directory / "away.key").rename(key)
        self.serve(first + self.declaration(backend, "second"))
        self.put("b", b"2")
        self.do("mirror", "status", "--wait", "--timeout", 120)
        for name in ("offsite", "second"):
            self.assertEqual(backend.s3.get_object(Bucket="mirror", Key=f"{name}/models/b")["Body"].read(), b"2")

    def test_audits_can_be_deep_by_configuration(self):
        backend = self.holdfast_backend()
        mirrors = "  mirrors:\n" + self.declaration(backend, "offsite") + self.declaration(backend, "plain", "      auditDeep: false\n")
        self.serve("mirror:\n  auditRequestsPerSecond: 1000\n  auditDeep: true\n" + mirrors)
        for number in range(5):
            self.put(f"k{number}", b"x")
        self.do("mirror", "status", "--wait", "--timeout", 120)
        def heads():
            lines = self.other.operation("/metrics")[1].splitlines()
            found = [line for line in lines if 'api="HeadObject"' in line and line.startswith("holdfast_s3_requests_total")]
            self.assertTrue(found, [line for line in lines if "HeadObject" in line])
            return sum(float(line.split()[-1]) for line in found)
        backend.s3.head_object(Bucket="mirror", Key="offsite/models/k0")
        before = heads()
        audits = json.loads(self.do("mirror", "audit", "start", "plain", "--wait", "--json"))["audits"]
        self.assertEqual(([audit["isDeep"] for audit in audits], heads()), ([False], before))
        audits = json.loads(self.do("mirror", "audit", "start", "offsite", "--wait", "--json"))["audits"]
        self.assertEqual(([audit["isDeep"] for audit in audits], heads()), ([True], before + 5))


class OtherBackendTests(MirrorCase):
    def start(self, arguments, url, **options):
        log = (self.directory / "backend.log").open("wb")
        self.addCleanup(log.close)
        process = subprocess.Popen([*map(str, arguments)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        def is_there():
            self.assertIsNone(process.poll(), (self.directory / "backend.log").read_text())
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), 1):
                return True
        poll(is_there, "the backend listens")

    def mirror_without_history(self, backend, *options):
        content = random_bytes(20 * MIB, 40)
        self.put("large", content)
        for number in range(5):
            self.put("small", f"{number}".encode())
        self.put("gone", b"x")
        self.server.stop()
        # Without a server: the command works the queue off.
        self.add(backend, *options)
        self.do("mirror", "run", "--until-idle")
        self.server.start()
        self.s3.delete_object(Bucket="models", Key="gone")
        self.wait()
        self.assertIs(self.status()["keepsVersions"], False)
        read = lambda key: backend.s3.get_object(Bucket="mirror", Key="models/" + key)["Body"].read()
        self.assertEqual(sha256(read("large")), sha256(content))
        self.assertEqual(read("small"), b"4")
        keys = [entry["Key"] for entry in backend.s3.list_objects_v2(Bucket="mirror")["Contents"]]
        self.assertEqual(keys, ["models/large", "models/small"])

    def test_rclone_as_a_backend(self):
        rclone = next(iter(CLIENTS.glob("*/bin/rclone")), None) or shutil.which("rclone")
        if rclone is None:
            self.skipTest("rclone is not installed")
        (self.directory / "data" / "mirror").mkdir(parents=True)
        url = f"http://127.0.0.1:{free_port()}"
        self.start(
            [rclone, "serve", "s3", "--addr", url.removeprefix("http://"), "--auth-key", f"{ACCESS_KEY},rclonesecret",
             "--vfs-cache-mode", "off", "-vv", self.directory / "data"],
            url,
        )
        backend = Backend(url, secret_key="rclonesecret")
        self.mirror_without_history(backend)
        # The twenty MiB went in three parts of the usual size.
        log = (self.directory / "backend.log").read_text()
        self.assertEqual((log.count("put multipart upload"), log.count("complete multipart upload")), (3, 1))

    def test_seaweedfs_as_a_backend(self):
        weed = next(iter(CLIENTS.glob("*/bin/weed")), None) or shutil.which("weed")
        if weed is None:
            self.skipTest("SeaweedFS is not installed")
        settings = self.directory / "s3.json"
        settings.write_text(json.dumps({"identities": [{
            "name": "m", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]}))
        ports = []
        while len(ports) < 4:
            port = free_port()
            if port < 50_000:
                ports.append(port)
        url = f"http://127.0.0.1:{ports[3]}"
        (self.directory / "weed").mkdir()
        self.start(
            [weed, "server", "-ip=127.0.0.1", f"-dir={self.directory / 'weed'}", f"-master.port={ports[0]}",
             f"-volume.port={ports[1]}", "-filer", f"-filer.port={ports[2]}", "-s3", f"-s3.port={ports[3]}",
             f"-s3.config={settings}", "-volume.max=50"],
            url,
        )
        backend = Backend(url)
        def make():
            with contextlib.suppress(Exception):
                backend.s3.create_bucket(Bucket="mirror")
                return True
        poll(make, "SeaweedFS takes a bucket", 90)
        self.mirror_without_history(backend)

    def test_moto_as_a_backend(self):
        moto = next(iter(CLIENTS.glob("*/bin/moto_server")), None) or shutil.which("moto_server")
        if moto is None:
            self.skipTest("moto_server is not installed")
        url = f"http://127.0.0.1:{free_port()}"
        self.start([moto, "-H", "127.0.0.1", "-p", url.rsplit(":", 1)[1]], url)
        backend = Backend(url)
        backend.s3.create_bucket(Bucket="mirror")
        backend.s3.put_bucket_versioning(Bucket="mirror", VersioningConfiguration={"Status": "Enabled"})
        for number in range(10):
            self.put("a", f"{number}".encode())
        self.add(backend)
        self.put("large", random_bytes(20 * MIB, 41))
        # No delete: moto lists delete markers behind all versions, which tells nothing of their place in the history.
        self.wait()
        report = self.verify("--deep")
        self.assertEqual([report["missing"], report["different"], report["extra"]], [0, 0, 0], report)
        self.assertEqual(len(backend.s3.list_object_versions(Bucket="mirror", Prefix="models/a")["Versions"]), 10)


if __name__ == "__main__":
    unittest.main()

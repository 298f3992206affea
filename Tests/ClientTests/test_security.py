"""Reach, confusion and leaks: what an account can get at, signatures in the wrong places, and what the server gives away.

Wrong signatures of every kind are in test_signatures.py, forms in test_post_form.py, bodies in test_chunks_input.py."""

import base64
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import stat
import subprocess
import unittest
import urllib.parse

import sigv4
import support
from sigv4 import STREAMING, STREAMING_TRAILER, UNSIGNED, UNSIGNED_TRAILER
from support import AccountsCase, OwnServerCase, RawCase, sha256
from test_post_form import BOUNDARY, FormCase, form
from test_signatures import operations

OPERATIONS = support.REPOSITORY / "Sources" / "S3Protocol" / "Routing" / "S3Operation.swift"


class Stripping(RawCase):
    """A request that is right, with parts of its signature taken away, in every operation."""

    def setUp(self):
        super().setUp()
        self.put(self.name, "key", b"kept")

    def path_of(self, kind):
        return {"": "/", "bucket": f"/{self.name}", "object": self.path}[kind]

    def stripped(self, headers):
        """The headers with something missing of what tells who asks."""
        authorization = next(value for name, value in headers if name == "authorization")
        rest = [(name, value) for name, value in headers if name != "authorization"]
        yield "no authorization", rest
        yield "no authorization, no date", [entry for entry in rest if entry[0] != "x-amz-date"]
        yield "no authorization, no payload", [entry for entry in rest if entry[0] != "x-amz-content-sha256"]
        yield "date missing", [entry for entry in headers if entry[0] != "x-amz-date"]
        for what, value in (
            ("empty", ""),
            ("no scheme", authorization.partition(" ")[2]),
            ("basic", "Basic " + base64.b64encode(b"a:b").decode()),
            ("bearer", "Bearer " + authorization.rpartition("=")[2]),
            ("no signature", authorization.rpartition(",")[0]),
            ("empty signature", authorization.rpartition("=")[0] + "="),
            ("no signed headers", re.sub(r"SignedHeaders=[^,]*, ", "", authorization)),
            ("nothing signed", re.sub(r"SignedHeaders=[^,]*", "SignedHeaders=", authorization)),
            ("no credential", re.sub(r"Credential=[^,]*, ", "", authorization)),
        ):
            yield what, [*rest, ("authorization", value)]

    def test_no_operation_is_performed_without_a_whole_signature(self):
        for method, kind, items in operations():
            path, body = self.path_of(kind), b"body" if method in ("PUT", "POST") else b""
            _, headers = self.service.build(method, path, items, body=body)
            query = sigv4.encode_query(items)
            for what, sent in self.stripped(headers):
                raw = sigv4.head(method, path + (f"?{query}" if query else ""), sent) + body
                answer = self.service.exchange(raw, method)
                self.assertIn(answer.status, (400, 403, 405, 501), (method, kind, items, what, answer))
        self.assertEqual(self.get(self.name, "key"), b"kept")

    def test_no_operation_is_performed_with_a_part_of_a_presigned_query(self):
        for method, kind, items in operations():
            path = self.path_of(kind)
            query = self.service.signer.presign(method, path, self.service.host, items)
            for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
                cut = "&".join(part for part in query.split("&") if not part.startswith(f"X-Amz-{name}="))
                self.assertNotEqual(cut, query)
                raw = sigv4.head(method, f"{path}?{cut}", [("host", self.service.host), ("content-length", "0")])
                answer = self.service.exchange(raw, method)
                self.assertIn(answer.status, (400, 403, 405, 501), (method, kind, items, name, answer))
        self.assertEqual(self.get(self.name, "key"), b"kept")

    def test_a_body_mode_that_needs_a_signature_gets_none_from_a_stranger(self):
        for mode in (STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER, UNSIGNED, sha256(b"x")):
            body = self.service.signer.chunks([b"x"], sigv4.stamp(), "0" * 64, None, "UNSIGNED" not in mode)
            headers = [
                ("host", self.service.host),
                ("x-amz-content-sha256", mode),
                ("x-amz-decoded-content-length", "1"),
                ("content-encoding", "aws-chunked"),
                ("content-length", str(len(body))),
            ]
            answer = self.service.exchange(sigv4.head("PUT", f"/{self.name}/new", headers) + body, "PUT")
            self.assert_refused(answer, (400, 403))
        self.assert_absent("new")


class Confusion(FormCase):
    """Two ways of saying who one is, at once."""

    def setUp(self):
        self.name = self.bucket()
        self.path = f"/{self.name}/key"
        self.put(self.name, "key", b"kept")

    def test_header_and_query_at_once_are_refused_by_every_operation(self):
        wrong = sigv4.Signer(self.server.access_key, "x" * 40, self.service.signer.region)
        places = {"": "/", "bucket": f"/{self.name}", "object": self.path}
        for method, kind, items in operations():
            path = places[kind]
            for header_signer, query_signer in ((self.service.signer, wrong), (wrong, self.service.signer)):
                query = query_signer.presign(method, path, self.service.host, items)
                pairs = [
                    tuple(urllib.parse.unquote(text) for text in part.split("=", 1)) for part in query.split("&")
                ]
                # The header's signature is right for the whole query, the query's for itself.
                _, headers = self.service.build(method, path, pairs, signer=header_signer)
                answer = self.service.exchange(sigv4.head(method, f"{path}?{query}", headers), method)
                self.assertIn(answer.status, (400, 403, 405, 501), (method, kind, items, answer))
        self.assertEqual(self.get(self.name, "key"), b"kept")

    def test_two_authorizations_are_refused(self):
        _, headers = self.service.build("GET", self.path)
        good = next(value for name, value in headers if name == "authorization")
        rest = [entry for entry in headers if entry[0] != "authorization"]
        bad = good[:-4] + "0000"
        for pair in ((good, bad), (bad, good), (good, ""), ("", good), (good, "Basic YTpi"), (bad, bad)):
            sent = [*rest, *[("authorization", value) for value in pair]]
            answer = self.service.exchange(sigv4.head("GET", self.path, sent))
            self.assertIn(answer.status, (400, 403), (pair, answer))
            if all(pair):
                joined = [*rest, ("authorization", ", ".join(pair))]
                self.assertIn(self.service.exchange(sigv4.head("GET", self.path, joined)).status, (400, 403))

    def test_parameters_of_a_presigned_query_may_not_repeat(self):
        query = self.service.signer.presign("GET", self.path, self.service.host)
        for part in query.split("&"):
            name = part.partition("=")[0]
            # The very same once more says nothing else, and counts as one.
            for more in (f"{name}=", f"{name}=x", part + "0"):
                for sent in (f"{query}&{more}", f"{more}&{query}"):
                    raw = sigv4.head("GET", f"{self.path}?{sent}", [("host", self.service.host)])
                    answer = self.service.exchange(raw)
                    self.assertIn(answer.status, (400, 403), (sent, answer))

    def test_every_amazon_header_beside_a_presigned_query_must_be_signed(self):
        key = base64.b64encode(b"k" * 32).decode()
        for header in [
            ("x-amz-acl", "public-read"),
            ("x-amz-copy-source", f"/{self.name}/key"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-meta-a", "b"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-key", key),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'),
            ("x-amz-website-redirect-location", "http://example.com"),
            ("x-amz-checksum-sha256", base64.b64encode(hashlib.sha256(b"x").digest()).decode()),
            ("x-amz-bypass-governance-retention", "true"),
            ("x-amz-date", sigv4.stamp()),
            ("X-AMZ-ACL", "public-read"),
        ]:
            query = self.service.signer.presign("PUT", f"/{self.name}/new", self.service.host)
            sent = [("host", self.service.host), ("content-length", "1"), header]
            answer = self.service.exchange(sigv4.head("PUT", f"/{self.name}/new?{query}", sent) + b"x", "PUT")
            self.assertIn(answer.status, (400, 403), (header, answer))
            self.assert_absent("new")

    def test_a_form_and_another_signature_at_once(self):
        fields = self.signed(self.policy())
        broken = [(name, value if name != "x-amz-signature" else "0" * 64) for name, value in fields]
        body = form(broken, b"content")
        _, headers = self.service.build("POST", f"/{self.name}", body=body)
        mine = [(name, value) for name, value in headers if name.startswith("x-amz") or name == "authorization"]
        self.assert_refused(self.post(body, headers=mine), (400, 403))
        query = self.service.signer.presign("POST", f"/{self.name}", self.service.host)
        self.assert_refused(self.post(body, bucket=f"{self.name}?{query}"), (400, 403))
        # A form without a signature does not borrow that of the header.
        bare = form([("key", "up/key")], b"content")
        _, headers = self.service.build("POST", f"/{self.name}", body=bare, payload=UNSIGNED)
        mine = [(name, value) for name, value in headers if name.startswith("x-amz") or name == "authorization"]
        self.assert_refused(self.post(bare, headers=mine), (400, 403))
        self.assert_absent("up/key")

    def test_a_policy_signed_for_one_bucket_opens_no_other(self):
        other = self.bucket()
        fields = self.signed(self.policy())
        for more in ([], [("bucket", other)], [("bucket", self.name)]):
            answer = self.post(form([*more, *fields], b"content"), bucket=other)
            self.assert_refused(answer, (400, 403))
        self.assertEqual(self.keys(other), [])

    def test_a_form_is_nothing_but_a_form(self):
        """Its content type does not turn other requests into forms, or a form into another request."""
        fields = form(self.signed(self.policy(), key="up/key"), b"content")
        kind = ("content-type", f"multipart/form-data; boundary={BOUNDARY}")
        for method, target in (("PUT", f"/{self.name}/up/key"), ("POST", self.path), ("DELETE", self.path)):
            sent = [("host", self.service.host), ("content-length", str(len(fields))), kind]
            answer = self.service.exchange(sigv4.head(method, target, sent) + fields, method)
            self.assertIn(answer.status, (400, 403, 405, 501), (method, answer))
        self.assertEqual(self.keys(self.name), ["key"])


class Reach(AccountsCase):
    """Every operation on another account's bucket, its objects, versions and uploads."""

    def setUp(self):
        self.name = self.bucket("Enabled")
        self.version = self.put(self.name, "key", b"secret content")["VersionId"]
        self.upload = self.s3.create_multipart_upload(Bucket=self.name, Key="part")["UploadId"]
        self.s3.upload_part(Bucket=self.name, Key="part", UploadId=self.upload, PartNumber=1, Body=b"secret part")
        self.own = support.bucket_name("own")
        self.other.create_bucket(Bucket=self.own)

    def requests(self):
        """Every operation by its name in Sources: method, path, query, headers, body."""
        bucket, key, part = f"/{self.name}", f"/{self.name}/key", f"/{self.name}/part"
        place = [("x-amz-copy-source", f"/{self.name}/key")]
        upload = [("uploadId", self.upload)]
        settings = {
            "Versioning": ("versioning", "GP"), "Policy": ("policy", "GPD"), "Acl": ("acl", "GP"),
            "OwnershipControls": ("ownershipControls", "GPD"), "Cors": ("cors", "GPD"), "Tagging": ("tagging", "GPD"),
            "Encryption": ("encryption", "GPD"), "NotificationConfiguration": ("notification", "GP"),
            "Logging": ("logging", "GP"), "RequestPayment": ("requestPayment", "GP"), "Website": ("website", "GPD"),
        }
        methods = {"G": ("Get", "GET"), "P": ("Put", "PUT"), "D": ("Delete", "DELETE")}
        for name, (parameter, letters) in settings.items():
            for letter in letters:
                verb, method = methods[letter]
                yield f"{verb}Bucket{name}", method, bucket, [(parameter, "")], [], b"<X/>" if letter == "P" else b""
        for letter in "GPD":
            verb, method = methods[letter]
            yield f"{verb}PublicAccessBlock", method, bucket, [("publicAccessBlock", "")], [], b""
            yield f"{verb}ObjectTagging", method, key, [("tagging", "")], [], b"<Tagging><TagSet/></Tagging>"
        for letter in "GP":
            verb, method = methods[letter]
            yield f"{verb}ObjectLockConfiguration", method, bucket, [("object-lock", "")], [], b""
            yield f"{verb}ObjectAcl", method, key, [("acl", "")], [], b""
            yield f"{verb}ObjectRetention", method, key, [("retention", "")], [], b""
            yield f"{verb}ObjectLegalHold", method, key, [("legal-hold", "")], [], b""
            yield f"{verb}BucketLifecycleConfiguration", method, bucket, [("lifecycle", "")], [], b""
        yield "DeleteBucketLifecycle", "DELETE", bucket, [("lifecycle", "")], [], b""
        yield "GetBucketLocation", "GET", bucket, [("location", "")], [], b""
        yield "GetBucketPolicyStatus", "GET", bucket, [("policyStatus", "")], [], b""
        yield "DeleteBucket", "DELETE", bucket, [], [], b""
        yield "HeadBucket", "HEAD", bucket, [], [], b""
        yield "CreateBucket", "PUT", bucket, [], [], b""
        yield "ListObjects", "GET", bucket, [], [], b""
        yield "ListObjectsV2", "GET", bucket, [("list-type", "2")], [], b""
        yield "ListObjectVersions", "GET", bucket, [("versions", "")], [], b""
        yield "ListMultipartUploads", "GET", bucket, [("uploads", "")], [], b""
        listed = f"<Delete><Object><Key>key</Key><VersionId>{self.version}</VersionId></Object></Delete>".encode()
        digest = [("content-md5", base64.b64encode(hashlib.md5(listed).digest()).decode())]
        yield "DeleteObjects", "POST", bucket, [("delete", "")], digest, listed
        for items in ([], [("versionId", self.version)]):
            yield "GetObject", "GET", key, items, [], b""
            yield "HeadObject", "HEAD", key, items, [], b""
            yield "DeleteObject", "DELETE", key, items, [], b""
        yield "PutObject", "PUT", key, [], [], b"theirs"
        yield "CopyObject", "PUT", key, [], place, b""
        yield "CopyObject", "PUT", f"/{self.own}/stolen", [], place, b""
        yield "CopyObject", "PUT", f"/{self.own}/stolen", [], [
            ("x-amz-copy-source", f"/{self.name}/key?versionId={self.version}")
        ], b""
        yield "GetObjectAttributes", "GET", key, [("attributes", "")], [("x-amz-object-attributes", "ETag")], b""
        yield "CreateMultipartUpload", "POST", key, [("uploads", "")], [], b""
        yield "UploadPart", "PUT", part, [("partNumber", "1"), *upload], [], b"theirs"
        yield "UploadPartCopy", "PUT", part, [("partNumber", "1"), *upload], place, b""
        done = b'<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>'
        yield "CompleteMultipartUpload", "POST", part, upload, [], done
        yield "AbortMultipartUpload", "DELETE", part, upload, [], b""
        yield "ListParts", "GET", part, upload, [], b""
        theirs = self.other.create_multipart_upload(Bucket=self.own, Key="theirs")["UploadId"]
        copied = f"/{self.own}/theirs"
        yield "UploadPartCopy", "PUT", copied, [("partNumber", "1"), ("uploadId", theirs)], place, b""

    def state(self):
        """All that the owner sees of the bucket."""
        calls = [name for name in dir(self.s3) if name.startswith("get_bucket_")]
        seen = {}
        for name in [*calls, "get_public_access_block", "get_object_lock_configuration"]:
            try:
                seen[name] = getattr(self.s3, name)(Bucket=self.name)
                seen[name].pop("ResponseMetadata")
            except Exception as error:  # noqa: BLE001: what is not set is told as an error, the same before and after
                seen[name] = re.sub(r"\(.*", "", str(error))
        seen["versions"] = self.s3.list_object_versions(Bucket=self.name).get("Versions")
        seen["parts"] = [
            part["ETag"]
            for part in self.s3.list_parts(Bucket=self.name, Key="part", UploadId=self.upload).get("Parts", [])
        ]
        seen["content"] = self.get(self.name, "key")
        return seen

    def test_no_operation_reaches_another_accounts_bucket(self):
        before = self.state()
        requests = list(self.requests())
        named = set(re.findall(r'case \w+ = "(\w+)"', OPERATIONS.read_text()))
        # What needs no bucket of anybody, or is asked in its own way: ListBuckets below, forms, preflights.
        missing = named - {request[0] for request in requests} - {"ListBuckets", "PostObject", "OptionsPreflight"}
        self.assertEqual(missing, set(), "operations that this matrix does not ask for")
        second = sigv4.Signer(self.second.access_key, self.second.secret_key)
        for name, method, path, items, headers, body in requests:
            raws = {"signed": self.service.build(method, path, items, headers, body, signer=second)[0] + body}
            query = second.presign(method, path, self.service.host, items, headers=headers)
            sent = [("host", self.service.host), *headers, ("content-length", str(len(body)))]
            raws["presigned"] = sigv4.head(method, f"{path}?{query}", sent) + body
            query = sigv4.encode_query(items)
            raws["anonymous"] = sigv4.head(method, path + (f"?{query}" if query else ""), sent) + body
            for way, raw in raws.items():
                answer = self.service.exchange(raw, method)
                allowed = (403, 409) if name == "CreateBucket" else (403,)
                self.assertIn(answer.status, allowed, (name, way, path, items, answer))
                self.assertNotIn(b"secret", answer.body, (name, way))
        self.assertEqual(self.state(), before)
        self.assertEqual(self.other.list_objects_v2(Bucket=self.own).get("Contents", []), [])
        self.assertNotIn(self.name, [bucket["Name"] for bucket in self.other.list_buckets()["Buckets"]])

    def test_names_of_one_bucket_mean_nothing_in_another(self):
        """Version and upload identifiers, used by their owner on the wrong bucket or key."""
        other = self.bucket("Enabled")
        self.put(other, "key", b"other")
        for key, bucket in (("key", other), ("part", self.name)):
            self.refuse(
                ("NoSuchVersion", "NoSuchKey"), self.s3.get_object, Bucket=bucket, Key=key, VersionId=self.version
            )
        self.s3.delete_object(Bucket=other, Key="key", VersionId=self.version)
        self.assertEqual(self.get(self.name, "key", VersionId=self.version), b"secret content")
        for bucket, key in ((other, "part"), (self.name, "key")):
            self.refuse("NoSuchUpload", self.s3.list_parts, Bucket=bucket, Key=key, UploadId=self.upload)
            self.refuse("NoSuchUpload", self.s3.abort_multipart_upload, Bucket=bucket, Key=key, UploadId=self.upload)

    def test_a_multi_delete_tells_nothing_of_what_is_not_there(self):
        names = ("key", "not there")
        listed = "".join(f"<Object><Key>{key}</Key></Object>" for key in names)
        body = f"<Delete>{listed}</Delete>".encode()
        second = sigv4.Signer(self.second.access_key, self.second.secret_key)
        digest = [("content-md5", base64.b64encode(hashlib.md5(body).digest()).decode())]
        answer = self.service.request("POST", f"/{self.name}", [("delete", "")], digest, body, signer=second)
        if answer.status == 200:
            self.assertEqual(answer.body.count(b"AccessDenied"), len(names), answer)
        else:
            self.assertEqual(answer.status, 403, answer)
        self.assertEqual(self.get(self.name, "key"), b"secret content")


class Files(OwnServerCase):
    """What the server makes on the disk, and what it does with what others put there."""

    def test_keys_never_become_names_of_files(self):
        mark = "marker0815"
        name = self.bucket("Enabled")
        keys = [
            f"../../../{mark}", f"/{mark}", f"a/../../{mark}", f"..\\..\\{mark}", f"{mark}\x01", f"~/{mark}", f"$({mark})",
            f"{mark}/" * 40, f"segments/{mark}", f"{mark}.sqlite", "." * 200 + mark,
        ]
        for key in keys:
            self.put(name, key, key.encode())
            self.s3.put_object_tagging(Bucket=name, Key=key, Tagging={"TagSet": [{"Key": mark, "Value": "../x"}]})
        for key in keys:
            self.assertEqual(self.get(name, key), key.encode())
        for place in (self.server.directory, pathlib.Path("/tmp"), pathlib.Path.home(), pathlib.Path("/")):
            found = place.rglob("*") if place == self.server.directory else place.iterdir()
            self.assertEqual([path for path in found if mark in path.name], [])

    def test_files_are_for_the_owner_alone(self):
        """Also with an open umask: else anybody on the machine could read what clients need a key for."""
        self.server.stop()
        store = self.server.directory / "open"
        before = os.umask(0)
        try:
            self.begin(store=store)
        finally:
            os.umask(before)
        name = self.bucket()
        self.put(name, "key", b"x" * 300_000)
        self.server.stop()
        found = []
        for path in [store, *store.rglob("*")]:
            mode = stat.S_IMODE(path.lstat().st_mode)
            # The catalog's files are SQLite's; their directory keeps others out.
            if mode & 0o077 and path.parent.name != "catalog":
                found.append(f"{mode:o} {path.relative_to(store.parent)}")
        self.assertEqual(found, [])

    def test_links_in_volumes_lead_nowhere(self):
        """Whoever can write into a volume's directory does not make the server write, or read, somewhere else."""
        name = self.bucket()
        content = b"content" * 1000
        self.put(name, "key", content)
        self.server.stop()
        outside = self.server.directory / "outside"
        outside.mkdir()
        target = outside / "precious"
        volume = self.server.volumes[1]
        log = sorted((volume / "segments").glob("*.log"))[-1]
        number = int(log.stem) + 1
        plants = [
            volume / "segments" / "spare", volume / "segments" / f"{number:08}.log", volume / "segments" / f"{number + 1:08}.bulk",
            volume / "volume.json.new", volume / "volume.json.tmp", volume / "lock", log, volume / "volume.json",
        ]
        for path in plants:
            with self.subTest(path=path.name):
                target.write_bytes(b"precious")
                kept = None
                if path.exists():
                    kept = path.with_suffix(".kept")
                    path.rename(kept)
                path.symlink_to(target)
                self.server.start()
                self.put(name, f"new-{path.name}", content)
                self.assertEqual(self.get(name, "key"), content)
                self.server.stop()
                self.assertEqual(target.read_bytes(), b"precious")
                self.assertEqual(sorted(os.listdir(outside)), ["precious"])
                if path.is_symlink():
                    path.unlink()
                if kept and not path.exists():
                    kept.rename(path)
                elif kept:
                    kept.unlink()
        self.server.run("verify", "--json")
        self.server.start()
        self.assertEqual(self.get(name, "key"), content)

    def test_directories_of_a_volume_are_no_links(self):
        """A volume whose `segments` leads somewhere else is refused; what damage is copied to stays in the volume."""
        name = self.bucket()
        content = os.urandom(300_000)
        self.put(name, "key", content)
        self.server.stop()
        volume = self.server.volumes[1]
        outside = self.server.directory / "elsewhere"
        shutil.move(volume / "segments", outside)
        before = {path.name: path.read_bytes() for path in outside.iterdir()}
        (volume / "segments").symlink_to(outside)
        self.server.start()
        self.put(name, "beside", content)
        self.assertEqual(self.get(name, "key"), content)
        self.server.stop()
        self.assertEqual({path.name: path.read_bytes() for path in outside.iterdir()}, before)
        status = json.loads(self.server.run("status", "--json"))
        self.assertNotEqual(status["volumes"][1]["state"], "healthy")
        (volume / "segments").unlink()
        shutil.move(outside, volume / "segments")
        # Damage, found by a scrub, is copied into the quarantine.
        outside.mkdir()
        if (volume / "quarantine").exists():
            shutil.rmtree(volume / "quarantine")
        (volume / "quarantine").symlink_to(outside)
        for path in (volume / "segments").iterdir():
            place = path.read_bytes().find(content[1000:1064])
            if place >= 0:
                with open(path, "r+b") as file:
                    file.seek(place)
                    file.write(bytes([content[1000] ^ 1]))
        self.server.run("scrub", "start", "--wait", "--json", codes=(0, 5, 14))
        self.server.run("verify", "--json", codes=(0, 5, 6))
        self.assertEqual(list(outside.iterdir()), [])
        (volume / "quarantine").unlink()
        self.server.run("verify", "--json")
        self.server.start()
        self.assertEqual(self.get(name, "key"), content)

    def test_links_in_the_stores_directory_are_not_followed_for_writing(self):
        self.server.stop()
        outside = self.server.directory / "precious"
        for name in ("lock", "admin.sock"):
            with self.subTest(name=name):
                outside.write_bytes(b"precious")
                path = self.server.store / name
                path.unlink(missing_ok=True)
                path.symlink_to(outside)
                try:
                    self.server.start()
                    self.server.stop()
                except AssertionError:
                    # It may refuse to start; it may not touch the file.
                    self.server.process.poll()
                self.assertEqual(outside.read_bytes(), b"precious")
                if path.is_symlink():
                    path.unlink()


class Secrets(OwnServerCase):
    """Known secrets, looked for in everything that the server and the program say."""

    def test_no_secret_is_told_to_anybody(self):
        self.server.stop()
        log = self.server.directory / "access.log"
        settings = self.server.directory / "settings.yaml"
        settings.write_text("log: {level: trace}\nplainClientKeys: always\n")
        self.server.options = ["--access-log", str(log), "--config", str(settings)]
        second = support.Account(self.server, "second")
        self.server.start()
        client_key = b"0123456789abcdefghijklmnopqrstuv"
        encoded = base64.b64encode(client_key).decode()
        master = re.findall(r"(?m)^key \S+ (\S+)$", (self.server.store / "master.key").read_text())
        self.assertTrue(master)
        name = self.bucket("Enabled")
        answers = []

        def ask(method, path, items=(), headers=(), body=b"", **options):
            answer = self.service.request(method, path, items, headers, body, **options)
            answers.append(repr(answer.headers).encode() + answer.body)
            return answer

        customer = [
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption-customer-key", encoded),
            ("x-amz-server-side-encryption-customer-key-md5", base64.b64encode(hashlib.md5(client_key).digest()).decode()),
        ]
        self.assertEqual(ask("PUT", f"/{name}/key", headers=customer, body=b"x").status, 200)
        ask("GET", f"/{name}/key", headers=customer)
        ask("GET", f"/{name}/key")
        ask("GET", f"/{name}/key", headers=[*customer[:1], ("x-amz-server-side-encryption-customer-key", encoded + "A"), *customer[2:]])
        ask("PUT", f"/{name}/sse", headers=[("x-amz-server-side-encryption", "AES256")], body=b"x")
        wrong = sigv4.Signer(self.server.access_key, self.server.secret_key + "x")
        signatures = []
        for signer in (self.service.signer, wrong, sigv4.Signer(second.access_key, second.secret_key)):
            for path in ("/", f"/{name}", f"/{name}/key"):
                raw, headers = self.service.build("GET", path, signer=signer)
                signatures.append(sigv4.signature_in(headers))
                answers.append(repr(self.service.exchange(raw).body).encode())
                query = signer.presign("GET", path, self.service.host)
                signatures.append(query.rpartition("=")[2])
                answers.append(self.service.exchange(sigv4.head("GET", f"{path}?{query}", [("host", self.service.host)])).body)
        for items in ([("nonsense", "")], [("acl", "")], [("versionId", "x")], [("uploadId", "x")]):
            for method in ("GET", "PUT", "POST", "DELETE"):
                ask(method, f"/{name}/key", items, customer, b"<x>" if method != "GET" else b"")
        with self.service.wire() as wire:
            wire.send_lenient(b"NONSENSE " + self.server.secret_key.encode() + b"\r\n\r\n")
            try:
                wire.receive()
            except sigv4.Closed:
                pass
        pages = [self.server.operation(path)[1].encode() for path in ("/livez", "/readyz", "/metrics", "/admin/v1", "/debug", "/")]
        status = json.loads(self.server.run("status", "--json"))
        listed = self.server.run("key", "ls", "--json") + self.server.run("account", "ls", "--json")
        process = pathlib.Path(f"/proc/{self.server.process.pid}")
        arguments = (process / "cmdline").read_bytes()
        self.server.stop()
        told = {
            "log": self.server.log.read_bytes(), "access log": log.read_bytes(), "answers": b"\n".join(answers[3:]),
            "pages": b"\n".join(pages), "status": json.dumps(status).encode(), "lists": listed, "arguments": arguments,
        }
        self.assertIn(name.encode(), told["access log"])
        secrets = {
            "root secret": self.server.secret_key.encode(), "account's secret": second.secret_key.encode(),
            "client's key": client_key, "client's key, encoded": encoded.encode(),
            "client's key, hex": client_key.hex().encode(), "master key": master[0].encode(),
        }
        # The line of nonsense was ours; no answer and no log repeats it.
        for place, text in told.items():
            for what, secret in secrets.items():
                self.assertNotIn(secret, text, f"{what} in {place}")
        # A signature that is still good is as good as a password until it ends.
        for place in ("log", "access log", "pages"):
            for signature in signatures:
                self.assertNotIn(signature.encode(), told[place], f"a signature in {place}")
        for path in self.server.store.rglob("*"):
            if path.is_file() and path.name != "master.key":
                content = path.read_bytes()
                for what, secret in secrets.items():
                    self.assertNotIn(secret, content, f"{what} in {path}")

    def test_a_wrong_configuration_does_not_repeat_its_secrets(self):
        self.server.stop()
        settings = self.server.directory / "settings.yaml"
        secret = "verysecretvalue0123456789verysecretvalue"
        for text in (
            f"root: {{accessKey: A, secretKey: {secret}}}\n",
            f"root: {{accessKey: HOLDFASTROOTKEY00001, secretKey: [{secret}]}}\n",
            f"root:\n  secret: {secret}\n",
            f"root: {secret}\n",
            f"root: {{secretKey: {secret}\n",
        ):
            settings.write_text(text)
            environment = {key: value for key, value in self.server.environment.items() if "ROOT" not in key}
            done = subprocess.run(
                [support.PROGRAM, "serve", "--store", str(self.server.store), "--config", str(settings)],
                env=environment, capture_output=True, timeout=support.DEADLINE, check=False,
            )
            self.assertNotEqual(done.returncode, 0, text)
            self.assertNotIn(secret.encode(), done.stdout + done.stderr, text)


class Exhaustion(OwnServerCase):
    def test_a_server_without_free_descriptors_goes_on(self):
        """Far more connections than it may have files: it refuses some, and serves when they are gone."""
        self.server.stop()
        self.server.start()
        pid = self.server.process.pid
        soft = self.server.open_files() + 24
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        name = None
        held = []
        try:
            for _ in range(200):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(self.server.address)
                held.append(one)
            support.poll(lambda: self.server.open_files() >= soft - 2, "its descriptors are used up")
        finally:
            for one in held:
                one.close()
        support.poll(lambda: self.server.open_files() < soft - 10, "descriptors are free again")
        self.assertIsNone(self.server.process.poll(), self.server.log_text())
        name = self.bucket()
        self.put(name, "key", b"x" * 300_000)
        self.assertEqual(len(self.get(name, "key")), 300_000)

    def test_abandoned_uploads_and_listings_leave_no_descriptor_and_no_memory(self):
        name = self.bucket()
        self.put(name, "big", b"x" * (4 << 20))
        before, memory = self.server.open_files(), self.server.resident_bytes()
        for number in range(150):
            raw, _ = self.service.build("PUT", f"/{name}/never", body=b"y" * 100_000)
            with self.service.wire() as wire:
                wire.send_lenient(raw + b"y" * 50_000)
            raw, _ = self.service.build("GET", f"/{name}/big")
            with self.service.wire() as wire:
                wire.send_lenient(raw)
        support.poll(lambda: self.server.open_files() <= before + 4, "descriptors are given back")
        self.assertLess(self.server.resident_bytes() - memory, 150 << 20)
        self.assertEqual(self.keys(name), ["big"])


if __name__ == "__main__":
    unittest.main()

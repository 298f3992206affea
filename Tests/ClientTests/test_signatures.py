"""Signatures: every operation by every way of signing, wrong ones refused, nothing replayed elsewhere."""

import base64
import hashlib
import hmac
import time

import sigv4
from sigv4 import STREAMING, STREAMING_TRAILER, UNSIGNED, UNSIGNED_TRAILER
from support import RawCase, sha256

BUCKET_SETTINGS = [
    "acl",
    "cors",
    "encryption",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "requestPayment",
    "tagging",
    "versioning",
    "versions",
    "uploads",
    "website",
    "accelerate",
    "replication",
]
OBJECT_SETTINGS = ["acl", "attributes", "legal-hold", "retention", "tagging", "torrent"]
PRESENT = [(method, kind, []) for method in ("GET", "PUT", "HEAD", "DELETE") for kind in ("bucket", "object")]


def operations():
    """Method, kind of path and query of every operation there is, and of some that there are not."""
    yield "GET", "", []
    for method in ("GET", "PUT", "HEAD", "DELETE"):
        yield method, "bucket", []
        yield method, "object", []
        for name in BUCKET_SETTINGS:
            yield method, "bucket", [(name, "")]
        for name in OBJECT_SETTINGS:
            yield method, "object", [(name, "")]
    yield "GET", "bucket", [("list-type", "2")]
    yield "POST", "bucket", [("delete", "")]
    yield "POST", "object", [("uploads", "")]
    yield "POST", "object", [("uploadId", "x")]
    yield "POST", "object", [("select", ""), ("select-type", "2")]
    yield "POST", "object", [("restore", "")]
    yield "PUT", "object", [("partNumber", "1"), ("uploadId", "x")]
    yield "GET", "object", [("uploadId", "x")]
    yield "DELETE", "object", [("uploadId", "x")]
    yield "GET", "object", [("versionId", "null")]
    yield "DELETE", "object", [("versionId", "null")]


class Matrix(RawCase):
    def setUp(self):
        super().setUp()
        self.put(self.name, "key", b"kept")

    def path_of(self, kind):
        return {"": "/", "bucket": f"/{self.name}", "object": self.path}[kind]

    def wrong_requests(self, method, path, items, signer):
        """The request, wrongly signed in every way."""
        service = sigv4.Service(self.service.address, signer)
        body = b"body" if method in ("PUT", "POST") else b""
        for mode in (sha256(body), UNSIGNED):
            yield mode, service.build(method, path, items, body=body, payload=mode)[0] + body
        query = signer.presign(method, path, service.host, items)
        yield "presigned", sigv4.head(
            method, f"{path}?{query}", [("host", service.host), ("content-length", str(len(body)))]
        ) + body
        if method in ("PUT", "POST"):
            for mode in (STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER):
                trailers = [("x-amz-checksum-crc32", sigv4.crc32(body))] if "TRAILER" in mode else None
                chunks = signer.chunks([body], sigv4.stamp(), "0" * 64, trailers, "UNSIGNED" not in mode)
                headers = [("x-amz-decoded-content-length", "4"), ("content-encoding", "aws-chunked")]
                headers += [("x-amz-trailer", "x-amz-checksum-crc32")] if trailers else []
                headers.append(("content-length", str(len(chunks))))
                yield mode, service.build(method, path, items, headers, None, payload=mode)[0] + chunks

    def test_a_wrong_secret_is_refused_by_every_operation_in_every_way(self):
        wrong = sigv4.Signer(self.server.access_key, self.server.secret_key + "x", self.service.signer.region)
        unknown = sigv4.Signer("AKIAUNKNOWNKEY000000", "x" * 40, self.service.signer.region)
        for method, kind, items in operations():
            path = self.path_of(kind)
            for signer, code in ((wrong, "SignatureDoesNotMatch"), (unknown, "InvalidAccessKeyId")):
                for way, raw in self.wrong_requests(method, path, items, signer):
                    answer = self.service.exchange(raw, method)
                    label = f"{method} {kind} {items} {way} {code}: {answer}"
                    # What is not there at all may be told before anybody is asked who he is.
                    self.assertIn(answer.status, (403, 405, 501), label)
                    if answer.status == 403 and method != "HEAD":
                        self.assertEqual(answer.code, code, label)
                    if (method, kind, items) in PRESENT:
                        self.assertEqual(answer.status, 403, label)
        self.assertEqual(self.get(self.name, "key"), b"kept")
        self.assert_alive()

    def test_strangers_are_refused_by_every_operation(self):
        for method, kind, items in operations():
            if (method, kind, items) == ("POST", "bucket", []):
                continue
            query = sigv4.encode_query(items)
            target = self.path_of(kind) + (f"?{query}" if query else "")
            answer = self.service.exchange(
                sigv4.head(method, target, [("host", self.service.host), ("content-length", "0")]), method
            )
            self.assertIn(answer.status, (403, 405, 501), (method, target, answer))
        self.assertEqual(self.get(self.name, "key"), b"kept")


class Headers(RawCase):
    def setUp(self):
        super().setUp()
        self.put(self.name, "key", b"kept")

    def variant(self, change, method="GET", body=b"", **options):
        """Sends a well signed request whose headers were changed afterwards."""
        _, headers = self.service.build(method, self.path, body=body, **options)
        headers = change(dict(headers))
        return self.service.exchange(sigv4.head(method, self.path, list(headers.items())) + body, method)

    def authorization(self, old, new):
        def change(headers):
            self.assertIn(old, headers["authorization"])
            return {**headers, "authorization": headers["authorization"].replace(old, new, 1)}

        return self.variant(change)

    def test_a_right_one_passes_in_any_spacing(self):
        self.assertEqual(self.variant(lambda headers: headers).status, 200)
        self.assertEqual(self.authorization(", ", ",").status, 200)
        self.assertEqual(self.authorization(", ", ",   ").status, 200)

    def test_changed_parts_are_refused(self):
        key = self.service.signer.access_key
        for old, new in [
            ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
            ("Credential=", "Credentials="),
            (f"{key}/", f"{key}"),
            ("aws4_request", "aws4"),
            ("/s3/", "/iam/"),
            ("us-east-1", "us-east-2"),
            ("SignedHeaders=", "SignedHeader="),
            ("Signature=", "Signature=0"),
            ("Signature=", "Sig="),
            ("Signature=", "Signature=" + "0" * 10000),
            ("host;", ""),
            ("SignedHeaders=", "SignedHeaders=;"),
            ("Signature=", "Signature=é"),
            (key, ""),
            (key, "../../etc"),
            (key, "x" * 5000),
        ]:
            with self.subTest(change=new[:40]):
                self.assert_refused(self.authorization(old, new), (400, 403))

    def test_nonsense_authorizations_are_refused(self):
        for value in (
            "",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 ",
            "Basic cm9vdDpyb290",
            "Bearer x",
            "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
            "AWS4-ECDSA-P256-SHA256 Credential=x/y",
            "AWS4-HMAC-SHA256 " + "a=b," * 3000,
            "AWS4-HMAC-SHA256 Credential=" + "/" * 4000,
        ):
            with self.subTest(value=value[:50]):
                answer = self.variant(lambda headers: {**headers, "authorization": value})
                self.assert_refused(answer, (400, 403))

    def test_the_old_signature_is_refused(self):
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        text = f"GET\n\n\n{date}\n{self.path}"
        secret = self.service.signer.secret.encode()
        value = base64.b64encode(hmac.new(secret, text.encode(), hashlib.sha1).digest()).decode()
        headers = [
            ("host", self.service.host),
            ("date", date),
            ("authorization", f"AWS {self.service.signer.access_key}:{value}"),
        ]
        answer = self.service.exchange(sigv4.head("GET", self.path, headers))
        self.assert_refused(answer, (400, 403), ("InvalidRequest", "AccessDenied", "InvalidArgument", "NotImplemented"))

    def test_the_clock_may_be_fifteen_minutes_off(self):
        for skew, status in [(-800, 200), (800, 200), (-1000, 403), (1000, 403), (-86400 * 365, 403), (86400, 403)]:
            answer = self.send("GET", self.path, date=sigv4.stamp(skew=skew))
            self.assertEqual(answer.status, status, skew)
            if status == 403:
                self.assertEqual(answer.code, "RequestTimeTooSkewed")

    def test_a_date_is_needed(self):
        answer = self.variant(lambda headers: {n: v for n, v in headers.items() if n != "x-amz-date"})
        self.assert_refused(answer, (400, 403))
        for date in (
            "",
            "nonsense",
            "20200101",
            "20201301T000000Z",
            "99999999T999999Z",
            "-0000101T000000Z",
            "20200101T000000",
        ):
            answer = self.variant(lambda headers: {**headers, "x-amz-date": date})
            self.assert_refused(answer, (400, 403))

    def test_the_plain_date_will_do(self):
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        raw, _ = self.service.build("GET", self.path, headers=[("date", date)])
        answer = self.service.exchange(raw)
        self.assertIn(answer.status, (200, 403))
        old = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() - 7200))
        raw, _ = self.service.build("GET", self.path, headers=[("date", old)])
        self.assert_refused(self.service.exchange(raw), (400, 403))

    def test_the_day_of_the_key_is_the_day_of_the_date(self):
        yesterday = sigv4.stamp(skew=-86400)[:8]
        self.assert_refused(self.authorization(sigv4.stamp()[:8] + "/", yesterday + "/"), (400, 403))

    def test_host_and_amazon_headers_must_be_signed(self):
        self.assert_refused(self.send("GET", self.path, unsigned=("host",)), (400, 403))
        for name in ("x-amz-acl", "x-amz-meta-a", "x-amz-copy-source", "x-amz-tagging"):
            answer = self.send("PUT", f"/{self.name}/new", headers=[(name, "x")], body=b"x", unsigned=(name,))
            self.assert_refused(answer, 403)
        self.assert_absent("new")

    def test_a_signed_header_that_is_missing_is_refused(self):
        answer = self.variant(lambda headers: {n: v for n, v in headers.items() if n != "x-amz-content-sha256"})
        self.assert_refused(answer, (400, 403))

    def test_a_signature_is_good_for_its_request_only(self):
        raw, headers = self.service.build("GET", self.path)
        for method, target in [
            ("HEAD", self.path),
            ("DELETE", self.path),
            ("GET", f"/{self.name}/other"),
            ("GET", self.path + "?versionId=null"),
            ("GET", f"/{self.name}"),
            ("GET", self.path + "/"),
            ("GET", "/" + self.path),
            ("GET", self.path.replace("key", "%6b%65%79%00")),
        ]:
            answer = self.service.exchange(sigv4.head(method, target, headers), method)
            self.assertIn(answer.status, (400, 403, 405), (method, target))
        self.assertEqual(self.get(self.name, "key"), b"kept")

    def test_credentials_in_header_and_query_at_once_are_refused(self):
        query = self.service.signer.presign("GET", self.path, self.service.host)
        _, headers = self.service.build("GET", self.path)
        self.assert_refused(
            self.service.exchange(sigv4.head("GET", f"{self.path}?{query}", headers)),
            400,
            ("InvalidArgument", "InvalidRequest"),
        )

    def test_a_changed_body_is_refused(self):
        raw, _ = self.service.build("PUT", f"/{self.name}/new", body=b"signed")
        self.assert_refused(self.service.exchange(raw + b"forged", "PUT"), 400, "XAmzContentSHA256Mismatch")
        self.assert_absent("new")

    def test_payload_hashes_that_are_none_are_refused(self):
        for value in ("", "nonsense", "0" * 63, "0" * 65, "STREAMING-NONSENSE", "UNSIGNED", "x" * 64):
            answer = self.send("PUT", f"/{self.name}/new", body=b"x", payload=value)
            self.assert_refused(answer, (400, 403, 501))
        self.assert_absent("new")

    def test_headers_that_repeat_are_joined_as_signed(self):
        raw, _ = self.service.build(
            "PUT", f"/{self.name}/new", headers=[("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")], body=b"x"
        )
        answer = self.service.exchange(raw + b"x", "PUT")
        self.assertIn(answer.status, (200, 400))
        if answer.status == 200:
            self.assertIn(self.s3.head_object(Bucket=self.name, Key="new")["Metadata"]["a"].replace(" ", ""), "1,2")

    def test_values_are_trimmed_and_their_spaces_folded(self):
        raw, _ = self.service.build(
            "PUT", f"/{self.name}/new", headers=[("x-amz-meta-a", "  two   words  ")], body=b"x"
        )
        self.assertEqual(self.service.exchange(raw + b"x", "PUT").status, 200)

    def test_queries_are_signed_in_their_order_and_encoding(self):
        for items in (
            [("prefix", "a b+c/é"), ("delimiter", "/")],
            [("prefix", ""), ("max-keys", "1")],
            [("prefix", "%2F~*'()")],
            [("list-type", "2"), ("fetch-owner", "true"), ("prefix", "=&")],
        ):
            answer = self.send("GET", f"/{self.name}", items)
            self.assertEqual(answer.status, 200, items)
            reversed_query = "&".join(sigv4.encode_query(items).split("&")[::-1])
            answer = self.send("GET", f"/{self.name}", items, sent_query=reversed_query)
            self.assertEqual(answer.status, 200, items)
        answer = self.send("GET", f"/{self.name}", [("versioning", "")], sent_query="versioning")
        self.assertEqual(answer.status, 200)

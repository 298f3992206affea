"""Presigned URLs: what they allow, how long, and nothing else."""

import urllib.error
import urllib.request

import sigv4
from support import RawCase


class Presigned(RawCase):
    def url(self, method="GET", path=None, items=(), **options):
        path = path or self.path
        query = self.service.signer.presign(method, path, self.service.host, items, **options)
        return f"{path}?{query}"

    def open(self, target, method="GET", body=b"", headers=()):
        sent = [("host", self.service.host), ("content-length", str(len(body))), *headers]
        return self.service.exchange(sigv4.head(method, target, sent) + body, method)

    def test_a_url_reads_and_writes(self):
        answer = self.open(self.url("PUT"), "PUT", b"by url")
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(self.open(self.url()).body, b"by url")
        self.assertEqual(self.open(self.url("HEAD"), "HEAD").header("content-length"), "6")
        self.assertEqual(self.open(self.url("DELETE"), "DELETE").status, 204)
        self.assertEqual(self.open(self.url()).status, 404)

    def test_boto3_makes_the_same(self):
        # Without being told so, boto3 signs URLs for endpoints of one's own in the old way, which is refused.
        signing = self.server.client(signature_version="s3v4")
        self.put(self.name, "a key+ü", b"x")
        url = signing.generate_presigned_url("get_object", {"Bucket": self.name, "Key": "a key+ü"}, ExpiresIn=60)
        with urllib.request.urlopen(url) as answer:
            self.assertEqual(answer.read(), b"x")
        url = signing.generate_presigned_url("put_object", {"Bucket": self.name, "Key": "p", "ContentType": "text/x"})
        request = urllib.request.Request(url, b"body", {"Content-Type": "text/x"}, method="PUT")
        with urllib.request.urlopen(request) as answer:
            self.assertEqual(answer.status, 200)
        request = urllib.request.Request(url, b"body", {"Content-Type": "text/y"}, method="PUT")
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        self.assertEqual(caught.exception.code, 403)

    def test_it_is_good_for_its_request_only(self):
        self.put(self.name, "key", b"x")
        self.put(self.name, "other", b"x")
        url = self.url()
        self.assert_refused(self.open(url, "DELETE"), 403, "SignatureDoesNotMatch")
        self.assert_refused(self.open(url, "PUT", b"y"), 403, "SignatureDoesNotMatch")
        self.assert_refused(self.open(url.replace("/key?", "/other?")), 403, "SignatureDoesNotMatch")
        self.assert_refused(self.open(url + "&versionId=null"), 403, "SignatureDoesNotMatch")
        self.assert_refused(self.open(url.replace("Expires=600", "Expires=700")), 403, "SignatureDoesNotMatch")
        self.assert_refused(self.open(url[:-1] + ("0" if url[-1] != "0" else "1")), 403, "SignatureDoesNotMatch")
        self.assertEqual(self.get(self.name, "key"), b"x")

    def test_it_ends(self):
        self.put(self.name, "key", b"x")
        answer = self.open(self.url(date=sigv4.stamp(skew=-3600), expires=60))
        self.assert_refused(answer, 403, "AccessDenied")
        self.assertEqual(self.open(self.url(date=sigv4.stamp(skew=-3600), expires=7200)).status, 200)

    def test_one_from_the_future_is_refused(self):
        self.put(self.name, "key", b"x")
        self.assert_refused(
            self.open(self.url(date=sigv4.stamp(skew=3600))), 403, ("AccessDenied", "RequestTimeTooSkewed")
        )

    def test_a_week_is_the_longest(self):
        self.put(self.name, "key", b"x")
        self.assertEqual(self.open(self.url(expires=604800)).status, 200)
        for expires in (604801, 0, -1, "x", "", 10**30):
            answer = self.open(self.url(expires=expires))
            self.assert_refused(answer, (400, 403), ("AuthorizationQueryParametersError", "AccessDenied"))

    def test_each_part_of_it_is_needed(self):
        self.put(self.name, "key", b"x")
        path, _, query = self.url().partition("?")
        parts = query.split("&")
        for left_out in parts:
            rest = "&".join(part for part in parts if part != left_out)
            with self.subTest(left_out=left_out.split("=")[0]):
                self.assert_refused(self.open(f"{path}?{rest}"), (400, 403))

    def test_broken_parts_are_refused(self):
        self.put(self.name, "key", b"x")
        url = self.url()
        access = self.service.signer.access_key
        for old, new in [
            ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
            (f"Credential={access}", "Credential="),
            ("aws4_request", "aws5_request"),
            ("us-east-1", "eu-west-9"),
            ("%2Fs3%2F", "%2Fec2%2F"),
            (f"Credential={access}%2F", f"Credential={access}"),
            ("SignedHeaders=host", "SignedHeaders="),
            ("SignedHeaders=host", "SignedHeaders=x-other"),
        ]:
            with self.subTest(change=new):
                self.assertIn(old, url)
                self.assert_refused(self.open(url.replace(old, new, 1)), (400, 403))

    def test_other_headers_that_matter_must_be_signed(self):
        self.assert_refused(self.open(self.url("PUT"), "PUT", b"x", [("x-amz-acl", "public-read")]), 403)
        self.assert_refused(self.open(self.url("PUT"), "PUT", headers=[("x-amz-copy-source", "/a/b")]), 403)
        self.assert_absent()

    def test_parameters_that_are_signed_count(self):
        self.put(self.name, "key", b"x")
        answer = self.open(self.url(items=[("response-content-type", "text/own")]))
        self.assertEqual((answer.status, answer.header("content-type")), (200, "text/own"))

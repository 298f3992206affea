"""Objects: what goes in comes out, with everything that was said of it."""

import datetime
import io

from sigv4 import encode_path
from support import IS_LONG, MIB, ApiCase, md5, random_bytes, sha256

KEYS = [
    "a",
    "a/b/c",
    "/leading",
    "trailing/",
    "double//slash",
    "dots/../up",
    "./here",
    "..",
    "with space",
    "plus+plus",
    "percent%25",
    "%2F",
    "amp&and=equals",
    "question?mark",
    "hash#tag",
    "quote'\"<>",
    "tilde~!*()@:,$;",
    "back\\slash",
    "umlaut-äöü",
    "日本語/模型",
    "emoji-🚀",
    "combining-e\u0301",
    "nbsp-\u00a0",
    "x" * 1024,
    "é" * 512,
    "bracket[1]{2}|^`",
    "new\nline",
    "tab\tand\rreturn",
]


class RoundTrip(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def test_bytes_of_every_size_come_back(self):
        sizes = [0, 1, 100, 4096, 65535, 65536, 65537, MIB - 1, MIB, 3 * MIB + 7, 9 * MIB + 1]
        for size in sizes + ([100 * MIB] if IS_LONG else []):
            with self.subTest(size=size):
                content = random_bytes(size, size)
                answer = self.put(self.name, "key", content)
                self.assertEqual(answer["ETag"], f'"{md5(content)}"')
                found = self.s3.get_object(Bucket=self.name, Key="key")
                self.assertEqual(found["ContentLength"], size)
                self.assertEqual(found["ETag"], answer["ETag"])
                self.assertEqual(sha256(found["Body"].read()), sha256(content))

    def test_keys_of_every_shape_come_back(self):
        for key in KEYS:
            with self.subTest(key=key):
                content = key.encode()
                self.put(self.name, key, content)
                self.assertEqual(self.get(self.name, key), content)
                self.assertEqual(self.s3.head_object(Bucket=self.name, Key=key)["ContentLength"], len(content))
        self.assertEqual(self.keys(self.name), sorted(KEYS, key=str.encode))
        for key in KEYS:
            self.s3.delete_object(Bucket=self.name, Key=key)
        self.assertEqual(self.keys(self.name), [])

    def test_head_says_what_get_says(self):
        self.put(self.name, "key", b"12345", ContentType="text/x", Metadata={"a": "b"})
        got = self.headers(self.s3.get_object(Bucket=self.name, Key="key"))
        head = self.headers(self.s3.head_object(Bucket=self.name, Key="key"))
        for name in ("content-length", "content-type", "etag", "last-modified", "x-amz-meta-a", "accept-ranges"):
            self.assertEqual(got.get(name), head.get(name), name)
        self.assertEqual(got["accept-ranges"], "bytes")

    def test_the_last_writer_wins(self):
        for number in range(5):
            self.put(self.name, "key", str(number).encode() * (number + 1))
        self.assertEqual(self.get(self.name, "key"), b"44444")

    def test_a_body_without_seeking_is_taken(self):
        self.s3.put_object(Bucket=self.name, Key="key", Body=io.BytesIO(b"stream"))
        self.assertEqual(self.get(self.name, "key"), b"stream")

    def test_the_date_is_now(self):
        self.put(self.name, "key")
        found = self.s3.head_object(Bucket=self.name, Key="key")["LastModified"]
        self.assertLess(abs(datetime.datetime.now(datetime.timezone.utc) - found), datetime.timedelta(minutes=2))

    def test_every_answer_carries_a_request_id(self):
        seen = set()
        for answer in (
            self.put(self.name, "key"),
            self.s3.get_object(Bucket=self.name, Key="key"),
            self.s3.list_buckets(),
            self.s3.delete_object(Bucket=self.name, Key="key"),
        ):
            seen.add(self.headers(answer)["x-amz-request-id"])
        self.assertEqual(len(seen), 4)


class Metadata(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def test_standard_headers_come_back(self):
        self.put(
            self.name,
            "key",
            CacheControl="max-age=60",
            ContentDisposition='attachment; filename="m.bin"',
            ContentEncoding="gzip",
            ContentLanguage="de",
            ContentType="application/x-model",
            Expires=datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        )
        found = self.headers(self.s3.head_object(Bucket=self.name, Key="key"))
        self.assertEqual(found["cache-control"], "max-age=60")
        self.assertEqual(found["content-disposition"], 'attachment; filename="m.bin"')
        self.assertEqual(found["content-encoding"], "gzip")
        self.assertEqual(found["content-language"], "de")
        self.assertEqual(found["content-type"], "application/x-model")
        self.assertEqual(found["expires"], "Wed, 02 Jan 2030 03:04:05 GMT")

    def test_without_a_type_it_is_bytes(self):
        answer = self.service.request("PUT", f"/{self.name}/key", body=b"x")
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key")["ContentType"], "binary/octet-stream")

    def test_gzip_is_kept_as_it_was_sent(self):
        content = random_bytes(1000, 4)
        self.put(self.name, "key", content, ContentEncoding="gzip")
        answer = self.service.request("GET", f"/{self.name}/key")
        self.assertEqual(answer.body, content)

    def test_aws_chunked_is_not_part_of_the_stored_encoding(self):
        raw = self.service.streaming(f"/{self.name}/key", [b"abc"], encoding="aws-chunked,gzip")
        self.assertEqual(self.service.exchange(raw).status, 200)
        self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key")["ContentEncoding"], "gzip")
        raw = self.service.streaming(f"/{self.name}/plain", [b"abc"])
        self.assertEqual(self.service.exchange(raw).status, 200)
        self.assertIn(self.s3.head_object(Bucket=self.name, Key="plain").get("ContentEncoding"), (None, ""))

    def test_user_metadata_comes_back_and_is_replaced_as_a_whole(self):
        self.put(self.name, "key", Metadata={"first": "1", "second": "two words", "empty": ""})
        found = self.s3.head_object(Bucket=self.name, Key="key")["Metadata"]
        self.assertEqual(found, {"first": "1", "second": "two words", "empty": ""})
        self.put(self.name, "key", Metadata={"third": "3"})
        self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key")["Metadata"], {"third": "3"})

    def test_two_kilobytes_of_user_metadata_are_the_limit(self):
        self.put(self.name, "key", Metadata={"a": "x" * 2047})
        self.refuse("MetadataTooLarge", self.put, self.name, "other", Metadata={"a": "x" * 2048}, status=400)
        self.assertEqual(self.keys(self.name), ["key"])

    def test_the_reader_may_ask_for_other_headers(self):
        self.put(self.name, "key", ContentType="text/plain")
        found = self.headers(
            self.s3.get_object(
                Bucket=self.name,
                Key="key",
                ResponseContentType="application/json",
                ResponseCacheControl="no-cache",
                ResponseContentDisposition="inline",
                ResponseContentEncoding="x-own",
                ResponseContentLanguage="fr",
                ResponseExpires=datetime.datetime(2031, 1, 1, tzinfo=datetime.timezone.utc),
            )
        )
        self.assertEqual(found["content-type"], "application/json")
        self.assertEqual(found["cache-control"], "no-cache")
        self.assertEqual(found["content-disposition"], "inline")
        self.assertEqual(found["content-encoding"], "x-own")
        self.assertEqual(found["content-language"], "fr")
        self.assertEqual(found["expires"], "Wed, 01 Jan 2031 00:00:00 GMT")

    def test_the_standard_class_is_the_only_one(self):
        self.put(self.name, "key", StorageClass="STANDARD")
        self.assertIn(self.s3.head_object(Bucket=self.name, Key="key").get("StorageClass"), (None, "STANDARD"))
        entry = self.s3.list_objects_v2(Bucket=self.name)["Contents"][0]
        self.assertEqual(entry["StorageClass"], "STANDARD")
        for name in ("GLACIER", "NONSENSE"):
            self.refuse("InvalidStorageClass", self.put, self.name, "other", StorageClass=name, status=400)

    def test_a_website_redirect_comes_back(self):
        self.put(self.name, "key", WebsiteRedirectLocation="/other")
        self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key")["WebsiteRedirectLocation"], "/other")


class Absence(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def test_a_missing_object_is_missing(self):
        self.refuse("NoSuchKey", self.s3.get_object, Bucket=self.name, Key="none", status=404)
        self.refuse("404", self.s3.head_object, Bucket=self.name, Key="none", status=404)

    def test_removing_what_is_not_there_is_no_error(self):
        self.assertEqual(self.status(self.s3.delete_object(Bucket=self.name, Key="none")), 204)

    def test_a_removed_object_is_gone(self):
        self.put(self.name, "key")
        self.assertEqual(self.status(self.s3.delete_object(Bucket=self.name, Key="key")), 204)
        self.refuse("NoSuchKey", self.s3.get_object, Bucket=self.name, Key="key", status=404)
        self.assertEqual(self.keys(self.name), [])

    def test_a_wrong_content_md5_leaves_nothing(self):
        answer = self.service.request(
            "PUT", f"/{self.name}/key", body=b"abc", headers=[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]
        )
        self.assertEqual((answer.status, answer.code), (400, "BadDigest"))
        for value in ("nonsense", "", "AAAA"):
            answer = self.service.request("PUT", f"/{self.name}/key", body=b"abc", headers=[("content-md5", value)])
            self.assertEqual((answer.status, answer.code), (400, "InvalidDigest"), value)
        self.assertEqual(self.keys(self.name), [])

    def test_a_wrong_payload_hash_leaves_nothing(self):
        answer = self.service.request("PUT", f"/{self.name}/key", body=b"abc", payload=sha256(b"abd"))
        self.assertEqual((answer.status, answer.code), (400, "XAmzContentSHA256Mismatch"))
        self.assertEqual(self.keys(self.name), [])

    def test_a_key_of_1025_bytes_is_too_long(self):
        for key in ("x" * 1025, "é" * 513):
            answer = self.service.request("PUT", f"/{self.name}/{encode_path(key)}", body=b"x")
            self.assertEqual((answer.status, answer.code), (400, "KeyTooLongError"))


class GetAttributes(ApiCase):
    def test_attributes_are_what_was_asked_for(self):
        name = self.bucket()
        etag = self.put(name, "key", b"12345")["ETag"]
        found = self.s3.get_object_attributes(
            Bucket=name, Key="key", ObjectAttributes=["ETag", "ObjectSize", "StorageClass"]
        )
        self.assertEqual((found["ETag"], found["ObjectSize"], found["StorageClass"]), (etag.strip('"'), 5, "STANDARD"))
        found = self.s3.get_object_attributes(Bucket=name, Key="key", ObjectAttributes=["ObjectSize"])
        self.assertNotIn("ETag", found)
        self.refuse(
            "NoSuchKey", self.s3.get_object_attributes, Bucket=name, Key="none", ObjectAttributes=["ETag"], status=404
        )
        answer = self.service.request("GET", f"/{name}/key", [("attributes", "")])
        self.assertEqual(answer.status, 400)
        answer = self.service.request(
            "GET", f"/{name}/key", [("attributes", "")], [("x-amz-object-attributes", "Nonsense")]
        )
        self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"))

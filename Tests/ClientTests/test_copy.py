"""Copies: within and between buckets, of versions, with other metadata, under conditions."""

import datetime

from support import ApiCase, random_bytes

HOUR = datetime.timedelta(hours=1)


class Copies(ApiCase):
    def setUp(self):
        self.name = self.bucket()
        self.content = random_bytes(100_000, 1)
        self.etag = self.put(
            self.name,
            "source",
            self.content,
            ContentType="text/x",
            Metadata={"a": "1"},
            CacheControl="no-cache",
            Tagging="k=v",
        )["ETag"]
        self.source = {"Bucket": self.name, "Key": "source"}

    def copy(self, key="copy", source=None, bucket=None, **options):
        return self.s3.copy_object(Bucket=bucket or self.name, Key=key, CopySource=source or self.source, **options)

    def test_a_copy_is_equal_in_bytes_metadata_and_tags(self):
        answer = self.copy()
        self.assertEqual(answer["CopyObjectResult"]["ETag"], self.etag)
        found = self.s3.get_object(Bucket=self.name, Key="copy")
        self.assertEqual(found["Body"].read(), self.content)
        self.assertEqual(
            (found["ContentType"], found["Metadata"], found["CacheControl"], found["ETag"]),
            ("text/x", {"a": "1"}, "no-cache", self.etag),
        )
        tags = self.s3.get_object_tagging(Bucket=self.name, Key="copy")["TagSet"]
        self.assertEqual(tags, [{"Key": "k", "Value": "v"}])

    def test_into_another_bucket_and_with_hard_names(self):
        other = self.bucket()
        for key in ("a b+c%25", "日本/ü", "/leading", "q?x=1&y"):
            with self.subTest(key=key):
                self.put(self.name, key, key.encode())
                self.copy(key, {"Bucket": self.name, "Key": key}, other)
                self.assertEqual(self.get(other, key), key.encode())

    def test_the_metadata_can_be_replaced(self):
        self.copy(MetadataDirective="REPLACE", Metadata={"b": "2"}, ContentType="text/y")
        found = self.s3.head_object(Bucket=self.name, Key="copy")
        self.assertEqual((found["Metadata"], found["ContentType"]), ({"b": "2"}, "text/y"))
        self.assertNotIn("CacheControl", found)

    def test_without_replace_new_metadata_is_ignored(self):
        self.copy(Metadata={"b": "2"})
        self.assertEqual(self.s3.head_object(Bucket=self.name, Key="copy")["Metadata"], {"a": "1"})

    def test_the_tags_can_be_replaced(self):
        self.copy(TaggingDirective="REPLACE", Tagging="x=y&z=")
        tags = self.s3.get_object_tagging(Bucket=self.name, Key="copy")["TagSet"]
        self.assertEqual({tag["Key"]: tag["Value"] for tag in tags}, {"x": "y", "z": ""})

    def test_onto_itself_only_with_a_change(self):
        self.refuse("InvalidRequest", self.copy, "source", status=400)
        self.copy("source", MetadataDirective="REPLACE", Metadata={"c": "3"})
        found = self.s3.get_object(Bucket=self.name, Key="source")
        self.assertEqual((found["Metadata"], found["Body"].read()), ({"c": "3"}, self.content))

    def test_unknown_directives_are_refused(self):
        for name in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
            answer = self.service.request(
                "PUT", f"/{self.name}/copy", headers=[("x-amz-copy-source", f"/{self.name}/source"), (name, "KEEP")]
            )
            self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"), name)

    def test_a_version_is_copied_and_so_restored(self):
        self.set_versioning(self.name, "Enabled")
        old = self.put(self.name, "key", b"old")["VersionId"]
        self.put(self.name, "key", b"new")
        answer = self.copy("key", {"Bucket": self.name, "Key": "key", "VersionId": old})
        self.assertEqual(answer["CopySourceVersionId"], old)
        self.assertNotIn(answer["VersionId"], (None, old))
        self.assertEqual(self.get(self.name, "key"), b"old")
        self.assertEqual(len(self.s3.list_object_versions(Bucket=self.name, Prefix="key")["Versions"]), 3)

    def test_a_missing_source_is_named(self):
        self.refuse("NoSuchKey", self.copy, source={"Bucket": self.name, "Key": "none"}, status=404)
        self.refuse("NoSuchBucket", self.copy, source={"Bucket": "none-" + self.name, "Key": "none"}, status=404)
        self.refuse("NoSuchBucket", self.copy, bucket="none-" + self.name, status=404)

    def test_a_deleted_source_is_no_source(self):
        self.set_versioning(self.name, "Enabled")
        marker = self.s3.delete_object(Bucket=self.name, Key="source")["VersionId"]
        self.refuse("NoSuchKey", self.copy, status=404)
        self.refuse("InvalidRequest", self.copy, source={**self.source, "VersionId": marker}, status=400)

    def test_malformed_sources_are_refused(self):
        for value in (
            "",
            "/",
            "bucket",
            "/bucket/",
            "//key",
            "%",
            "a/b?versionId=",
            "?versionId=x",
            "\u00ff" * 10,
            "a" * 5000,
        ):
            answer = self.service.request("PUT", f"/{self.name}/copy", headers=[("x-amz-copy-source", value)])
            self.assertIn(answer.status, (400, 403, 404), (value, answer))
        self.assertEqual(self.keys(self.name), ["source"])

    def test_conditions_on_the_source(self):
        date = self.s3.head_object(Bucket=self.name, Key="source")["LastModified"]
        for options, passes in [
            ({"CopySourceIfMatch": self.etag}, True),
            ({"CopySourceIfMatch": '"other"'}, False),
            ({"CopySourceIfNoneMatch": '"other"'}, True),
            ({"CopySourceIfNoneMatch": self.etag}, False),
            ({"CopySourceIfModifiedSince": date - HOUR}, True),
            ({"CopySourceIfUnmodifiedSince": date - HOUR}, False),
            ({"CopySourceIfMatch": self.etag, "CopySourceIfUnmodifiedSince": date - HOUR}, True),
            ({"CopySourceIfNoneMatch": self.etag, "CopySourceIfModifiedSince": date - HOUR}, False),
        ]:
            with self.subTest(options=options):
                if passes:
                    self.copy(**options)
                else:
                    self.refuse("PreconditionFailed", self.copy, **options, status=412)

    def test_a_copy_with_a_body_has_a_length_that_is_respected(self):
        answer = self.service.request(
            "PUT", f"/{self.name}/copy", body=b"ignored?", headers=[("x-amz-copy-source", f"/{self.name}/source")]
        )
        self.assertIn(answer.status, (200, 400))
        self.assertTrue(self.server.is_alive())

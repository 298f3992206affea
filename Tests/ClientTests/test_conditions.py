"""Conditional requests: reads, writes, deletes, and many writers at once."""

import concurrent.futures
import datetime

import botocore.exceptions

from support import ApiCase, random_bytes

HOUR = datetime.timedelta(hours=1)


class Reads(ApiCase):
    def setUp(self):
        self.name = self.bucket()
        self.etag = self.put(self.name, "key", b"bytes")["ETag"]
        self.date = self.s3.head_object(Bucket=self.name, Key="key")["LastModified"]

    def read(self, method="GET", **conditions):
        call = self.s3.get_object if method == "GET" else self.s3.head_object
        try:
            return self.status(call(Bucket=self.name, Key="key", **conditions))
        except botocore.exceptions.ClientError as error:
            return self.status(error.response)

    def test_each_condition_by_itself(self):
        for expected, conditions in [
            (200, {"IfMatch": self.etag}),
            (412, {"IfMatch": '"other"'}),
            (200, {"IfMatch": "*"}),
            (200, {"IfMatch": f'"other", {self.etag}'}),
            (304, {"IfNoneMatch": self.etag}),
            (200, {"IfNoneMatch": '"other"'}),
            (304, {"IfNoneMatch": "*"}),
            (200, {"IfModifiedSince": self.date - HOUR}),
            (304, {"IfModifiedSince": self.date}),
            (200, {"IfUnmodifiedSince": self.date}),
            (412, {"IfUnmodifiedSince": self.date - HOUR}),
            (200, {"IfMatch": self.etag.strip('"')}),
            (304, {"IfNoneMatch": self.etag.strip('"')}),
        ]:
            for method in ("GET", "HEAD"):
                with self.subTest(conditions=conditions, method=method):
                    self.assertEqual(self.read(method, **conditions), expected)

    def test_tags_count_more_than_dates(self):
        self.assertEqual(self.read(IfMatch=self.etag, IfUnmodifiedSince=self.date - HOUR), 200)
        self.assertEqual(self.read(IfNoneMatch=self.etag, IfModifiedSince=self.date - HOUR), 304)
        self.assertEqual(self.read(IfNoneMatch='"other"', IfModifiedSince=self.date), 200)

    def test_a_304_has_the_tag_and_no_body(self):
        answer = self.service.request("GET", f"/{self.name}/key", headers=[("if-none-match", self.etag)])
        self.assertEqual((answer.status, answer.body, answer.header("etag")), (304, b"", self.etag))

    def test_a_failed_condition_is_named(self):
        response = self.refuse(
            "PreconditionFailed", self.s3.get_object, Bucket=self.name, Key="key", IfMatch='"other"', status=412
        )
        self.assertEqual(response["Error"].get("Condition"), "If-Match")

    def test_a_date_that_is_none_is_ignored(self):
        answer = self.service.request("GET", f"/{self.name}/key", headers=[("if-modified-since", "yesterday")])
        self.assertEqual(answer.status, 200)


class Writes(ApiCase):
    def setUp(self):
        self.name = self.bucket("Enabled")

    def test_only_if_it_is_not_there(self):
        self.put(self.name, "key", b"first", IfNoneMatch="*")
        self.refuse("PreconditionFailed", self.put, self.name, "key", b"second", IfNoneMatch="*", status=412)
        self.assertEqual(self.get(self.name, "key"), b"first")

    def test_a_delete_marker_counts_as_not_there(self):
        self.put(self.name, "key", b"first")
        self.s3.delete_object(Bucket=self.name, Key="key")
        self.put(self.name, "key", b"second", IfNoneMatch="*")
        self.assertEqual(self.get(self.name, "key"), b"second")

    def test_only_if_it_is_this_one(self):
        first = self.put(self.name, "key", b"first")["ETag"]
        second = self.put(self.name, "key", b"second", IfMatch=first)["ETag"]
        self.refuse("PreconditionFailed", self.put, self.name, "key", b"third", IfMatch=first, status=412)
        self.assertEqual(self.get(self.name, "key"), b"second")
        self.put(self.name, "key", b"third", IfMatch=second.strip('"'))
        self.refuse("NoSuchKey", self.put, self.name, "none", b"x", IfMatch=first, status=404)

    def test_other_conditions_on_writes_are_not_pretended(self):
        etag = self.put(self.name, "key", b"first")["ETag"]
        self.refuse("NotImplemented", self.put, self.name, "key", b"second", IfNoneMatch=etag, status=501)
        self.assertEqual(self.get(self.name, "key"), b"first")

    def test_one_of_many_first_writers_wins(self):
        for round in range(3):
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                answers = list(
                    pool.map(
                        lambda number: self.service.request(
                            "PUT",
                            f"/{self.name}/race-{round}",
                            headers=[("if-none-match", "*")],
                            body=str(number).encode(),
                        ).status,
                        range(16),
                    )
                )
            self.assertEqual(answers.count(200), 1, answers)
            self.assertLessEqual(set(answers), {200, 409, 412})
            self.assertEqual(self.get(self.name, f"race-{round}").decode(), str(answers.index(200)))

    def test_a_counter_swapped_by_many_loses_nothing(self):
        self.put(self.name, "counter", b"0")

        def add(_):
            done = 0
            while done < 5:
                found = self.s3.get_object(Bucket=self.name, Key="counter")
                value = int(found["Body"].read())
                try:
                    self.put(self.name, "counter", str(value + 1).encode(), IfMatch=found["ETag"])
                    done += 1
                except botocore.exceptions.ClientError as error:
                    if self.status(error.response) not in (409, 412):
                        raise

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(4)))
        self.assertEqual(self.get(self.name, "counter"), b"20")

    def test_completing_an_upload_takes_conditions(self):
        def upload():
            made = self.s3.create_multipart_upload(Bucket=self.name, Key="key")["UploadId"]
            etag = self.s3.upload_part(
                Bucket=self.name, Key="key", UploadId=made, PartNumber=1, Body=random_bytes(100, 1)
            )["ETag"]
            return {
                "Bucket": self.name,
                "Key": "key",
                "UploadId": made,
                "MultipartUpload": {"Parts": [{"ETag": etag, "PartNumber": 1}]},
            }

        first = self.s3.complete_multipart_upload(**upload(), IfNoneMatch="*")["ETag"]
        self.refuse("PreconditionFailed", self.s3.complete_multipart_upload, **upload(), IfNoneMatch="*", status=412)
        self.s3.complete_multipart_upload(**upload(), IfMatch=first)
        self.refuse("PreconditionFailed", self.s3.complete_multipart_upload, **upload(), IfMatch='"other"', status=412)
        self.assertEqual(len(self.s3.list_object_versions(Bucket=self.name, Prefix="key")["Versions"]), 2)


class Deletes(ApiCase):
    def test_only_if_it_is_this_one(self):
        for versioning in (None, "Enabled"):
            with self.subTest(versioning=versioning):
                name = self.bucket(versioning)
                etag = self.put(name, "key", b"first")["ETag"]
                self.refuse(
                    "PreconditionFailed", self.s3.delete_object, Bucket=name, Key="key", IfMatch='"other"', status=412
                )
                self.assertEqual(self.keys(name), ["key"])
                self.s3.delete_object(Bucket=name, Key="key", IfMatch=etag)
                self.assertEqual(self.keys(name), [])

    def test_any_tag_will_do_for_a_star(self):
        name = self.bucket()
        self.put(name, "key", b"first")
        self.s3.delete_object(Bucket=name, Key="key", IfMatch="*")
        self.assertEqual(self.keys(name), [])

"""Objects in parts: uploads that survive, complete once and leave nothing behind."""

import concurrent.futures
import hashlib
import signal
import unittest

from support import IS_LONG, MIB, PART, ApiCase, OwnServerCase, md5, random_bytes, sha256


class Uploads(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def begin(self, key="key", **options):
        return self.s3.create_multipart_upload(Bucket=self.name, Key=key, **options)["UploadId"]

    def part(self, upload, number, content, key="key"):
        answer = self.s3.upload_part(Bucket=self.name, Key=key, UploadId=upload, PartNumber=number, Body=content)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def complete(self, upload, parts, key="key", **options):
        return self.s3.complete_multipart_upload(
            Bucket=self.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **options
        )


class Completing(Uploads):
    def test_parts_become_one_object(self):
        pieces = [random_bytes(PART, 1), random_bytes(PART + 12345, 2), random_bytes(7, 3)]
        upload = self.begin(ContentType="text/x", Metadata={"a": "b"}, CacheControl="no-store")
        parts = [self.part(upload, number, piece) for number, piece in enumerate(pieces, 1)]
        self.assertEqual(parts[0]["ETag"], f'"{md5(pieces[0])}"')
        self.assertEqual(self.keys(self.name), [])
        answer = self.complete(upload, parts)
        etag = hashlib.md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)).hexdigest()
        self.assertEqual(answer["ETag"], f'"{etag}-3"')
        self.assertEqual((answer["Bucket"], answer["Key"]), (self.name, "key"))
        found = self.s3.get_object(Bucket=self.name, Key="key")
        self.assertEqual(sha256(found["Body"].read()), sha256(b"".join(pieces)))
        self.assertEqual(
            (found["ContentType"], found["Metadata"], found["CacheControl"], found["ETag"]),
            ("text/x", {"a": "b"}, "no-store", answer["ETag"]),
        )

    def test_the_order_of_arrival_does_not_matter_and_numbers_may_have_gaps(self):
        upload = self.begin()
        pieces = {10000: b"end", 5: random_bytes(PART, 5), 77: random_bytes(PART, 77)}
        parts = sorted(
            (self.part(upload, number, piece) for number, piece in pieces.items()), key=lambda part: part["PartNumber"]
        )
        self.complete(upload, parts)
        self.assertEqual(sha256(self.get(self.name, "key")), sha256(pieces[5] + pieces[77] + b"end"))

    def test_a_part_may_be_sent_again(self):
        upload = self.begin()
        self.part(upload, 1, b"first try")
        part = self.part(upload, 1, b"second try")
        self.complete(upload, [part])
        self.assertEqual(self.get(self.name, "key"), b"second try")

    def test_parts_that_are_not_named_are_left_out(self):
        upload = self.begin()
        self.part(upload, 1, random_bytes(100, 1))
        part = self.part(upload, 2, b"only this")
        self.complete(upload, [part])
        self.assertEqual(self.get(self.name, "key"), b"only this")

    def test_completing_again_gives_the_same_answer(self):
        name = self.name
        self.set_versioning(name, "Enabled")
        upload = self.begin()
        parts = [self.part(upload, 1, b"content")]
        first, second = self.complete(upload, parts), self.complete(upload, parts)
        self.assertEqual(first["ETag"], second["ETag"])
        self.assertEqual(len(self.s3.list_object_versions(Bucket=name)["Versions"]), 1)

    def test_completed_by_many_at_once_it_is_one_version(self):
        self.set_versioning(self.name, "Enabled")
        upload = self.begin()
        parts = [self.part(upload, 1, random_bytes(PART, 1)), self.part(upload, 2, b"end")]

        def complete(_):
            try:
                return self.status(self.complete(upload, parts))
            except self.s3.exceptions.ClientError as error:
                return self.status(error.response)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(complete, range(8)))
        self.assertIn(200, answers)
        self.assertLessEqual(set(answers), {200, 404, 409})
        self.assertEqual(len(self.s3.list_object_versions(Bucket=self.name)["Versions"]), 1)
        self.assertEqual(len(self.get(self.name, "key")), PART + 3)

    def test_small_parts_are_refused_but_for_the_last(self):
        upload = self.begin()
        parts = [self.part(upload, 1, random_bytes(PART - 1, 1)), self.part(upload, 2, b"end")]
        self.refuse("EntityTooSmall", self.complete, upload, parts, status=400)
        self.assertEqual(self.keys(self.name), [])
        parts[0] = self.part(upload, 1, random_bytes(PART, 1))
        self.complete(upload, parts)

    def test_wrong_lists_are_refused_and_the_upload_lives_on(self):
        upload = self.begin()
        parts = [self.part(upload, 1, random_bytes(PART, 1)), self.part(upload, 2, b"end")]
        self.refuse("InvalidPartOrder", self.complete, upload, parts[::-1], status=400)
        self.refuse(("InvalidPartOrder", "InvalidPart"), self.complete, upload, [parts[0], parts[0]], status=400)
        self.refuse(
            "InvalidPart", self.complete, upload, [parts[0], {"PartNumber": 3, "ETag": parts[1]["ETag"]}], status=400
        )
        self.refuse("InvalidPart", self.complete, upload, [{"PartNumber": 1, "ETag": '"' + "0" * 32 + '"'}], status=400)
        self.refuse("MalformedXML", self.complete, upload, [], status=400)
        self.assertEqual(self.keys(self.name), [])
        self.complete(upload, parts)

    def test_ten_thousand_and_one_parts_are_too_many(self):
        upload = self.begin()
        listed = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>\"{'0' * 32}\"</ETag></Part>" for n in range(1, 10002)
        )
        answer = self.service.request(
            "POST",
            f"/{self.name}/key",
            [("uploadId", upload)],
            body=f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode(),
        )
        self.assertEqual(answer.status, 400, answer)
        self.assertIn(answer.code, ("MalformedXML", "InvalidArgument", "InvalidPart", "InvalidRequest"))
        for number in ("0", "10001", "-1", "x", "", "99999999999999999999"):
            answer = self.service.request(
                "PUT", f"/{self.name}/key", [("partNumber", number), ("uploadId", upload)], body=b"x"
            )
            self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"), number)

    def test_an_upload_belongs_to_its_bucket_and_key(self):
        upload = self.begin()
        part = self.part(upload, 1, b"content")
        other = self.bucket()
        for bucket, key in [(self.name, "other"), (other, "key")]:
            self.refuse(
                "NoSuchUpload",
                self.s3.upload_part,
                Bucket=bucket,
                Key=key,
                UploadId=upload,
                PartNumber=1,
                Body=b"x",
                status=404,
            )
            self.refuse("NoSuchUpload", self.s3.list_parts, Bucket=bucket, Key=key, UploadId=upload, status=404)
            self.refuse(
                "NoSuchUpload", self.s3.abort_multipart_upload, Bucket=bucket, Key=key, UploadId=upload, status=404
            )
            self.refuse(
                "NoSuchUpload",
                self.s3.complete_multipart_upload,
                Bucket=bucket,
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": [part]},
                status=404,
            )
        self.complete(upload, [part])

    def test_an_unknown_upload_is_not_found(self):
        for upload in ("nonsense", "../../x", "x" * 2000, "AAAA"):
            self.refuse(
                "NoSuchUpload",
                self.s3.upload_part,
                Bucket=self.name,
                Key="key",
                UploadId=upload,
                PartNumber=1,
                Body=b"x",
                status=404,
            )
            self.refuse(
                "NoSuchUpload", self.complete, upload, [{"PartNumber": 1, "ETag": '"' + "0" * 32 + '"'}], status=404
            )

    @unittest.skipUnless(IS_LONG, "HOLDFAST_LONG=1: takes a minute")
    def test_ten_thousand_parts_are_allowed(self):
        upload = self.begin()

        def send(number):
            answer = self.service.request(
                "PUT", f"/{self.name}/key", [("partNumber", str(number)), ("uploadId", upload)], body=piece
            )
            self.assertEqual(answer.status, 200, answer)
            return {"PartNumber": number, "ETag": answer.header("etag")}

        piece = random_bytes(PART, 9)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(send, range(1, 10001)))
        self.complete(upload, parts)
        self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key")["ContentLength"], 10000 * PART)


class Aborting(Uploads):
    def test_an_aborted_upload_is_gone(self):
        upload = self.begin()
        part = self.part(upload, 1, b"content")
        answer = self.s3.abort_multipart_upload(Bucket=self.name, Key="key", UploadId=upload)
        self.assertEqual(self.status(answer), 204)
        self.refuse("NoSuchUpload", self.complete, upload, [part], status=404)
        self.refuse("NoSuchUpload", self.part, upload, 2, b"x", status=404)
        self.refuse("NoSuchUpload", self.s3.list_parts, Bucket=self.name, Key="key", UploadId=upload, status=404)
        self.assertNotIn("Uploads", self.s3.list_multipart_uploads(Bucket=self.name))

    def test_an_open_upload_does_not_hold_the_bucket(self):
        upload = self.begin()
        self.part(upload, 1, b"content")
        try:
            self.s3.delete_bucket(Bucket=self.name)
        except self.s3.exceptions.ClientError as error:
            self.assertEqual(error.response["Error"]["Code"], "BucketNotEmpty")


class Listings(Uploads):
    def test_parts_come_in_pages(self):
        upload = self.begin()
        expected = [
            (n, len(str(n)) * 10, self.part(upload, n, str(n).encode() * 10)["ETag"]) for n in (1, 2, 5, 9, 100)
        ]
        found, marker = [], 0
        while True:
            page = self.s3.list_parts(Bucket=self.name, Key="key", UploadId=upload, MaxParts=2, PartNumberMarker=marker)
            found += [(part["PartNumber"], part["Size"], part["ETag"]) for part in page.get("Parts", [])]
            if not page["IsTruncated"]:
                break
            marker = page["NextPartNumberMarker"]
        self.assertEqual(found, expected)
        self.assertEqual(
            (page["Bucket"], page["Key"], page["UploadId"], page["StorageClass"]),
            (self.name, "key", upload, "STANDARD"),
        )
        self.assertTrue(page["Owner"]["ID"] and page["Initiator"]["ID"])

    def test_uploads_are_listed_with_prefix_delimiter_and_pages(self):
        made = [(key, self.begin(key)) for key in ("a/1", "a/2", "b", "b", "c/x/y", "d")]
        page = self.s3.list_multipart_uploads(Bucket=self.name)
        self.assertEqual([item["Key"] for item in page["Uploads"]], [key for key, _ in made])
        self.assertEqual({item["UploadId"] for item in page["Uploads"]}, {upload for _, upload in made})
        page = self.s3.list_multipart_uploads(Bucket=self.name, Prefix="a/")
        self.assertEqual([item["Key"] for item in page["Uploads"]], ["a/1", "a/2"])
        page = self.s3.list_multipart_uploads(Bucket=self.name, Delimiter="/")
        self.assertEqual([item["Key"] for item in page["Uploads"]], ["b", "b", "d"])
        self.assertEqual([item["Prefix"] for item in page["CommonPrefixes"]], ["a/", "c/"])
        found, more = [], {}
        while True:
            page = self.s3.list_multipart_uploads(Bucket=self.name, MaxUploads=1, **more)
            found += [(item["Key"], item["UploadId"]) for item in page.get("Uploads", [])]
            if not page["IsTruncated"]:
                break
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
            self.assertLess(len(found), 10)
        self.assertEqual(sorted(found), sorted(made))


class PartCopies(Uploads):
    def test_parts_are_copied_from_objects(self):
        source = random_bytes(11 * MIB, 4)
        self.put(self.name, "source", source)
        upload = self.begin()
        parts = []
        for number, (begin, end) in enumerate([(0, PART), (PART, 11 * MIB)], 1):
            answer = self.s3.upload_part_copy(
                Bucket=self.name,
                Key="key",
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self.name, "Key": "source"},
                CopySourceRange=f"bytes={begin}-{end - 1}",
            )
            self.assertEqual(answer["CopyPartResult"]["ETag"], f'"{md5(source[begin:end])}"')
            parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        self.complete(upload, parts)
        self.assertEqual(sha256(self.get(self.name, "key")), sha256(source))

    def test_wrong_ranges_are_refused(self):
        self.put(self.name, "source", b"x" * 100)
        upload = self.begin()
        for value in ("bytes=0-100", "bytes=100-200", "bytes=5-1", "bytes=-5", "bytes=0-", "0-5", "nonsense", ""):
            answer = self.service.request(
                "PUT",
                f"/{self.name}/key",
                [("partNumber", "1"), ("uploadId", upload)],
                [("x-amz-copy-source", f"/{self.name}/source"), ("x-amz-copy-source-range", value)],
            )
            self.assertIn(
                (answer.status, answer.code),
                {(400, "InvalidArgument"), (416, "InvalidRange"), (400, "InvalidRange")},
                value,
            )


class Restart(OwnServerCase):
    def test_parts_survive_a_restart_and_a_kill(self):
        name = self.bucket()
        pieces = [random_bytes(PART, 1), random_bytes(PART, 2), b"end"]
        upload = self.s3.create_multipart_upload(Bucket=name, Key="key")["UploadId"]
        parts = []
        for number, (piece, ending) in enumerate(zip(pieces, (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)), 1):
            etag = self.s3.upload_part(Bucket=name, Key="key", UploadId=upload, PartNumber=number, Body=piece)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
            self.server.stop(ending)
            self.server.start()
        self.s3.complete_multipart_upload(Bucket=name, Key="key", UploadId=upload, MultipartUpload={"Parts": parts})
        self.server.stop(signal.SIGKILL)
        self.server.start()
        self.assertEqual(sha256(self.get(name, "key")), sha256(b"".join(pieces)))

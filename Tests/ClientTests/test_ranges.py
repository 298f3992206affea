"""Parts of objects: byte ranges and part numbers."""

from support import PART, ApiCase, random_bytes


class Ranges(ApiCase):
    def setUp(self):
        self.name = self.bucket()
        self.content = random_bytes(1000, 3)
        self.put(self.name, "key", self.content)

    def range(self, value, key="key", method="GET"):
        return self.service.request(method, f"/{self.name}/{key}", headers=[("range", value)])

    def test_a_range_gives_these_bytes(self):
        for value, begin, end in [
            ("bytes=0-0", 0, 1),
            ("bytes=0-9", 0, 10),
            ("bytes=990-", 990, 1000),
            ("bytes=-10", 990, 1000),
            ("bytes=500-99999999999999999999", 500, 1000),
            ("bytes=999-999", 999, 1000),
            ("bytes=-5000", 0, 1000),
            ("bytes=0-", 0, 1000),
        ]:
            with self.subTest(range=value):
                answer = self.range(value)
                self.assertEqual(answer.status, 206, answer)
                self.assertEqual(answer.body, self.content[begin:end])
                self.assertEqual(answer.header("content-range"), f"bytes {begin}-{end - 1}/1000")
                self.assertEqual(answer.header("content-length"), str(end - begin))

    def test_a_range_behind_the_end_is_refused(self):
        for value in ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=99999999999999999999-"]:
            with self.subTest(range=value):
                answer = self.range(value)
                self.assertEqual((answer.status, answer.code), (416, "InvalidRange"))
        self.put(self.name, "empty", b"")
        for value in ["bytes=0-", "bytes=0-0", "bytes=-1"]:
            self.assertEqual(self.range(value, "empty").status, 416, value)

    def test_what_is_no_range_is_ignored(self):
        for value in [
            "bytes=9-0",
            "bytes=a-b",
            "bytes",
            "bytes=",
            "bytes=-",
            "lines=0-1",
            "0-1",
            "bytes=0x1-0x2",
            "bytes=+1-+2",
        ]:
            with self.subTest(range=value):
                answer = self.range(value)
                self.assertEqual((answer.status, answer.body), (200, self.content))

    def test_several_ranges_never_give_wrong_bytes(self):
        answer = self.range("bytes=0-1,5-6")
        self.assertEqual((answer.status, answer.body), (200, self.content))

    def test_head_knows_ranges_too(self):
        answer = self.range("bytes=10-19", method="HEAD")
        self.assertEqual(answer.status, 206)
        self.assertEqual(answer.header("content-length"), "10")
        self.assertEqual(answer.header("content-range"), "bytes 10-19/1000")
        self.assertEqual(self.range("bytes=1000-", method="HEAD").status, 416)

    def test_ranges_over_chunk_borders_of_a_big_object(self):
        content = random_bytes(9 << 20, 5)
        self.put(self.name, "big", content)
        for begin, end in [
            (0, 1),
            (1 << 20, 1 << 20),
            (1048575, 1048577),
            (3 << 20, (8 << 20) + 1),
            (len(content) - 1, len(content) - 1),
            (4194303, 4194304),
        ]:
            with self.subTest(begin=begin, end=end):
                self.assertEqual(self.range(f"bytes={begin}-{end}", "big").body, content[begin : end + 1])


class PartNumbers(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def test_a_part_is_read_by_its_number(self):
        upload = self.s3.create_multipart_upload(Bucket=self.name, Key="key")["UploadId"]
        pieces, parts = [random_bytes(PART, 1), random_bytes(PART + 3, 2), b"last"], []
        for number, piece in zip((1, 3, 7), pieces):
            etag = self.s3.upload_part(Bucket=self.name, Key="key", UploadId=upload, PartNumber=number, Body=piece)
            parts.append({"ETag": etag["ETag"], "PartNumber": number})
        whole = self.s3.complete_multipart_upload(
            Bucket=self.name, Key="key", UploadId=upload, MultipartUpload={"Parts": parts}
        )
        for number, piece in zip((1, 3, 7), pieces):
            for call in (self.s3.get_object, self.s3.head_object):
                found = call(Bucket=self.name, Key="key", PartNumber=number)
                self.assertEqual(self.status(found), 206)
                self.assertEqual(found["PartsCount"], 3)
                self.assertEqual(found["ContentLength"], len(piece))
                self.assertEqual(found["ETag"], whole["ETag"])
                if "Body" in found:
                    self.assertEqual(found["Body"].read(), piece)
        for number in (2, 8, 10000):
            self.refuse(
                ("InvalidPartNumber", "InvalidPart"), self.s3.get_object, Bucket=self.name, Key="key", PartNumber=number
            )

    def test_an_object_of_one_piece_is_part_one(self):
        self.put(self.name, "key", b"whole")
        found = self.s3.get_object(Bucket=self.name, Key="key", PartNumber=1)
        self.assertEqual(found["Body"].read(), b"whole")
        self.assertNotIn("PartsCount", found)
        self.refuse(("InvalidPartNumber", "InvalidPart"), self.s3.get_object, Bucket=self.name, Key="key", PartNumber=2)

    def test_nonsense_part_numbers_are_refused(self):
        self.put(self.name, "key", b"whole")
        for value in ("0", "-1", "x", "10001", "99999999999999999999"):
            answer = self.service.request("GET", f"/{self.name}/key", [("partNumber", value)])
            self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"), value)

    def test_a_part_and_a_range_together_are_refused(self):
        self.put(self.name, "key", b"whole")
        self.refuse(
            "InvalidRequest",
            self.s3.get_object,
            Bucket=self.name,
            Key="key",
            PartNumber=1,
            Range="bytes=0-1",
            status=400,
        )

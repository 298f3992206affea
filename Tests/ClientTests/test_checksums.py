"""Checksums: five algorithms, in headers and in trailers, of objects and of parts."""

import base64
import hashlib

import sigv4
from support import PART, ApiCase, RawCase, random_bytes


def crc(content, polynomial, bits, table={}):
    """A reflected CRC, bit by bit from its definition (with one table per polynomial)."""
    mask = (1 << bits) - 1
    if polynomial not in table:
        rows = []
        for byte in range(256):
            for _ in range(8):
                byte = (byte >> 1) ^ (polynomial if byte & 1 else 0)
            rows.append(byte)
        table[polynomial] = rows
    rows, value = table[polynomial], mask
    for byte in content:
        value = (value >> 8) ^ rows[(value ^ byte) & 0xFF]
    return (value ^ mask).to_bytes(bits // 8, "big")


def digest(algorithm, content):
    if algorithm == "CRC32":
        return crc(content, 0xEDB88320, 32)
    if algorithm == "CRC32C":
        return crc(content, 0x82F63B78, 32)
    if algorithm == "CRC64NVME":
        return crc(content, 0x9A6C9329AC4BC9B5, 64)
    return hashlib.new(algorithm.lower(), content).digest()


def base(algorithm, content):
    return base64.b64encode(digest(algorithm, content)).decode()


ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]
CRCS = ["CRC32", "CRC32C", "CRC64NVME"]


class Headers(RawCase):
    def header(self, algorithm, content):
        return (f"x-amz-checksum-{algorithm.lower()}", base(algorithm, content))

    def test_these_are_the_published_values(self):
        nine = b"123456789"
        self.assertEqual(digest("CRC32", nine).hex(), "cbf43926")
        self.assertEqual(digest("CRC32C", nine).hex(), "e3069283")
        self.assertEqual(digest("CRC64NVME", nine).hex(), "ae8b14860a799888")

    def test_a_right_one_is_kept_and_told(self):
        for algorithm in ALGORITHMS:
            with self.subTest(algorithm=algorithm):
                name, value = self.header(algorithm, b"content")
                answer = self.send("PUT", self.path, headers=[(name, value)], body=b"content")
                self.assertEqual((answer.status, answer.header(name)), (200, value), answer)
                answer = self.send("GET", self.path, headers=[("x-amz-checksum-mode", "ENABLED")])
                self.assertEqual(answer.header(name), value)
                self.assertEqual(answer.header("x-amz-checksum-type"), "FULL_OBJECT")
                answer = self.send("HEAD", self.path, headers=[("x-amz-checksum-mode", "ENABLED")])
                self.assertEqual(answer.header(name), value)
                self.assertIsNone(self.send("GET", self.path).header(name))
                found = self.s3.get_object_attributes(Bucket=self.name, Key="key", ObjectAttributes=["Checksum"])
                self.assertEqual(found["Checksum"][f"Checksum{algorithm}"], value)

    def test_a_wrong_one_leaves_nothing(self):
        for algorithm in ALGORITHMS:
            for content in (b"contenu", b""):
                answer = self.send("PUT", self.path, headers=[self.header(algorithm, content)], body=b"content")
                self.assertEqual((answer.status, answer.code), (400, "BadDigest"), algorithm)
                self.assertIn(f"The {algorithm} you specified did not match", answer.body.decode())
        self.assert_absent()

    def test_what_is_no_checksum_is_refused(self):
        for algorithm in ALGORITHMS:
            for value in ("", "nonsense!", "AAA=", "A" * 200):
                answer = self.send(
                    "PUT", self.path, headers=[(f"x-amz-checksum-{algorithm.lower()}", value)], body=b"content"
                )
                self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"), (algorithm, value))
        self.assert_absent()

    def test_two_at_once_are_refused(self):
        headers = [self.header("CRC32", b"content"), self.header("SHA1", b"content")]
        answer = self.send("PUT", self.path, headers=headers, body=b"content")
        self.assert_refused(answer, 400, "InvalidRequest")

    def test_another_than_the_announced_one_is_refused(self):
        headers = [self.header("CRC32", b"content"), ("x-amz-sdk-checksum-algorithm", "SHA256")]
        self.assert_refused(self.send("PUT", self.path, headers=headers, body=b"content"), 400, "InvalidRequest")

    def test_a_range_does_not_carry_the_checksum_of_the_whole(self):
        self.send("PUT", self.path, headers=[self.header("CRC32", b"content")], body=b"content")
        answer = self.send("GET", self.path, headers=[("x-amz-checksum-mode", "ENABLED"), ("range", "bytes=0-1")])
        self.assertEqual((answer.status, answer.body), (206, b"co"))


class Trailers(RawCase):
    def upload(self, algorithm, content, mode, of=None, **options):
        name = f"x-amz-checksum-{algorithm.lower()}"
        trailers = [(name, base(algorithm, content if of is None else of))]
        size = 65536
        pieces = [content[at : at + size] for at in range(0, len(content), size)]
        raw = self.service.streaming(self.path, pieces, mode, trailers=trailers, **options)
        return self.service.exchange(raw, "PUT")

    def test_a_right_trailer_is_kept(self):
        for mode in (sigv4.STREAMING_TRAILER, sigv4.UNSIGNED_TRAILER):
            for algorithm in ALGORITHMS:
                for content in (b"", b"small", random_bytes(200_001, 7)):
                    with self.subTest(mode=mode, algorithm=algorithm, size=len(content)):
                        answer = self.upload(algorithm, content, mode)
                        self.assertEqual(answer.status, 200, answer)
                        answer = self.send("GET", self.path, headers=[("x-amz-checksum-mode", "ENABLED")])
                        self.assertEqual(answer.body, content)
                        self.assertEqual(answer.header(f"x-amz-checksum-{algorithm.lower()}"), base(algorithm, content))

    def test_a_wrong_trailer_leaves_nothing(self):
        for mode in (sigv4.STREAMING_TRAILER, sigv4.UNSIGNED_TRAILER):
            for algorithm in ALGORITHMS:
                answer = self.upload(algorithm, b"content", mode, of=b"contenu")
                self.assertEqual((answer.status, answer.code), (400, "BadDigest"), (mode, algorithm, answer))
                self.assertIn(f"The {algorithm} you specified did not match", answer.body.decode())
        self.assert_absent()

    def test_a_trailer_that_was_not_announced_is_refused(self):
        answer = self.upload("CRC32", b"content", sigv4.UNSIGNED_TRAILER, announce="x-amz-checksum-sha256")
        self.assert_refused(answer, 400)
        self.assert_absent()


class Parts(ApiCase):
    def setUp(self):
        self.name = self.bucket()
        self.pieces = [random_bytes(PART, 1), random_bytes(1000, 2)]

    def upload(self, algorithm, kind, spoil=False, whole=None):
        made = self.s3.create_multipart_upload(
            Bucket=self.name, Key="key", ChecksumAlgorithm=algorithm, ChecksumType=kind
        )
        self.assertEqual((made["ChecksumAlgorithm"], made["ChecksumType"]), (algorithm, kind))
        parts = []
        field = f"Checksum{algorithm}"
        for number, piece in enumerate(self.pieces, 1):
            value = base(algorithm, piece)
            answer = self.s3.upload_part(
                Bucket=self.name, Key="key", UploadId=made["UploadId"], PartNumber=number, Body=piece, **{field: value}
            )
            self.assertEqual(answer[field], value)
            if spoil:
                value = base(algorithm, b"other")
            parts.append({"PartNumber": number, "ETag": answer["ETag"], field: value})
        more = {field: whole} if whole else {}
        return self.s3.complete_multipart_upload(
            Bucket=self.name,
            Key="key",
            UploadId=made["UploadId"],
            MultipartUpload={"Parts": parts},
            ChecksumType=kind,
            **more,
        )

    def test_the_checksum_of_checksums(self):
        for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256"):
            with self.subTest(algorithm=algorithm):
                answer = self.upload(algorithm, "COMPOSITE")
                expected = base(algorithm, b"".join(digest(algorithm, piece) for piece in self.pieces)) + "-2"
                self.assertEqual(answer[f"Checksum{algorithm}"], expected)
                found = self.s3.head_object(Bucket=self.name, Key="key", ChecksumMode="ENABLED")
                self.assertEqual((found[f"Checksum{algorithm}"], found["ChecksumType"]), (expected, "COMPOSITE"))

    def test_the_checksum_of_the_whole_object(self):
        content = b"".join(self.pieces)
        for algorithm in CRCS:
            with self.subTest(algorithm=algorithm):
                expected = base(algorithm, content)
                answer = self.upload(algorithm, "FULL_OBJECT", whole=expected)
                self.assertEqual(answer[f"Checksum{algorithm}"], expected)
                found = self.s3.head_object(Bucket=self.name, Key="key", ChecksumMode="ENABLED")
                self.assertEqual((found[f"Checksum{algorithm}"], found["ChecksumType"]), (expected, "FULL_OBJECT"))

    def test_a_wrong_checksum_of_the_whole_is_refused(self):
        self.refuse("BadDigest", self.upload, "CRC32", "FULL_OBJECT", whole=base("CRC32", b"other"), status=400)
        self.assertEqual(self.keys(self.name), [])

    def test_a_part_with_another_checksum_is_an_invalid_part(self):
        self.refuse(("InvalidPart", "BadDigest"), self.upload, "SHA256", "COMPOSITE", spoil=True, status=400)

    def test_kinds_that_do_not_go_together_are_refused(self):
        for algorithm, kind in [("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")]:
            self.refuse(
                "InvalidRequest",
                self.s3.create_multipart_upload,
                Bucket=self.name,
                Key="key",
                ChecksumAlgorithm=algorithm,
                ChecksumType=kind,
                status=400,
            )

    def test_the_parts_tell_their_checksums(self):
        self.upload("SHA256", "COMPOSITE")
        found = self.s3.get_object_attributes(Bucket=self.name, Key="key", ObjectAttributes=["ObjectParts"])
        self.assertEqual(found["ObjectParts"]["TotalPartsCount"], 2)
        self.assertEqual(
            [part["ChecksumSHA256"] for part in found["ObjectParts"]["Parts"]],
            [base("SHA256", piece) for piece in self.pieces],
        )
        self.assertEqual(
            [part["Size"] for part in found["ObjectParts"]["Parts"]], [len(piece) for piece in self.pieces]
        )

    def test_a_wrong_checksum_of_a_part_leaves_no_part(self):
        made = self.s3.create_multipart_upload(Bucket=self.name, Key="key", ChecksumAlgorithm="CRC32")
        self.refuse(
            "BadDigest",
            self.s3.upload_part,
            Bucket=self.name,
            Key="key",
            UploadId=made["UploadId"],
            PartNumber=1,
            Body=b"content",
            ChecksumCRC32=base("CRC32", b"other"),
            status=400,
        )
        self.assertNotIn("Parts", self.s3.list_parts(Bucket=self.name, Key="key", UploadId=made["UploadId"]))


class Copies(ApiCase):
    def test_a_copy_keeps_the_checksum_or_gets_the_one_asked_for(self):
        name = self.bucket()
        self.put(name, "key", b"content", ChecksumAlgorithm="SHA1")
        source = {"Bucket": name, "Key": "key"}
        self.s3.copy_object(Bucket=name, Key="same", CopySource=source)
        found = self.s3.head_object(Bucket=name, Key="same", ChecksumMode="ENABLED")
        self.assertEqual(found["ChecksumSHA1"], base("SHA1", b"content"))
        answer = self.s3.copy_object(Bucket=name, Key="other", CopySource=source, ChecksumAlgorithm="SHA256")
        self.assertEqual(answer["CopyObjectResult"]["ChecksumSHA256"], base("SHA256", b"content"))
        found = self.s3.head_object(Bucket=name, Key="other", ChecksumMode="ENABLED")
        self.assertEqual(found["ChecksumSHA256"], base("SHA256", b"content"))

"""Encryption at rest: with the server's key, and with keys that the client brings."""

import base64
import hashlib
import os

from support import MIB, PART, ApiCase, OwnServerCase, md5, random_bytes, sha256

KEY = hashlib.sha256(b"customer").digest()
OTHER = hashlib.sha256(b"other").digest()


def customer(key=KEY, prefix=""):
    return {f"{prefix}SSECustomerAlgorithm": "AES256", f"{prefix}SSECustomerKey": key}


class ServerKeys(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def test_an_encrypted_object_reads_as_any_other(self):
        for size in (0, 1, 65536, 3 * MIB + 1):
            content = random_bytes(size, size)
            answer = self.put(self.name, "key", content, ServerSideEncryption="AES256")
            self.assertEqual((answer["ServerSideEncryption"], answer["ETag"]), ("AES256", f'"{md5(content)}"'))
            found = self.s3.get_object(Bucket=self.name, Key="key")
            self.assertEqual((found["ServerSideEncryption"], sha256(found["Body"].read())), ("AES256", sha256(content)))
            self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key")["ContentLength"], size)

    def test_ranges_of_it(self):
        content = random_bytes(5 * MIB, 1)
        self.put(self.name, "key", content, ServerSideEncryption="AES256")
        for begin, end in [(0, 0), (MIB - 1, MIB), (2 * MIB - 7, 4 * MIB + 9), (5 * MIB - 1, 5 * MIB - 1)]:
            self.assertEqual(self.get(self.name, "key", Range=f"bytes={begin}-{end}"), content[begin : end + 1])

    def test_a_bucket_can_ask_for_it(self):
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        self.s3.put_bucket_encryption(Bucket=self.name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        found = self.s3.get_bucket_encryption(Bucket=self.name)["ServerSideEncryptionConfiguration"]["Rules"][0]
        self.assertEqual(found["ApplyServerSideEncryptionByDefault"], {"SSEAlgorithm": "AES256"})
        self.assertEqual(self.put(self.name, "key")["ServerSideEncryption"], "AES256")
        self.assertEqual(self.status(self.s3.delete_bucket_encryption(Bucket=self.name)), 204)

    def test_other_kinds_are_not_pretended(self):
        for options in ({"ServerSideEncryption": "aws:kms"}, {"ServerSideEncryption": "aws:kms:dsse"}):
            response = self.refuse(
                ("NotImplemented", "InvalidArgument", "InvalidEncryptionAlgorithmError"),
                self.put,
                self.name,
                "key",
                **options,
            )
            self.assertIn(self.status(response), (400, 501))
        answer = self.service.request(
            "PUT", f"/{self.name}/key", body=b"x", headers=[("x-amz-server-side-encryption", "nonsense")]
        )
        self.assertEqual(answer.status, 400)
        self.assertEqual(self.keys(self.name), [])

    def test_parts_and_copies(self):
        pieces = [random_bytes(PART, 1), b"end"]
        upload = self.s3.create_multipart_upload(Bucket=self.name, Key="key", ServerSideEncryption="AES256")
        parts = []
        for number, piece in enumerate(pieces, 1):
            etag = self.s3.upload_part(
                Bucket=self.name, Key="key", UploadId=upload["UploadId"], PartNumber=number, Body=piece
            )["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        answer = self.s3.complete_multipart_upload(
            Bucket=self.name, Key="key", UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
        )
        self.assertEqual(answer["ServerSideEncryption"], "AES256")
        self.s3.copy_object(Bucket=self.name, Key="plain", CopySource={"Bucket": self.name, "Key": "key"})
        for key in ("key", "plain"):
            self.assertEqual(sha256(self.get(self.name, key)), sha256(b"".join(pieces)))


class CustomerKeys(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def test_only_the_key_opens_it(self):
        for size in (0, 1, 65536, 3 * MIB + 1):
            content = random_bytes(size, size)
            answer = self.put(self.name, "key", content, **customer())
            self.assertEqual(answer["SSECustomerAlgorithm"], "AES256")
            self.assertEqual(answer["SSECustomerKeyMD5"], base64.b64encode(hashlib.md5(KEY).digest()).decode())
            self.assertEqual(sha256(self.get(self.name, "key", **customer())), sha256(content))
            self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key", **customer())["ContentLength"], size)
            self.refuse(("InvalidRequest", "400"), self.s3.get_object, Bucket=self.name, Key="key", status=400)
            self.refuse(("InvalidRequest", "400"), self.s3.head_object, Bucket=self.name, Key="key", status=400)
            self.refuse("AccessDenied", self.s3.get_object, Bucket=self.name, Key="key", **customer(OTHER), status=403)

    def test_ranges_of_it(self):
        content = random_bytes(4 * MIB, 1)
        self.put(self.name, "key", content, **customer())
        for begin, end in [(0, 0), (MIB - 1, MIB), (2 * MIB - 7, 3 * MIB + 9)]:
            self.assertEqual(
                self.get(self.name, "key", Range=f"bytes={begin}-{end}", **customer()), content[begin : end + 1]
            )

    def test_a_plain_object_takes_no_key(self):
        self.put(self.name, "key")
        self.refuse("InvalidRequest", self.s3.get_object, Bucket=self.name, Key="key", **customer(), status=400)

    def test_broken_keys_are_refused(self):
        good = base64.b64encode(KEY).decode()
        digest = base64.b64encode(hashlib.md5(KEY).digest()).decode()
        name = "x-amz-server-side-encryption-customer-"
        for headers in [
            [("algorithm", "AES256")],
            [("key", good), ("key-md5", digest)],
            [("algorithm", "AES256"), ("key", good)],
            [("algorithm", "AES128"), ("key", good), ("key-md5", digest)],
            [("algorithm", "AES256"), ("key", good), ("key-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
            [("algorithm", "AES256"), ("key", "short"), ("key-md5", digest)],
            [
                ("algorithm", "AES256"),
                ("key", base64.b64encode(KEY[:16]).decode()),
                ("key-md5", base64.b64encode(hashlib.md5(KEY[:16]).digest()).decode()),
            ],
        ]:
            answer = self.service.request(
                "PUT", f"/{self.name}/key", body=b"x", headers=[(name + end, value) for end, value in headers]
            )
            self.assertEqual(answer.status, 400, (headers, answer))
            self.assertIn(answer.code, ("InvalidArgument", "InvalidRequest", "InvalidEncryptionAlgorithmError"))
        self.assertEqual(self.keys(self.name), [])

    def test_copies_change_keys(self):
        content = random_bytes(100_000, 1)
        self.put(self.name, "key", content, **customer())
        source = {"Bucket": self.name, "Key": "key"}
        self.refuse("InvalidRequest", self.s3.copy_object, Bucket=self.name, Key="copy", CopySource=source, status=400)
        self.s3.copy_object(
            Bucket=self.name, Key="copy", CopySource=source, **customer(prefix="CopySource"), **customer(OTHER)
        )
        self.assertEqual(self.get(self.name, "copy", **customer(OTHER)), content)
        self.s3.copy_object(Bucket=self.name, Key="plain", CopySource=source, **customer(prefix="CopySource"))
        self.assertEqual(self.get(self.name, "plain"), content)

    def test_every_part_needs_the_key(self):
        upload = self.s3.create_multipart_upload(Bucket=self.name, Key="key", **customer())["UploadId"]
        place = {"Bucket": self.name, "Key": "key", "UploadId": upload}
        self.refuse("InvalidRequest", self.s3.upload_part, **place, PartNumber=1, Body=b"x", status=400)
        self.refuse(
            ("InvalidRequest", "AccessDenied"), self.s3.upload_part, **place, PartNumber=1, Body=b"x", **customer(OTHER)
        )
        pieces, parts = [random_bytes(PART, 1), b"end"], []
        for number, piece in enumerate(pieces, 1):
            etag = self.s3.upload_part(**place, PartNumber=number, Body=piece, **customer())["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        self.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
        self.assertEqual(sha256(self.get(self.name, "key", **customer())), sha256(b"".join(pieces)))


class OnDisk(OwnServerCase):
    def test_neither_content_nor_keys_are_on_the_disks(self):
        name = self.bucket()
        plain, secret, own = os.urandom(MIB), os.urandom(MIB), os.urandom(MIB)
        self.put(name, "plain", plain)
        self.put(name, "secret", secret, ServerSideEncryption="AES256")
        self.put(name, "own", own, **customer())
        self.server.stop()
        found = b"".join(path.read_bytes() for path in self.server.store.rglob("*") if path.is_file())
        self.assertIn(plain[5000:5064], found)
        for part in (secret[5000:5064], own[5000:5064], KEY, base64.b64encode(KEY)):
            self.assertNotIn(part, found)
        self.server.start()
        self.assertEqual(self.get(name, "secret"), secret)
        self.assertEqual(self.get(name, "own", **customer()), own)

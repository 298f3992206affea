"""Accounts: each sees its own buckets; names belong to whoever took them first."""

import json

from support import AccountsCase, OwnServerCase, bucket_name


class Accounts(AccountsCase):
    def test_an_account_sees_only_its_own_buckets(self):
        mine, theirs = self.bucket(), bucket_name("theirs")
        self.other.create_bucket(Bucket=theirs)
        self.assertIn(mine, [bucket["Name"] for bucket in self.s3.list_buckets()["Buckets"]])
        self.assertNotIn(theirs, [bucket["Name"] for bucket in self.s3.list_buckets()["Buckets"]])
        self.assertEqual(
            [bucket["Name"] for bucket in self.other.list_buckets()["Buckets"] if bucket["Name"] in (mine, theirs)],
            [theirs],
        )
        self.assertEqual(self.other.list_buckets()["Owner"]["ID"], self.second.id)

    def test_a_name_is_taken_for_all(self):
        name = self.bucket()
        self.refuse("BucketAlreadyExists", self.other.create_bucket, Bucket=name, status=409)

    def test_nothing_of_another_account_can_be_done(self):
        name = self.bucket("Enabled")
        version = self.put(name, "key")["VersionId"]
        upload = self.s3.create_multipart_upload(Bucket=name, Key="part")["UploadId"]
        place, thing = {"Bucket": name}, {"Bucket": name, "Key": "key"}
        body = {"Body": b"x"}
        for call, arguments in [
            ("head_bucket", place),
            ("list_objects", place),
            ("list_objects_v2", place),
            ("list_object_versions", place),
            ("list_multipart_uploads", place),
            ("get_bucket_acl", place),
            ("get_bucket_policy", place),
            ("get_bucket_versioning", place),
            ("get_bucket_tagging", place),
            ("get_bucket_cors", place),
            ("get_bucket_lifecycle_configuration", place),
            ("get_bucket_location", place),
            ("delete_bucket", place),
            ("put_bucket_versioning", {**place, "VersioningConfiguration": {"Status": "Suspended"}}),
            ("put_bucket_policy", {**place, "Policy": "{}"}),
            ("delete_bucket_policy", place),
            ("put_public_access_block", {**place, "PublicAccessBlockConfiguration": {"BlockPublicAcls": False}}),
            ("get_object", thing),
            ("get_object", {**thing, "VersionId": version}),
            ("head_object", thing),
            ("put_object", {**thing, **body}),
            ("delete_object", thing),
            ("delete_object", {**thing, "VersionId": version}),
            ("get_object_tagging", thing),
            ("get_object_acl", thing),
            ("put_object_tagging", {**thing, "Tagging": {"TagSet": []}}),
            ("get_object_attributes", {**thing, "ObjectAttributes": ["ETag"]}),
            ("create_multipart_upload", thing),
            ("upload_part", {**place, **body, "Key": "part", "UploadId": upload, "PartNumber": 1}),
            ("list_parts", {**place, "Key": "part", "UploadId": upload}),
            ("abort_multipart_upload", {**place, "Key": "part", "UploadId": upload}),
            (
                "complete_multipart_upload",
                {
                    **place,
                    "Key": "part",
                    "UploadId": upload,
                    "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "x"}]},
                },
            ),
        ]:
            for client in (self.other, self.anonymous):
                with self.subTest(call=call, anonymous=client is self.anonymous):
                    self.denied(getattr(client, call), **arguments)
        self.assertEqual(self.get(name, "key"), b"content")

    def test_a_key_that_is_unknown_is_named(self):
        stranger = self.server.client("AKIAUNKNOWNKEY000000", "secret")
        self.refuse("InvalidAccessKeyId", stranger.list_buckets, status=403)
        wrong = self.server.client(self.second.access_key, self.second.secret_key + "x")
        self.refuse("SignatureDoesNotMatch", wrong.list_buckets, status=403)

    def test_the_expected_owner_is_checked(self):
        name = self.bucket()
        self.denied(self.s3.get_bucket_acl, Bucket=name, ExpectedBucketOwner="111122223333")


class Keys(OwnServerCase):
    def test_without_a_configured_key_one_is_made_and_printed_once(self):
        self.server.stop()
        for name in ("HOLDFAST_ROOT_ACCESS_KEY", "HOLDFAST_ROOT_SECRET_KEY"):
            self.server.environment.pop(name)
        before = len(self.server.log_text(1 << 20))
        self.server.start()
        printed = self.server.log_text(1 << 20)[before:]
        self.assertTrue(any(len(word.strip('",.:')) >= 16 for word in printed.split()), printed)
        self.server.stop()
        before = len(self.server.log_text(1 << 20))
        self.server.start()
        self.assertNotIn("secret", self.server.log_text(1 << 20)[before:].lower())

    def test_secrets_are_not_on_the_disk_or_in_the_log(self):
        self.server.stop()
        made = json.loads(self.server.run("account", "create", "second", "--email", "s@example.com", "--json"))
        key = json.loads(self.server.run("key", "create", "--account", "second", "--json"))
        secret = key["secretAccessKey"].encode()
        self.assertTrue(made)
        self.server.start()
        for path in [*self.server.store.rglob("*"), self.server.log]:
            if path.is_file():
                content = path.read_bytes()
                self.assertNotIn(secret, content, path)
                self.assertNotIn(self.server.secret_key.encode(), content, path)

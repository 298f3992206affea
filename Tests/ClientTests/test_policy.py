"""Bucket policies, their status, and the block of public access."""

import datetime
import json

from support import AccountsCase, OpenCase


def statement(effect, action, resource, principal="*", **more):
    return {"Effect": effect, "Principal": principal, "Action": action, "Resource": resource, **more}


class PolicyCase(OpenCase):
    def setUp(self):
        self.name = self.open_bucket()
        self.arn = f"arn:aws:s3:::{self.name}"

    def set_policy(self, *statements):
        text = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.s3.put_bucket_policy(Bucket=self.name, Policy=text)
        return text

    def reads(self, key="key", client=None, **options):
        """May this client (default: anybody) read?"""
        client = client or self.anonymous
        try:
            client.get_object(Bucket=self.name, Key=key, **options)
            return True
        except client.exceptions.ClientError as error:
            self.assertEqual(error.response["Error"]["Code"], "AccessDenied", error.response)
            return False


class Documents(PolicyCase):
    def test_a_policy_is_kept_as_it_was_given_and_removed(self):
        self.refuse("NoSuchBucketPolicy", self.s3.get_bucket_policy, Bucket=self.name, status=404)
        text = self.set_policy(statement("Allow", "s3:GetObject", self.arn + "/*"))
        self.assertEqual(json.loads(self.s3.get_bucket_policy(Bucket=self.name)["Policy"]), json.loads(text))
        self.assertEqual(self.status(self.s3.delete_bucket_policy(Bucket=self.name)), 204)
        self.refuse("NoSuchBucketPolicy", self.s3.get_bucket_policy, Bucket=self.name, status=404)

    def test_what_is_no_policy_is_refused(self):
        good = statement("Allow", "s3:GetObject", self.arn + "/*")
        bad = [
            "",
            "{",
            "[]",
            "{}",
            '"text"',
            json.dumps({"Version": "2012-10-17"}),
            json.dumps({"Version": "2012-10-17", "Statement": []}),
            json.dumps({"Version": "1999-01-01", "Statement": [good]}),
        ]
        for change in [
            {"Effect": "Maybe"},
            {"Action": "s3:Nonsense"},
            {"Action": "ec2:*"},
            {"Action": []},
            {"Resource": "arn:aws:s3:::another-bucket/*"},
            {"Resource": "nonsense"},
            {"Principal": None},
            {"Principal": {"AWS": "not-an-account"}},
            {"Condition": {"Nonsense": {"a": "b"}}},
            {"Condition": "text"},
            {"Unknown": "x"},
        ]:
            bad.append(json.dumps({"Version": "2012-10-17", "Statement": [{**good, **change}]}))
        bad.append("[" * 100_000)
        bad.append(json.dumps({"Version": "2012-10-17", "Statement": [{**good, "Sid": "x" * 21_000}]}))
        for text in bad:
            with self.subTest(text=text[:120]):
                answer = self.service.request("PUT", f"/{self.name}", [("policy", "")], body=text.encode())
                self.assertEqual(answer.status, 400, answer)
                self.assertIn(
                    answer.code,
                    (
                        "MalformedPolicy",
                        "InvalidPolicyDocument",
                        "PolicyTooLarge",
                        "EntityTooLarge",
                        "MissingRequestBodyError",
                    ),
                )
        self.refuse("NoSuchBucketPolicy", self.s3.get_bucket_policy, Bucket=self.name)
        self.assertTrue(self.server.is_alive())


class Evaluation(PolicyCase):
    def setUp(self):
        super().setUp()
        for key in ("key", "public/a", "public/b/c", "private/a"):
            self.put(self.name, key)

    def test_without_a_policy_strangers_get_nothing(self):
        self.assertFalse(self.reads())
        self.denied(self.anonymous.list_objects_v2, Bucket=self.name)
        self.denied(self.anonymous.put_object, Bucket=self.name, Key="key", Body=b"x")
        self.denied(self.anonymous.delete_object, Bucket=self.name, Key="key")
        self.denied(self.anonymous.get_bucket_policy, Bucket=self.name)

    def test_what_is_allowed_and_nothing_else(self):
        self.set_policy(statement("Allow", "s3:GetObject", self.arn + "/public/*"))
        self.assertTrue(self.reads("public/a"))
        self.assertTrue(self.reads("public/b/c"))
        self.assertFalse(self.reads("private/a"))
        self.assertFalse(self.reads("key"))
        self.denied(self.anonymous.list_objects_v2, Bucket=self.name)
        self.denied(self.anonymous.put_object, Bucket=self.name, Key="public/a", Body=b"x")

    def test_a_deny_wins(self):
        self.set_policy(
            statement("Allow", "s3:*", [self.arn, self.arn + "/*"]),
            statement("Deny", "s3:GetObject", self.arn + "/private/*"),
        )
        self.assertTrue(self.reads("key"))
        self.assertFalse(self.reads("private/a"))
        self.assertFalse(self.reads("private/a", self.s3))
        self.anonymous.put_object(Bucket=self.name, Key="private/a", Body=b"x")

    def test_the_owner_can_always_take_the_policy_back(self):
        self.set_policy(statement("Deny", "s3:*", [self.arn, self.arn + "/*"]))
        self.denied(self.s3.get_object, Bucket=self.name, Key="key")
        self.s3.delete_bucket_policy(Bucket=self.name)
        self.assertEqual(self.get(self.name, "key"), b"content")

    def test_wildcards_in_actions_and_resources(self):
        for action, resource, keys in [
            ("s3:Get*", "/*", {"key", "public/a", "public/b/c", "private/a"}),
            ("s3:*Object", "/p*/a", {"public/a", "private/a"}),
            ("*", "/public/?", {"public/a"}),
            ("s3:GETOBJECT", "/key", {"key"}),
            ("s3:Put*", "/*", set()),
            ("s3:GetObject", "/KEY", set()),
            ("s3:GetObjec?", "/k?y", {"key"}),
        ]:
            with self.subTest(action=action, resource=resource):
                self.set_policy(statement("Allow", action, self.arn + resource))
                readable = {key for key in ("key", "public/a", "public/b/c", "private/a") if self.reads(key)}
                self.assertEqual(readable, keys)

    def test_not_action_and_not_resource(self):
        self.set_policy({"Effect": "Allow", "Principal": "*", "NotAction": "s3:PutObject", "Resource": self.arn + "/*"})
        self.assertTrue(self.reads())
        self.denied(self.anonymous.put_object, Bucket=self.name, Key="key", Body=b"x")
        self.set_policy(
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "NotResource": self.arn + "/private/*"}
        )
        self.assertTrue(self.reads("public/a"))
        self.assertFalse(self.reads("private/a"))

    def test_conditions(self):
        tomorrow = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)).isoformat()
        for condition, passes in [
            ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, True),
            ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.168.0.0/16"]}}, False),
            ({"NotIpAddress": {"aws:SourceIp": "127.0.0.1/32"}}, False),
            ({"Bool": {"aws:SecureTransport": "false"}}, True),
            ({"Bool": {"aws:SecureTransport": "true"}}, False),
            ({"DateLessThan": {"aws:CurrentTime": tomorrow[:19] + "Z"}}, True),
            ({"DateGreaterThan": {"aws:CurrentTime": tomorrow[:19] + "Z"}}, False),
            ({"StringLike": {"aws:UserAgent": "*Boto3*"}}, True),
            ({"StringNotLike": {"aws:UserAgent": "*Boto3*"}}, False),
            ({"StringEquals": {"aws:Referer": "http://x/"}}, False),
            ({"StringEqualsIfExists": {"aws:Referer": "http://x/"}}, True),
            ({"Null": {"aws:Referer": "true"}}, True),
            ({"Null": {"aws:Referer": "false"}}, False),
            ({"IpAddress": {"aws:SourceIp": "127.0.0.1"}, "Bool": {"aws:SecureTransport": "true"}}, False),
        ]:
            with self.subTest(condition=condition):
                self.set_policy(statement("Allow", "s3:GetObject", self.arn + "/*", Condition=condition))
                self.assertEqual(self.reads(), passes)

    def test_conditions_on_listing(self):
        self.set_policy(
            statement(
                "Allow",
                "s3:ListBucket",
                self.arn,
                Condition={"StringLike": {"s3:prefix": "public/*"}, "NumericLessThanEquals": {"s3:max-keys": "5"}},
            )
        )
        page = self.anonymous.list_objects_v2(Bucket=self.name, Prefix="public/", MaxKeys=5)
        self.assertEqual(page["KeyCount"], 2)
        self.denied(self.anonymous.list_objects_v2, Bucket=self.name, Prefix="public/", MaxKeys=6)
        self.denied(self.anonymous.list_objects_v2, Bucket=self.name, Prefix="private/", MaxKeys=5)
        self.denied(self.anonymous.list_objects_v2, Bucket=self.name)

    def test_conditions_on_tags_and_acls(self):
        self.s3.put_object_tagging(
            Bucket=self.name, Key="public/a", Tagging={"TagSet": [{"Key": "who", "Value": "all"}]}
        )
        self.set_policy(
            statement(
                "Allow",
                "s3:GetObject",
                self.arn + "/*",
                Condition={"StringEquals": {"s3:ExistingObjectTag/who": "all"}},
            ),
            statement(
                "Allow",
                "s3:PutObject",
                self.arn + "/new/*",
                Condition={"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}},
            ),
        )
        self.assertTrue(self.reads("public/a"))
        self.assertFalse(self.reads("public/b/c"))
        self.denied(self.anonymous.put_object, Bucket=self.name, Key="new/x", Body=b"x")

    def test_a_missing_object_is_told_only_to_those_who_may_list(self):
        self.set_policy(statement("Allow", "s3:GetObject", self.arn + "/*"))
        self.denied(self.anonymous.get_object, Bucket=self.name, Key="none")
        self.set_policy(
            statement("Allow", "s3:GetObject", self.arn + "/*"), statement("Allow", "s3:ListBucket", self.arn)
        )
        self.refuse("NoSuchKey", self.anonymous.get_object, Bucket=self.name, Key="none", status=404)

    def test_versions_have_their_own_actions(self):
        self.set_versioning(self.name, "Enabled")
        version = self.put(self.name, "key", b"1")["VersionId"]
        self.set_policy(statement("Allow", "s3:GetObject", self.arn + "/*"))
        self.assertTrue(self.reads())
        self.assertFalse(self.reads(VersionId=version))
        self.set_policy(
            statement("Allow", ["s3:GetObject", "s3:GetObjectVersion"], self.arn + "/*"),
            statement("Allow", "s3:DeleteObject", self.arn + "/*"),
        )
        self.assertTrue(self.reads(VersionId=version))
        self.denied(self.anonymous.delete_object, Bucket=self.name, Key="key", VersionId=version)
        self.anonymous.delete_object(Bucket=self.name, Key="key")

    def test_a_copy_needs_to_read_the_source_and_to_write_the_target(self):
        source = {"Bucket": self.name, "Key": "private/a"}
        self.set_policy(statement("Allow", "s3:PutObject", self.arn + "/public/*"))
        self.denied(self.anonymous.copy_object, Bucket=self.name, Key="public/stolen", CopySource=source)
        self.set_policy(statement("Allow", "s3:GetObject", self.arn + "/private/*"))
        self.denied(self.anonymous.copy_object, Bucket=self.name, Key="public/stolen", CopySource=source)

    def test_a_multi_delete_is_decided_key_by_key(self):
        self.set_policy(statement("Allow", "s3:DeleteObject", self.arn + "/public/*"))
        items = [{"Key": "public/a"}, {"Key": "private/a"}]
        answer = self.anonymous.delete_objects(Bucket=self.name, Delete={"Objects": items})
        self.assertEqual([item["Key"] for item in answer["Deleted"]], ["public/a"])
        self.assertEqual([(item["Key"], item["Code"]) for item in answer["Errors"]], [("private/a", "AccessDenied")])


class Accounts(AccountsCase, PolicyCase):
    def test_a_policy_opens_a_bucket_to_an_account(self):
        self.put(self.name, "key")
        self.assertFalse(self.reads(client=self.other))
        for principal in ({"CanonicalUser": self.second.id}, {"AWS": self.second.id}):
            with self.subTest(principal=principal):
                self.set_policy(statement("Allow", "s3:GetObject", self.arn + "/*", principal))
                self.assertTrue(self.reads(client=self.other))
                self.assertFalse(self.reads(client=self.third))
                self.assertFalse(self.reads())

    def test_a_deny_for_one_account(self):
        self.put(self.name, "key")
        self.set_policy(
            statement("Allow", "s3:GetObject", self.arn + "/*"),
            statement("Deny", "s3:*", self.arn + "/*", {"AWS": self.second.id}),
        )
        self.assertTrue(self.reads(client=self.third))
        self.assertFalse(self.reads(client=self.other))

    def test_a_multipart_copy_needs_to_read_the_source(self):
        self.put(self.name, "secret")
        mine = "other-" + self.name
        self.other.create_bucket(Bucket=mine)
        upload = self.other.create_multipart_upload(Bucket=mine, Key="key")["UploadId"]
        self.denied(
            self.other.upload_part_copy,
            Bucket=mine,
            Key="key",
            UploadId=upload,
            PartNumber=1,
            CopySource={"Bucket": self.name, "Key": "secret"},
        )


class PublicAccess(OpenCase):
    def setUp(self):
        self.name = self.bucket()
        self.arn = f"arn:aws:s3:::{self.name}"
        self.public = json.dumps(
            {"Version": "2012-10-17", "Statement": [statement("Allow", "s3:GetObject", self.arn + "/*")]}
        )

    def block(self, **settings):
        names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        self.s3.put_public_access_block(
            Bucket=self.name, PublicAccessBlockConfiguration={name: settings.get(name, False) for name in names}
        )

    def test_a_new_bucket_blocks_everything(self):
        found = self.s3.get_public_access_block(Bucket=self.name)["PublicAccessBlockConfiguration"]
        self.assertEqual(set(found.values()), {True})
        self.denied(self.s3.put_bucket_policy, Bucket=self.name, Policy=self.public)

    def test_settings_are_kept_and_removed(self):
        self.block(BlockPublicAcls=True)
        found = self.s3.get_public_access_block(Bucket=self.name)["PublicAccessBlockConfiguration"]
        self.assertEqual((found["BlockPublicAcls"], found["BlockPublicPolicy"]), (True, False))
        self.s3.delete_public_access_block(Bucket=self.name)
        self.refuse(
            "NoSuchPublicAccessBlockConfiguration", self.s3.get_public_access_block, Bucket=self.name, status=404
        )

    def test_public_policies_can_be_restricted_later(self):
        self.block()
        self.put(self.name, "key")
        self.s3.put_bucket_policy(Bucket=self.name, Policy=self.public)
        self.assertTrue(self.s3.get_bucket_policy_status(Bucket=self.name)["PolicyStatus"]["IsPublic"])
        self.anonymous.get_object(Bucket=self.name, Key="key")
        self.block(RestrictPublicBuckets=True)
        self.denied(self.anonymous.get_object, Bucket=self.name, Key="key")

    def test_a_policy_for_some_is_not_public(self):
        condition = {"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}}
        private = json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [statement("Allow", "s3:GetObject", self.arn + "/*", Condition=condition)],
            }
        )
        self.block(BlockPublicPolicy=True)
        self.s3.put_bucket_policy(Bucket=self.name, Policy=private)
        self.assertFalse(self.s3.get_bucket_policy_status(Bucket=self.name)["PolicyStatus"]["IsPublic"])

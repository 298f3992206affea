"""Tags of buckets and of objects."""

from support import ApiCase


def tag_set(tags):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


class Tags(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def tags(self, key="key", **options):
        found = self.s3.get_object_tagging(Bucket=self.name, Key=key, **options)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}


class ObjectTags(Tags):
    def test_tags_are_set_replaced_and_removed(self):
        self.put(self.name, "key")
        self.assertEqual(self.tags(), {})
        for tags in ({"a": "1", "b": ""}, {"ü +": "日本 =/"}):
            self.s3.put_object_tagging(Bucket=self.name, Key="key", Tagging=tag_set(tags))
            self.assertEqual(self.tags(), tags)
        self.assertEqual(self.s3.get_object(Bucket=self.name, Key="key")["TagCount"], 1)
        answer = self.s3.delete_object_tagging(Bucket=self.name, Key="key")
        self.assertEqual(self.status(answer), 204)
        self.assertEqual(self.tags(), {})

    def test_tags_come_with_the_object(self):
        self.put(self.name, "key", Tagging="a=1&b=two%20words&c")
        self.assertEqual(self.tags(), {"a": "1", "b": "two words", "c": ""})
        self.put(self.name, "key")
        self.assertEqual(self.tags(), {})

    def test_each_version_has_its_own(self):
        self.set_versioning(self.name, "Enabled")
        old = self.put(self.name, "key", Tagging="v=1")["VersionId"]
        new = self.put(self.name, "key", Tagging="v=2")["VersionId"]
        self.s3.put_object_tagging(Bucket=self.name, Key="key", VersionId=old, Tagging=tag_set({"v": "old"}))
        self.assertEqual(
            (self.tags(VersionId=old), self.tags(VersionId=new), self.tags()), ({"v": "old"}, {"v": "2"}, {"v": "2"})
        )

    def test_the_limits_are_kept(self):
        self.put(self.name, "key")
        ten = {f"k{number}": "v" for number in range(10)}
        self.s3.put_object_tagging(Bucket=self.name, Key="key", Tagging=tag_set(ten))
        for tags, codes in [
            ({**ten, "k10": "v"}, ("BadRequest", "InvalidTag")),
            ({"k" * 129: "v"}, "InvalidTag"),
            ({"k": "v" * 257}, "InvalidTag"),
            ({"aws:x": "v"}, "InvalidTag"),
        ]:
            with self.subTest(tags=tags):
                self.refuse(
                    codes, self.s3.put_object_tagging, Bucket=self.name, Key="key", Tagging=tag_set(tags), status=400
                )
        self.assertEqual(self.tags(), ten)
        self.s3.put_object_tagging(Bucket=self.name, Key="key", Tagging=tag_set({"k" * 128: "v" * 256}))

    def test_a_key_twice_is_refused(self):
        self.put(self.name, "key")
        body = b"<Tagging><TagSet>" + b"<Tag><Key>a</Key><Value>1</Value></Tag>" * 2 + b"</TagSet></Tagging>"
        answer = self.service.request("PUT", f"/{self.name}/key", [("tagging", "")], body=body)
        self.assertEqual((answer.status, answer.code), (400, "InvalidTag"))
        answer = self.service.request("PUT", f"/{self.name}/other", headers=[("x-amz-tagging", "a=1&a=2")], body=b"x")
        self.assertEqual(answer.status, 400)

    def test_a_missing_object_has_none(self):
        self.refuse("NoSuchKey", self.s3.get_object_tagging, Bucket=self.name, Key="none", status=404)
        self.refuse(
            "NoSuchKey",
            self.s3.put_object_tagging,
            Bucket=self.name,
            Key="none",
            Tagging=tag_set({"a": "b"}),
            status=404,
        )

    def test_the_number_of_tags_is_told(self):
        self.put(self.name, "key", Tagging="a=1&b=2")
        head = self.headers(self.s3.get_object(Bucket=self.name, Key="key"))
        self.assertEqual(head.get("x-amz-tagging-count"), "2")


class BucketTags(Tags):
    def test_tags_are_set_replaced_and_removed(self):
        self.refuse("NoSuchTagSet", self.s3.get_bucket_tagging, Bucket=self.name, status=404)
        for tags in ({"a": "1"}, {"b": "2", "c": "3"}):
            self.assertEqual(self.status(self.s3.put_bucket_tagging(Bucket=self.name, Tagging=tag_set(tags))), 204)
            found = self.s3.get_bucket_tagging(Bucket=self.name)["TagSet"]
            self.assertEqual({tag["Key"]: tag["Value"] for tag in found}, tags)
        self.assertEqual(self.status(self.s3.delete_bucket_tagging(Bucket=self.name)), 204)
        self.refuse("NoSuchTagSet", self.s3.get_bucket_tagging, Bucket=self.name, status=404)

    def test_fifty_are_the_limit(self):
        self.s3.put_bucket_tagging(Bucket=self.name, Tagging=tag_set({f"k{n}": "v" for n in range(50)}))
        self.refuse(
            ("BadRequest", "InvalidTag"),
            self.s3.put_bucket_tagging,
            Bucket=self.name,
            Tagging=tag_set({f"k{n}": "v" for n in range(51)}),
            status=400,
        )

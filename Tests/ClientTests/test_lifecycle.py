"""Lifecycle: the configuration, the date shown, and the worker that applies it."""

import datetime
import email.utils

from support import ApiCase, OwnServerCase, poll

RULE = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 30}}


class Configuration(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def rules(self, *rules):
        self.s3.put_bucket_lifecycle_configuration(Bucket=self.name, LifecycleConfiguration={"Rules": list(rules)})

    def test_it_is_kept_and_removed(self):
        self.refuse(
            "NoSuchLifecycleConfiguration", self.s3.get_bucket_lifecycle_configuration, Bucket=self.name, status=404
        )
        rules = [
            RULE,
            {
                "ID": "tags",
                "Status": "Disabled",
                "Filter": {
                    "And": {
                        "Prefix": "x",
                        "Tags": [{"Key": "a", "Value": "b"}],
                        "ObjectSizeGreaterThan": 10,
                        "ObjectSizeLessThan": 1000,
                    }
                },
                "NoncurrentVersionExpiration": {"NoncurrentDays": 5, "NewerNoncurrentVersions": 3},
            },
            {
                "ID": "markers",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "Expiration": {"ExpiredObjectDeleteMarker": True},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            },
        ]
        self.rules(*rules)
        self.assertEqual(self.s3.get_bucket_lifecycle_configuration(Bucket=self.name)["Rules"], rules)
        self.assertEqual(self.status(self.s3.delete_bucket_lifecycle(Bucket=self.name)), 204)
        self.refuse("NoSuchLifecycleConfiguration", self.s3.get_bucket_lifecycle_configuration, Bucket=self.name)

    def test_a_rule_without_a_name_gets_one(self):
        self.rules({key: value for key, value in RULE.items() if key != "ID"})
        self.assertTrue(self.s3.get_bucket_lifecycle_configuration(Bucket=self.name)["Rules"][0]["ID"])

    def test_wrong_rules_are_refused(self):
        for changes, codes in [
            ([{"Expiration": {"Days": 0}}], "InvalidArgument"),
            ([{"Expiration": {"Days": -1}}], "InvalidArgument"),
            ([{}, {}], "InvalidArgument"),
            ([{"ID": "x" * 256}], "InvalidArgument"),
            ([{"Status": "enabled"}], "MalformedXML"),
            ([{"Status": ""}], "MalformedXML"),
            ([{"Expiration": {"Date": datetime.datetime(2030, 1, 1, 5)}}], "InvalidArgument"),
            ([{"Expiration": {}}], ("MalformedXML", "InvalidRequest")),
            ([{"Expiration": {"Days": 1, "ExpiredObjectDeleteMarker": True}}], "MalformedXML"),
            ([{"NoncurrentVersionExpiration": {"NoncurrentDays": 0}}], "InvalidArgument"),
            (
                [{"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}],
                ("NotImplemented", "InvalidArgument", "InvalidStorageClass"),
            ),
        ]:
            with self.subTest(changes=changes):
                response = self.refuse(codes, self.rules, *[{**RULE, **change} for change in changes])
                self.assertIn(self.status(response), (400, 501))

    def test_the_date_is_told_with_the_object(self):
        self.rules(RULE)
        answer = self.put(self.name, "old/key")
        self.assertIn('rule-id="r"', answer["Expiration"])
        date = email.utils.parsedate_to_datetime(answer["Expiration"].split('"')[1])
        days = (date - datetime.datetime.now(datetime.timezone.utc)) / datetime.timedelta(days=1)
        self.assertTrue(29.9 < days <= 31.1, answer["Expiration"])
        self.assertEqual((date.hour, date.minute), (0, 0))
        for call in (self.s3.get_object, self.s3.head_object):
            self.assertEqual(call(Bucket=self.name, Key="old/key")["Expiration"], answer["Expiration"])
        copied = self.s3.copy_object(Bucket=self.name, Key="old/copy", CopySource=f"{self.name}/old/key")
        self.assertIn('rule-id="r"', copied["Expiration"])
        names = {"Bucket": self.name, "Key": "old/parts"}
        upload = {**names, "UploadId": self.s3.create_multipart_upload(**names)["UploadId"]}
        tag = self.s3.upload_part(**upload, PartNumber=1, Body=b"part")["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
        completed = self.s3.complete_multipart_upload(**upload, MultipartUpload=parts)
        self.assertIn('rule-id="r"', completed["Expiration"])
        self.assertNotIn("Expiration", self.put(self.name, "new/key"))


class Worker(OwnServerCase):
    """Runs with days of a second."""

    options = ("--lifecycle-day", "1")

    def test_what_is_old_goes_and_the_rest_stays(self):
        name = self.bucket("Enabled")
        self.put(name, "old/key", b"1")
        self.put(name, "new/key", b"2")
        self.put(name, "old/tagged", b"3", Tagging="keep=yes")
        for number in range(4):
            self.put(name, "noncurrent/key", str(number).encode())
        upload = self.s3.create_multipart_upload(Bucket=name, Key="old/upload")["UploadId"]
        self.s3.put_bucket_lifecycle_configuration(
            Bucket=name,
            LifecycleConfiguration={
                "Rules": [
                    {**RULE, "Expiration": {"Days": 1}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
                    {
                        "ID": "n",
                        "Status": "Enabled",
                        "Filter": {"Prefix": "noncurrent/"},
                        "NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 1},
                    },
                ]
            },
        )
        poll(lambda: self.keys(name) == ["new/key", "noncurrent/key"], "the old keys expire")
        poll(lambda: "Uploads" not in self.s3.list_multipart_uploads(Bucket=name), f"upload {upload} is aborted")
        poll(
            lambda: len(self.s3.list_object_versions(Bucket=name, Prefix="noncurrent/")["Versions"]) == 2,
            "all but one noncurrent version go",
        )
        markers = self.s3.list_object_versions(Bucket=name, Prefix="old/")["DeleteMarkers"]
        self.assertEqual({marker["Key"] for marker in markers}, {"old/key", "old/tagged"})
        self.assertEqual(self.get(name, "noncurrent/key"), b"3")

"""Buckets: making, naming, finding and removing them."""

import concurrent.futures

import support
from support import ApiCase, bucket_name, random_bytes


class Buckets(ApiCase):
    def test_a_new_bucket_is_there_and_listed(self):
        name = self.bucket()
        self.assertEqual(self.status(self.s3.head_bucket(Bucket=name)), 200)
        listed = self.s3.list_buckets()
        self.assertIn(name, [bucket["Name"] for bucket in listed["Buckets"]])
        self.assertTrue(listed["Owner"]["ID"])
        self.assertEqual([b["Name"] for b in listed["Buckets"]], sorted(b["Name"] for b in listed["Buckets"]))

    def test_its_location_is_the_region(self):
        name = self.bucket()
        self.assertIn(self.s3.get_bucket_location(Bucket=name)["LocationConstraint"], (None, support.REGION))

    def test_making_it_again_keeps_what_is_in_it(self):
        name = self.bucket()
        self.put(name, "kept")
        self.s3.create_bucket(Bucket=name)
        self.assertEqual(self.keys(name), ["kept"])

    def test_a_location_that_is_not_this_region_is_refused(self):
        self.refuse(
            ("IllegalLocationConstraintException", "InvalidLocationConstraint"),
            self.s3.create_bucket,
            Bucket=bucket_name(),
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
            status=400,
        )

    def test_names_that_s3_forbids_are_refused(self):
        for name in [
            "ab",
            "x" * 64,
            "Models",
            "mod_els",
            "-models",
            "models-",
            "mo..dels",
            "192.168.1.1",
            "xn--models",
            "models-s3alias",
        ]:
            with self.subTest(name=name):
                answer = self.service.request("PUT", f"/{name}")
                self.assertEqual((answer.status, answer.code), (400, "InvalidBucketName"))

    def test_names_that_s3_allows_are_taken(self):
        stem = bucket_name()
        for name in ["0" + stem, stem + ".dotted.name", (stem + "-" + "x" * 63)[:63]]:
            with self.subTest(name=name):
                self.s3.create_bucket(Bucket=name)
                self.s3.head_bucket(Bucket=name)

    def test_a_missing_bucket_is_missing_everywhere(self):
        name = bucket_name("none")
        self.refuse("404", self.s3.head_bucket, Bucket=name, status=404)
        for call in (
            self.s3.delete_bucket,
            self.s3.list_objects,
            self.s3.list_objects_v2,
            self.s3.list_object_versions,
            self.s3.get_bucket_location,
            self.s3.get_bucket_versioning,
            self.s3.list_multipart_uploads,
            self.s3.get_bucket_acl,
            self.s3.get_bucket_tagging,
        ):
            with self.subTest(call=call.__name__):
                self.refuse("NoSuchBucket", call, Bucket=name, status=404)
        self.refuse("NoSuchBucket", self.put, name, "key", status=404)
        self.refuse("NoSuchBucket", self.s3.get_object, Bucket=name, Key="key", status=404)

    def test_an_empty_bucket_goes_away_with_its_settings(self):
        name = self.bucket()
        self.s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
        self.assertEqual(self.status(self.s3.delete_bucket(Bucket=name)), 204)
        self.refuse("404", self.s3.head_bucket, Bucket=name, status=404)
        self.s3.create_bucket(Bucket=name)
        self.refuse("NoSuchTagSet", self.s3.get_bucket_tagging, Bucket=name, status=404)

    def test_a_bucket_that_holds_something_stays(self):
        name = self.bucket()
        self.put(name, "key")
        self.refuse("BucketNotEmpty", self.s3.delete_bucket, Bucket=name, status=409)
        self.assertEqual(self.keys(name), ["key"])

    def test_old_versions_and_delete_markers_hold_a_bucket_too(self):
        name = self.bucket("Enabled")
        version = self.put(name, "key")["VersionId"]
        marker = self.s3.delete_object(Bucket=name, Key="key")["VersionId"]
        self.refuse("BucketNotEmpty", self.s3.delete_bucket, Bucket=name, status=409)
        self.s3.delete_object(Bucket=name, Key="key", VersionId=version)
        self.refuse("BucketNotEmpty", self.s3.delete_bucket, Bucket=name, status=409)
        self.s3.delete_object(Bucket=name, Key="key", VersionId=marker)
        self.s3.delete_bucket(Bucket=name)

    def test_the_list_of_buckets_comes_in_pages(self):
        stem = bucket_name("page")
        names = [f"{stem}-{number}" for number in range(5)]
        for name in names:
            self.s3.create_bucket(Bucket=name)
        found, token = [], {}
        for _ in range(5):
            page = self.s3.list_buckets(Prefix=stem, MaxBuckets=2, **token)
            found += [bucket["Name"] for bucket in page["Buckets"]]
            self.assertLessEqual(len(page["Buckets"]), 2)
            if "ContinuationToken" not in page:
                break
            token = {"ContinuationToken": page["ContinuationToken"]}
        self.assertEqual(found, names)

    def test_one_of_many_makers_makes_it(self):
        name = bucket_name("race")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.service.request("PUT", f"/{name}").status, range(8)))
        self.assertLessEqual(set(answers), {200, 409})
        self.assertIn(200, answers)
        self.put(name, "key", random_bytes(100, 1))
        self.assertEqual(self.keys(name), ["key"])

    def test_a_body_that_is_no_configuration_is_refused(self):
        answer = self.service.request("PUT", f"/{bucket_name()}", body=b"<CreateBucketConfiguration><Loc")
        self.assertEqual((answer.status, answer.code), (400, "MalformedXML"))

"""Versions: every write is kept, every delete can be taken back."""

import concurrent.futures

from support import ApiCase


class Versioned(ApiCase):
    def setUp(self):
        self.name = self.bucket("Enabled")

    def versions(self, name=None, **options):
        page = self.s3.list_object_versions(Bucket=name or self.name, **options)
        return page.get("Versions", []), page.get("DeleteMarkers", [])


class Enabled(Versioned):
    def test_every_write_is_a_version_and_can_be_read(self):
        ids = [self.put(self.name, "key", str(number).encode())["VersionId"] for number in range(5)]
        self.assertEqual(len(set(ids)), 5)
        for number, version in enumerate(ids):
            self.assertEqual(self.get(self.name, "key", VersionId=version), str(number).encode())
            self.assertEqual(self.s3.head_object(Bucket=self.name, Key="key", VersionId=version)["VersionId"], version)
        found, markers = self.versions()
        self.assertEqual([item["VersionId"] for item in found], ids[::-1])
        self.assertEqual([item["IsLatest"] for item in found], [True] + [False] * 4)
        self.assertEqual(markers, [])
        self.assertEqual(self.get(self.name, "key"), b"4")
        self.assertEqual(self.s3.get_object(Bucket=self.name, Key="key")["VersionId"], ids[-1])

    def test_a_delete_hides_and_can_be_taken_back(self):
        version = self.put(self.name, "key", b"kept")["VersionId"]
        answer = self.s3.delete_object(Bucket=self.name, Key="key")
        self.assertTrue(answer["DeleteMarker"])
        marker = answer["VersionId"]
        response = self.refuse("NoSuchKey", self.s3.get_object, Bucket=self.name, Key="key", status=404)
        self.assertEqual(self.headers(response).get("x-amz-delete-marker"), "true")
        self.assertEqual(self.headers(response).get("x-amz-version-id"), marker)
        self.assertEqual(self.keys(self.name), [])
        self.assertEqual(self.get(self.name, "key", VersionId=version), b"kept")
        found, markers = self.versions()
        self.assertEqual([(item["VersionId"], item["IsLatest"]) for item in markers], [(marker, True)])
        self.assertEqual([(item["VersionId"], item["IsLatest"]) for item in found], [(version, False)])
        answer = self.s3.delete_object(Bucket=self.name, Key="key", VersionId=marker)
        self.assertTrue(answer["DeleteMarker"])
        self.assertEqual(answer["VersionId"], marker)
        self.assertEqual(self.get(self.name, "key"), b"kept")

    def test_a_marker_has_no_content(self):
        self.put(self.name, "key")
        marker = self.s3.delete_object(Bucket=self.name, Key="key")["VersionId"]
        for call in (self.s3.get_object, self.s3.head_object):
            response = self.refuse(
                ("MethodNotAllowed", "405"), call, Bucket=self.name, Key="key", VersionId=marker, status=405
            )
            self.assertEqual(self.headers(response).get("x-amz-delete-marker"), "true")

    def test_deleting_what_never_was_makes_a_marker(self):
        self.assertTrue(self.s3.delete_object(Bucket=self.name, Key="never")["DeleteMarker"])
        self.s3.delete_object(Bucket=self.name, Key="never")
        self.assertEqual(len(self.versions()[1]), 2)

    def test_a_version_can_be_removed_for_good(self):
        first = self.put(self.name, "key", b"first")["VersionId"]
        second = self.put(self.name, "key", b"second")["VersionId"]
        answer = self.s3.delete_object(Bucket=self.name, Key="key", VersionId=second)
        self.assertEqual(answer["VersionId"], second)
        self.assertNotIn("DeleteMarker", answer)
        self.assertEqual(self.get(self.name, "key"), b"first")
        self.refuse("NoSuchVersion", self.s3.get_object, Bucket=self.name, Key="key", VersionId=second, status=404)
        self.s3.delete_object(Bucket=self.name, Key="key", VersionId=second)
        self.assertEqual([item["VersionId"] for item in self.versions()[0]], [first])

    def test_a_version_of_another_key_is_not_found(self):
        version = self.put(self.name, "one", b"1")["VersionId"]
        self.put(self.name, "two", b"2")
        self.refuse("NoSuchVersion", self.s3.get_object, Bucket=self.name, Key="two", VersionId=version, status=404)

    def test_what_is_no_version_id_is_refused(self):
        self.put(self.name, "key")
        for version in ("nonsense", "", "../../x", "x" * 1025):
            answer = self.service.request("GET", f"/{self.name}/key", [("versionId", version)])
            self.assertIn((answer.status, answer.code), {(400, "InvalidArgument"), (404, "NoSuchVersion")}, version)

    def test_writers_at_once_are_all_kept(self):
        def write(number):
            return self.service.request("PUT", f"/{self.name}/key", body=str(number).encode()).header(
                "x-amz-version-id"
            )

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(write, range(24)))
        self.assertEqual(len(set(ids)), 24)
        found, _ = self.versions()
        self.assertEqual({item["VersionId"] for item in found}, set(ids))
        for number, version in enumerate(ids):
            self.assertEqual(self.get(self.name, "key", VersionId=version), str(number).encode())
        self.assertEqual(sum(item["IsLatest"] for item in found), 1)

    def test_the_list_comes_in_pages(self):
        expected = []
        for key in ("a", "b", "c"):
            ids = [self.put(self.name, key, str(number).encode())["VersionId"] for number in range(3)]
            marker = self.s3.delete_object(Bucket=self.name, Key=key)["VersionId"]
            expected += [(key, marker)] + [(key, version) for version in ids[::-1]]
        for size in (1, 2, 5, 100):
            found, more = [], {}
            while True:
                page = self.s3.list_object_versions(Bucket=self.name, MaxKeys=size, **more)
                items = page.get("Versions", []) + page.get("DeleteMarkers", [])
                self.assertLessEqual(len(items), size)
                found += [(item["Key"], item["VersionId"]) for item in items]
                if not page["IsTruncated"]:
                    break
                more = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
            self.assertEqual(sorted(found), sorted(expected), size)

    def test_the_status_is_what_was_set(self):
        self.assertEqual(self.s3.get_bucket_versioning(Bucket=self.name)["Status"], "Enabled")
        self.set_versioning(self.name, "Suspended")
        self.assertEqual(self.s3.get_bucket_versioning(Bucket=self.name)["Status"], "Suspended")

    def test_a_status_that_is_none_is_refused(self):
        for body in (b"<VersioningConfiguration><Status>Off</Status></VersioningConfiguration>", b"<Other/>", b"x"):
            answer = self.service.request("PUT", f"/{self.name}", [("versioning", "")], body=body)
            self.assertIn(
                (answer.status, answer.code), {(400, "MalformedXML"), (400, "IllegalVersioningConfigurationException")}
            )
        self.assertEqual(self.s3.get_bucket_versioning(Bucket=self.name)["Status"], "Enabled")


class NullVersions(Versioned):
    def test_a_suspended_bucket_keeps_one_null_version(self):
        kept = self.put(self.name, "key", b"kept")["VersionId"]
        self.set_versioning(self.name, "Suspended")
        for content in (b"first", b"second"):
            self.assertIn(self.put(self.name, "key", content).get("VersionId"), (None, "null"))
        found, _ = self.versions()
        self.assertEqual([item["VersionId"] for item in found], ["null", kept])
        self.assertEqual(self.get(self.name, "key", VersionId="null"), b"second")
        self.assertEqual(self.get(self.name, "key", VersionId=kept), b"kept")

    def test_a_delete_in_a_suspended_bucket_replaces_the_null_version(self):
        kept = self.put(self.name, "key", b"kept")["VersionId"]
        self.set_versioning(self.name, "Suspended")
        self.put(self.name, "key", b"gone")
        answer = self.s3.delete_object(Bucket=self.name, Key="key")
        self.assertTrue(answer["DeleteMarker"])
        self.assertEqual(answer["VersionId"], "null")
        found, markers = self.versions()
        self.assertEqual([item["VersionId"] for item in markers], ["null"])
        self.assertEqual([item["VersionId"] for item in found], [kept])
        self.refuse("NoSuchKey", self.s3.get_object, Bucket=self.name, Key="key", status=404)

    def test_a_null_version_survives_later_versions(self):
        self.set_versioning(self.name, "Suspended")
        self.put(self.name, "key", b"null")
        self.set_versioning(self.name, "Enabled")
        later = self.put(self.name, "key", b"later")["VersionId"]
        self.assertEqual([item["VersionId"] for item in self.versions()[0]], [later, "null"])
        self.assertEqual(self.get(self.name, "key", VersionId="null"), b"null")
        self.s3.delete_object(Bucket=self.name, Key="key", VersionId="null")
        self.assertEqual([item["VersionId"] for item in self.versions()[0]], [later])


class NeverVersioned(ApiCase):
    def test_a_new_bucket_has_no_versions(self):
        name = self.bucket()
        self.assertNotIn("Status", self.s3.get_bucket_versioning(Bucket=name))
        self.assertNotIn("VersionId", self.put(name, "key", b"first"))
        self.put(name, "key", b"second")
        found = self.s3.list_object_versions(Bucket=name)["Versions"]
        self.assertEqual([item["VersionId"] for item in found], ["null"])
        answer = self.s3.delete_object(Bucket=name, Key="key")
        self.assertNotIn("DeleteMarker", answer)
        self.assertNotIn("Versions", self.s3.list_object_versions(Bucket=name))

    def test_what_was_there_before_becomes_the_null_version(self):
        name = self.bucket()
        self.put(name, "key", b"before")
        self.set_versioning(name, "Enabled")
        version = self.put(name, "key", b"after")["VersionId"]
        self.assertEqual(self.get(name, "key", VersionId="null"), b"before")
        self.s3.delete_object(Bucket=name, Key="key", VersionId=version)
        self.assertEqual(self.get(name, "key"), b"before")

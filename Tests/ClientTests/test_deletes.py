"""Deleting many objects with one request."""

import base64
import hashlib

from support import ApiCase


class ManyDeletes(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def delete(self, *objects, quiet=False, name=None):
        items = [item if isinstance(item, dict) else {"Key": item} for item in objects]
        return self.s3.delete_objects(Bucket=name or self.name, Delete={"Objects": items, "Quiet": quiet})

    def test_many_go_at_once(self):
        keys = ["a", "b/c", "d e", "ü", "<&>\"'"]
        for key in keys:
            self.put(self.name, key)
        answer = self.delete(*keys, "never")
        self.assertEqual({item["Key"] for item in answer["Deleted"]}, {*keys, "never"})
        self.assertNotIn("Errors", answer)
        self.assertEqual(self.keys(self.name), [])

    def test_quiet_tells_only_errors(self):
        self.put(self.name, "a")
        answer = self.delete("a", quiet=True)
        self.assertNotIn("Deleted", answer)
        self.assertEqual(self.keys(self.name), [])

    def test_versions_and_markers(self):
        self.set_versioning(self.name, "Enabled")
        version = self.put(self.name, "key", b"1")["VersionId"]
        answer = self.delete("key")["Deleted"][0]
        self.assertTrue(answer["DeleteMarker"])
        marker = answer["DeleteMarkerVersionId"]
        answer = self.delete({"Key": "key", "VersionId": marker})["Deleted"][0]
        self.assertEqual(
            (answer["VersionId"], answer["DeleteMarker"], answer["DeleteMarkerVersionId"]), (marker, True, marker)
        )
        self.assertEqual(self.get(self.name, "key"), b"1")
        self.delete({"Key": "key", "VersionId": version})
        self.assertNotIn("Versions", self.s3.list_object_versions(Bucket=self.name))

    def test_what_fails_is_told_by_key(self):
        self.put(self.name, "kept")
        self.put(self.name, "gone")
        answer = self.delete({"Key": "kept", "VersionId": "nonsense-version"}, "gone")
        self.assertEqual([item["Key"] for item in answer.get("Deleted", []) if item["Key"] == "gone"], ["gone"])
        self.assertEqual(self.keys(self.name), ["kept"])

    def test_a_thousand_is_the_limit(self):
        self.delete(*[f"k{number}" for number in range(1000)])
        self.refuse("MalformedXML", self.delete, *[f"k{number}" for number in range(1001)], status=400)

    def test_an_empty_or_broken_list_is_refused(self):
        for body in (b"<Delete></Delete>", b"<Delete><Object></Object></Delete>", b"<Other/>", b"", b"<Delete>"):
            md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
            answer = self.service.request("POST", f"/{self.name}", [("delete", "")], [("content-md5", md5)], body)
            self.assertEqual(answer.status, 400, body)
            self.assertIn(answer.code, ("MalformedXML", "MissingRequestBodyError", "UserKeyMustBeSpecified"), body)

    def test_a_wrong_digest_deletes_nothing(self):
        self.put(self.name, "kept")
        body = b"<Delete><Object><Key>kept</Key></Object></Delete>"
        answer = self.service.request(
            "POST", f"/{self.name}", [("delete", "")], [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], body
        )
        self.assertEqual((answer.status, answer.code), (400, "BadDigest"))
        self.assertEqual(self.keys(self.name), ["kept"])

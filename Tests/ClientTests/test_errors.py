"""Errors as S3 words them, and what every answer carries."""

import xml.etree.ElementTree

import sigv4
from support import OwnServerCase, RawCase, poll, random_bytes


class Errors(RawCase):
    def error(self, answer):
        self.assertEqual(answer.header("content-type"), "application/xml")
        root = xml.etree.ElementTree.fromstring(answer.body)
        self.assertEqual(root.tag, "Error")
        return {child.tag: child.text for child in root}

    def test_the_document_tells_what_where_and_which_request(self):
        answer = self.send("GET", f"/{self.name}/no%20such/%C3%A4%26")
        self.assertEqual(answer.status, 404)
        error = self.error(answer)
        self.assertEqual(error["Code"], "NoSuchKey")
        self.assertTrue(error["Message"])
        self.assertEqual(error["RequestId"], answer.header("x-amz-request-id"))
        self.assertIn(self.name, error["Resource"])
        self.assertTrue(answer.header("x-amz-id-2") is None or "HostId" in error)

    def test_no_browser_guesses_what_an_answer_is(self):
        self.s3.put_object(Bucket=self.name, Key="key", Body=b"<html>", ContentType="text/plain")
        for method, path in (("GET", self.path), ("HEAD", self.path), ("GET", f"/{self.name}/none"), ("GET", "/")):
            answer = self.send(method, path)
            self.assertEqual(answer.header("x-content-type-options"), "nosniff", (method, path))

    def test_head_has_no_document(self):
        answer = self.send("HEAD", f"/{self.name}/none")
        self.assertEqual((answer.status, answer.body), (404, b""))
        self.assertTrue(answer.header("x-amz-request-id"))

    def test_every_refusal_has_a_request_id(self):
        for raw in (
            sigv4.head("GET", "/", [("host", self.service.host)]),
            sigv4.head("GET", f"/{self.name}/key", [("host", self.service.host)]),
            sigv4.head("BREW", f"/{self.name}/key", [("host", self.service.host)]),
        ):
            answer = self.service.exchange(raw)
            self.assertGreaterEqual(answer.status, 400)
            self.assertTrue(answer.header("x-amz-request-id"), answer)

    def test_nothing_tells_secrets_or_the_inside(self):
        for path in (f"/{self.name}/none", "/none-such-bucket/x", f"/{self.name}?uploads=x&versionId=y"):
            answer = self.send("GET", path.partition("?")[0])
            text = answer.body.decode() + str(answer.headers)
            for word in (self.server.secret_key, "/tmp/", "Swift", "sqlite", "segment"):
                self.assertNotIn(word, text)

    def test_a_wrong_signature_tells_what_was_signed(self):
        other = sigv4.Signer(self.server.access_key, "wrong", self.service.signer.region)
        answer = self.send("GET", self.path, signer=other)
        self.assertEqual(answer.status, 403)
        self.assertEqual(self.error(answer)["Code"], "SignatureDoesNotMatch")
        self.assertNotIn(self.server.secret_key.encode(), answer.body)

    def test_the_connection_survives_an_error(self):
        with self.service.wire() as wire:
            for _ in range(5):
                raw, _ = self.service.build("GET", f"/{self.name}/none")
                wire.send(raw)
                self.assertEqual(wire.receive().status, 404)
            raw, _ = self.service.build("PUT", self.path, body=b"x")
            wire.send(raw + b"x")
            self.assertEqual(wire.receive().status, 200)

    def test_internal_headers_of_others_are_not_obeyed(self):
        for name in ("x-minio-source-mtime", "x-amz-replication-status", "x-holdfast-version-id"):
            answer = self.send("PUT", self.path, headers=[(name, "2001-01-01T00:00:00Z")], body=b"x")
            self.assertIn(answer.status, (200, 400, 403, 501), name)
        self.assertNotIn("ReplicationStatus", self.s3.head_object(Bucket=self.name, Key="key"))


class Quorum(OwnServerCase):
    breakable = True

    def test_without_a_quorum_writes_answer_503_and_leave_nothing(self):
        name = self.bucket()
        self.put(name, "before", b"kept")
        self.server.lose(0)
        self.server.lose(1)

        def refused():
            answer = self.service.request("PUT", f"/{name}/key", body=random_bytes(9 << 20, 1))
            return answer if answer.status == 503 else None

        answer = poll(refused, "a write is refused")
        self.assertIn(answer.code, ("ServiceUnavailable", "SlowDown"))
        self.assertTrue(answer.header("retry-after"))
        # Why is for the log: clients are not told what is inside.
        text = answer.body.decode() + str(answer.headers)
        for word in ("/tmp/", str(self.server.store), "volumes/", "errno", "Swift"):
            self.assertNotIn(word, text)
        log = self.server.log.read_text()
        self.assertIn(str(self.server.volumes[0]), log)
        self.assertIn("A request failed.", log)
        self.assertEqual(self.get(name, "before"), b"kept")
        poll(lambda: self.server.operation("/readyz")[0] == 503, "it is not ready")
        self.assertEqual(self.server.operation("/livez")[0], 200)
        self.assertEqual(self.server.operation("/readyz/read")[0], 200)

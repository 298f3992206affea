"""Uploads from a browser's form, with a signed policy."""

import base64
import datetime
import json
import urllib.parse

import sigv4
from support import MIB, OpenCase, RawCase, random_bytes

BOUNDARY = "----formboundary1234"


def form(fields, content, name="file", filename="f.bin", after=()):
    """A multipart/form-data body."""
    out = b""
    for key, value in fields:
        value = value.encode() if isinstance(value, str) else value
        out += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'.encode() + value + b"\r\n"
    if content is not None:
        out += (
            (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
                "Content-Type: text/x\r\n\r\n"
            ).encode()
            + content
            + b"\r\n"
        )
    for key, value in after:
        out += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
    return out + f"--{BOUNDARY}--\r\n".encode()


class FormCase(OpenCase, RawCase):
    def setUp(self):
        self.name = self.bucket()

    def policy(self, *conditions, minutes=10, bucket=None):
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
        return {
            "expiration": end.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "conditions": [{"bucket": bucket or self.name}, ["starts-with", "$key", "up/"], *conditions],
        }

    def signed(self, policy, key="up/key", **fields):
        """Fields of a form with this policy, signed."""
        date = sigv4.stamp()
        signer = self.service.signer
        made = {
            "key": key,
            **{name.replace("_", "-"): value for name, value in fields.items()},
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": f"{signer.access_key}/{signer.scope(date)}",
            "x-amz-date": date,
        }
        if isinstance(policy, dict):
            policy["conditions"] += [
                {name: made[name]} for name in ("x-amz-algorithm", "x-amz-credential", "x-amz-date")
            ]
            policy = json.dumps(policy)
        text = base64.b64encode(policy.encode()).decode()
        return [*made.items(), ("policy", text), ("x-amz-signature", signer.sign_text(date, text))]

    def post(self, body, headers=(), bucket=None, content_type=None):
        sent = [
            ("host", self.service.host),
            ("content-length", str(len(body))),
            ("content-type", content_type or f"multipart/form-data; boundary={BOUNDARY}"),
            *headers,
        ]
        return self.service.exchange(sigv4.head("POST", f"/{bucket or self.name}", sent) + body, "POST")


class Forms(FormCase):
    def test_a_signed_form_uploads(self):
        for size in (0, 10, 3 * MIB):
            content = random_bytes(size, size)
            answer = self.post(form(self.signed(self.policy()), content))
            self.assertEqual(answer.status, 204, answer)
            self.assertTrue(answer.header("etag"))
            self.assertEqual(self.get(self.name, "up/key"), content)

    def test_the_file_name_can_be_part_of_the_key(self):
        self.post(form(self.signed(self.policy(), key="up/${filename}"), b"x", filename="model.bin"))
        self.assertEqual(self.keys(self.name), ["up/model.bin"])

    def test_boto3_makes_such_forms(self):
        made = self.server.client(signature_version="s3v4").generate_presigned_post(self.name, "up/boto", ExpiresIn=60)
        self.assertEqual(self.post(form(list(made["fields"].items()), b"boto")).status, 204)
        self.assertEqual(self.get(self.name, "up/boto"), b"boto")

    def test_the_form_chooses_the_answer(self):
        for status in (200, 201, 204):
            policy = self.policy(["eq", "$success_action_status", str(status)])
            fields = [("success_action_status", str(status)), *self.signed(policy)]
            answer = self.post(form(fields, b"x"))
            self.assertEqual(answer.status, status, answer)
            if status == 201:
                self.assertIn(f"<Bucket>{self.name}</Bucket>".encode(), answer.body)
                self.assertIn(b"<Key>up/key</Key>", answer.body)

    def test_a_redirect_tells_where_it_is(self):
        target = "http://a.example/done"
        policy = self.policy({"success_action_redirect": target})
        answer = self.post(form([("success_action_redirect", target), *self.signed(policy)], b"x"))
        self.assertEqual(answer.status, 303, answer)
        location = urllib.parse.urlsplit(answer.header("location"))
        self.assertTrue(answer.header("location").startswith(target))
        self.assertEqual(urllib.parse.parse_qs(location.query)["key"], ["up/key"])

    def test_metadata_and_headers_are_kept(self):
        policy = self.policy(
            {"x-amz-meta-a": "1"}, ["starts-with", "$Content-Type", "text/"], {"Cache-Control": "no-store"}
        )
        fields = [("Content-Type", "text/plain"), ("Cache-Control", "no-store"), *self.signed(policy, x_amz_meta_a="1")]
        self.assertEqual(self.post(form(fields, b"x")).status, 204)
        found = self.s3.head_object(Bucket=self.name, Key="up/key")
        self.assertEqual(
            (found["Metadata"], found["ContentType"], found["CacheControl"]), ({"a": "1"}, "text/plain", "no-store")
        )

    def test_what_comes_after_the_file_is_ignored(self):
        body = form(self.signed(self.policy()), b"x", after=[("key", "elsewhere")])
        self.assertEqual(self.post(body).status, 204)
        self.assertEqual(self.keys(self.name), ["up/key"])


class Refusals(FormCase):
    def refused(self, fields, content=b"x", status=403, code=None, **options):
        answer = self.post(form(fields, content), **options)
        self.assert_refused(answer, status, code)
        self.assertEqual(self.keys(self.name), [])
        return answer

    def test_conditions_that_do_not_hold(self):
        self.refused(self.signed(self.policy(), key="elsewhere/key"), code="AccessDenied")
        self.refused(self.signed(self.policy(minutes=-1)), code="AccessDenied")
        self.refused(self.signed(self.policy({"x-amz-meta-a": "1"}), x_amz_meta_a="2"), code="AccessDenied")
        self.refused(self.signed(self.policy({"x-amz-meta-a": "1"})), code="AccessDenied")
        self.refused(self.signed(self.policy(bucket="another-bucket")), code="AccessDenied")

    def test_a_form_for_one_bucket_is_not_good_for_another(self):
        other = self.bucket()
        answer = self.post(form(self.signed(self.policy()), b"x"), bucket=other)
        self.assert_refused(answer, 403, "AccessDenied")
        self.assertEqual(self.keys(other), [])
        fields = [("bucket", self.name), *self.signed(self.policy())]
        answer = self.post(form(fields, b"x"), bucket=other)
        self.assert_refused(answer, 403, "AccessDenied")

    def test_the_length_is_checked(self):
        policy = ["content-length-range", 5, 10]
        self.refused(self.signed(self.policy(policy)), b"x" * 11, 400, "EntityTooLarge")
        self.refused(self.signed(self.policy(policy)), b"x" * 4, 400, "EntityTooSmall")
        self.assertEqual(self.post(form(self.signed(self.policy(policy)), b"x" * 10)).status, 204)

    def test_fields_that_the_policy_does_not_mention(self):
        self.refused(self.signed(self.policy(), x_amz_meta_b="2"), code="AccessDenied")
        fields = self.signed(self.policy(), acl="public-read")
        self.refused(fields, code="AccessDenied")
        answer = self.post(form([("x-ignore-this", "y"), *self.signed(self.policy())], b"x"))
        self.assertEqual(answer.status, 204, answer)

    def test_wrong_signatures(self):
        fields = self.signed(self.policy())
        self.refused(
            [(n, sigv4.spoil(v) if n == "x-amz-signature" else v) for n, v in fields], code="SignatureDoesNotMatch"
        )
        self.refused([(n, v) for n, v in fields if n != "x-amz-signature"], status=(400, 403))
        self.refused([(n, v) for n, v in fields if n != "policy"], status=(400, 403))
        self.refused(
            [(n, "AKIAUNKNOWNKEY000000" + v[v.index("/") :] if n == "x-amz-credential" else v) for n, v in fields],
            code="InvalidAccessKeyId",
        )
        other = base64.b64encode(json.dumps(self.policy({"x": "y"})).encode()).decode()
        self.refused([(n, other if n == "policy" else v) for n, v in fields], code="SignatureDoesNotMatch")

    def test_without_a_signature_it_is_anonymous(self):
        self.refused([("key", "up/key")], code="AccessDenied")

    def test_policies_that_are_none(self):
        for policy in (
            "",
            "{",
            "[]",
            "{}",
            "nonsense",
            '{"expiration":"2030-01-01T00:00:00Z"}',
            '{"conditions":[]}',
            '{"expiration":"tomorrow","conditions":[]}',
            json.dumps({"expiration": "2035-01-01T00:00:00Z", "conditions": [["what", "$key", "x"]]}),
            json.dumps({"expiration": "2035-01-01T00:00:00Z", "conditions": [["eq"]]}),
            "[" * 50_000,
        ):
            with self.subTest(policy=policy[:80]):
                self.refused(self.signed(policy), status=(400, 403))

    def test_forms_that_are_none(self):
        fields = self.signed(self.policy())
        whole = form(fields, b"x")
        for body, content_type in [
            (form(fields, None), None),
            (form([f for f in fields if f[0] != "key"], b"x"), None),
            (b"", None),
            (b"nonsense", None),
            (whole[:-30], None),
            (whole, "multipart/form-data"),
            (whole, "multipart/form-data; boundary="),
            (whole, "multipart/form-data; boundary=" + "x" * 5000),
            (whole, "multipart/form-data; boundary=other"),
            (whole.replace(b"\r\n\r\n", b"\r\n"), None),
            (whole.replace(b"form-data; name", b"x; nome"), None),
        ]:
            with self.subTest(body=body[:60], content_type=content_type and content_type[:60]):
                answer = self.post(body, content_type=content_type)
                self.assert_refused(answer, (400, 403, 405, 411, 412, 415))
        self.assertEqual(self.keys(self.name), [])

    def test_huge_fields_are_refused(self):
        self.refused([("x-amz-meta-a", "x" * (2 * MIB)), *self.signed(self.policy())], status=(400, 403, 413))
        many = [(f"x-ignore-{number}", "x") for number in range(5000)]
        answer = self.post(form([*many, *self.signed(self.policy())], b"x"))
        self.assertIn(answer.status, (204, 400, 413))
        self.assert_alive()

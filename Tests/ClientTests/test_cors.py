"""Cross-origin requests: the configuration, preflight, and the headers of answers."""

import sigv4
from support import OpenCase

ALLOW = "access-control-allow-origin"


class Cors(OpenCase):
    def setUp(self):
        self.name = self.bucket()
        self.put(self.name, "key")

    def rules(self, *rules):
        self.s3.put_bucket_cors(Bucket=self.name, CORSConfiguration={"CORSRules": list(rules)})

    def preflight(self, origin="http://a.example", method="GET", headers=None, path=None):
        sent = [("host", self.service.host), ("origin", origin), ("access-control-request-method", method)]
        if headers:
            sent.append(("access-control-request-headers", headers))
        return self.service.exchange(sigv4.head("OPTIONS", path or f"/{self.name}/key", sent), "OPTIONS")

    def test_the_configuration_is_kept_and_removed(self):
        self.refuse("NoSuchCORSConfiguration", self.s3.get_bucket_cors, Bucket=self.name, status=404)
        rule = {
            "ID": "one",
            "AllowedOrigins": ["http://a.example", "https://*.b.example"],
            "AllowedMethods": ["GET", "PUT"],
            "AllowedHeaders": ["x-*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 60,
        }
        self.rules(rule)
        self.assertEqual(self.s3.get_bucket_cors(Bucket=self.name)["CORSRules"], [rule])
        self.assertEqual(self.status(self.s3.delete_bucket_cors(Bucket=self.name)), 204)
        self.refuse("NoSuchCORSConfiguration", self.s3.get_bucket_cors, Bucket=self.name, status=404)

    def test_wrong_configurations_are_refused(self):
        good = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}
        for rules in (
            [{**good, "AllowedMethods": ["PATCH"]}],
            [{**good, "AllowedOrigins": ["http://*.*.example"]}],
            [good] * 101,
            [{**good, "AllowedHeaders": ["*-*"]}],
            [],
        ):
            self.refuse(
                ("InvalidRequest", "MalformedXML"),
                self.s3.put_bucket_cors,
                Bucket=self.name,
                CORSConfiguration={"CORSRules": rules},
                status=400,
            )

    def test_preflight_is_answered_by_the_rules(self):
        self.rules(
            {
                "AllowedOrigins": ["http://a.example", "https://*.b.example"],
                "AllowedMethods": ["GET", "PUT"],
                "AllowedHeaders": ["x-*", "Content-Type"],
                "ExposeHeaders": ["ETag"],
                "MaxAgeSeconds": 60,
            }
        )
        answer = self.preflight(method="PUT", headers="x-one, content-type")
        self.assertEqual((answer.status, answer.header(ALLOW)), (200, "http://a.example"))
        self.assertIn("PUT", answer.header("access-control-allow-methods"))
        self.assertEqual(answer.header("access-control-max-age"), "60")
        self.assertIn("origin", (answer.header("vary") or "").lower())
        self.assertEqual(self.preflight("https://x.b.example").header(ALLOW), "https://x.b.example")
        for options in (
            {"origin": "http://evil.example"},
            {"method": "DELETE"},
            {"headers": "y-one"},
            {"origin": "https://b.example"},
            {"origin": "http://a.example.evil"},
        ):
            with self.subTest(options=options):
                answer = self.preflight(**options)
                self.assertEqual((answer.status, answer.header(ALLOW)), (403, None))

    def test_any_origin_is_a_star(self):
        self.rules({"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]})
        self.assertEqual(self.preflight("http://x").header(ALLOW), "*")

    def test_without_rules_preflight_is_refused(self):
        self.assertEqual(self.preflight().status, 403)
        self.assertEqual(self.preflight(path="/none-" + self.name + "/key").status, 403)

    def test_an_incomplete_preflight_is_refused(self):
        self.rules({"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]})
        for sent in ([], [("origin", "http://x")], [("access-control-request-method", "GET")]):
            raw = sigv4.head("OPTIONS", f"/{self.name}/key", [("host", self.service.host), *sent])
            answer = self.service.exchange(raw, "OPTIONS")
            self.assertIn(answer.status, (400, 403), sent)

    def test_answers_carry_the_headers(self):
        self.rules(
            {"AllowedOrigins": ["http://a.example"], "AllowedMethods": ["GET"], "ExposeHeaders": ["ETag", "x-y"]}
        )
        answer = self.service.request("GET", f"/{self.name}/key", headers=[("origin", "http://a.example")])
        self.assertEqual((answer.status, answer.header(ALLOW)), (200, "http://a.example"))
        self.assertEqual(answer.header("access-control-expose-headers").replace(" ", ""), "ETag,x-y")
        answer = self.service.request("GET", f"/{self.name}/none", headers=[("origin", "http://a.example")])
        self.assertEqual((answer.status, answer.header(ALLOW)), (404, "http://a.example"))
        for headers in ([], [("origin", "http://evil.example")]):
            answer = self.service.request("GET", f"/{self.name}/key", headers=headers)
            self.assertEqual((answer.status, answer.header(ALLOW)), (200, None))

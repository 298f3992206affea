"""Other settings of buckets: kept as S3 keeps them, or refused; never silently ignored."""

from support import ApiCase


class Settings(ApiCase):
    def setUp(self):
        self.name = self.bucket()

    def test_who_pays(self):
        self.assertEqual(self.s3.get_bucket_request_payment(Bucket=self.name)["Payer"], "BucketOwner")
        self.s3.put_bucket_request_payment(Bucket=self.name, RequestPaymentConfiguration={"Payer": "Requester"})
        self.assertEqual(self.s3.get_bucket_request_payment(Bucket=self.name)["Payer"], "Requester")
        self.refuse(
            "MalformedXML",
            self.s3.put_bucket_request_payment,
            Bucket=self.name,
            RequestPaymentConfiguration={"Payer": "Nobody"},
            status=400,
        )

    def test_website(self):
        self.refuse("NoSuchWebsiteConfiguration", self.s3.get_bucket_website, Bucket=self.name, status=404)
        site = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}
        self.s3.put_bucket_website(Bucket=self.name, WebsiteConfiguration=site)
        found = self.s3.get_bucket_website(Bucket=self.name)
        self.assertEqual({key: found[key] for key in site}, site)
        self.assertEqual(self.status(self.s3.delete_bucket_website(Bucket=self.name)), 204)
        self.refuse("NoSuchWebsiteConfiguration", self.s3.get_bucket_website, Bucket=self.name, status=404)

    def test_notifications(self):
        found = self.s3.get_bucket_notification_configuration(Bucket=self.name)
        self.assertFalse({"TopicConfigurations", "QueueConfigurations", "LambdaFunctionConfigurations"} & {*found})
        self.s3.put_bucket_notification_configuration(Bucket=self.name, NotificationConfiguration={})
        queue = {
            "Id": "new-models", "QueueArn": "arn:aws:sqs:us-east-1:1:q", "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "models/"}]}},
        }
        answer = self.s3.put_bucket_notification_configuration(
            Bucket=self.name, NotificationConfiguration={"QueueConfigurations": [queue]}
        )
        self.assertIn("not delivered", answer["ResponseMetadata"]["HTTPHeaders"]["warning"])
        (kept,) = self.s3.get_bucket_notification_configuration(Bucket=self.name)["QueueConfigurations"]
        rule = kept.pop("Filter")["Key"]["FilterRules"][0]
        self.assertEqual((rule["Name"].lower(), rule["Value"]), ("prefix", "models/"))
        self.assertEqual(kept, {name: value for name, value in queue.items() if name != "Filter"})
        wrong = {"QueueConfigurations": [{"QueueArn": "nonsense", "Events": ["s3:ObjectCreated:*"]}]}
        self.refuse(
            "InvalidArgument",
            self.s3.put_bucket_notification_configuration,
            Bucket=self.name,
            NotificationConfiguration=wrong,
            status=400,
        )
        wrong = {"QueueConfigurations": [{"QueueArn": "arn:aws:sqs:us-east-1:1:q", "Events": ["s3:Nonsense"]}]}
        self.refuse(
            ("InvalidArgument", "MalformedXML"),
            self.s3.put_bucket_notification_configuration,
            Bucket=self.name,
            NotificationConfiguration=wrong,
            status=400,
        )

    def test_what_is_not_supported_says_so(self):
        for name in ("accelerate", "analytics", "inventory", "metrics", "replication", "intelligent-tiering"):
            for method in ("GET", "PUT"):
                with self.subTest(setting=name, method=method):
                    items = [(name, "")] + ([("id", "x")] if name not in ("accelerate", "replication") else [])
                    answer = self.service.request(
                        method, f"/{self.name}", items, body=b"<X/>" if method == "PUT" else b""
                    )
                    expected = {(501, "NotImplemented"), (405, "MethodNotAllowed")}
                    if method == "GET":
                        expected |= {(404, "ReplicationConfigurationNotFoundError"), (404, "NoSuchConfiguration")}
                    self.assertIn((answer.status, answer.code), expected)
        self.put(self.name, "key")
        for method, items in [
            ("POST", [("select", ""), ("select-type", "2")]),
            ("POST", [("restore", "")]),
            ("GET", [("torrent", "")]),
        ]:
            answer = self.service.request(method, f"/{self.name}/key", items)
            self.assertIn(answer.status, (400, 405, 501), items)

    def test_a_method_that_does_not_fit_is_refused(self):
        for method, path, items in [
            ("POST", f"/{self.name}/key", []),
            ("DELETE", "/", []),
            ("PUT", "/", []),
            ("POST", "/", []),
            ("PATCH", f"/{self.name}/key", []),
            ("TRACE", f"/{self.name}/key", []),
            ("DELETE", f"/{self.name}", [("versioning", "")]),
        ]:
            with self.subTest(method=method, path=path):
                answer = self.service.request(method, path, items)
                self.assertIn(answer.status, (400, 405, 412, 501))
        self.s3.head_bucket(Bucket=self.name)

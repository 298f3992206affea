"""Access logs of a bucket, delivered into another."""

from support import ApiCase, OwnServerCase, poll


class Configuration(ApiCase):
    def setUp(self):
        self.name, self.target = self.bucket(), self.bucket()

    def configure(self, **options):
        enabled = {"TargetBucket": self.target, "TargetPrefix": "log/", **options}
        self.s3.put_bucket_logging(Bucket=self.name, BucketLoggingStatus={"LoggingEnabled": enabled})

    def test_it_is_kept_and_removed(self):
        self.assertNotIn("LoggingEnabled", self.s3.get_bucket_logging(Bucket=self.name))
        self.configure()
        found = self.s3.get_bucket_logging(Bucket=self.name)["LoggingEnabled"]
        self.assertEqual((found["TargetBucket"], found["TargetPrefix"]), (self.target, "log/"))
        self.s3.put_bucket_logging(Bucket=self.name, BucketLoggingStatus={})
        self.assertNotIn("LoggingEnabled", self.s3.get_bucket_logging(Bucket=self.name))

    def test_both_formats_of_keys_are_kept(self):
        for form in ({"SimplePrefix": {}}, {"PartitionedPrefix": {"PartitionDateSource": "EventTime"}}):
            self.configure(TargetObjectKeyFormat=form)
            self.assertEqual(
                self.s3.get_bucket_logging(Bucket=self.name)["LoggingEnabled"]["TargetObjectKeyFormat"], form
            )

    def test_a_missing_target_is_refused(self):
        self.refuse("InvalidTargetBucketForLogging", self.configure, TargetBucket="none-" + self.target, status=400)


class Delivery(OwnServerCase):
    options = ("--access-log-interval", "1")

    def test_requests_appear_in_the_log(self):
        name, target = self.bucket(), self.bucket()
        self.s3.put_bucket_logging(
            Bucket=name, BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": target, "TargetPrefix": "log/"}}
        )
        self.put(name, "a key", b"12345")
        self.get(name, "a key")
        self.refuse("NoSuchKey", self.s3.get_object, Bucket=name, Key="none")

        def text():
            return b"".join(self.get(target, key) for key in self.keys(target, Prefix="log/")).decode()

        poll(lambda: "REST.GET.OBJECT none" in text(), "the log is delivered")
        lines = text().splitlines()
        put = next(line for line in lines if "REST.PUT.OBJECT" in line)
        self.assertIn(f" {name} ", put)
        self.assertIn(" a%2520key ", put.replace("a%20key", "a%2520key"))
        self.assertIn(" 200 ", put)
        missing = next(line for line in lines if "REST.GET.OBJECT none" in line)
        self.assertIn(" 404 NoSuchKey ", missing)

"""Changes of settings over S3 are on record, done and refused; what a new bucket starts with is configured."""

import json
import pathlib

import sigv4
from support import OwnServerCase, poll


class Audit(OwnServerCase):
    def lines(self, action):
        text = self.server.log.read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("part") == "audit" and line.get("action") == action]

    def audited(self, action):
        return poll(lambda: self.lines(action), f"an audit line of {action}")[-1]

    def test_every_change_of_a_setting_is_a_line(self):
        name = self.bucket()
        created = self.audited("CreateBucket")
        self.assertEqual((created["target"], created["outcome"]), (name, "done"))
        self.s3.put_object(Bucket=name, Key="secret-content", Body=b"x")
        policy = {"Version": "2012-10-17", "Statement": [{
            "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{name}/hidden-word",
        }]}
        block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), False)
        enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
        rule = {"Rules": [{"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 9}}]}
        encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
        changes = [
            ("PutBucketPolicy", "put_bucket_policy", {"Policy": json.dumps(policy)}),
            ("DeleteBucketPolicy", "delete_bucket_policy", {}),
            ("PutPublicAccessBlock", "put_public_access_block", {"PublicAccessBlockConfiguration": block}),
            ("DeletePublicAccessBlock", "delete_public_access_block", {}),
            ("PutBucketOwnershipControls", "put_bucket_ownership_controls", {"OwnershipControls": enforced}),
            ("PutBucketAcl", "put_bucket_acl", {"ACL": "private"}),
            ("PutObjectAcl", "put_object_acl", {"Key": "secret-content", "ACL": "private"}),
            ("PutBucketVersioning", "put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
            ("PutBucketLifecycleConfiguration", "put_bucket_lifecycle_configuration", {"LifecycleConfiguration": rule}),
            ("PutBucketEncryption", "put_bucket_encryption", {"ServerSideEncryptionConfiguration": encryption}),
            ("PutBucketLogging", "put_bucket_logging", {"BucketLoggingStatus": {}}),
            ("DeleteBucketLifecycle", "delete_bucket_lifecycle", {}),
        ]
        for action, call, arguments in changes:
            with self.subTest(action=action):
                getattr(self.s3, call)(Bucket=name, **arguments)
                line = self.audited(action)
                self.assertEqual(line["outcome"], "done")
                self.assertTrue(line["target"].startswith(name), line)
                self.assertRegex(line["actor"], "^account .+")
                self.assertTrue(line["requestID"] and line["remote"])
        text = "".join(json.dumps(line) for action, _, _ in changes for line in self.lines(action))
        self.assertNotIn("hidden-word", text)
        self.assertNotIn(self.server.secret_key, text)
        self.assertEqual(self.lines("PutObject") + self.lines("GetBucketPolicy"), [])

    def test_a_refused_change_is_a_line_too(self):
        name = self.bucket()
        headers = [("host", self.service.host), ("content-length", "0")]
        answer = self.service.exchange(sigv4.head("PUT", f"/{name}?versioning", headers), "PUT")
        self.assertEqual(answer.status, 403)
        line = self.audited("PutBucketVersioning")
        self.assertEqual((line["outcome"], line["target"]), (answer.code, name))
        self.assertNotIn("actor", line)
        answer = self.service.request("PUT", "/no-such-bucket-here", [("versioning", "")], body=b"<no")
        self.assertGreaterEqual(answer.status, 400)
        line = poll(lambda: self.lines("PutBucketVersioning")[1:], "a second line")[-1]
        self.assertEqual((line["outcome"], line["target"]), (answer.code, "no-such-bucket-here"))
        self.assertIn("actor", line)


class NewBuckets(OwnServerCase):
    def test_versioning_of_new_buckets_is_configured(self):
        plain = self.bucket()
        self.assertNotIn("Status", self.s3.get_bucket_versioning(Bucket=plain))
        settings = pathlib.Path(self.server.directory) / "serve.yaml"
        settings.write_text("newBuckets: {versioning: enabled}\n")
        self.server.stop()
        self.server.options = ["--config", str(settings)]
        self.server.start()
        versioned = self.bucket()
        self.assertEqual(self.s3.get_bucket_versioning(Bucket=versioned)["Status"], "Enabled")
        self.assertNotIn("Status", self.s3.get_bucket_versioning(Bucket=plain))
        self.server.stop()
        settings.write_text("newBuckets: {versioning: sometimes}\n")
        self.server.run("serve", "--config", str(settings), codes=(2,))

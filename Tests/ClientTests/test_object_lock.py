"""Object lock: what is locked can not be removed before its time, by anybody."""

import datetime

from support import ApiCase


def in_days(days):
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=days)


class Locked(ApiCase):
    def setUp(self):
        self.name = self.bucket(ObjectLockEnabledForBucket=True)

    def lock(self, key="key", mode="GOVERNANCE", days=1, **options):
        return self.put(self.name, key, ObjectLockMode=mode, ObjectLockRetainUntilDate=in_days(days), **options)[
            "VersionId"
        ]

    def remove(self, version, key="key", **options):
        return self.s3.delete_object(Bucket=self.name, Key=key, VersionId=version, **options)

    def denied(self, call, *arguments, **options):
        self.refuse("AccessDenied", call, *arguments, **options, status=403)


class Retention(Locked):
    def test_a_lock_bucket_has_versions_and_keeps_them(self):
        self.assertEqual(self.s3.get_bucket_versioning(Bucket=self.name)["Status"], "Enabled")
        self.refuse("InvalidBucketState", self.set_versioning, self.name, "Suspended", status=409)
        found = self.s3.get_object_lock_configuration(Bucket=self.name)["ObjectLockConfiguration"]
        self.assertEqual(found, {"ObjectLockEnabled": "Enabled"})

    def test_a_locked_version_stays_but_may_be_hidden(self):
        version = self.lock()
        self.denied(self.remove, version)
        marker = self.s3.delete_object(Bucket=self.name, Key="key")
        self.assertTrue(marker["DeleteMarker"])
        self.assertEqual(self.get(self.name, "key", VersionId=version), b"content")
        self.remove(marker["VersionId"])
        self.assertEqual(self.get(self.name, "key"), b"content")

    def test_governance_can_be_overridden_on_purpose(self):
        version = self.lock()
        self.denied(self.remove, version)
        self.remove(version, BypassGovernanceRetention=True)
        self.assertNotIn("Versions", self.s3.list_object_versions(Bucket=self.name))

    def test_compliance_can_not(self):
        version = self.lock(mode="COMPLIANCE")
        self.denied(self.remove, version)
        self.denied(self.remove, version, BypassGovernanceRetention=True)
        for mode, days in (("COMPLIANCE", 0.5), ("GOVERNANCE", 2)):
            self.denied(
                self.s3.put_object_retention,
                Bucket=self.name,
                Key="key",
                BypassGovernanceRetention=True,
                Retention={"Mode": mode, "RetainUntilDate": in_days(days)},
            )
        self.s3.put_object_retention(
            Bucket=self.name, Key="key", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": in_days(3)}
        )

    def test_governance_is_shortened_only_on_purpose(self):
        self.lock(days=5)
        shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": in_days(1)}
        self.denied(self.s3.put_object_retention, Bucket=self.name, Key="key", Retention=shorter)
        self.s3.put_object_retention(Bucket=self.name, Key="key", Retention=shorter, BypassGovernanceRetention=True)
        found = self.s3.get_object_retention(Bucket=self.name, Key="key")["Retention"]
        self.assertEqual(found, shorter)

    def test_head_tells_the_lock(self):
        until = in_days(2)
        self.put(
            self.name,
            "key",
            ObjectLockMode="GOVERNANCE",
            ObjectLockRetainUntilDate=until,
            ObjectLockLegalHoldStatus="ON",
        )
        found = self.s3.head_object(Bucket=self.name, Key="key")
        self.assertEqual(
            (found["ObjectLockMode"], found["ObjectLockRetainUntilDate"], found["ObjectLockLegalHoldStatus"]),
            ("GOVERNANCE", until, "ON"),
        )

    def test_the_default_of_the_bucket_applies(self):
        rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}}
        self.s3.put_object_lock_configuration(Bucket=self.name, ObjectLockConfiguration=rule)
        self.assertEqual(self.s3.get_object_lock_configuration(Bucket=self.name)["ObjectLockConfiguration"], rule)
        version = self.put(self.name, "key")["VersionId"]
        until = self.s3.get_object_retention(Bucket=self.name, Key="key")["Retention"]["RetainUntilDate"]
        self.assertLess(abs(until - in_days(3)), datetime.timedelta(minutes=5))
        self.denied(self.remove, version)

    def test_wrong_settings_are_refused(self):
        retention = {"Mode": "GOVERNANCE", "RetainUntilDate": in_days(1)}
        self.put(self.name, "key")
        for change, codes in [({"RetainUntilDate": in_days(-1)}, "InvalidArgument"), ({"Mode": "abc"}, "MalformedXML")]:
            self.refuse(
                codes,
                self.s3.put_object_retention,
                Bucket=self.name,
                Key="key",
                Retention={**retention, **change},
                status=400,
            )
        for rule in (
            {"Mode": "GOVERNANCE"},
            {"Mode": "GOVERNANCE", "Days": 1, "Years": 1},
            {"Mode": "GOVERNANCE", "Days": 0},
            {"Mode": "abc", "Days": 1},
            {"Mode": "GOVERNANCE", "Years": -1},
        ):
            self.refuse(
                ("MalformedXML", "InvalidArgument", "InvalidRetentionPeriod"),
                self.s3.put_object_lock_configuration,
                Bucket=self.name,
                status=400,
                ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": rule}},
            )
        answer = self.service.request(
            "PUT", f"/{self.name}/x", body=b"x", headers=[("x-amz-object-lock-mode", "GOVERNANCE")]
        )
        self.assertEqual(answer.status, 400)


class LegalHold(Locked):
    def test_a_hold_holds_until_it_is_lifted(self):
        version = self.put(self.name, "key")["VersionId"]
        self.s3.put_object_legal_hold(Bucket=self.name, Key="key", LegalHold={"Status": "ON"})
        self.assertEqual(self.s3.get_object_legal_hold(Bucket=self.name, Key="key")["LegalHold"]["Status"], "ON")
        self.denied(self.remove, version)
        self.denied(self.remove, version, BypassGovernanceRetention=True)
        self.s3.put_object_legal_hold(Bucket=self.name, Key="key", LegalHold={"Status": "OFF"})
        self.remove(version)

    def test_a_multi_delete_does_not_go_around_it(self):
        version = self.put(self.name, "key", ObjectLockLegalHoldStatus="ON")["VersionId"]
        answer = self.s3.delete_objects(
            Bucket=self.name, BypassGovernanceRetention=True, Delete={"Objects": [{"Key": "key", "VersionId": version}]}
        )
        self.assertEqual([item["Code"] for item in answer["Errors"]], ["AccessDenied"])
        self.assertEqual(self.get(self.name, "key"), b"content")

    def test_an_object_without_one_has_none(self):
        self.put(self.name, "key")
        self.refuse(
            "NoSuchObjectLockConfiguration", self.s3.get_object_retention, Bucket=self.name, Key="key", status=404
        )


class Unlocked(ApiCase):
    def test_a_bucket_without_lock_refuses_locks(self):
        name = self.bucket()
        self.put(name, "key")
        retention = {"Mode": "GOVERNANCE", "RetainUntilDate": in_days(1)}
        self.refuse(
            "InvalidRequest", self.s3.put_object_retention, Bucket=name, Key="key", Retention=retention, status=400
        )
        self.refuse(
            "InvalidRequest",
            self.s3.put_object_legal_hold,
            Bucket=name,
            Key="key",
            LegalHold={"Status": "ON"},
            status=400,
        )
        self.refuse(
            "InvalidRequest",
            self.put,
            name,
            "key",
            ObjectLockMode="GOVERNANCE",
            ObjectLockRetainUntilDate=in_days(1),
            status=400,
        )
        self.refuse(
            "ObjectLockConfigurationNotFoundError", self.s3.get_object_lock_configuration, Bucket=name, status=404
        )
        self.refuse(
            "InvalidBucketState",
            self.s3.put_object_lock_configuration,
            Bucket=name,
            status=409,
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"},
        )

"""Access control lists and object ownership."""

from support import AccountsCase, OpenCase

ALL = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"


def short(answer):
    """An ACL's grants as (grantee, permission), groups by the end of their address."""
    owner = answer["Owner"]["ID"]
    found = []
    for grant in answer["Grants"]:
        grantee = grant["Grantee"]
        name = grantee["URI"].rpartition("/")[2] if grantee["Type"] == "Group" else grantee["ID"]
        found.append(("owner" if name == owner else name, grant["Permission"]))
    return found


class Ownership(OpenCase):
    def setUp(self):
        self.name = self.bucket()

    def test_a_new_bucket_has_no_use_for_acls(self):
        rule = self.s3.get_bucket_ownership_controls(Bucket=self.name)["OwnershipControls"]["Rules"][0]
        self.assertEqual(rule["ObjectOwnership"], "BucketOwnerEnforced")
        self.assertEqual(short(self.s3.get_bucket_acl(Bucket=self.name)), [("owner", "FULL_CONTROL")])
        self.refuse(
            "AccessControlListNotSupported", self.s3.put_bucket_acl, Bucket=self.name, ACL="public-read", status=400
        )
        self.refuse("AccessControlListNotSupported", self.put, self.name, "key", ACL="public-read", status=400)
        self.put(self.name, "key", ACL="bucket-owner-full-control")

    def test_the_rule_is_kept_and_removed(self):
        for name in ("ObjectWriter", "BucketOwnerPreferred", "BucketOwnerEnforced"):
            self.s3.put_bucket_ownership_controls(
                Bucket=self.name, OwnershipControls={"Rules": [{"ObjectOwnership": name}]}
            )
            rule = self.s3.get_bucket_ownership_controls(Bucket=self.name)["OwnershipControls"]["Rules"][0]
            self.assertEqual(rule["ObjectOwnership"], name)
        self.s3.delete_bucket_ownership_controls(Bucket=self.name)
        self.refuse(
            "OwnershipControlsNotFoundError", self.s3.get_bucket_ownership_controls, Bucket=self.name, status=404
        )

    def test_the_rule_can_be_given_when_the_bucket_is_made(self):
        name = self.bucket(ObjectOwnership="ObjectWriter")
        rule = self.s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"][0]
        self.assertEqual(rule["ObjectOwnership"], "ObjectWriter")

    def test_public_acls_are_blocked_until_that_is_changed(self):
        self.s3.put_bucket_ownership_controls(
            Bucket=self.name, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
        )
        self.denied(self.s3.put_bucket_acl, Bucket=self.name, ACL="public-read")
        self.denied(self.s3.put_object, Bucket=self.name, Key="key", Body=b"x", ACL="public-read")


class Lists(OpenCase):
    def setUp(self):
        self.name = self.open_bucket()
        self.owner = self.s3.get_bucket_acl(Bucket=self.name)["Owner"]

    def test_canned_lists_of_buckets(self):
        for name, expected in [
            ("private", []),
            ("public-read", [("AllUsers", "READ")]),
            ("public-read-write", [("AllUsers", "READ"), ("AllUsers", "WRITE")]),
            ("authenticated-read", [("AuthenticatedUsers", "READ")]),
        ]:
            with self.subTest(acl=name):
                self.s3.put_bucket_acl(Bucket=self.name, ACL=name)
                self.assertEqual(
                    short(self.s3.get_bucket_acl(Bucket=self.name)), [*expected, ("owner", "FULL_CONTROL")]
                )

    def test_canned_lists_of_objects(self):
        for name, expected in [
            ("private", []),
            ("public-read", [("AllUsers", "READ")]),
            ("public-read-write", [("AllUsers", "READ"), ("AllUsers", "WRITE")]),
            ("authenticated-read", [("AuthenticatedUsers", "READ")]),
        ]:
            with self.subTest(acl=name):
                self.put(self.name, "key", ACL=name)
                found = short(self.s3.get_object_acl(Bucket=self.name, Key="key"))
                self.assertEqual(found, [*expected, ("owner", "FULL_CONTROL")])

    def test_an_unknown_canned_list_is_refused(self):
        answer = self.service.request("PUT", f"/{self.name}", [("acl", "")], [("x-amz-acl", "public-nonsense")])
        self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"))

    def test_explicit_lists_come_back(self):
        grants = [
            {"Grantee": {"Type": "Group", "URI": ALL}, "Permission": "READ"},
            {"Grantee": {"Type": "Group", "URI": AUTHENTICATED}, "Permission": "READ_ACP"},
            {"Grantee": {"Type": "CanonicalUser", "ID": self.owner["ID"]}, "Permission": "WRITE"},
        ]
        self.s3.put_bucket_acl(Bucket=self.name, AccessControlPolicy={"Grants": grants, "Owner": self.owner})
        self.assertEqual(
            short(self.s3.get_bucket_acl(Bucket=self.name)),
            [("AllUsers", "READ"), ("AuthenticatedUsers", "READ_ACP"), ("owner", "WRITE")],
        )
        self.s3.put_bucket_acl(Bucket=self.name, GrantRead=f'uri="{ALL}"', GrantFullControl=f"id={self.owner['ID']}")
        self.assertEqual(
            sorted(short(self.s3.get_bucket_acl(Bucket=self.name))), [("AllUsers", "READ"), ("owner", "FULL_CONTROL")]
        )

    def test_grants_to_nobody_are_refused(self):
        for grantee in (
            {"Type": "CanonicalUser", "ID": "0" * 64},
            {"Type": "CanonicalUser", "ID": "nonsense"},
            {"Type": "Group", "URI": "http://nonsense/"},
            {"Type": "AmazonCustomerByEmail", "EmailAddress": "nobody@example.com"},
        ):
            with self.subTest(grantee=grantee):
                self.refuse(
                    ("InvalidArgument", "UnresolvableGrantByEmailAddress"),
                    self.s3.put_bucket_acl,
                    Bucket=self.name,
                    status=400,
                    AccessControlPolicy={"Owner": self.owner, "Grants": [{"Grantee": grantee, "Permission": "READ"}]},
                )

    def test_a_canned_list_and_grants_together_are_refused(self):
        self.refuse(
            "InvalidRequest",
            self.s3.put_bucket_acl,
            Bucket=self.name,
            ACL="private",
            GrantRead=f'uri="{ALL}"',
            status=400,
        )

    def test_readers_of_the_list_may_list_and_readers_of_the_object_may_read(self):
        self.put(self.name, "open", ACL="public-read")
        self.put(self.name, "closed")
        self.anonymous.get_object(Bucket=self.name, Key="open")
        self.denied(self.anonymous.get_object, Bucket=self.name, Key="closed")
        self.denied(self.anonymous.list_objects_v2, Bucket=self.name)
        self.denied(self.anonymous.get_object_acl, Bucket=self.name, Key="open")
        self.s3.put_bucket_acl(Bucket=self.name, ACL="public-read")
        self.assertEqual(self.anonymous.list_objects_v2(Bucket=self.name)["KeyCount"], 2)
        self.denied(self.anonymous.get_object, Bucket=self.name, Key="closed")
        self.denied(self.anonymous.put_object, Bucket=self.name, Key="new", Body=b"x")

    def test_public_lists_can_be_ignored_later(self):
        self.put(self.name, "open", ACL="public-read")
        self.s3.put_public_access_block(
            Bucket=self.name,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": False,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": False,
                "RestrictPublicBuckets": False,
            },
        )
        self.denied(self.anonymous.get_object, Bucket=self.name, Key="open")

    def test_an_object_keeps_its_list_until_it_is_overwritten(self):
        self.put(self.name, "key", ACL="public-read")
        self.put(self.name, "key")
        self.denied(self.anonymous.get_object, Bucket=self.name, Key="key")

    def test_a_copy_starts_private(self):
        self.put(self.name, "key", ACL="public-read")
        self.s3.copy_object(Bucket=self.name, Key="copy", CopySource={"Bucket": self.name, "Key": "key"})
        self.assertEqual(short(self.s3.get_object_acl(Bucket=self.name, Key="copy")), [("owner", "FULL_CONTROL")])


class Accounts(AccountsCase):
    def test_grants_to_an_account(self):
        name = self.open_bucket()
        self.put(name, "key", GrantRead=f"id={self.second.id}")
        self.other.get_object(Bucket=name, Key="key")
        self.denied(self.third.get_object, Bucket=name, Key="key")
        self.denied(self.other.get_object_acl, Bucket=name, Key="key")
        self.s3.put_object_acl(Bucket=name, Key="key", GrantReadACP=f"emailAddress={self.second.email}")
        self.denied(self.other.get_object, Bucket=name, Key="key")
        grants = self.other.get_object_acl(Bucket=name, Key="key")["Grants"]
        self.assertIn(self.second.id, [grant["Grantee"].get("ID") for grant in grants])

    def test_authenticated_users_are_all_accounts_but_not_strangers(self):
        name = self.open_bucket()
        self.put(name, "key", ACL="authenticated-read")
        self.other.get_object(Bucket=name, Key="key")
        self.denied(self.anonymous.get_object, Bucket=name, Key="key")

    def test_who_writes_owns_unless_the_bucket_says_otherwise(self):
        name = self.open_bucket()
        self.s3.put_bucket_acl(
            Bucket=name, GrantWrite=f"id={self.second.id}", GrantFullControl=f"id={self.owner(name)}"
        )
        self.other.put_object(Bucket=name, Key="theirs", Body=b"x")
        self.assertEqual(self.other.get_object_acl(Bucket=name, Key="theirs")["Owner"]["ID"], self.second.id)
        self.denied(self.s3.get_object, Bucket=name, Key="theirs")
        self.other.put_object(Bucket=name, Key="shared", Body=b"x", ACL="bucket-owner-full-control")
        self.s3.get_object(Bucket=name, Key="shared")
        self.s3.put_bucket_ownership_controls(
            Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
        )
        self.other.put_object(Bucket=name, Key="given", Body=b"x", ACL="bucket-owner-full-control")
        self.assertEqual(self.s3.get_object_acl(Bucket=name, Key="given")["Owner"]["ID"], self.owner(name))

    def owner(self, name):
        return self.s3.get_bucket_acl(Bucket=name)["Owner"]["ID"]

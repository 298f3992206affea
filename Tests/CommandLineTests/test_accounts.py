"""Accounts, access keys and the master key, as a person or a script uses them."""

import os
import stat
import unittest

from support import Exit, StoreTestCase


class Accounts(StoreTestCase):
    def key(self, *arguments):
        return self.do("key", "create", "--json", *arguments).json

    def test_an_account_and_its_keys(self):
        made = self.do("account", "create", "research", "--email", "r@example.org", "--json").json
        self.assertRegex(made["id"], "^[0-9a-f]{64}$")
        key = self.key("--account", "r@example.org", "--label", "nodes")
        self.assertEqual((len(key["accessKeyID"]), len(key["secretAccessKey"])), (20, 40))
        self.assertEqual((key["account"], key["label"]), (made["id"], "nodes"))
        listed = self.do("key", "ls", "--json").json["keys"]
        self.assertEqual([one["accessKeyID"] for one in listed], [key["accessKeyID"]])
        names = {one["name"]: one["keys"] for one in self.do("account", "ls", "--json").json["accounts"]}
        self.assertEqual(names, {"root": 0, "research": 1})
        removed = self.do("account", "rm", "research", "--json").json
        self.assertEqual(removed["removedKeys"], 1)
        self.assertEqual(self.do("key", "ls", "--json").json["keys"], [])

    def test_a_secret_is_shown_once_and_is_on_no_disk(self):
        secret = self.key()["secretAccessKey"]
        for command in [("key", "ls"), ("key", "ls", "--json"), ("account", "ls", "--json"), ("status", "--json")]:
            outcome = self.do(*command)
            self.assertNotIn(secret, outcome.text + outcome.errors)
        for folder, _, files in os.walk(self.store):
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    self.assertNotIn(secret.encode(), file.read(), name)

    def test_rotation(self):
        old = self.key("--label", "laptop")["accessKeyID"]
        kept = self.do("key", "rotate", old, "--keep", "--json").json
        self.assertNotIn("replacedAccessKeyID", kept)
        new = self.do("key", "rotate", old, "--json").json
        self.assertEqual((new["replacedAccessKeyID"], new["label"]), (old, "laptop"))
        listed = {one["accessKeyID"] for one in self.do("key", "ls", "--json").json["keys"]}
        self.assertEqual(listed, {kept["accessKeyID"], new["accessKeyID"]})
        self.do("key", "rm", new["accessKeyID"])
        self.refuse(Exit.NOT_FOUND, "key", "rm", new["accessKeyID"])

    def test_mistakes(self):
        self.do("account", "create", "a", "--email", "a@example.org")
        for code, *command in [
            (Exit.CONFLICT, "account", "create", "a"),
            (Exit.CONFLICT, "account", "create", "b", "--email", "A@example.org"),
            (Exit.CONFLICT, "account", "rm", "root"),
            (Exit.NOT_FOUND, "account", "rm", "nobody"),
            (Exit.USAGE, "account", "create", "b", "--email", "none"),
            (Exit.USAGE, "account", "create", ""),
            (Exit.NOT_FOUND, "key", "create", "--account", "nobody"),
            (Exit.NOT_FOUND, "key", "rotate", "AKIANOSUCHKEY"),
            (Exit.NOT_FOUND, "key", "rm", "a/b"),
            (Exit.USAGE, "key", "rotate"),
            (Exit.USAGE, "key", "rotate", "AKIA", "--master"),
            (Exit.USAGE, "key", "rotate", "AKIA", "--accept-loss"),
        ]:
            self.refuse(code, *command)


class MasterKey(StoreTestCase):
    def path(self):
        return self.store / "master.key"

    def test_it_is_private_and_its_loss_takes_only_what_it_sealed(self):
        self.assertEqual(stat.S_IMODE(self.path().stat().st_mode), 0o600)
        self.put("models/x", b"plain")
        key = self.do("key", "create", "--json").json["accessKeyID"]
        kept = self.directory / "kept.key"
        self.path().rename(kept)
        outcome = self.refuse(Exit.LOCAL_FILE, "key", "create", "--json")
        self.assertEqual(outcome.error["code"], "masterKeyUnavailable")
        self.assertIn(str(self.path()), outcome.error["message"])
        self.do("get", "models/x", "x")
        self.do("verify")
        self.refuse(Exit.LOCAL_FILE, "key", "rotate", "--master")
        self.assertFalse(self.path().exists())
        kept.rename(self.path())
        self.do("key", "rotate", key)
        self.path().unlink()
        self.do("key", "rotate", "--master", "--accept-loss")
        self.do("key", "create")

    def test_one_that_others_may_read_is_refused(self):
        self.path().chmod(0o644)
        outcome = self.refuse(Exit.LOCAL_FILE, "key", "create", "--json")
        self.assertIn("chmod 600", outcome.error["advice"])
        self.path().chmod(0o600)
        self.do("key", "create")

    def test_renewing_it_keeps_the_older_ones(self):
        self.do("key", "create")
        before = self.path().read_text()
        self.assertEqual(self.do("key", "rotate", "--master", "--json").json["secretsSealedAnew"], 1)
        after = self.path().read_text()
        for line in before.splitlines():
            if line.startswith("key "):
                self.assertIn(line, after)

    def test_a_copy_brings_a_lost_one_back(self):
        copy = self.directory / "copy.key"
        self.do("key", "create")
        self.do("key", "backup", copy)
        self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o600)
        self.assertEqual(copy.read_bytes(), self.path().read_bytes())
        self.refuse(Exit.CONFLICT, "key", "backup", copy)
        self.do("key", "check", copy)
        self.path().unlink()
        self.refuse(Exit.LOCAL_FILE, "key", "check")
        self.refuse(Exit.LOCAL_FILE, "key", "backup", self.directory / "other.key")
        self.assertFalse((self.directory / "other.key").exists())
        self.refuse(Exit.LOCAL_FILE, "key", "create")
        self.do("key", "restore", copy)
        self.assertEqual(stat.S_IMODE(self.path().stat().st_mode), 0o600)
        self.do("key", "check")
        self.do("key", "create")

    def test_a_copy_that_lacks_keys_in_use_is_refused(self):
        copy, newer, foreign = (self.directory / name for name in ("old.key", "new.key", "foreign.key"))
        self.do("key", "create")
        self.do("key", "backup", copy)
        self.do("key", "rotate", "--master")
        self.do("key", "create")
        for command in ("check", "restore"):
            outcome = self.refuse(Exit.LOCAL_FILE, "key", command, copy, "--json")
            self.assertIn("does not hold the master key", outcome.error["message"])
        self.do("key", "backup", newer)
        other = self.directory / "other"
        self.do("init", "--store", other)
        self.do("key", "create", "--store", other)
        self.do("key", "backup", foreign, "--store", other)
        present = self.path().read_bytes()
        self.refuse(Exit.LOCAL_FILE, "key", "restore", foreign)
        self.refuse(Exit.LOCAL_FILE, "key", "restore", self.directory / "none.key")
        self.assertEqual(self.path().read_bytes(), present)
        self.path().unlink()
        self.refuse(Exit.LOCAL_FILE, "key", "restore", copy)
        self.assertFalse(self.path().exists())
        self.do("key", "restore", newer)
        self.do("key", "create")


if __name__ == "__main__":
    unittest.main()

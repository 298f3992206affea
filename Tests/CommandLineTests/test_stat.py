"""What `stat` tells of copies: when each was last verified, and by what."""

import shutil
import unittest

from support import Exit, StoreTestCase, random_bytes


class VerifiedWhen(StoreTestCase):
    def setUp(self):
        super().setUp()
        self.content_ = random_bytes((2 << 20) + 99, 81)
        self.put("models/a/one", self.content_)
        self.put("models/b", b"another")

    def replicas(self, address="models/a/one", *options):
        chunks = self.do("stat", "--json", address, *options).json["chunks"]
        self.assertTrue(chunks)
        return [replica for chunk in chunks for replica in chunk["replicas"]]

    def assert_verified(self, by, address="models/a/one", since=None):
        for replica in self.replicas(address):
            self.assertEqual(replica.get("verifiedBy"), by, replica)
            self.assertEqual("verifiedAt" in replica, by is not None)
            if since:
                self.assertGreaterEqual(replica["verifiedAt"], since)

    def test_nothing_is_claimed_of_what_was_only_stored(self):
        self.assert_verified(None)
        self.assertIn("not verified since stored", self.do("stat", "models/a/one").text)

    def test_a_run_of_verify_is_remembered_for_what_it_covered(self):
        self.do("verify", "models/a/")
        self.assert_verified("verify")
        self.assert_verified(None, "models/b")
        self.assertRegex(self.do("stat", "models/a/one").text, r"verified 20\d\d-.* by verify")
        self.do("verify")
        self.assert_verified("verify", "models/b")
        # What comes later was not looked at.
        self.put("models/a/two", random_bytes(5000, 82))
        self.assert_verified(None, "models/a/two")

    def test_a_scrub_of_a_volume_is_remembered_for_what_was_on_it(self):
        self.do("scrub", "start", "--volume", self.volumes[0], "--wait")
        by_volume = {replica["volume"]: replica.get("verifiedBy") for replica in self.replicas()}
        self.assertEqual(by_volume[str(self.volumes[0])], "scrub", by_volume)
        self.assertEqual({by_volume[str(volume)] for volume in self.volumes[1:]}, {None}, by_volume)
        self.put("models/later", random_bytes(5000, 83))
        self.assert_verified(None, "models/later")
        self.do("verify")
        earlier = min(replica["verifiedAt"] for replica in self.replicas())
        # The newest of all that is known.
        self.do("scrub", "start", "--wait")
        self.assert_verified("scrub", since=earlier)
        self.assert_verified("scrub", "models/later")

    def test_reading_now_is_newer_than_what_is_remembered(self):
        self.do("verify")
        for replica in self.replicas("models/a/one", "--verify"):
            self.assertEqual(replica["verifiedBy"], "read")

    def test_a_volume_with_bad_copies_is_not_called_verified(self):
        self.flip_payload(self.volumes[1], self.content_, 5000)
        self.assertEqual(self.run_program("verify", "--no-repair").code, Exit.DAMAGED)
        by_volume = {replica["volume"]: replica.get("verifiedBy") for replica in self.replicas()}
        self.assertIsNone(by_volume[str(self.volumes[1])])
        self.assertEqual(by_volume[str(self.volumes[0])], "verify")
        # Made good and verified.
        self.do("verify")
        self.assert_verified("verify")

    def test_damage_that_a_scrub_could_not_repair_is_not_called_verified(self):
        for volume in self.volumes:
            self.flip_payload(volume, self.content_, 5000)
        outcome = self.run_program("scrub", "start", "--wait")
        self.assertEqual(outcome.code, Exit.DAMAGED, outcome)
        chunks = self.do("stat", "--json", "models/a/one").json["chunks"]
        self.assertIn([None] * 3, [[replica.get("verifiedAt") for replica in chunk["replicas"]] for chunk in chunks])

    def test_a_lost_volume_is_not_called_verified_when_it_is_put_in_anew(self):
        self.do("scrub", "start", "--wait")
        shutil.rmtree(self.volumes[2])
        self.do("volume", "replace", self.volumes[2])
        by_volume = {replica["volume"]: replica.get("verifiedBy") for replica in self.replicas()}
        self.assertEqual(by_volume[str(self.volumes[0])], "scrub")
        self.assertNotIn(by_volume[str(self.volumes[2])], ("scrub", "verify"))

    def test_it_stays_when_the_catalog_is_rebuilt(self):
        self.do("verify")
        self.do("rebuild-catalog")
        self.assert_verified("verify")


if __name__ == "__main__":
    unittest.main()

"""The doctor: what it says of stores that are well, and of others, and what it gives away."""

import io
import json
import os
import shutil
import stat
import tarfile
import unittest

from support import Exit, StoreTestCase
from test_admin import ServedTestCase


class Diagnosis(StoreTestCase):
    def diagnose(self, *arguments):
        report = self.do("doctor", "--no-archive", "--json", *arguments).json
        return {(line["subject"], line["verdict"]): line for line in report["diagnosis"]}

    def problems(self):
        return {subject for subject, verdict in self.diagnose() if verdict == "problem"}

    def test_a_store_that_is_well(self):
        lines = self.diagnose()
        for subject in ("store", "redundancy", "master key", "catalog"):
            self.assertIn((subject, "fine"), lines)
        # A machine for tests has three volumes on one disk.
        self.assertIn(("devices", "warning"), lines)
        self.do("doctor", "--no-archive", "--check")

    def test_a_volume_that_is_away_and_an_empty_place(self):
        away = self.directory / "away"
        os.rename(self.volumes[1], away)
        self.assertEqual(self.problems(), {"volume"})
        self.volumes[1].mkdir()
        lines = self.diagnose()
        self.assertIn("holds no volume", lines[("volume", "problem")]["text"])
        self.refuse(Exit.UNAVAILABLE, "doctor", "--no-archive", "--check")
        self.assertEqual(list(self.volumes[1].iterdir()), [])

    def test_a_store_that_does_not_open(self):
        for volume in self.volumes[1:]:
            shutil.rmtree(volume)
        lines = self.diagnose()
        self.assertIn(("store", "problem"), lines)
        self.assertTrue(lines[("store", "problem")]["advice"])
        shutil.rmtree(self.store)
        self.assertEqual(self.problems(), {"store"})

    def test_the_master_key(self):
        self.do("key", "create")
        (self.store / "master.key").chmod(0o644)
        self.assertIn("master key", self.problems())
        (self.store / "master.key").unlink()
        self.assertIn("master key", self.problems())

    def test_what_is_in_quarantine(self):
        (self.volumes[0] / "quarantine" / "record").write_bytes(b"x" * 100)
        self.assertIn("1 damaged record", self.diagnose()[("quarantine", "warning")]["text"])


class Archive(ServedTestCase):
    def test_it_tells_no_secret_and_no_name(self):
        self.do("account", "create", "quokka", "--email", "quokka@example.org")
        key = self.do("key", "create", "--account", "quokka", "--label", "wombat", "--json").json
        file = self.directory / "report.tar"
        report = self.do("doctor", "--output", file, "--json").json
        self.assertEqual(report["archive"], str(file))
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as archive:
            content = {member.name: archive.extractfile(member).read() for member in archive}
        self.assertEqual(sorted(content), ["holdfast-doctor/diagnosis.txt", "holdfast-doctor/facts.json"])
        facts = json.loads(content["holdfast-doctor/facts.json"])
        self.assertEqual(len(facts["volumes"]), 3)
        self.assertTrue(facts["volumes"][0]["segments"])
        self.assertEqual(facts["masterKey"]["accessKeys"], 1)
        self.assertIn("processID", facts["server"])
        master = (self.store / "master.key").read_text().split()
        hidden = [key["secretAccessKey"], key["accessKeyID"], "quokka", "wombat", "models"]
        for text in [*hidden, *(word for word in master if len(word) == 64)]:
            for name, bytes in content.items():
                self.assertNotIn(text.encode(), bytes, name)
        self.refuse(Exit.LOCAL_FILE, "doctor", "--output", file)


if __name__ == "__main__":
    unittest.main()

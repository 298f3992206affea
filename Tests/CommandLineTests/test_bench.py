"""The benchmark command, with tiny sizes: that it works and what it says, not how fast it is."""

import unittest

import support
from support import Exit, StoreTestCase


class Bench(StoreTestCase):
    makes_store = False

    def measure(self, *arguments):
        report = self.do("bench", *arguments, "--json", "--directory", self.directory).json
        self.assertEqual(list(self.directory.iterdir()), [], "the benchmark removes what it made")
        for figure in report["figures"]:
            self.assertGreater(figure["value"], 0, figure)
        return report["figures"]

    def test_puts_stand_beside_the_floor_with_the_same_batch_sizes(self):
        (figure,) = self.measure("put", "--size", "4096", "--count", "64", "--concurrency", "8")
        self.assertEqual(figure["unit"], "operations/s")
        self.assertEqual(figure["operations"], 64)
        self.assertEqual(figure["bytes"], 64 * 4096)
        self.assertAlmostEqual(figure["share"], figure["value"] / figure["limit"])
        self.assertLessEqual(figure["details"]["batches"], 64)
        self.assertLessEqual(figure["latency"]["p50"], figure["latency"]["p99"])
        self.assertGreater(figure["usage"]["peakResidentBytes"], 1 << 20)

    def test_one_put_at_a_time_is_measured_in_fdatasync_rounds(self):
        (figure,) = self.measure("put", "--count", "16", "--concurrency", "1")
        self.assertEqual(figure["unit"], "milliseconds")
        self.assertEqual(figure["details"]["putsPerBatch"], 1)

    def test_large_puts_and_gets(self):
        (put,) = self.measure("put", "--size", "3M", "--count", "2", "--concurrency", "1")
        self.assertEqual(put["unit"], "bytes/s")
        self.assertEqual(put["bytes"], 6 << 20)
        (get,) = self.measure("get", "--size", "3M", "--count", "4", "--concurrency", "2", "--objects", "2")
        self.assertEqual(get["bytes"], 12 << 20)

    def test_listing_opening_and_memory(self):
        (page,) = self.measure("list", "--keys", "1500", "--count", "5")
        self.assertEqual(page["operations"], 5)
        (opened,) = self.measure("open", "--records", "50")
        self.assertGreaterEqual(opened["details"]["records"], 50)
        (memory,) = self.measure("memory", "--records", "20", "--size", "2M", "--concurrency", "4")
        self.assertEqual(memory["unit"], "bytes")

    def test_garbage_collection(self):
        (figure,) = self.measure("gc", "--chunks", "300")
        self.assertEqual(figure["unit"], "seconds")
        self.assertGreaterEqual(figure["operations"], 300)

    def test_all_of_it_for_people(self):
        outcome = self.do("bench", "all", "--scale", "0.001", "--directory", self.directory)
        self.assertIn("group-commit", self.do("bench", "put", "--help").text.replace("group commit", "group-commit"))
        for word in ["figure", "limit", "put 4.0 KiB, 32 at a time", "peak memory", "page of 1000"]:
            self.assertIn(word, outcome.text)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_bad_usage(self):
        self.refuse(Exit.USAGE, "bench", "put", "--size", "12Q")
        self.refuse(Exit.USAGE, "bench", "put", "--count", "0")
        self.refuse(Exit.DISK, "bench", "put", "--json", "--directory", self.directory / "missing")


if __name__ == "__main__":
    unittest.main()

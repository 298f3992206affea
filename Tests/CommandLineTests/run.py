#!/usr/bin/env python3
"""Runs the command line tests. $HOLDFAST is the program (default: the release build).

    python3 Tests/CommandLineTests/run.py                 all, several classes at a time ($HOLDFAST_JOBS: how many)
    python3 Tests/CommandLineTests/run.py test_transfer   one file, or file.Class, or file.Class.test

HOLDFAST_LONG=1 takes every kill point instead of a sample. The last line is 'N passed, M failed, K skipped'.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
# What takes longest comes first, so that nothing long is left for the end when all else is done.
LONGEST = (
    "test_scrub.Flips", "test_volumes.FailSlow", "test_faults.Damage", "test_gc.Surplus", "test_gc.KilledCollection",
    "test_disk_errors.DiskErrors", "test_killpoints.KillPoints", "test_faults.LostVolumes", "test_volumes.Served",
    "test_volumes.WithoutServer", "test_scrub.Interrupted", "test_bench.Bench", "test_gc.FullDisk", "test_gc.Collection",
    "test_scrub.Served", "test_transfer.Resume", "test_faults.Catalog", "test_faults.Kills", "test_endpoint.BenchServer",
)
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)


def run_here(names):
    """Runs the named tests in this process."""
    suite = unittest.TestLoader().loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped)
    return max(0, result.testsRun - failed - skipped), failed, skipped


def class_names():
    """Every test class, those that take longest first."""
    counts = {}

    def walk(suite):
        for item in suite:
            if isinstance(item, unittest.TestSuite):
                walk(item)
            else:
                name = f"{type(item).__module__}.{type(item).__qualname__}"
                counts[name] = counts.get(name, 0) + 1

    walk(unittest.defaultTestLoader.discover(str(HERE), pattern="test_*.py"))
    if gone := [name for name in LONGEST if name not in counts]:
        sys.exit(f"LONGEST names classes that are not there: {gone}")
    places = {name: place for place, name in enumerate(LONGEST)}
    return sorted(counts, key=lambda name: (places.get(name, len(places)), -counts[name], name))


def run_class(name):
    """Runs one class in a process of its own and passes on what it prints."""
    done = subprocess.run(
        [sys.executable, __file__, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    found = SUMMARY.findall(done.stdout)
    print(SUMMARY.sub("", done.stdout).rstrip(), flush=True)
    if not found:
        print(f"{name}: no result, exit code {done.returncode}", flush=True)
        return 0, 1, 0
    return tuple(map(int, found[-1]))


def main():
    sys.path.insert(0, str(HERE))
    names = sys.argv[1:]
    if names:
        passed, failed, skipped = run_here(names)
    else:
        jobs = int(os.environ.get("HOLDFAST_JOBS", min(4, os.cpu_count() or 1)))
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            passed, failed, skipped = map(sum, zip(*pool.map(run_class, class_names())))
    sys.stderr.flush()
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs the tests with real S3 clients. $HOLDFAST is the program (default: the release build).

    run.py                         every enabled area, several files at a time ($HOLDFAST_JOBS: how many)
    run.py test_objects            one file, or file.Class, or file.Class.test, enabled or not
    run.py --all                   areas that are not enabled too
    run.py --list                  the areas

Runs with the Python of the clients' environment, which `ops/test clients` makes. HOLDFAST_LONG=1 takes the long tests too.
HOLDFAST_TEST_ENDPOINT points the suite at another server. The last line is 'N passed, M failed, K skipped'.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)

# The areas that the server has: each is the file test_AREA.py.
AREAS = [
    "accounts",
    "acl",
    "addressing",
    "bodies_input",
    "buckets",
    "checksums",
    "chunks_input",
    "client_aws",
    "client_copiers",
    "client_python",
    "conditions",
    "copy",
    "cors",
    "degraded",
    "deletes",
    "encryption",
    "errors",
    "gc",
    "http_input",
    "keys_input",
    "lifecycle",
    "mirror",
    "listing",
    "logging",
    "multipart",
    "object_lock",
    "objects",
    "operations",
    "policy",
    "post_form",
    "presigned",
    "ranges",
    "scrub",
    "security",
    "settings",
    "signatures",
    "slow_input",
    "tagging",
    "versioning",
    "xml_input",
]
# What takes longest comes first, so that nothing long is left for the end when all else is done.
LONGEST = (
    "mirror", "client_python", "client_aws", "client_copiers", "slow_input", "security", "gc", "scrub", "operations", "addressing",
    "checksums", "accounts",
)


def run_here(names):
    """Runs the named tests in this process."""
    suite = unittest.TestLoader().loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    # A test whose parts failed is one failed test.
    broken = {getattr(test, "test_case", test) for test, _ in result.failures + result.errors}
    failed = len(broken) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped)
    return max(0, result.testsRun - failed - skipped), failed, skipped


def run_file(area):
    """Runs one area in a process of its own and passes on what it prints."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, f"test_{area}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    found = SUMMARY.findall(done.stdout)
    print(f"== {area} ({time.monotonic() - begin:.0f} s)\n{SUMMARY.sub('', done.stdout).rstrip()}", flush=True)
    if not found:
        print(f"{area}: no result, exit code {done.returncode}", flush=True)
        return 0, 1, 0
    return tuple(map(int, found[-1]))


def main():
    sys.path.insert(0, str(HERE))
    sys.dont_write_bytecode = True
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    existing = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))
    missing = [area for area in AREAS if area not in existing]
    if missing and not names:
        sys.exit(f"AREAS names files that are not there: {missing}")
    asleep = [area for area in existing if area not in AREAS]
    if "--list" in sys.argv:
        print("\n".join(f"{area}{'' if area in AREAS else '   (not enabled)'}" for area in existing))
        return 0
    if names:
        passed, failed, skipped = run_here(names)
    else:
        areas = existing if "--all" in sys.argv else AREAS
        places = {area: place for place, area in enumerate(LONGEST)}
        areas = sorted(areas, key=lambda area: (places.get(area, len(places)), area))
        # One more than there are cores: most of the time a test waits, for an fsync, a client or a deadline.
        jobs = int(os.environ.get("HOLDFAST_JOBS", min(4, (os.cpu_count() or 1) + 1)))
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            passed, failed, skipped = map(sum, zip(*pool.map(run_file, areas)))
        for area in asleep if "--all" not in sys.argv else []:
            print(f"NOT RUN: the area '{area}' is not enabled in AREAS of {HERE.name}/run.py", flush=True)
    sys.stderr.flush()
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())

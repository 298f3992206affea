#!/usr/bin/env python3
"""Runs the black box tests. $HOLDFAST is the program (default: the release build).

    python3 Tests/BlackBoxTests/run.py                 the checker's own tests, then 50 cycles of the nemesis
    python3 Tests/BlackBoxTests/run.py test_linear     one file, or file.Class, or file.Class.test

HOLDFAST_SEED repeats a seed, HOLDFAST_CYCLES says how many times kill -9. For hours: ops/nemesis. The last line is
'N passed, M failed, K skipped, U undecided'; undecided is a campaign with keys whose calls the judge could not order.
Exit code 0: none failed and none is undecided. 3: none failed, some are undecided. 1: the rest.
"""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent


def main():
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(HERE))
    names = sys.argv[1:] or ["test_linear", "test_nemesis"]
    suite = unittest.TestLoader().loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    undecided = sum(reason.startswith("undecided") for _, reason in result.skipped)
    skipped = len(result.skipped) - undecided
    passed = max(0, result.testsRun - failed - skipped - undecided)
    sys.stderr.flush()
    print(f"{passed} passed, {failed} failed, {skipped} skipped, {undecided} undecided", flush=True)
    if failed or not passed + undecided:
        return 1
    return 3 if undecided else 0


if __name__ == "__main__":
    sys.exit(main())

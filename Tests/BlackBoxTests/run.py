#!/usr/bin/env python3
"""Runs the black box tests. $HOLDFAST is the program (default: the release build).

    python3 Tests/BlackBoxTests/run.py                 the checker's own tests, then 50 cycles of the nemesis
    python3 Tests/BlackBoxTests/run.py test_linear     one file, or file.Class, or file.Class.test

HOLDFAST_SEED repeats a seed, HOLDFAST_CYCLES says how many times kill -9. For hours: ops/nemesis. The last line is
'N passed, M failed, K skipped'.
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
    skipped = len(result.skipped)
    passed = max(0, result.testsRun - failed - skipped)
    sys.stderr.flush()
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the command line tests share: a temporary directory, a store in it, and the program under test.

The program is $HOLDFAST. Nothing here sleeps for a fixed time: what has to be waited for is polled, with a limit.
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "fixtures" / "model" / "tiny-mlp.safetensors"
PROGRAM = os.environ.get("HOLDFAST", str(REPOSITORY / ".build" / "release" / "holdfast"))
DEADLINE = 120


class Exit:
    """The documented exit codes."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    DAMAGED = 6
    IN_USE = 7
    FULL = 8
    UNKNOWN = 9
    FORMAT = 10
    LOCAL_FILE = 11
    PARTLY = 12
    DISK = 13
    DENIED = 16
    UNREACHABLE = 17
    INTERRUPTED = 130
    TERMINATED = 143


class Outcome:
    """What one run of the program gave."""

    def __init__(self, arguments, code, output, errors):
        self.arguments, self.code, self.raw, self.errors = arguments, code, output, errors

    @property
    def text(self):
        return self.raw.decode()

    @property
    def json(self):
        return json.loads(self.raw)

    @property
    def error(self):
        """The error as --json prints it."""
        return json.loads(self.errors)["error"]

    def __str__(self):
        shown = self.raw[:2000].decode(errors="replace")
        return f"{self.arguments}\nexit code {self.code}\nstandard output: {shown}\nstandard error: {self.errors}"


class StoreTestCase(unittest.TestCase):
    """A test with a directory of its own and a store in it, with the bucket `models`."""

    makes_store = True

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.store = self.directory / "store"
        self.volumes = []
        if self.makes_store:
            self.volumes = [pathlib.Path(path) for path in self.do("init", "--json").json["volumes"]]
            self.do("bucket", "create", "models")

    # Running

    def environment(self, extra=None):
        environment = {**os.environ, "HOLDFAST_STORE": str(self.store), "LC_ALL": "C.UTF-8"}
        environment.pop("NO_COLOR", None)
        environment.update(extra or {})
        return environment

    def start(self, *arguments, **options):
        """Starts the program and returns the process."""
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("cwd", self.directory)
        extra = options.pop("env", None)
        process = subprocess.Popen(
            [PROGRAM, *[os.fspath(argument) for argument in arguments]], env=self.environment(extra), **options
        )
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def run_program(self, *arguments, input=None, **options):
        """Runs the program to its end."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **options)
        output, errors = process.communicate(input, timeout=DEADLINE)
        errors = "" if errors is None else errors.decode(errors="replace")
        return Outcome(arguments, process.returncode, output or b"", errors)

    def do(self, *arguments, **options):
        """Runs the program; it must succeed."""
        outcome = self.run_program(*arguments, **options)
        self.assertEqual(outcome.code, Exit.DONE, outcome)
        return outcome

    def refuse(self, code, *arguments, **options):
        """Runs the program; it must fail with this exit code and say why, to people and to programs."""
        outcome = self.run_program(*arguments, **options)
        self.assertEqual(outcome.code, code, outcome)
        self.assertTrue(outcome.errors.strip(), outcome)
        self.assertNotIn("Fatal error", outcome.errors)
        if "--json" in arguments:
            self.assertEqual(outcome.error["exitCode"], code, outcome)
            self.assertTrue(outcome.error["code"] and outcome.error["message"], outcome)
        return outcome

    # Content

    def file(self, name, content):
        """Writes a local file and returns its path."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def put(self, address, content):
        """Stores bytes and returns what --json says of the version."""
        return self.do("put", "-", address, "--exact", "--json", input=content).json["version"]

    def content(self, address, *options):
        return self.do("get", address, "-", "--exact", *options).raw

    def keys(self, address="models"):
        entries = self.do("ls", "--recursive", "--json", address).json["entries"]
        return [entry["key"] for entry in entries]

    def versions(self, address):
        return self.do("log", "--json", address).json["versions"]

    def stored_bytes(self):
        """Payload bytes on all volumes together."""
        return sum(volume["payloadBytes"] for volume in self.do("status", "--json").json["volumes"])

    # Damage

    def segments(self, volume):
        return sorted(path for path in (volume / "segments").rglob("*") if path.is_file())

    def flip_payload(self, volume, content, position=0):
        """Flips one bit of a payload on a volume: where the 64 bytes of `content` at `position` stand in a file."""
        wanted = content[position : position + 64]
        for path in self.segments(volume):
            place = path.read_bytes().find(wanted)
            if place >= 0:
                flip(path, place + len(wanted) // 2)
                return path
        self.fail(f"{volume} does not hold the bytes that were to be damaged")

    def catalog_files(self):
        found = []
        for path in self.store.rglob("*"):
            if path.is_file() and path.stat().st_size >= 16:
                with path.open("rb") as file:
                    if file.read(16) == b"SQLite format 3\0":
                        found.append(path)
        self.assertTrue(found, "no SQLite file in the store")
        return found


def flip(path, offset, bit=3):
    """Flips one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def random_bytes(count, seed):
    """Bytes that don't compress and are the same in every run."""
    return random.Random(seed).randbytes(count)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def poll(condition, what, seconds=60):
    """Waits for a condition and returns what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def fault_library():
    """Builds killpoints/killpoints.c for the tests of a module; for setUpModule()."""
    source = pathlib.Path(__file__).with_name("killpoints") / "killpoints.c"
    compiler = next(filter(None, map(shutil.which, ["cc", "clang", "gcc"])), None)
    if compiler is None:
        raise unittest.SkipTest("there is no C compiler")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-killpoints-"))
    unittest.addModuleCleanup(shutil.rmtree, directory, ignore_errors=True)
    library = directory / "killpoints.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def can_drop_privileges():
    return os.geteuid() == 0


def interrupt(process, number=signal.SIGINT):
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)

"""What the client tests share: a running server, boto3 clients for it, and raw requests to it.

The program is $HOLDFAST. With $HOLDFAST_TEST_ENDPOINT (and $HOLDFAST_TEST_ACCESS_KEY, $HOLDFAST_TEST_SECRET_KEY) the suite is
pointed at any other S3 server; what needs the server's process or its store is then skipped.
"""

import atexit
import contextlib
import functools
import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore.config
import botocore.exceptions

import sigv4

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("HOLDFAST", str(REPOSITORY / ".build" / "release" / "holdfast"))
CLIENTS = pathlib.Path(os.environ.get("HOLDFAST_CLIENTS", pathlib.Path.home() / ".cache" / "holdfast-clients"))
SMALL_MODEL = REPOSITORY / "fixtures" / "model" / "tiny-mlp.safetensors"
ENDPOINT = os.environ.get("HOLDFAST_TEST_ENDPOINT")
ACCESS_KEY = os.environ.get("HOLDFAST_TEST_ACCESS_KEY", "HOLDFASTROOTKEY00001")
SECRET_KEY = os.environ.get("HOLDFAST_TEST_SECRET_KEY", "root/secret+with=signs0123456789abcdefgh")
REGION = "us-east-1"
IS_LONG = os.environ.get("HOLDFAST_LONG") == "1"
SEED = int(os.environ.get("HOLDFAST_SEED", random.SystemRandom().randrange(1 << 32)))
MIB = 1 << 20
PART = 5 * MIB
DEADLINE = 120


def random_bytes(count, seed):
    """Bytes that don't compress and are the same in every run."""
    return random.Random(seed).randbytes(count)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def md5(content):
    return hashlib.md5(content).hexdigest()


def sha256_of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def poll(condition, what, seconds=60):
    """Waits for a condition and returns what it gave."""
    return sigv4.wait_for(condition, what, seconds)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@functools.cache
def fault_library():
    """The library of the command line tests that lets calls on a volume fail."""
    return built(REPOSITORY / "Tests" / "CommandLineTests" / "killpoints" / "killpoints.c")


@functools.cache
def resolver_library():
    """A library that lets names lead where $RESOLVER_FILE says."""
    return built(REPOSITORY / "Tests" / "ClientTests" / "resolver" / "resolver.c")


def built(source):
    """The shared library made of one C file."""
    compiler = next(filter(None, map(shutil.which, ["cc", "clang", "gcc"])), None)
    if compiler is None:
        raise AssertionError("there is no C compiler")
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"holdfast-{source.stem}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    library = directory / f"{source.stem}.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


class Server:
    """A server to test: one of our own with a store of its own, or the one that $HOLDFAST_TEST_ENDPOINT names."""

    def __init__(self, options=(), environment=None, store=None, prepare=None, breakable=False):
        self.process = None
        self.is_ours = ENDPOINT is None
        self.access_key, self.secret_key = ACCESS_KEY, SECRET_KEY
        if not self.is_ours:
            url = urllib.parse.urlsplit(ENDPOINT)
            self.address = (url.hostname, url.port)
            self.operations = None
            return
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-clients-"))
        self.store = store or self.directory / "store"
        self.options = [*options]
        self.environment = {
            **os.environ,
            "HOLDFAST_ROOT_ACCESS_KEY": self.access_key,
            "HOLDFAST_ROOT_SECRET_KEY": self.secret_key,
            "SWIFT_BACKTRACE": "enable=no",
            "LC_ALL": "C.UTF-8",
            **(environment or {}),
        }
        self.environment.pop("NO_COLOR", None)
        self.run("init", "--json")
        self.volumes = [pathlib.Path(volume["path"]) for volume in json.loads(self.run("status", "--json"))["volumes"]]
        if prepare:
            prepare(self)
        if breakable:
            self.environment |= {
                "LD_PRELOAD": str(fault_library()),
                "KILLPOINTS_WHEN": "lost",
                "KILLPOINTS_ROOT": ":".join(map(str, self.volumes)),
            }
        self.log = self.directory / "server.log"
        self.address = ("127.0.0.1", free_port())
        self.operations = ("127.0.0.1", free_port())
        self.start()

    def run(self, *arguments, codes=(0,)):
        """Runs the program on the store, which no server holds now; it must end with one of the codes."""
        environment = {**self.environment, "HOLDFAST_STORE": str(self.store)}
        environment.pop("LD_PRELOAD", None)
        done = subprocess.run([PROGRAM, *map(str, arguments)], env=environment, capture_output=True, timeout=DEADLINE)
        if done.returncode not in codes:
            raise AssertionError(f"holdfast {arguments}: exit code {done.returncode}\n{done.stderr.decode()}")
        return done.stdout

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [
                    PROGRAM,
                    "serve",
                    "--store",
                    str(self.store),
                    "--listen",
                    f"{self.address[0]}:{self.address[1]}",
                    "--operations",
                    f"{self.operations[0]}:{self.operations[1]}",
                    *map(str, self.options),
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        poll(lambda: self.process.poll() is not None or self.is_ready(), "the server becomes ready", DEADLINE)
        if self.process.poll() is not None:
            raise AssertionError(f"serve ended with {self.process.returncode}:\n{self.log_text()}")

    def stop(self, number=signal.SIGTERM):
        """Ends the server's process and returns its exit code."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not end within a minute of signal {number}") from None

    def remove(self):
        if self.is_ours:
            with contextlib.suppress(AssertionError):
                self.stop()
            if os.environ.get("KEEP") == "1":
                print(f"kept: {self.directory}", flush=True)
            else:
                shutil.rmtree(self.directory, ignore_errors=True)

    def operation(self, path):
        """Status and text of a page of the operations port."""
        try:
            url = f"http://{self.operations[0]}:{self.operations[1]}{path}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_ready(self):
        try:
            return self.operation("/readyz")[0] == 200
        except OSError:
            return False

    def is_alive(self):
        """Does the server still do its work?"""
        if not self.is_ours:
            with contextlib.suppress(OSError), socket.create_connection(self.address, 5):
                return True
            return False
        return self.process.poll() is None and self.is_ready()

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def log_text(self, count=4000):
        return self.log.read_text(errors="replace")[-count:]

    # The volumes

    def lose(self, number):
        """Takes a volume away from under the server, as a disk that is pulled out; needs a breakable one."""
        pathlib.Path(f"{self.volumes[number]}.lost").touch()

    def bring_back(self, number):
        pathlib.Path(f"{self.volumes[number]}.lost").unlink()

    # Clients

    @property
    def url(self):
        return f"http://{self.address[0]}:{self.address[1]}"

    def client(self, access_key=None, secret_key=None, anonymous=False, **config):
        return make_client(
            self.url,
            access_key or self.access_key,
            secret_key or self.secret_key,
            anonymous,
            json.dumps(config, sort_keys=True),
        )

    def signer(self):
        return sigv4.Signer(self.access_key, self.secret_key, REGION)

    def service(self):
        return sigv4.Service(self.address, self.signer())


@functools.cache
def session():
    return boto3.session.Session()


@functools.cache
def make_client(url, access_key, secret_key, anonymous, config):
    settings = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "s3": {"addressing_style": "path"},
        "connect_timeout": 10,
        "read_timeout": DEADLINE,
        "max_pool_connections": 50,
        **json.loads(config),
    }
    if anonymous:
        settings["signature_version"] = botocore.UNSIGNED
    return session().client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=botocore.config.Config(**settings),
    )


shared = None


def shared_server():
    """The server that all tests of a process use; each test has buckets of its own."""
    global shared
    if shared is None:
        # Tests of old and new clients alike: new buckets start without versions, as in S3.
        shared = Server(options=os.environ.get("HOLDFAST_SERVE_OPTIONS", "").split())
        atexit.register(shared.remove)
    return shared


numbers = itertools.count(1)


def bucket_name(label="t"):
    return f"{label}-{os.getpid()}-{SEED:x}-{next(numbers)}"


needs_own_server = unittest.skipIf(ENDPOINT, "needs a server of our own")


class ApiCase(unittest.TestCase):
    """A test against the shared server, with boto3."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = shared_server()
        cls.s3 = cls.server.client()
        cls.service = cls.server.service()

    def bucket(self, versioning=None, **options):
        """Makes a bucket and returns its name."""
        name = bucket_name()
        self.s3.create_bucket(Bucket=name, **options)
        if versioning:
            self.set_versioning(name, versioning)
        return name

    def set_versioning(self, bucket, status):
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})

    def put(self, bucket, key, content=b"content", **options):
        return self.s3.put_object(Bucket=bucket, Key=key, Body=content, **options)

    def get(self, bucket, key, **options):
        return self.s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()

    def keys(self, bucket, **options):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def refuse(self, code, call, *arguments, status=None, **options):
        """Calls; it must be refused with this code (or one of these). Returns the response."""
        codes = {code} if isinstance(code, str) else set(code)
        with self.assertRaises(botocore.exceptions.ClientError) as caught:
            call(*arguments, **options)
        response = caught.exception.response
        self.assertIn(response["Error"]["Code"], codes, response)
        if status is not None:
            self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], status, response)
        self.assertTrue(self.server.is_alive(), "the server is gone")
        return response

    def status(self, response):
        return response["ResponseMetadata"]["HTTPStatusCode"]

    def headers(self, response):
        return response["ResponseMetadata"]["HTTPHeaders"]


class OpenCase(ApiCase):
    """A test with buckets that may be opened to others: neither public access blocked nor ACLs off."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.anonymous = cls.server.client(anonymous=True)

    def open_bucket(self, **options):
        name = self.bucket(**options)
        self.s3.delete_public_access_block(Bucket=name)
        self.s3.put_bucket_ownership_controls(
            Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
        )
        return name

    def denied(self, call, **options):
        return self.refuse(("AccessDenied", "403"), call, **options, status=403)


class Account:
    """A second account, with a key."""

    def __init__(self, server, name):
        self.name, self.email = name, f"{name}@example.com"
        self.id = json.loads(server.run("account", "create", name, "--email", self.email, "--json"))["id"]
        key = json.loads(server.run("key", "create", "--account", name, "--json"))
        self.access_key, self.secret_key = key["accessKeyID"], key["secretAccessKey"]


class AccountsCase(OpenCase):
    """A test with a second and a third account, `self.other` and `self.third`: clients of the same server."""

    two = None

    @classmethod
    def setUpClass(cls):
        if ENDPOINT:
            raise unittest.SkipTest("needs a server of our own")
        if AccountsCase.two is None:
            accounts = []
            server = Server(prepare=lambda made: accounts.extend(Account(made, name) for name in ("second", "third")))
            atexit.register(server.remove)
            AccountsCase.two = (server, accounts)
        cls.server, (cls.second, cls.third_account) = AccountsCase.two
        cls.s3 = cls.server.client()
        cls.service = cls.server.service()
        cls.anonymous = cls.server.client(anonymous=True)
        cls.other = cls.server.client(cls.second.access_key, cls.second.secret_key)
        cls.third = cls.server.client(cls.third_account.access_key, cls.third_account.secret_key)


class OwnServerCase(ApiCase):
    """A test with a server of its own, which it may break."""

    options = ()
    breakable = False

    @classmethod
    def setUpClass(cls):
        if ENDPOINT:
            raise unittest.SkipTest("needs a server of our own")

    def setUp(self):
        self.begin()

    def begin(self, **options):
        self.server = Server(**{"options": self.options, "breakable": self.breakable, **options})
        self.addCleanup(self.server.remove)
        self.s3 = self.server.client()
        self.service = self.server.service()


class RawCase(ApiCase):
    """A test that sends bytes of its own making."""

    def setUp(self):
        self.name = self.bucket()
        self.path = f"/{self.name}/key"

    def send(self, method, path, items=(), headers=(), body=b"", **options):
        return self.service.request(method, path, items, headers, body, **options)

    def assert_refused(self, answer, status, code=None):
        """The answer is this error, and the server lives on."""
        statuses = (status,) if isinstance(status, int) else status
        self.assertIn(answer.status, statuses, answer)
        if code is not None:
            self.assertIn(answer.code, (code,) if isinstance(code, str) else code, answer)
        self.assert_alive()

    def assert_closed_or(self, status, raw, code=None):
        """Sends bytes; the server answers with one of these statuses, or closes the connection without a word."""
        statuses = (status,) if isinstance(status, int) else status
        with self.service.wire(timeout=30) as wire:
            wire.send_lenient(raw)
            try:
                answer = wire.receive()
                self.assertIn(answer.status, statuses, answer)
                if code is not None:
                    self.assertEqual(answer.code, code, answer)
            except sigv4.Closed:
                answer = None
        self.assert_alive()
        return answer

    def assert_alive(self):
        self.assertTrue(self.server.is_alive(), "the server is gone")

    def assert_absent(self, key="key"):
        """Nothing of a refused upload is visible."""
        self.assertNotIn(key, self.keys(self.name))

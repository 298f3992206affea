"""The AWS command line: the newest, and one from before checksums in trailers."""

import clients


class Aws(clients.Client):
    def aws(self, *arguments):
        return self.run_tool("aws", "--endpoint-url", self.server.url, *arguments)

    def upload(self, path, bucket, key):
        self.aws("s3", "cp", "--only-show-errors", path, f"s3://{bucket}/{key}")

    def download(self, bucket, key, path):
        self.aws("s3", "cp", "--only-show-errors", f"s3://{bucket}/{key}", path)

    def upload_tree(self, directory, bucket, prefix):
        self.aws("s3", "sync", "--only-show-errors", directory, f"s3://{bucket}/{prefix}")

    def download_tree(self, bucket, prefix, directory):
        self.aws("s3", "sync", "--only-show-errors", f"s3://{bucket}/{prefix}", directory)


class NewAws(clients.Checks, Aws):
    abstract = False

    def test_a_synced_tree_is_not_sent_again(self):
        bucket = self.bucket("Enabled")
        tree = clients.make_tree(self.directory / "tree", 1, 20)
        self.upload_tree(tree, bucket, "files")
        self.upload_tree(tree, bucket, "files")
        versions = [entry["Key"] for entry in self.s3.list_object_versions(Bucket=bucket)["Versions"]]
        self.assertEqual(sorted(versions), sorted(f"files/{name}" for name in clients.tree_hashes(tree)))
        self.aws("s3", "rm", "--recursive", "--only-show-errors", f"s3://{bucket}/")
        self.assertEqual(self.keys(bucket), [])


class OldAws(clients.Checks, Aws):
    abstract = False
    venv = "old"

"""Python libraries: boto3's transfers, s3fs, obstore, DVC, MLflow."""

import clients


class PythonClient(clients.Client):
    """A library whose steps are in drivers.py."""

    library = ""

    def upload(self, path, bucket, key):
        self.driver(self.library, "upload", path, bucket, key)

    def download(self, bucket, key, path):
        self.driver(self.library, "download", bucket, key, path)

    def upload_tree(self, directory, bucket, prefix):
        self.driver(self.library, "upload_tree", directory, bucket, prefix)

    def download_tree(self, bucket, prefix, directory):
        self.driver(self.library, "download_tree", bucket, prefix, directory)


class Boto3(clients.Checks, PythonClient):
    abstract = False
    library = "boto3"


class S3fs(clients.Checks, PythonClient):
    abstract = False
    library = "s3fs"
    venv = "fs"


class Obstore(clients.Checks, PythonClient):
    abstract = False
    library = "obstore"

    def test_conditions_and_ranges(self):
        self.driver("obstore", "conditions", self.bucket())


class Dvc(clients.Client):
    abstract = False
    venv = "fs"

    def dvc(self, *arguments):
        return self.run_tool("python", "-m", "dvc", "--quiet", *arguments)

    def test_push_and_pull(self):
        bucket = self.bucket("Enabled")
        data = self.directory / "data"
        clients.make_tree(data, 1, 60)
        (data / "model.safetensors").symlink_to(clients.model_file())
        expected = clients.tree_hashes(data)
        self.dvc("init", "--no-scm")
        self.dvc("remote", "add", "--default", "store", f"s3://{bucket}/dvc")
        self.dvc("remote", "modify", "store", "endpointurl", self.server.url)
        self.dvc("config", "cache.type", "copy")
        self.dvc("add", "data")
        self.dvc("push")
        for path in (self.directory / ".dvc" / "cache", data):
            clients.shutil.rmtree(path)
        self.dvc("pull")
        self.assertEqual(clients.tree_hashes(data), expected)


class Mlflow(clients.Client):
    abstract = False

    def test_a_model_is_logged_and_loaded_back(self):
        bucket = self.bucket("Enabled")
        self.driver("mlflow", "round_trip", bucket, clients.model_file(), self.directory)
        stored = [key for key in self.keys(bucket) if key.endswith("model.safetensors")]
        self.assertEqual(len(stored), 1, self.keys(bucket))

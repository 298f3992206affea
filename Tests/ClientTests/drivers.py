"""Steps of Python clients, run in the environment of each: drivers.py CLIENT STEP ARGUMENT…"""

import os
import pathlib
import sys

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]


def files(directory):
    root = pathlib.Path(directory)
    return [(path, str(path.relative_to(root))) for path in sorted(root.rglob("*")) if path.is_file()]


def boto3_client():
    import boto3
    from boto3.s3.transfer import TransferConfig

    return boto3.client("s3", endpoint_url=ENDPOINT), TransferConfig(multipart_chunksize=8 << 20, max_concurrency=4)


def boto3_upload(path, bucket, key):
    client, config = boto3_client()
    client.upload_file(path, bucket, key, Config=config)


def boto3_download(bucket, key, path):
    client, config = boto3_client()
    client.download_file(bucket, key, path, Config=config)


def boto3_upload_tree(directory, bucket, prefix):
    client, config = boto3_client()
    for path, name in files(directory):
        client.upload_file(str(path), bucket, f"{prefix}/{name}", Config=config)


def boto3_download_tree(bucket, prefix, directory):
    client, config = boto3_client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/"):
        for entry in page.get("Contents", []):
            path = pathlib.Path(directory, entry["Key"][len(prefix) + 1 :])
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, entry["Key"], str(path), Config=config)


def s3fs_system():
    import s3fs

    return s3fs.S3FileSystem(endpoint_url=ENDPOINT, config_kwargs={"s3": {"addressing_style": "path"}})


def s3fs_upload(path, bucket, key):
    s3fs_system().put_file(path, f"{bucket}/{key}")


def s3fs_download(bucket, key, path):
    s3fs_system().get_file(f"{bucket}/{key}", path)


def s3fs_upload_tree(directory, bucket, prefix):
    system = s3fs_system()
    names = files(directory)
    system.put([str(path) for path, _ in names], [f"{bucket}/{prefix}/{name}" for _, name in names])


def s3fs_download_tree(bucket, prefix, directory):
    system = s3fs_system()
    names = system.find(f"{bucket}/{prefix}")
    for name in names:
        path = pathlib.Path(directory, name[len(bucket) + len(prefix) + 2 :])
        path.parent.mkdir(parents=True, exist_ok=True)
        with system.open(name, "rb", block_size=1 << 20) as source:
            path.write_bytes(source.read())


def obstore_store(bucket):
    from obstore.store import S3Store

    return S3Store(bucket, endpoint=ENDPOINT, virtual_hosted_style_request=False, client_options={"allow_http": True})


def obstore_upload(path, bucket, key):
    import obstore

    with open(path, "rb") as file:
        obstore.put(obstore_store(bucket), key, file, chunk_size=8 << 20, max_concurrency=4)


def obstore_download(bucket, key, path):
    import obstore

    with open(path, "wb") as file:
        for piece in obstore.get(obstore_store(bucket), key).stream(min_chunk_size=1 << 20):
            file.write(piece)


def obstore_upload_tree(directory, bucket, prefix):
    import obstore

    store = obstore_store(bucket)
    for path, name in files(directory):
        obstore.put(store, f"{prefix}/{name}", path.read_bytes())


def obstore_download_tree(bucket, prefix, directory):
    import obstore

    store = obstore_store(bucket)
    for entries in obstore.list(store, prefix):
        for entry in entries:
            path = pathlib.Path(directory, entry["path"][len(prefix) + 1 :])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(obstore.get(store, entry["path"]).bytes()))


def obstore_conditions(bucket):
    """Creates only if absent, and replaces only what was read."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    store = obstore_store(bucket)
    first = obstore.put(store, "key", b"first", mode="create")
    try:
        obstore.put(store, "key", b"second", mode="create")
        sys.exit("the second create was not refused")
    except AlreadyExistsError:
        pass
    obstore.put(store, "key", b"third", mode={"e_tag": first["e_tag"]}, use_multipart=False)
    try:
        obstore.put(store, "key", b"fourth", mode={"e_tag": first["e_tag"]}, use_multipart=False)
        sys.exit("the lost update was not refused")
    except PreconditionError:
        pass
    if bytes(obstore.get(store, "key").bytes()) != b"third":
        sys.exit("not what was written")
    ranges = obstore.get_ranges(store, "key", starts=[0, 3], ends=[2, 5])
    if [bytes(part) for part in ranges] != [b"th", b"rd"]:
        sys.exit(f"wrong ranges {ranges}")


def mlflow_round_trip(bucket, model, directory):
    """Logs a model that carries a file, loads it back from the store and asks it something."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import hashlib

    import mlflow

    class Fingerprint(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            with open(context.artifacts["weights"], "rb") as file:
                self.digest = hashlib.file_digest(file, "sha256").hexdigest()

        def predict(self, context, model_input, params=None):
            return [self.digest]

    mlflow.set_tracking_uri(f"file://{directory}/runs")
    experiment = mlflow.create_experiment("test", artifact_location=f"s3://{bucket}/mlflow")
    with mlflow.start_run(experiment_id=experiment):
        made = mlflow.pyfunc.log_model(
            name="model", python_model=Fingerprint(), artifacts={"weights": model}, pip_requirements=["mlflow-skinny"]
        )
        mlflow.log_text("note", "note.txt")
    loaded = mlflow.pyfunc.load_model(made.model_uri)
    with open(model, "rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    if list(loaded.predict([["x"]])) != [expected]:
        sys.exit("the model that came back is another")


if __name__ == "__main__":
    globals()[f"{sys.argv[1]}_{sys.argv[2]}"](*sys.argv[3:])

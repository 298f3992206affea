"""Where a server is found: buckets as host names, regions, TLS and its renewed certificates."""

import pathlib
import signal
import ssl
import subprocess
import tempfile
import urllib.request

import sigv4
from support import OwnServerCase, poll


class HostNames(OwnServerCase):
    options = ("--domain", "s3.example.test")

    def setUp(self):
        super().setUp()
        self.name = self.bucket()

    def send(self, method, path, host, body=b"", items=()):
        self.service.host = host
        return self.service.request(method, path, items, body=body)

    def test_a_bucket_is_a_host_name_or_the_first_part_of_the_path(self):
        for host in (f"{self.name}.s3.example.test", f"{self.name}.S3.Example.Test:{self.server.address[1]}"):
            answer = self.send("PUT", "/folder/key", host, b"by host")
            self.assertEqual(answer.status, 200, answer)
            answer = self.send("GET", f"/{self.name}/folder/key", f"127.0.0.1:{self.server.address[1]}")
            self.assertEqual(answer.body, b"by host")
            answer = self.send("GET", "/folder/key", host)
            self.assertEqual(answer.body, b"by host")
            self.assertIn(b"<Key>folder/key</Key>", self.send("GET", "/", host, items=[("list-type", "2")]).body)
        answer = self.send("GET", f"/{self.name}/folder/key", "s3.example.test")
        self.assertEqual(answer.body, b"by host")

    def test_other_host_names_are_no_buckets(self):
        answer = self.send("GET", f"/{self.name}/none", "elsewhere.test")
        self.assertEqual((answer.status, answer.code), (404, "NoSuchKey"))
        answer = self.send("GET", "/key", "none-such.s3.example.test")
        self.assertEqual((answer.status, answer.code), (404, "NoSuchBucket"))
        answer = self.send("PUT", "/", "Not_A_Name.s3.example.test")
        self.assertEqual(answer.status, 400)

    def test_a_bucket_can_be_made_and_removed_by_its_host_name(self):
        host = f"made-{self.name}.s3.example.test"
        self.assertEqual(self.send("PUT", "/", host).status, 200)
        self.assertEqual(self.send("HEAD", "/", host).status, 200)
        self.assertEqual(self.send("DELETE", "/", host).status, 204)
        self.assertEqual(self.send("HEAD", "/", host).status, 404)


class Regions(OwnServerCase):
    options = ("--region", "eu-north-1")

    def test_another_region_is_refused_and_the_right_one_is_told(self):
        answer = self.service.request("GET", "/")
        self.assertEqual((answer.status, answer.code), (400, "AuthorizationHeaderMalformed"))
        self.assertIn(b"<Region>eu-north-1</Region>", answer.body)
        right = sigv4.Signer(self.server.access_key, self.server.secret_key, "eu-north-1")
        service = sigv4.Service(self.server.address, right)
        self.assertEqual(service.request("GET", "/").status, 200)
        body = (
            b"<CreateBucketConfiguration><LocationConstraint>eu-north-1</LocationConstraint>"
            b"</CreateBucketConfiguration>"
        )
        self.assertEqual(service.request("PUT", "/north-bucket", body=body).status, 200)
        self.assertIn(b"eu-north-1", service.request("GET", "/north-bucket", [("location", "")]).body)
        answer = service.request("HEAD", "/north-bucket")
        self.assertEqual(answer.header("x-amz-bucket-region"), "eu-north-1")


def make_certificate(directory, name):
    """A certificate that signs itself, as PEM files."""
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            directory / "key.pem",
            "-out",
            directory / "chain.pem",
        ],
        check=True,
        capture_output=True,
    )


class Tls(OwnServerCase):
    def setUp(self):
        self.files = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        make_certificate(self.files, "first")
        self.begin(options=("--tls-certificate", self.files / "chain.pem", "--tls-key", self.files / "key.pem"))
        self.service = sigv4.Service(self.server.address, self.server.signer(), tls=True)

    def name_shown(self):
        """The certificate that the server shows now."""
        return ssl.get_server_certificate(self.server.address)

    def test_requests_go_over_tls(self):
        self.assertEqual(self.service.request("PUT", "/tls-bucket").status, 200)
        content = b"x" * 3_000_000
        self.assertEqual(self.service.request("PUT", "/tls-bucket/key", body=content).status, 200)
        self.assertEqual(self.service.request("GET", "/tls-bucket/key").body, content)
        with sigv4.Wire(self.server.address) as wire:
            wire.send_lenient(sigv4.head("GET", "/", [("host", "x")]))
            try:
                self.assertEqual(wire.receive().status, 400)
            except (sigv4.Closed, OSError):
                pass
        self.assertTrue(self.server.is_alive())

    def test_a_client_that_knows_the_certificate_trusts_it(self):
        context = ssl.create_default_context(cafile=self.files / "chain.pem")
        query = self.service.signer.presign("GET", "/", self.service.host)
        with urllib.request.urlopen(f"https://{self.service.host}/?{query}", context=context) as answer:
            self.assertEqual(answer.status, 200)

    def test_old_versions_of_tls_are_refused(self):
        context = ssl._create_unverified_context()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises(OSError), sigv4.Wire(self.server.address) as wire:
            context.wrap_socket(wire.socket)

    def test_a_new_certificate_is_taken_up_and_a_broken_one_is_not(self):
        first = self.name_shown()
        with self.service.wire() as open_before:
            (self.files / "chain.pem").write_text("broken")
            self.server.process.send_signal(signal.SIGHUP)
            self.assertEqual(self.service.request("GET", "/").status, 200)
            self.assertEqual(self.name_shown(), first)
            make_certificate(self.files, "second")
            self.server.process.send_signal(signal.SIGHUP)
            poll(lambda: self.name_shown() != first, "the new certificate is shown")
            open_before.send(self.service.build("GET", "/")[0])
            self.assertEqual(open_before.receive().status, 200)

"""What the commands say is what happened: with a server and without, about deletes, copies, downloads and refusals."""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest
import xml.etree.ElementTree

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "ClientTests"))

import sigv4
from support import Exit, StoreTestCase, interrupt, poll
from test_admin import ROOT_KEY, ROOT_SECRET
from test_endpoint import EndpointTestCase, pattern

PART = 5 << 20


class FarAndNear(EndpointTestCase):
    """A server is running; `far` commands ask it, `near` ones come after it was stopped."""

    def service(self):
        host, port = self.address.rsplit(":", 1)
        return sigv4.Service((host, int(port)), sigv4.Signer(ROOT_KEY, ROOT_SECRET))

    def near(self):
        self.stop()
        self.far = {}

    def upload_in_parts(self, key, content, headers=()):
        """As a client that names no checksum."""
        service = self.service()
        begun = service.request("POST", f"/models/{key}", [("uploads", "")], headers=list(headers))
        name = next(e.text for e in xml.etree.ElementTree.fromstring(begun.body).iter() if e.tag.endswith("UploadId"))
        parts = ""
        for number, start in enumerate(range(0, len(content), PART), 1):
            piece = content[start : start + PART]
            items = [("partNumber", str(number)), ("uploadId", name)]
            answer = service.request("PUT", f"/models/{key}", items, body=piece)
            self.assertEqual(answer.status, 200, answer)
            parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{answer.header('etag')}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self.assertEqual(service.request("POST", f"/models/{key}", [("uploadId", name)], body=body).status, 200)


class Surroundings(FarAndNear):
    def test_commands_for_a_directory_work_beside_a_servers_address(self):
        commands = [
            ("status",), ("scrub", "status"), ("du",), ("volume", "ls"), ("retention", "show", "models"), ("key", "ls"),
            ("account", "ls"), ("mirror", "ls"), ("gc", "status"),
        ]
        for command in commands:
            outcome = self.run_program(*command, "--json")
            self.assertIn(outcome.code, (Exit.DONE, Exit.NOT_FOUND), outcome)
            if outcome.code == Exit.NOT_FOUND:
                self.assertNotEqual(outcome.error["code"], "storeNotFound", outcome)
        self.assertNotIn("over the network", self.do("doctor", "--no-archive").text)
        self.near()
        self.far = {"HOLDFAST_ENDPOINT": "http://127.0.0.1:1"}
        self.do("verify")
        self.do("fsck")
        error = self.refuse(Exit.NOT_FOUND, "scrub", "status", "--json", env={"HOLDFAST_STORE": "nowhere"}).error
        self.assertIn("'holdfast scrub status'", error["advice"])
        self.assertIn("HOLDFAST_ENDPOINT", error["advice"])

    def test_what_to_do_while_a_server_has_the_store(self):
        for command, advice in [("verify", "holdfast scrub start --wait"), ("fsck", "kill"), ("rebuild-catalog", "kill")]:
            error = self.refuse(Exit.IN_USE, command, "--lock-timeout", "0", "--json").error
            self.assertIn(advice, error["advice"])
            self.assertNotIn("--endpoint", error["advice"])

    def test_one_line_for_programs(self):
        self.stop()
        with open(self.directory / "log", "wb") as log:
            server = self.start("serve", "--json", "--store", "new", "--listen", "127.0.0.1:0", "--operations",
                                "127.0.0.1:0", stderr=log)
        ready = json.loads(server.stdout.readline())
        self.assertTrue(ready["addresses"][0].startswith("127.0.0.1:"), ready)
        self.assertTrue(ready["operations"].startswith("127.0.0.1:"), ready)
        key = {"HOLDFAST_ACCESS_KEY": ready["rootAccessKey"], "HOLDFAST_SECRET_KEY": ready["rootSecretKey"]}
        self.do("bucket", "create", "new-bucket", env={"HOLDFAST_ENDPOINT": f"http://{ready['addresses'][0]}", **key})
        self.assertNotIn(ready["rootSecretKey"], (self.directory / "log").read_text())
        interrupt(server, signal.SIGTERM)
        self.assertEqual(server.wait(60), 0)


class Deletes(FarAndNear):
    def check(self):
        """The same with a server and without."""
        self.do("bucket", "create", "off", "--versioning", "off")
        self.put("off/a", b"1")
        self.put("off/t/a", b"1")
        self.put("off/t/b", b"1")
        self.assertIn("for good", self.do("rm", "off/a").text)
        self.put("off/a", b"1")
        self.assertEqual(self.do("rm", "off/a", "--json").json["versioning"], "off")
        outcome = self.do("rm", "-r", "off/t/")
        self.assertIn("Deleted 2 objects for good", outcome.text)
        self.do("bucket", "rm", "off")

        self.do("bucket", "create", "kept")
        first = self.put("kept/a", b"1")
        self.assertIn("versions are kept", self.do("rm", "kept/a").text)
        self.put("kept/a", b"2")
        self.assertIn("versions are kept", self.do("rm", "-r", "kept/").text)
        self.do("bucket", "versioning", "kept", "suspended")
        self.put("kept/a", b"3")
        self.assertIn("null version is gone for good", self.do("rm", "kept/a").text)
        self.assertEqual([v["kind"] for v in self.versions("kept/a") if v["isNull"]], ["deleteMarker"])
        self.put("kept/a", b"4")
        many = self.do("rm", "-r", "kept/", "--json").json
        self.assertEqual((many["deleted"], many["versioning"]), (1, "suspended"))
        self.put("kept/a", b"5")
        gone = self.do("rm", "kept/a", "--version", "null")
        self.assertIn("version null of kept/a for good", gone.text)
        unknown = first["versionID"][:-1] + ("0" if first["versionID"][-1] != "0" else "1")
        self.assertIn("nothing to delete", self.do("rm", "kept/a", "--version", unknown).text)
        self.assertNotIn("removedVersion", self.do("rm", "kept/a", "--version", unknown, "--json").json)
        self.assertIn("for good", self.do("rm", "kept/a", "--version", first["versionID"]).text)

    def test_with_a_server(self):
        self.check()

    def test_without_one(self):
        self.near()
        self.check()
        self.do("bucket", "create", "off", "--versioning", "off")
        self.assertIn("nothing to delete", self.do("rm", "off/a").text)


class Copies(FarAndNear):
    def check(self):
        version = self.put("models/a", b"1")
        self.put("models/a", b"2")
        self.assertEqual(self.do("cp", "models/a", "models/kd/", "--json").json["version"]["key"], "kd/a")
        self.assertEqual(self.do("cp", "models/a", "models/ke/", "--exact", "--json").json["version"]["key"], "ke/")
        error = self.refuse(Exit.USAGE, "cp", "models/a", "models/a", "--json").error
        self.assertIn("restore", error["advice"])
        self.refuse(Exit.USAGE, "cp", "models/a", "models")
        self.do("cp", "models/a", "models/a", "--version", version["versionID"])
        self.assertEqual(self.content("models/a"), b"1")
        error = self.refuse(Exit.USAGE, "put", "-", "models/m", "--meta", "ü=ö", "--json", input=b"").error
        self.assertIn("ü", error["message"])
        self.refuse(Exit.USAGE, "put", "-", "models/m", "--meta", "a=x\ny", input=b"")
        put = self.do("put", "-", "models/m", "--meta", "a=ö", "--json", input=b"").json["version"]
        self.assertEqual(put["metadata"], {"a": "ö"})

    def test_with_a_server(self):
        self.check()

    def test_without_one(self):
        self.near()
        self.check()

    def test_what_is_too_large_for_one_call_is_copied_in_parts(self):
        content = pattern(13 << 20)
        path = self.file("big", content)
        self.do("put", path, "models/big", "--content-type", "text/x", "--meta", "a=b", "--tag", "t=1")
        small = {"HOLDFAST_COPY_LIMIT": str(6 << 20)}
        made = self.do("cp", "models/big", "models/copy", "--json", env=small).json["version"]
        self.assertTrue(made["etag"].endswith("-3"), made)
        self.assertEqual((made["contentType"], made["metadata"], made["tags"]), ("text/x", {"a": "b"}, {"t": "1"}))
        self.assertEqual(self.content("models/copy"), content)
        self.do("rm", "models/big")
        restored = self.do("restore", "models/big", "--json", env=small).json["version"]
        self.assertTrue(restored["etag"].endswith("-3"), restored)
        self.assertEqual(self.content("models/big"), content)
        self.refuse(Exit.NOT_FOUND, "cp", "models/nothing", "models/copy", env=small)


class Parts(FarAndNear):
    """Objects that came in parts, with a checksum of the whole and without."""

    def test_what_is_there_is_not_moved_again(self):
        self.file("tree/big", pattern(20 << 20))
        self.assertEqual(self.do("put", "tree", "models/t/", "--json").json["transferred"], 1)
        self.assertEqual(self.do("put", "tree", "models/t/", "--json").json["unchanged"], 1)
        self.assertEqual(self.do("get", "models/t/", "back", "--json").json["transferred"], 1)
        self.assertEqual(self.do("get", "models/t/", "back", "--json").json["unchanged"], 1)
        changed = bytearray(pattern(20 << 20))
        changed[-1] ^= 1
        (self.directory / "back" / "big").write_bytes(changed)
        self.assertEqual(self.do("get", "models/t/", "back", "--json").json["transferred"], 1)
        self.near()
        self.assertEqual(self.do("put", "tree", "models/t/", "--json").json["unchanged"], 1)
        self.assertEqual(self.do("get", "models/t/", "back", "--json").json["unchanged"], 1)

    def test_without_a_checksum_nothing_is_called_verified_that_is_not(self):
        content = pattern(11 << 20)
        # Of what is encrypted the server keeps no hash.
        self.upload_in_parts("pl", content, [("x-amz-server-side-encryption", "AES256")])
        self.assertIn("not verified", self.do("get", "models/pl", "out").text)
        self.assertFalse(self.do("get", "models/pl", "again", "--json").json["isVerified"])
        self.assertEqual(self.do("get", "models/", "all", "--json").json["notVerified"], 1)
        self.assertEqual((self.directory / "out").read_bytes(), content)
        # Such a download goes on all the same, with what was written since the machine was started.
        version = self.do("stat", "models/pl", "--json").json["version"]
        boot = open("/proc/sys/kernel/random/boot_id").read().strip()
        for start, resumed in ((boot, 1 << 20), ("another", 0)):
            state = {"formatVersion": 1, "versionID": version["versionID"], "size": version["size"], "boot": start}
            (self.directory / ".res.holdfast-state").write_text(json.dumps(state))
            (self.directory / ".res.holdfast-partial").write_bytes(content[: 1 << 20])
            self.assertEqual(self.do("get", "models/pl", "res", "--json").json["resumedBytes"], resumed)
            self.assertEqual((self.directory / "res").read_bytes(), content)
            (self.directory / "res").unlink()
        self.near()
        self.assertTrue(self.do("get", "models/pl", "near", "--json").json["isVerified"])


class Uploads(FarAndNear):
    def check(self):
        names = {item["uploadID"] for item in self.do("upload", "ls", "models", "--json").json["uploads"]}
        self.assertEqual(len(names), 3)
        of_a = self.do("upload", "ls", "models/a", "--json").json["uploads"]
        self.assertEqual([item["key"] for item in of_a], ["a", "a", "ab"])
        one = of_a[0]["uploadID"]
        self.assertIn(one, self.do("upload", "ls", "models").text)
        self.do("upload", "abort", "models/a", one)
        error = self.refuse(Exit.NOT_FOUND, "upload", "abort", "models/a", one, "--json").error
        self.assertEqual(error["code"], "noSuchUpload")
        self.refuse(Exit.USAGE, "upload", "abort", "models/a")
        self.assertEqual(self.do("upload", "abort", "models/a", "--all", "--json").json["aborted"], [of_a[1]["uploadID"]])
        self.assertEqual([i["key"] for i in self.do("upload", "ls", "models", "--json").json["uploads"]], ["ab"])

    def test_they_are_listed_and_ended(self):
        for key in ("a", "a", "ab"):
            self.assertEqual(self.service().request("POST", f"/models/{key}", [("uploads", "")]).status, 200)
        self.check()

    def test_without_a_server_too(self):
        for key in ("a", "a", "ab"):
            self.assertEqual(self.service().request("POST", f"/models/{key}", [("uploads", "")]).status, 200)
        self.near()
        self.check()


class Refusals(FarAndNear):
    def test_one_key_that_may_not_be_read_does_not_stop_the_others(self):
        for name in ("a", "secret", "z"):
            self.put(f"models/t/{name}", name.encode())
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                           "Resource": "arn:aws:s3:::models/t/secret"}],
        }
        answer = self.service().request("PUT", "/models", [("policy", "")], body=json.dumps(policy).encode())
        self.assertEqual(answer.status, 204, answer)
        outcome = self.run_program("get", "models/t/", "out", "--json")
        self.assertEqual(outcome.code, Exit.PARTLY, outcome)
        self.assertEqual([item["name"] for item in outcome.json["failed"]], ["t/secret"])
        self.assertEqual(outcome.json["failed"][0]["code"], "accessDenied")
        self.assertEqual(sorted(os.listdir(self.directory / "out")), ["a", "z"])
        error = self.refuse(Exit.DENIED, "stat", "models/t/secret", "--json").error
        self.assertNotIn("status 403", error["message"])
        self.refuse(Exit.DENIED, "ls", env={"HOLDFAST_SECRET_KEY": "wrong" * 8})

    def test_a_remote_stat_has_no_chunks_and_a_marker_is_called_one(self):
        self.put("models/a", b"1")
        report = self.do("stat", "models/a", "--json").json
        self.assertEqual(set(report), {"version"})
        marker = self.do("rm", "models/a", "--json").json["deleteMarker"]
        error = self.refuse(Exit.NOT_FOUND, "stat", "models/a", "--version", marker, "--json").error
        self.assertEqual(error["code"], "methodNotAllowed")
        self.assertNotIn("status 405", error["message"])


class ClientKeys(StoreTestCase):
    @unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
    def test_what_needs_a_clients_key_is_named_and_the_rest_is_got(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-keyout", self.directory / "key.pem", "-out", self.directory / "ca.pem", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True,
        )
        with open(self.directory / "log", "wb") as log:
            server = self.start(
                "serve", "--json", "--listen", "127.0.0.1:0", "--tls-certificate", "ca.pem", "--tls-key", "key.pem",
                stderr=log, env={"HOLDFAST_ROOT_ACCESS_KEY": ROOT_KEY, "HOLDFAST_ROOT_SECRET_KEY": ROOT_SECRET},
            )
        address = json.loads(server.stdout.readline())["addresses"][0]
        host, port = address.rsplit(":", 1)
        service = sigv4.Service((host, int(port)), sigv4.Signer(ROOT_KEY, ROOT_SECRET), tls=True)
        key = b"k" * 32
        sealed = [
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption-customer-key", base64.b64encode(key).decode()),
            ("x-amz-server-side-encryption-customer-key-md5", base64.b64encode(hashlib.md5(key).digest()).decode()),
        ]
        self.assertEqual(service.request("PUT", "/models/t/sealed", headers=sealed, body=b"s").status, 200)
        self.assertEqual(service.request("PUT", "/models/t/open", body=b"o").status, 200)
        far = {"HOLDFAST_ENDPOINT": f"https://{address}", "HOLDFAST_ACCESS_KEY": ROOT_KEY,
               "HOLDFAST_SECRET_KEY": ROOT_SECRET, "AWS_CA_BUNDLE": str(self.directory / "ca.pem")}
        outcome = self.run_program("get", "models/t/", "out", "--json", env=far)
        self.assertEqual(outcome.code, Exit.PARTLY, outcome)
        self.assertEqual([(f["name"], f["code"]) for f in outcome.json["failed"]], [("t/sealed", "encryptionKeyMissing")])
        self.assertIn("client's key", outcome.json["failed"][0]["reason"])
        self.assertEqual(os.listdir(self.directory / "out"), ["open"])


class Sources(StoreTestCase):
    def test_a_file_that_grows_or_shrinks_meanwhile(self):
        for change in (1, -1):
            path = self.directory / "changing"
            path.write_bytes(pattern(64 << 20))
            process = self.start("put", path, "models/changing", "--json", env={"HOLDFAST_DEBUG": ""})
            # Before it is read to its end: the store is opened first, and it is large.
            with path.open("r+b") as file:
                file.truncate((64 << 20) + change)
            _, errors = process.communicate(timeout=120)
            if process.returncode == 0:
                continue  # Changed before it was opened.
            self.assertEqual(process.returncode, Exit.LOCAL_FILE, errors)
            self.assertEqual(json.loads(errors)["error"]["code"], "fileChanged")

    def test_files_that_the_kernel_makes_up(self):
        self.do("put", "/proc/self/limits", "models/limits")
        self.assertIn(b"Max open files", self.content("models/limits"))
        with open("/proc/self/limits", "rb") as file:
            self.do("put", "-", "models/again", stdin=file)
        self.assertIn(b"Max open files", self.content("models/again"))
        self.file("empty", b"")
        self.do("put", self.directory / "empty", "models/empty")
        self.assertEqual(self.content("models/empty"), b"")

    def test_a_pipe_without_a_writer_ends_with_the_first_signal(self):
        pipe = self.directory / "pipe"
        os.mkfifo(pipe)
        for number, code in ((signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)):
            process = self.start("put", pipe, "models/pipe")
            # It waits when it has the pipe open.
            def waits():
                links = f"/proc/{process.pid}/fd"
                try:
                    return any(os.readlink(f"{links}/{one}") == str(pipe) for one in os.listdir(links))
                except OSError:
                    return False
            poll(waits, "the pipe to be open")
            process.send_signal(number)
            self.assertEqual(process.wait(60), code)
        process = self.start("put", pipe, "models/pipe")
        content = pattern(3 << 20)
        pipe.write_bytes(content)
        self.assertEqual(process.wait(60), 0, process.stderr.read())
        self.assertEqual(self.content("models/pipe"), content)


class Small(StoreTestCase):
    def test_small_things(self):
        self.refuse(Exit.USAGE, "serve", "--region", "a b", "--listen", "127.0.0.1:0")
        self.refuse(Exit.LOCAL_FILE, "serve", "--access-log", "/nonexist/x", "--listen", "127.0.0.1:0")
        self.refuse(Exit.USAGE, "init", "--store", "")
        names = {self.do("doctor", "--json").json["archive"] for _ in range(3)}
        self.assertEqual(len(names), 3, names)
        self.assertIn("141", self.do("--help").text)
        version = self.do("version", "--json").json["version"]
        self.assertEqual(self.do("--version").text.strip(), f"holdfast {version}")
        keys = {"HOLDFAST_ACCESS_KEY": ROOT_KEY, "HOLDFAST_SECRET_KEY": ROOT_SECRET}
        here = ["--endpoint", "http://127.0.0.1:1"]
        for option in ("--version", "--version-id"):
            self.assertIn("versionId=null", self.do("presign", "models/a", option, "null", *here, env=keys).text)


if __name__ == "__main__":
    unittest.main()

"""Commands that ask a server: the same results and exit codes as against the store's directory; keys, TLS, presigned
URLs, and servers that die in the middle."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import unittest

from support import Exit, StoreTestCase, poll, random_bytes
from test_admin import ROOT_KEY, ROOT_SECRET, ServedTestCase

BIG = 20 << 20


def pattern(size, seed=b"x"):
    """Bytes that repeat nowhere."""
    out, counter = bytearray(), 0
    while len(out) < size:
        out += hashlib.sha512(seed + counter.to_bytes(8, "big")).digest()
        counter += 1
    return bytes(out[:size])


class EndpointTestCase(ServedTestCase):
    def setUp(self):
        super().setUp()
        self.far = {
            "HOLDFAST_ENDPOINT": f"http://{self.address}",
            "HOLDFAST_ACCESS_KEY": ROOT_KEY,
            "HOLDFAST_SECRET_KEY": ROOT_SECRET,
        }

    def environment(self, extra=None):
        return super().environment({**getattr(self, "far", {}), **(extra or {})})


class Commands(EndpointTestCase):
    def test_buckets_come_and_go(self):
        made = self.do("bucket", "create", "far-away", "--json").json
        self.assertEqual((made["name"], made["versioning"]), ("far-away", "enabled"))
        off = self.do("bucket", "create", "plain", "--versioning", "off", "--json").json
        self.assertEqual(off["versioning"], "off")
        names = {bucket["name"]: bucket["versioning"] for bucket in self.do("ls", "--json").json["buckets"]}
        self.assertEqual(names, {"models": "enabled", "far-away": "enabled", "plain": "off"})
        changed = self.do("bucket", "versioning", "far-away", "suspended", "--json").json
        self.assertEqual(changed["versioning"], "suspended")
        error = self.refuse(Exit.CONFLICT, "bucket", "create", "plain", "--json").error
        self.assertEqual(error["code"], "bucketAlreadyExists")
        self.do("bucket", "rm", "far-away")
        self.assertEqual(self.refuse(Exit.NOT_FOUND, "bucket", "rm", "far-away", "--json").error["code"], "noSuchBucket")
        self.put("plain/a", b"x")
        self.assertEqual(self.refuse(Exit.CONFLICT, "bucket", "rm", "plain", "--json").error["code"], "bucketNotEmpty")

    def test_an_object_and_its_versions(self):
        first = self.do(
            "put", "-", "models/dir/ä b", "--json", "--content-type", "text/x", "--meta", "who=me", "--tag", "t=v 1",
            input=b"one",
        ).json
        self.assertTrue(first["isStored"])
        first = first["version"]
        self.assertEqual(first["sha256"], hashlib.sha256(b"one").hexdigest())
        self.assertEqual((first["size"], first["contentType"]), (3, "text/x"))
        second = self.put("models/dir/ä b", b"two, longer")
        self.assertEqual(self.content("models/dir/ä b"), b"two, longer")
        self.assertEqual(self.content("models/dir/ä b", "--version", first["versionID"]), b"one")
        shown = self.do("stat", "models/dir/ä b", "--version", first["versionID"], "--json").json["version"]
        self.assertEqual((shown["metadata"], shown["tags"]), ({"who": "me"}, {"t": "v 1"}))
        log = self.do("log", "models/dir/ä b", "--json").json["versions"]
        self.assertEqual([v["versionID"] for v in log], [second["versionID"], first["versionID"]])
        self.assertEqual([v["isLatest"] for v in log], [True, False])
        removed = self.do("rm", "models/dir/ä b", "--json").json
        self.assertIn("deleteMarker", removed)
        error = self.refuse(Exit.NOT_FOUND, "get", "models/dir/ä b", "-", "--exact").errors
        self.assertIn("models/dir/ä b", error)
        kinds = [v["kind"] for v in self.do("log", "models/dir/ä b", "--json").json["versions"]]
        self.assertEqual(kinds, ["deleteMarker", "object", "object"])
        restored = self.do("restore", "models/dir/ä b", "--json").json["version"]
        self.assertEqual((restored["size"], restored["isLatest"]), (11, True))
        self.do("restore", "models/dir/ä b", "--version", first["versionID"])
        self.assertEqual(self.content("models/dir/ä b"), b"one")
        copy = self.do("cp", "models/dir/ä b", "models/copy", "--json").json["version"]
        self.assertEqual(copy["contentType"], "text/x")
        self.assertEqual(self.content("models/copy"), b"one")
        gone = self.do("rm", "models/dir/ä b", "--version", first["versionID"], "--json").json
        self.assertEqual(gone["removedVersion"], first["versionID"])
        self.refuse(Exit.NOT_FOUND, "get", "models/dir/ä b", "-", "--exact", "--version", first["versionID"])

    def test_listings_are_those_of_the_directory(self):
        for name in ("a", "d/x", "d/y", "d/z/1", "e+f g", "ü%"):
            self.put(f"models/{name}", name.encode())
        far = {
            "flat": self.do("ls", "models", "--json").json["entries"],
            "deep": self.do("ls", "models/d/", "-r", "--json").json["entries"],
            "versions": self.do("ls", "models", "--versions", "-r", "--json").json["entries"],
        }
        self.stop()
        del self.far
        near = {
            "flat": self.do("ls", "models", "--json").json["entries"],
            "deep": self.do("ls", "models/d/", "-r", "--json").json["entries"],
            "versions": self.do("ls", "models", "--versions", "-r", "--json").json["entries"],
        }
        def facts(entries):
            return [(e.get("prefix"), e.get("key"), e.get("size"), e.get("etag"), e.get("kind")) for e in entries]
        for name in near:
            self.assertEqual(facts(far[name]), facts(near[name]), name)
        self.assertEqual(
            [e["versionID"] for e in far["versions"]], [e["versionID"] for e in near["versions"]]
        )

    def test_pages_of_listings(self):
        files = {f"many/{index:04}": b"" for index in range(1203)}
        for name in files:
            self.file(name, name.encode())
        self.do("put", "many", "models/many/")
        entries = self.do("ls", "models/many/", "-r", "--json").json["entries"]
        self.assertEqual([e["key"] for e in entries], sorted(files))
        self.assertEqual(len(self.do("ls", "models", "--versions", "-r", "--json").json["entries"]), 1203)
        deleted = self.do("rm", "models/many/", "-r", "--json").json
        self.assertEqual(deleted["deleted"], 1203)

    def test_conditions_and_declared_hashes(self):
        self.put("models/a", b"one")
        error = self.refuse(Exit.CONFLICT, "put", "-", "models/a", "--if-none-match", "--json", input=b"x").error
        self.assertEqual(error["code"], "preconditionFailed")
        tag = hashlib.md5(b"one").hexdigest()
        self.do("put", "-", "models/a", "--if-match", tag, input=b"two")
        self.refuse(Exit.CONFLICT, "put", "-", "models/a", "--if-match", tag, input=b"three")
        wrong = hashlib.sha256(b"other").hexdigest()
        error = self.refuse(Exit.CONFLICT, "put", "-", "models/a", "--sha256", wrong, "--json", input=b"x").error
        self.assertEqual(error["code"], "badDigest")
        self.assertEqual(self.content("models/a"), b"two")
        self.assertEqual(len(self.do("log", "models/a", "--json").json["versions"]), 2)

    def test_large_objects_go_in_parts_and_come_back_verified(self):
        content = pattern(BIG + 12345)
        path = self.file("big", content)
        version = self.do("put", path, "models/big", "--json").json["version"]
        self.assertEqual(version["size"], len(content))
        self.assertIn("-", version["etag"])
        self.assertEqual(self.content("models/big"), content)
        self.do("get", "models/big", "back")
        self.assertEqual((self.directory / "back").read_bytes(), content)
        piped = self.do("put", "-", "models/piped", "--json", input=content).json["version"]
        self.assertEqual(piped["size"], len(content))
        error = self.refuse(
            Exit.CONFLICT, "put", path, "models/big", "--sha256", "0" * 64, "--json"
        ).error
        self.assertEqual(error["code"], "badDigest")
        self.assertEqual(len(self.do("log", "models/big", "--json").json["versions"]), 1)

    def test_trees_go_and_come(self):
        files = {"a": b"1", "d/b": b"22", "d/e/c": pattern(3 << 20)}
        for name, content in files.items():
            self.file(f"tree/{name}", content)
        self.assertEqual(self.do("put", "tree", "models/t/", "--json").json["transferred"], 3)
        again = self.do("put", "tree", "models/t/", "--json").json
        self.assertEqual((again["transferred"], again["unchanged"]), (0, 3))
        self.do("get", "models/t/", "back")
        for name, content in files.items():
            self.assertEqual((self.directory / "back" / name).read_bytes(), content)
        self.assertEqual(self.do("get", "models/t/", "back", "--json").json["unchanged"], 3)

    def test_an_interrupted_download_goes_on_and_a_damaged_one_begins_anew(self):
        content = pattern(3 << 20)
        self.put("models/a", content)
        state = self.do("stat", "models/a", "--json").json["version"]
        partial = {"formatVersion": 1, "versionID": state["versionID"], "size": state["size"], "sha256": state["sha256"]}
        for damaged in (False, True):
            (self.directory / ".out.holdfast-state").write_text(json.dumps(partial))
            part = bytearray(content[: 1 << 20])
            part[100] ^= damaged
            (self.directory / ".out.holdfast-partial").write_bytes(part)
            report = self.do("get", "models/a", "out", "--json").json
            self.assertEqual(report["resumedBytes"], 0 if damaged else 1 << 20)
            self.assertEqual((self.directory / "out").read_bytes(), content)
            (self.directory / "out").unlink()

    def test_what_has_no_remote_form_says_so(self):
        for option in ("--chunks", "--verify"):
            error = self.refuse(Exit.USAGE, "stat", option, "models/a").errors
            self.assertIn(f"'holdfast stat {option}' works on a store's directory, not over the network", error)
        for command in (["verify"], ["status"], ["key", "ls"], ["scrub", "status"]):
            self.refuse(Exit.USAGE, *command, "--endpoint", "http://127.0.0.1:1")
        self.refuse(Exit.USAGE, "ls", "--store", self.store, "--endpoint", "http://127.0.0.1:1")
        for url in ("ftp://x", "http://user:pw@host", "127.0.0.1:9000", "http://h:99999", "http://h?x"):
            self.refuse(Exit.USAGE, "ls", "--endpoint", url)

    def test_a_server_in_the_way_is_named_with_its_endpoint(self):
        error = self.refuse(Exit.IN_USE, "ls", "--store", self.store, "--lock-timeout", "0").errors
        self.assertIn("--endpoint", error)
        self.assertIn(self.address, error)


class Keys(EndpointTestCase):
    def test_wrong_keys(self):
        for change in ({"HOLDFAST_SECRET_KEY": "wrong" * 8}, {"HOLDFAST_ACCESS_KEY": "HOLDFASTNOBODY000001"}):
            outcome = self.refuse(Exit.DENIED, "put", "-", "models/a", "--json", input=b"x", env=change)
            self.assertEqual(outcome.error["code"], "accessDenied")
            self.assertNotIn("wrong" * 8, outcome.errors)
            self.refuse(Exit.DENIED, "ls", env=change)
            self.refuse(Exit.DENIED, "get", "models/a", "-", env=change)

    def test_no_keys(self):
        nothing = {"HOLDFAST_ACCESS_KEY": "", "HOME": str(self.directory)}
        self.assertIn("HOLDFAST_ACCESS_KEY", self.refuse(Exit.USAGE, "ls", env=nothing).errors)

    def test_keys_of_files_and_of_aws_variables(self):
        path = self.file(
            "keys", f"[default]\naws_access_key_id = {ROOT_KEY}\naws_secret_access_key = {ROOT_SECRET}\n".encode()
        )
        none = {"HOLDFAST_ACCESS_KEY": "", "HOLDFAST_SECRET_KEY": "", "HOME": str(self.directory)}
        self.do("ls", "--credentials-file", path, env=none)
        self.do("ls", env={**none, "AWS_SHARED_CREDENTIALS_FILE": str(path)})
        self.do("ls", env={**none, "AWS_ACCESS_KEY_ID": ROOT_KEY, "AWS_SECRET_ACCESS_KEY": ROOT_SECRET})
        self.refuse(Exit.USAGE, "ls", "--credentials-file", "missing", env=none)

    def test_the_environments_proxies_are_not_used(self):
        dead = "http://127.0.0.1:1"
        self.do("ls", env={"http_proxy": dead, "HTTP_PROXY": dead, "all_proxy": dead, "ALL_PROXY": dead})


class Presigned(EndpointTestCase):
    def curl(self, *arguments):
        return subprocess.run(["curl", "-sS", "-w", "%{http_code}", *arguments], capture_output=True, timeout=60, check=True)

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_anybody_can_use_the_url_for_that_and_for_nothing_else(self):
        old = self.put("models/a b/ü", b"old")
        self.put("models/a b/ü", b"new")
        get = self.do("presign", "models/a b/ü").text.strip()
        self.assertNotIn(ROOT_SECRET, get)
        self.assertEqual(self.curl(get).stdout, b"new200")
        version = self.do("presign", "models/a b/ü", "--version-id", old["versionID"], "--json").json
        self.assertEqual(self.curl(version["url"]).stdout, b"old200")
        put = self.do("presign", "models/new", "--method", "PUT", "--expires", "10m").text.strip()
        path = self.file("new", b"by curl")
        self.assertTrue(self.curl("-T", path, put).stdout.endswith(b"200"))
        self.assertEqual(self.content("models/new"), b"by curl")
        self.assertTrue(self.curl(put).stdout.endswith(b"403"))
        self.assertTrue(self.curl(get.replace("a%20b", "x")).stdout.endswith(b"403"))
        self.assertTrue(self.curl(get.replace("Expires=3600", "Expires=7200")).stdout.endswith(b"403"))

    def test_times_that_are_none(self):
        for text in ("0", "8d", "-1h", "1w", "h", "", "99999999999"):
            self.refuse(Exit.USAGE, "presign", "models/a", f"--expires={text}")
        self.refuse(Exit.USAGE, "presign", "models/a", "--endpoint", "nowhere")
        self.refuse(Exit.USAGE, "presign", "models/a", env={"HOLDFAST_ENDPOINT": ""})


class Gate:
    """Passes a connection on, and cuts it after so many bytes of one direction."""

    def __init__(self, target, upward=None, downward=None, times=10**9):
        self.target, self.limits, self.times = target, {"up": upward, "down": downward}, times
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.cut = self.accepted = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            host, port = self.target.split(":")
            far = socket.create_connection((host, int(port)))
            for one, other, way in ((near, far, "up"), (far, near, "down")):
                threading.Thread(target=self.pump, args=(one, other, way), daemon=True).start()

    def pump(self, one, other, way):
        count = 0
        try:
            while data := one.recv(65536):
                count += len(data)
                limit = self.limits[way]
                if limit is not None and count > limit and self.cut < self.times:
                    self.cut += 1
                    break
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


class Breaks(EndpointTestCase):
    def gate(self, **options):
        gate = Gate(self.address, **options)
        self.addCleanup(gate.close)
        return gate, {"HOLDFAST_ENDPOINT": f"http://{gate.address}"}

    def test_connections_that_break_are_made_good(self):
        content = pattern(BIG)
        path = self.file("big", content)
        gate, env = self.gate(upward=5 << 20, times=2)
        self.do("put", path, "models/big", env=env)
        self.assertEqual(gate.cut, 2)
        self.assertEqual(len(self.do("log", "models/big", "--json").json["versions"]), 1)
        gate, env = self.gate(downward=3 << 20, times=3)
        self.do("get", "models/big", "back", env=env)
        self.assertEqual(gate.cut, 3)
        self.assertEqual((self.directory / "back").read_bytes(), content)

    def test_a_change_without_an_answer_is_not_known_to_have_happened(self):
        gate, env = self.gate(downward=0, times=10**9)
        error = self.refuse(Exit.UNKNOWN, "rm", "models/a", "--json", env=env).error
        self.assertEqual(error["code"], "outcomeUnknown")

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
        env = {"HOLDFAST_ENDPOINT": f"http://{address}"}
        for command in (["ls"], ["put", "-", "models/a"], ["rm", "models/a"]):
            error = self.refuse(Exit.UNREACHABLE, *command, "--json", env=env, input=b"x").error
            self.assertEqual(error["code"], "serverUnreachable", command)

    def test_a_server_that_is_killed_half_way_through_a_put_leaves_nothing_half(self):
        reading, writing = os.pipe()
        process = self.start("put", "-", "models/half", "--json", stdin=reading)
        os.close(reading)
        piece = pattern(1 << 20)
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for _ in range(30):
                pipe.write(piece)
            self.server.kill()
            self.server.wait(60)
            try:
                for _ in range(30):
                    pipe.write(piece)
            except BrokenPipeError:
                pass
        _, errors = process.communicate(timeout=120)
        self.assertIn(process.returncode, (Exit.UNREACHABLE, Exit.UNKNOWN), errors)
        self.far = {}
        self.refuse(Exit.NOT_FOUND, "log", "models/half")

    def test_a_server_that_is_killed_half_way_through_a_get_and_comes_back(self):
        # More than a get has in memory.
        content = random_bytes(80 << 20, 17)
        self.put("models/big", content)
        reading, writing = os.pipe()
        process = self.start("get", "models/big", "-", stdout=writing)
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            first = pipe.read(1 << 16)
            self.server.kill()
            self.server.wait(60)
            rest = b""
            while data := pipe.read(1 << 16):
                rest += data
        process.communicate(timeout=120)
        # What came was right; it was not the whole, and is not taken for it.
        self.assertEqual(content[: len(first + rest)], first + rest)
        self.assertLess(len(first + rest), len(content))
        self.assertNotEqual(process.returncode, Exit.DONE)
        self.serve()
        self.far["HOLDFAST_ENDPOINT"] = f"http://{self.address}"
        self.assertEqual(self.content("models/big"), content)


class Secure(StoreTestCase):
    @unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
    def test_only_the_named_authority_is_trusted(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-keyout", self.directory / "key.pem", "-out", self.directory / "ca.pem", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )
        log = self.directory / "serve.log"
        with log.open("ab") as errors:
            server = self.start(
                "serve", "--store", self.store, "--listen", "127.0.0.1:0", "--tls-certificate", "ca.pem", "--tls-key",
                "key.pem", stderr=errors,
                env={"HOLDFAST_ROOT_ACCESS_KEY": ROOT_KEY, "HOLDFAST_ROOT_SECRET_KEY": ROOT_SECRET},
            )
        line = server.stdout.readline().decode()
        self.assertTrue(line.startswith("Ready: "), log.read_text())
        port = line.strip().removeprefix("Ready: S3 on ").partition(", ")[0].rpartition(":")[2]
        keys = {"HOLDFAST_ACCESS_KEY": ROOT_KEY, "HOLDFAST_SECRET_KEY": ROOT_SECRET}
        here = ["--endpoint", f"https://localhost:{port}"]
        trusted = [*here, "--ca-file", self.directory / "ca.pem"]
        content = pattern(BIG)
        path = self.file("big", content)
        self.do("put", path, "models/big", *trusted, env=keys)
        self.assertEqual(self.do("get", "models/big", "-", *trusted, env=keys).raw, content)
        unknown = self.refuse(Exit.UNREACHABLE, "ls", *here, "--json", env=keys).error
        self.assertIn("--ca-file", unknown["advice"])
        name = ["--endpoint", f"https://127.0.0.1:{port}", "--ca-file", self.directory / "ca.pem"]
        self.refuse(Exit.UNREACHABLE, "ls", *name, env=keys)
        self.refuse(Exit.LOCAL_FILE, "ls", *here, "--ca-file", "missing.pem", env=keys)


class BenchServer(EndpointTestCase):
    """The loader for any S3 server: what it counts, and that it leaves nothing behind."""

    def buckets(self):
        return [bucket["name"] for bucket in self.do("ls", "--json").json["buckets"]]

    def measure(self, *arguments):
        report = self.do("bench", "server", "--seconds", "60", "--concurrency", "4", "--json", *arguments).json
        self.assertEqual(self.buckets(), ["models"], "the loader removes its bucket")
        for figure in report["figures"]:
            self.assertEqual((figure["failed"], figure["failures"]), (0, {}), figure)
            self.assertGreater(figure["callsPerSecond"], 0)
            self.assertLessEqual(figure["latency"]["p50"], figure["latency"]["p99"])
        return {figure["operation"]: figure for figure in report["figures"]}

    def test_each_call_by_itself_and_every_byte_compared(self):
        figures = self.measure(
            "--count", "40", "--objects", "30", "--size", "4K", "--size", "300K", "--verify", "--part-size", "5M"
        )
        self.assertEqual(list(figures), ["put", "get", "head", "list", "multipart"])
        for figure in figures.values():
            self.assertEqual((figure["calls"], figure["mix"]), (40, figure["operation"]))
        for operation in ("put", "get", "multipart"):
            self.assertGreater(figures[operation]["bytesPerSecond"], 0)

    def test_shares_of_calls_and_parts(self):
        figures = self.measure("--count", "300", "--mix", "get=9,put=1", "--size", "1K")
        self.assertEqual(sum(figure["calls"] for figure in figures.values()), 300)
        self.assertGreater(figures["get"]["calls"], 2 * figures["put"]["calls"])
        figures = self.measure("--count", "2", "--mix", "multipart", "--size", "11M", "--part-size", "5M")
        self.assertEqual(figures["multipart"]["calls"], 2)

    def test_in_a_bucket_that_is_there_nothing_else_is_touched(self):
        self.put("models/kept", b"kept")
        self.measure("--bucket", "models", "--count", "20", "--mix", "put", "--mix", "list", "--objects", "5")
        names = [version["key"] for version in self.do("ls", "models", "-r", "--json").json["entries"]]
        self.assertEqual(names, ["kept"])
        self.assertEqual(self.do("get", "models/kept", "-").raw, b"kept")

    def test_what_is_wrong_is_told(self):
        self.refuse(Exit.NOT_FOUND, "bench", "server", "--bucket", "absent", "--mix", "put", "--count", "1")
        self.refuse(Exit.USAGE, "bench", "--mix", "put=0")
        self.refuse(Exit.USAGE, "bench", "--mix", "put,put")
        self.refuse(Exit.USAGE, "bench", "--mix", "put", "--part-size", "1K")
        away = {"HOLDFAST_ENDPOINT": "http://127.0.0.1:9"}
        self.refuse(Exit.UNREACHABLE, "bench", "--mix", "put", env=away)
        del self.far["HOLDFAST_ENDPOINT"]
        self.assertIn("--endpoint", self.refuse(Exit.USAGE, "bench", "--json").error["advice"])

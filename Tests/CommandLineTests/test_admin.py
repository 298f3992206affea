"""The admin API: through the socket in the store's directory, which commands use by themselves, and signed on the
operations port."""

import datetime
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import unittest
import urllib.parse

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "ClientTests"))

import sigv4
from support import Exit, StoreTestCase, can_drop_privileges, poll

ROOT_KEY, ROOT_SECRET = "HOLDFASTROOTKEY00001", "root/secret+with=signs0123456789abcdefgh"
CLIENTS = pathlib.Path(
    os.environ.get("HOLDFAST_CLIENTS")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "holdfast-clients"
)


class LocalConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.fspath(self.path))


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.raw = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.raw)

    @property
    def code(self):
        return self.json["error"]["code"]


class ServedTestCase(StoreTestCase):
    """A store that a server holds."""

    def setUp(self):
        super().setUp()
        self.serve()

    def serve(self, store=None, **options):
        self.log = self.directory / "serve.log"
        with self.log.open("ab") as log:
            options.setdefault("env", {"HOLDFAST_ROOT_ACCESS_KEY": ROOT_KEY, "HOLDFAST_ROOT_SECRET_KEY": ROOT_SECRET})
            self.server = self.start(
                "serve", "--store", store or self.store, "--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0",
                stderr=log, **options
            )
        line = self.server.stdout.readline().decode()
        self.assertTrue(line.startswith("Ready: "), self.log.read_text())
        service, _, operations = line.strip().removeprefix("Ready: S3 on ").partition(", operations on ")
        self.address, self.operations = service, operations
        self.socket = pathlib.Path(store or self.store) / "admin.sock"

    def stop(self, number=signal.SIGTERM):
        self.server.send_signal(number)
        self.server.wait(60)

    def lines(self):
        """What the server has logged so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def audited(self, action):
        found = lambda: [line for line in self.lines() if line["part"] == "audit" and line.get("action") == action]
        return poll(found, f"an audit line of {action}")

    def ask(self, method, path, body=None, connection=None, headers=None, raw=None):
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        connection = connection or LocalConnection(self.socket)
        try:
            connection.request(method, path, content, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def ask_signed(
        self, method, path, body=None, key=ROOT_KEY, secret=ROOT_SECRET, service="holdfast-admin", skew=0,
        states_hash=True, sent=None, region="us-east-1", stated=None,
    ):
        """A request with a signature of version 4, written from the specification."""
        content = b"" if body is None else json.dumps(body).encode()
        now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=skew)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        digest = stated or hashlib.sha256(content).hexdigest()
        headers = {"host": self.operations, "x-amz-date": stamp}
        if states_hash:
            headers["x-amz-content-sha256"] = digest
        names = ";".join(sorted(headers))
        plain, _, query = path.partition("?")
        canonical = "\n".join(
            [method, plain, query, *[f"{name}:{headers[name]}" for name in sorted(headers)], "", names, digest]
        )
        scope = f"{day}/{region}/{service}/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        secret = b"AWS4" + secret.encode()
        for part in scope.split("/"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        signature = hmac.new(secret, text.encode(), "sha256").hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return self.ask(method, path, connection=self.network(), headers=headers, raw=content if sent is None else sent)

    def network(self):
        return http.client.HTTPConnection(self.operations, timeout=60)


class CommandsWhileServed(ServedTestCase):
    def test_status_accounts_and_keys_just_work(self):
        self.assertEqual(self.do("status", "--json").json["buckets"], 1)
        self.do("status", "--check", "--quiet")
        made = self.do("account", "create", "research team", "--email", "r@example.org", "--json").json
        key = self.do("key", "create", "--account", "research team", "--label", "nodes", "--json").json
        self.assertEqual((key["account"], len(key["secretAccessKey"])), (made["id"], 40))
        listed = self.do("key", "ls", "--account", "r@example.org", "--json").json["keys"]
        self.assertEqual([one["accessKeyID"] for one in listed], [key["accessKeyID"]])
        new = self.do("key", "rotate", key["accessKeyID"], "--json").json
        self.assertEqual(new["replacedAccessKeyID"], key["accessKeyID"])
        self.do("key", "rotate", "--master", "--json")
        self.do("key", "rm", new["accessKeyID"])
        self.refuse(Exit.NOT_FOUND, "key", "rm", new["accessKeyID"], "--json")
        self.refuse(Exit.NOT_FOUND, "account", "rm", "nobody", "--json")
        self.refuse(Exit.CONFLICT, "account", "create", "research team", "--json")
        self.refuse(Exit.USAGE, "account", "create", "x", "--email", "none", "--json")
        removed = self.do("account", "rm", "research team", "--json").json
        self.assertEqual(removed, {"name": "research team", "removedAccount": made["id"], "removedKeys": 0})
        names = [one["name"] for one in self.do("account", "ls", "--json").json["accounts"]]
        self.assertEqual(names, ["root"])

    def test_the_answers_are_the_same_without_a_server(self):
        self.do("account", "create", "research")
        commands = [("account", "ls"), ("key", "ls"), ("account", "ls", "--json"), ("key", "ls", "--json")]
        served = [self.do(*command).text for command in commands]
        status = set(self.do("status", "--json").json)
        self.stop()
        self.assertEqual([self.do(*command).text for command in commands], served)
        self.assertEqual(set(self.do("status", "--json").json), status)

    def test_other_commands_name_the_server_and_the_way_out(self):
        for command in [("ls",), ("verify",), ("fsck",), ("put", "-", "models/x"), ("bucket", "create", "other")]:
            outcome = self.refuse(Exit.IN_USE, *command, "--lock-timeout", "0", "--json")
            self.assertIn(str(self.server.pid), outcome.error["message"])
            self.assertIn(f"kill {self.server.pid}", outcome.error["advice"])
            if command[0] not in ("verify", "fsck"):
                self.assertIn(self.address, outcome.error["advice"])

    def test_a_key_made_while_served_signs_at_once_and_a_removed_one_no_more(self):
        key = self.do("key", "create", "--json").json
        pair = {"key": key["accessKeyID"], "secret": key["secretAccessKey"]}
        self.assertEqual(self.ask_signed("GET", "/admin/v1/status", **pair).status, 200)
        self.do("key", "rm", key["accessKeyID"])
        self.assertEqual(self.ask_signed("GET", "/admin/v1/status", **pair).code, "InvalidAccessKeyId")


class Socket(ServedTestCase):
    def test_it_is_private_and_goes_with_the_server(self):
        self.assertEqual(stat.S_IMODE(self.socket.stat().st_mode), 0o600)
        self.stop()
        self.assertFalse(self.socket.exists())

    def test_one_of_a_dead_server_is_replaced(self):
        self.stop(signal.SIGKILL)
        self.assertTrue(self.socket.is_socket())
        self.do("key", "ls")
        self.serve()
        self.assertEqual(self.do("status", "--json").json["buckets"], 1)
        self.assertEqual(self.ask("GET", "/admin/v1/version").json["processID"], self.server.pid)

    def test_what_is_no_socket_is_left_alone(self):
        self.stop()
        self.socket.write_text("mine")
        self.serve()
        self.assertEqual(self.socket.read_text(), "mine")
        outcome = self.refuse(Exit.IN_USE, "status", "--lock-timeout", "0", "--json")
        self.assertIn(str(self.server.pid), outcome.error["message"])

    def test_a_path_longer_than_an_address_has_room_for(self):
        self.stop()
        deep = self.directory / ("d" * 120) / ("e" * 120)
        deep.parent.mkdir()
        self.store.rename(deep)
        self.store = deep
        self.serve()
        self.assertTrue(self.socket.is_socket())
        self.assertEqual(self.do("status", "--json").json["buckets"], 1)

    @unittest.skipUnless(can_drop_privileges(), "needs root")
    def test_another_user_is_refused_whatever_the_mode_says(self):
        for path in (self.directory, self.store):
            path.chmod(0o755)
        self.socket.chmod(0o666)
        script = (
            "import os, socket, sys\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "s.sendall(b'GET /admin/v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
            "data = b''\n"
            "while True:\n"
            "    piece = s.recv(65536)\n"
            "    if not piece: break\n"
            "    data += piece\n"
            "print(data.decode())\n"
        )
        python = next(path for path in ["/usr/bin/python3", sys.executable] if os.path.exists(path))
        done = subprocess.run([python, "-c", script, self.socket], capture_output=True, text=True, timeout=60)
        self.assertTrue(done.stdout.startswith("HTTP/1.1 403 "), done)
        self.assertNotIn("volumes", done.stdout)
        poll(lambda: any("uid=65534" in line.get("remote", "") for line in self.lines()), "a log line")
        self.assertEqual(self.ask("GET", "/admin/v1/status").status, 200)


class LongJobs(ServedTestCase):
    def test_who_asks_for_signs_of_life_gets_them(self):
        # 600 versions that retention drops at 500 a second: more than a second of work.
        host, port = self.address.removeprefix("http://").rsplit(":", 1)
        service = sigv4.Service((host, int(port)), sigv4.Signer(ROOT_KEY, ROOT_SECRET))
        for number in range(602):
            self.assertEqual(service.request("PUT", "/models/k", body=b"%d" % number).status, 200)
        self.do("retention", "set", "models", "--keep-last", "0")
        body = b'{"dryRun":false}'
        head = (
            f"POST /admin/v1/retention/models/apply HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Holdfast-Life-Signs: 100\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(os.fspath(self.socket))
        connection.sendall(head.encode() + body)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        connection.close()
        self.assertTrue(received.startswith(b"HTTP/1.1 102 Processing\r\n\r\n"), received[:200])
        *signs, answer = received.split(b"HTTP/1.1 ")[1:]
        self.assertTrue(all(sign.startswith(b"102 ") for sign in signs))
        self.assertTrue(answer.startswith(b"200 "), answer[:200])
        self.assertEqual(json.loads(answer.partition(b"\r\n\r\n")[2])["dropped"], 601)
        # Others are not given what they may not understand.
        connection = LocalConnection(self.socket)
        connection.request("GET", "/admin/v1/space")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()


class Signed(ServedTestCase):
    def test_a_root_key_may_do_everything(self):
        made = self.ask_signed("POST", "/admin/v1/accounts", {"name": "a"})
        self.assertEqual(made.status, 201, made.raw)
        self.assertEqual(made.headers["Cache-Control"], "no-store")
        key = self.ask_signed("POST", "/admin/v1/keys", {"account": "a"}).json
        listed = self.ask_signed("GET", f"/admin/v1/keys?account={made.json['id']}", states_hash=False).json["keys"]
        self.assertEqual([one["accessKeyID"] for one in listed], [key["accessKeyID"]])
        self.assertNotIn("secretAccessKey", listed[0])
        new = self.ask_signed("POST", f"/admin/v1/keys/{key['accessKeyID']}/rotate", {"keepsOld": True}, states_hash=False)
        self.assertEqual(new.status, 201, new.raw)
        self.assertEqual(self.ask_signed("DELETE", f"/admin/v1/keys/{key['accessKeyID']}").status, 200)
        self.assertEqual(self.ask_signed("DELETE", f"/admin/v1/accounts/{made.json['id']}").json["removedKeys"], 1)
        self.assertEqual([one["name"] for one in self.ask_signed("GET", "/admin/v1/buckets").json["buckets"]], ["models"])
        self.assertEqual(self.ask_signed("GET", "/admin/v1/version").json["apiVersions"], ["v1"])

    def test_requests_without_a_right_signature_are_refused(self):
        self.assertEqual(self.ask("GET", "/admin/v1/status", connection=self.network()).code, "AccessDenied")
        change = ("POST", "/admin/v1/keys")
        for code, options in [
            ("SignatureDoesNotMatch", {"secret": "x" * 40}),
            ("InvalidAccessKeyId", {"key": "AKIANOBODYNOBODYNOBO"}),
            ("AuthorizationHeaderMalformed", {"service": "s3"}),
            ("AuthorizationHeaderMalformed", {"region": "eu-west-1"}),
            ("RequestTimeTooSkewed", {"skew": -3600}),
            ("RequestTimeTooSkewed", {"skew": 3600}),
            ("XAmzContentSHA256Mismatch", {"sent": b'{"label": "other"}'}),
            ("SignatureDoesNotMatch", {"sent": b'{"label": "other"}', "states_hash": False}),
            ("AccessDenied", {"stated": "UNSIGNED-PAYLOAD"}),
        ]:
            with self.subTest(code, **options):
                answer = self.ask_signed(*change, {"label": "mine"}, **options)
                self.assertIn(answer.status, (400, 403))
                self.assertEqual(answer.code, code)
        self.assertEqual(self.ask_signed("GET", "/admin/v1/keys").json["keys"], [])

    def test_another_account_is_refused(self):
        self.do("account", "create", "a")
        key = self.do("key", "create", "--account", "a", "--json").json
        answer = self.ask_signed("GET", "/admin/v1/status", key=key["accessKeyID"], secret=key["secretAccessKey"])
        self.assertEqual((answer.status, answer.code), (403, "AccessDenied"))

    def test_a_presigned_address_is_refused(self):
        query = urllib.parse.urlencode({
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Date": "20260101T000000Z", "X-Amz-Expires": "604800",
            "X-Amz-Credential": f"{ROOT_KEY}/20260101/us-east-1/holdfast-admin/aws4_request",
            "X-Amz-SignedHeaders": "host", "X-Amz-Signature": "0" * 64,
        })
        answer = self.ask("GET", f"/admin/v1/status?{query}", connection=self.network())
        self.assertEqual(answer.status, 403)

    def test_bad_requests_are_told_what_is_wrong(self):
        for status, method, path, body in [
            (404, "GET", "/admin/v1/nothing", None),
            (404, "GET", "/admin/v2/status", None),
            (405, "PUT", "/admin/v1/accounts", None),
            (400, "POST", "/admin/v1/accounts", {}),
            (400, "POST", "/admin/v1/accounts", {"name": 1}),
            (400, "POST", "/admin/v1/accounts", {"name": "a", "mail": "b"}),
            (400, "POST", "/admin/v1/accounts", ["a"]),
            (404, "POST", "/admin/v1/keys", {"account": "nobody"}),
            (404, "DELETE", "/admin/v1/keys/a%2Fb", None),
            (409, "DELETE", "/admin/v1/accounts/root", None),
            (413, "POST", "/admin/v1/accounts", {"name": "a" * 100_000}),
        ]:
            answer = self.ask(method, path, body)
            self.assertEqual(answer.status, status, (path, body))
            self.assertTrue(answer.code and answer.json["error"]["message"], answer.raw)

    def test_the_operations_face_is_still_there(self):
        for path in ("/livez", "/readyz", "/metrics"):
            self.assertEqual(self.ask("GET", path, connection=self.network()).status, 200)


class Audit(ServedTestCase):
    def test_every_change_is_a_line_that_says_who_did_what(self):
        made = self.do("account", "create", "a", "--json").json
        (line,) = self.audited("createAccount")
        self.assertEqual((line["account"], line["name"], line["outcome"]), (made["id"], "a", "done"))
        self.assertRegex(line["actor"], rf"^local uid={os.geteuid()} pid=\d+$")
        key = self.ask_signed("POST", "/admin/v1/keys", {"account": "a"}).json
        (line,) = self.audited("createKey")
        self.assertEqual((line["accessKey"], line["actor"]), (key["accessKeyID"], f"key {ROOT_KEY}"))
        self.refuse(Exit.CONFLICT, "account", "create", "a")
        self.assertEqual(self.audited("createAccount")[-1]["outcome"], "conflict")
        self.ask_signed("DELETE", f"/admin/v1/keys/{key['accessKeyID']}", secret="x" * 40)
        (line,) = self.audited("removeKey")
        self.assertEqual((line["outcome"], line["target"]), ("SignatureDoesNotMatch", key["accessKeyID"]))
        self.assertNotIn("actor", line)

    def test_no_secret_is_logged(self):
        secrets = [ROOT_SECRET]
        secrets.append(self.do("key", "create", "--json").json["secretAccessKey"])
        made = self.ask_signed("POST", "/admin/v1/keys", {"label": "x"}).json
        secrets.append(made["secretAccessKey"])
        secrets.append(self.do("key", "rotate", made["accessKeyID"], "--json").json["secretAccessKey"])
        self.audited("rotateKey")
        self.stop()
        text = self.log.read_text() + self.server.stdout.read().decode()
        for secret in secrets:
            self.assertNotIn(secret, text)


class Description(ServedTestCase):
    def test_it_is_valid_and_anybody_may_read_it(self):
        answer = self.ask("GET", "/admin/v1/openapi.json", connection=self.network())
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.json["openapi"].startswith("3."))
        self.assertEqual(answer.json, self.ask("GET", "/admin/v1/openapi.json").json)
        check = "import json, sys; from openapi_spec_validator import validate; validate(json.load(sys.stdin))"
        done = subprocess.run([self.validator(), "-c", check], input=answer.raw, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr.decode())

    def validator(self):
        """A Python that has openapi-spec-validator: this one, or that of the clients' environment."""
        if importlib.util.find_spec("openapi_spec_validator"):
            return sys.executable
        for python in sorted(CLIENTS.glob("**/bin/python")):
            probe = [python, "-c", "import openapi_spec_validator"]
            if subprocess.run(probe, capture_output=True).returncode == 0:
                return python
        self.skipTest("openapi-spec-validator is not installed")


if __name__ == "__main__":
    unittest.main()

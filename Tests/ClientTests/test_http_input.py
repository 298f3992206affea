"""Requests that are no good HTTP: refused, never passed on, never half understood."""

import concurrent.futures

import sigv4
from support import MIB, RawCase, needs_own_server

CANARY = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


class Smuggling(RawCase):
    """Two readers of such a request would see two different ones: so it must be refused and the connection closed."""

    def refuse(self, headers, body=b"", status=(400, 403, 411, 501)):
        """Sends a signed PUT with these framing headers; at most one answer, then the connection is closed."""
        raw, _ = self.service.build(
            "PUT",
            self.path,
            headers=headers,
            body=b"",
            payload=sigv4.UNSIGNED,
            length=False,
            unsigned=("content-length",),
        )
        with self.service.wire(timeout=15) as wire:
            wire.send_lenient(raw + body)
            try:
                answer = wire.receive("PUT")
                self.assertIn(answer.status, status, (headers, answer))
                self.assertTrue(wire.is_closed(), (headers, "the connection stays open"))
            except sigv4.Closed:
                pass
        self.assert_alive()
        self.assert_absent()

    def test_both_lengths(self):
        chunked = b"3\r\nabc\r\n0\r\n\r\n"
        self.refuse([("content-length", "3"), ("transfer-encoding", "chunked")], chunked + CANARY)
        self.refuse([("transfer-encoding", "chunked"), ("content-length", "3")], chunked + CANARY)

    def test_two_lengths(self):
        self.refuse([("content-length", "3"), ("content-length", "4")], b"abcd")
        self.refuse([("content-length", "3"), ("Content-Length", "0")], b"abc" + CANARY)
        self.refuse([("content-length", "3, 3")], b"abc")

    def test_lengths_that_are_none(self):
        for value in (
            "-1",
            "+3",
            "0x3",
            "3 3",
            "",
            "abc",
            "3.0",
            "99999999999999999999999",
            "٣".encode().decode("latin-1"),
        ):
            self.refuse([("content-length", value)], b"abc")

    def test_odd_transfer_encodings(self):
        for value in (
            "xchunked",
            "chunked, identity",
            "identity, chunked",
            "chunked, chunked",
            "gzip, chunked",
            "gzip",
            "\x0bchunked",
            "chunked;q=1",
            '"chunked"',
            "chunk",
        ):
            self.refuse([("transfer-encoding", value)], b"3\r\nabc\r\n0\r\n\r\n" + CANARY)
        self.refuse([("transfer-encoding", "chunked"), ("transfer-encoding", "identity")], b"0\r\n\r\n" + CANARY)

    def test_odd_header_names(self):
        for line in (
            b"content-length : 3",
            b"content-length\t: 3",
            b" content-length: 3",
            b"content length: 3",
            b"content-length\x00: 3",
            b": 3",
            b"no colon here",
            b"content-length: 3\r\n folded: x",
            b"x: a\nb: c",
            b"x: a\rb",
            b"x: \x00",
            b"\xff\xfe: x",
        ):
            raw = (
                b"PUT "
                + self.path.encode()
                + b" HTTP/1.1\r\nhost: "
                + self.service.host.encode()
                + b"\r\n"
                + line
                + b"\r\n\r\nabc"
                + CANARY
            )
            with self.subTest(line=line):
                self.assert_closed_or((400, 403, 411), raw)

    def test_odd_chunks(self):
        for body in (
            b"3;" + b"x" * 70000 + b"\r\nabc\r\n0\r\n\r\n",
            b"g\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\nabc\n0\n\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"\r\n3\r\nabc\r\n0\r\n\r\n",
            b"7fffffffffffffff\r\nabc",
            b"8000000000000000\r\nabc",
        ):
            with self.subTest(body=body[:30]):
                raw, _ = self.service.build(
                    "PUT",
                    self.path,
                    headers=[("transfer-encoding", "chunked")],
                    body=b"",
                    payload=sigv4.UNSIGNED,
                    length=False,
                )
                with self.service.wire(timeout=15) as wire:
                    wire.send_lenient(raw + body)
                    wire.socket.shutdown(1)
                    try:
                        self.assertIn(wire.receive("PUT").status, (400, 403, 411, 501))
                    except sigv4.Closed:
                        pass
                self.assert_alive()
        self.assert_absent()

    def test_a_second_request_is_not_made_of_the_first_ones_body(self):
        body = CANARY
        with self.service.wire() as wire:
            raw, _ = self.service.build("PUT", self.path, body=body)
            second, _ = self.service.build("GET", self.path)
            wire.send(raw + body + second)
            self.assertEqual(wire.receive("PUT").status, 200)
            self.assertEqual(wire.receive("GET").body, body)


class Heads(RawCase):
    def test_request_lines_that_are_none(self):
        host = b"host: " + self.service.host.encode() + b"\r\n\r\n"
        for line in (
            b"",
            b"\x00",
            b"GET",
            b"GET /",
            b"GET / HTTP/9.9",
            b"GET / HTTP/1.1 x",
            b"GET  / HTTP/1.1",
            b"get / HTTP/1.1",
            b"GET http://[::1 HTTP/1.1",
            b"G\x00T / HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\xff HTTP/1.1",
            b"GET no-slash HTTP/1.1",
            b"GET * HTTP/1.1",
            b"CONNECT x:1 HTTP/1.1",
            b"PRI * HTTP/2.0",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /%zz HTTP/1.1",
            b"GET /% HTTP/1.1",
            b"GET /a%0 HTTP/1.1",
            b"A" * 100_000,
        ):
            with self.subTest(line=line[:40]):
                self.assert_closed_or((400, 403, 404, 405, 414, 431, 501, 505), line + b"\r\n" + host)

    def test_long_targets_and_headers_are_refused(self):
        for target, headers in [
            ("/" + "x" * 1_000_000, []),
            (self.path + "?x=" + "y" * 1_000_000, []),
            (self.path + "?" + "a&" * 50_000, []),
            (self.path, [("x-long", "y" * 1_000_000)]),
            (self.path, [("x" * 100_000, "y")]),
            (self.path, [(f"x-{number}", "y") for number in range(20_000)]),
            (self.path, [("x-amz-meta-" + str(number), "y" * 100) for number in range(1000)]),
        ]:
            raw = sigv4.head("GET", target, [("host", self.service.host), *headers])
            with self.subTest(size=len(raw)):
                self.assert_closed_or((400, 403, 414, 431), raw)

    def test_an_endless_head_is_cut(self):
        with self.service.wire(timeout=15) as wire:
            try:
                wire.send(b"GET / HTTP/1.1\r\n")
                for _ in range(1000):
                    wire.send(b"x-more: " + b"y" * 1000 + b"\r\n")
            except OSError:
                pass
            self.assertTrue(wire.is_closed(), "it reads for ever")
        self.assert_alive()

    def test_a_host_is_needed_once(self):
        for headers in ([], [("host", "a"), ("host", "b")]):
            self.assert_closed_or(400, sigv4.head("GET", "/", headers))
        for headers in (
            [("host", "")],
            [("host", "a b")],
            [("host", "\x00")],
            [("host", "/../x")],
            [("host", "x" * 5000)],
        ):
            with self.subTest(headers=headers):
                self.assert_closed_or((400, 403, 404), sigv4.head("GET", "/", headers))

    def test_repeated_headers_that_must_be_single(self):
        for name, values in [
            ("x-amz-content-sha256", ("UNSIGNED-PAYLOAD", "0" * 64)),
            ("authorization", ("a", "b")),
            ("x-amz-date", (sigv4.stamp(), sigv4.stamp(skew=-5000))),
            ("content-md5", ("1B2M2Y8AsgTpgAmY7PhCfg==", "x")),
            ("x-amz-copy-source", ("/a/b", "/c/d")),
        ]:
            raw, headers = self.service.build("PUT", self.path, body=b"")
            raw = sigv4.head("PUT", self.path, [*headers, *[(name, value) for value in values]])
            with self.subTest(header=name):
                self.assert_closed_or((400, 403), raw)
        self.assert_absent()

    def test_pipelined_requests_are_answered_in_order(self):
        for number in range(5):
            self.put(self.name, f"key-{number}", str(number).encode())
        with self.service.wire() as wire:
            wire.send(b"".join(self.service.build("GET", f"/{self.name}/key-{number}")[0] for number in range(5)))
            self.assertEqual([wire.receive().body for _ in range(5)], [str(number).encode() for number in range(5)])

    def test_a_connection_can_be_closed_by_the_client(self):
        for version, headers in (("HTTP/1.1", [("connection", "close")]), ("HTTP/1.0", [])):
            raw, sent = self.service.build("GET", "/", headers=headers)
            raw = sigv4.head("GET", "/", sent, version)
            with self.service.wire() as wire:
                wire.send(raw)
                self.assertEqual(wire.receive().status, 200)
                self.assertTrue(wire.is_closed())

    @needs_own_server
    def test_all_of_that_takes_no_memory(self):
        before = self.server.resident_bytes()
        for _ in range(200):
            raw = sigv4.head("GET", "/" + "x" * 200_000, [("host", self.service.host)])
            with self.service.wire() as wire:
                wire.send_lenient(raw)
        self.assertLess(self.server.resident_bytes() - before, 100 * MIB)


class Continue(RawCase):
    def test_the_body_is_asked_for_only_after_the_checks(self):
        raw, _ = self.service.build(
            "PUT",
            self.path,
            headers=[("expect", "100-continue"), ("content-length", "4")],
            body=None,
            payload=sigv4.UNSIGNED,
        )
        with self.service.wire() as wire:
            wire.send(raw)
            self.assertIn(" 100 ", wire.receive_interim())
            wire.send(b"body")
            self.assertEqual(wire.receive("PUT").status, 200)
        wrong = sigv4.Signer(self.server.access_key, "wrong", self.service.signer.region)
        for length, signer, status in [(4, wrong, 403), (6 << 30, None, 400)]:
            raw, _ = self.service.build(
                "PUT",
                self.path,
                headers=[("expect", "100-continue"), ("content-length", str(length))],
                body=None,
                payload=sigv4.UNSIGNED,
                signer=signer,
            )
            with self.service.wire() as wire:
                wire.send(raw)
                self.assertIn(f" {status} ", wire.receive_interim())

    def test_every_one_of_many_that_wait_is_answered(self):
        def put(worker):
            with self.service.wire(timeout=20) as wire:
                for number in range(20):
                    raw, _ = self.service.build(
                        "PUT", f"/{self.name}/{worker}-{number}", headers=[("expect", "100-continue")], body=b"x" * 100
                    )
                    wire.send(raw)
                    self.assertIn(" 100 ", wire.receive_interim())
                    wire.send(b"x" * 100)
                    self.assertEqual(wire.receive("PUT").status, 200)

        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            list(pool.map(put, range(10)))

    def test_other_expectations_are_refused(self):
        raw, _ = self.service.build("PUT", self.path, headers=[("expect", "200-maybe")], body=b"x")
        self.assert_closed_or((400, 417, 200), raw + b"x")

"""Bodies that are not what was announced; clients that go away at every stage."""

import base64
import hashlib
import socket

import sigv4
from support import MIB, RawCase, needs_own_server, poll, random_bytes, sha256


class Lengths(RawCase):
    def test_a_length_is_needed(self):
        raw, _ = self.service.build("PUT", self.path, body=b"", payload=sigv4.UNSIGNED, length=False)
        answer = self.assert_closed_or((411, 400), raw)
        self.assertEqual((answer.status, answer.code), (411, "MissingContentLength"))
        self.assert_absent()

    def test_a_truncated_body_leaves_nothing(self):
        for size, sent in [(100, 0), (100, 99), (5 * MIB, 3 * MIB), (100_000, 65536)]:
            content = random_bytes(size, size)
            raw, _ = self.service.build("PUT", self.path, body=content)
            with self.service.wire() as wire:
                wire.send(raw + content[:sent])
                wire.socket.shutdown(socket.SHUT_WR)
                try:
                    self.assertEqual(wire.receive("PUT").status, 400)
                except sigv4.Closed:
                    pass
            self.assert_absent()

    def test_more_than_was_declared_is_another_request(self):
        raw, _ = self.service.build("PUT", self.path, body=b"abc")
        with self.service.wire() as wire:
            wire.send_lenient(raw + b"abc" + b"and more that was never announced\r\n\r\n")
            self.assertEqual(wire.receive("PUT").status, 200)
            try:
                self.assertEqual(wire.receive().status, 400)
            except sigv4.Closed:
                pass
        self.assertEqual(self.get(self.name, "key"), b"abc")

    def test_five_gigabytes_are_the_limit_of_one_put(self):
        for size in (5 * 1024 * MIB + 1, 1 << 62, (1 << 63) - 1):
            raw, _ = self.service.build(
                "PUT", self.path, headers=[("content-length", str(size))], body=None, payload=sigv4.UNSIGNED
            )
            answer = self.assert_closed_or((400, 413), raw)
            self.assertEqual(answer.code, "EntityTooLarge")
        self.assert_absent()

    def test_a_wrong_hash_at_the_end_of_a_long_body_leaves_nothing(self):
        content = random_bytes(6 * MIB, 1)
        answer = self.send("PUT", self.path, body=content, payload=sha256(content + b"x"))
        self.assert_refused(answer, 400, "XAmzContentSHA256Mismatch")
        digest = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        answer = self.send("PUT", self.path, body=content, headers=[("content-md5", digest)])
        self.assert_refused(answer, 400, "BadDigest")
        self.assert_absent()

    def test_a_body_where_none_belongs_does_no_harm(self):
        self.put(self.name, "key", b"kept")
        with self.service.wire() as wire:
            for method in ("GET", "HEAD", "GET"):
                raw, _ = self.service.build(method, self.path, body=b"x" * 1000)
                wire.send(raw + b"x" * 1000)
                self.assertIn(wire.receive(method).status, (200, 400))

    def test_a_setting_that_is_too_long_is_refused(self):
        body = b"<Tagging>" + b" " * (20 * MIB) + b"</Tagging>"
        answer = self.send("PUT", f"/{self.name}", [("tagging", "")], body=body)
        self.assert_refused(answer, (400, 413))


class Departures(RawCase):
    """Clients that disappear: nothing is half visible and nothing is left over."""

    def leave(self, raw, abruptly, read=0):
        wire = self.service.wire()
        wire.send_lenient(raw)
        if read:
            wire.socket.recv(read)
        if abruptly:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        wire.close()

    def test_at_every_stage_of_an_upload(self):
        content = random_bytes(2 * MIB, 1)
        raw, _ = self.service.build("PUT", self.path, body=content)
        chunked = self.service.streaming(self.path, [content[:65536]] * 8)
        whole = raw + content
        for cut in (
            1,
            len(raw) // 2,
            len(raw) - 2,
            len(raw),
            len(raw) + 1,
            len(raw) + 65536,
            len(raw) + MIB,
            len(whole) - 1,
        ):
            for abruptly in (False, True):
                self.leave(whole[:cut], abruptly)
        for cut in range(100, len(chunked) - 1, len(chunked) // 7):
            self.leave(chunked[:cut], True)
        self.assert_alive()
        self.assert_absent()

    def test_during_a_download(self):
        self.put(self.name, "key", random_bytes(20 * MIB, 1))
        raw, _ = self.service.build("GET", self.path)
        for read in (0, 1, 100, 65536):
            for abruptly in (False, True):
                self.leave(raw, abruptly, read)
        self.assert_alive()
        self.assertEqual(len(self.get(self.name, "key")), 20 * MIB)

    @needs_own_server
    def test_connections_and_files_are_given_back(self):
        content = random_bytes(MIB, 1)
        raw, _ = self.service.build("PUT", self.path, body=content)
        self.put(self.name, "big", random_bytes(8 * MIB, 2))
        download, _ = self.service.build("GET", f"/{self.name}/big")

        def round():
            for number in range(40):
                self.leave(raw + content[: 20_000 * number], number % 2 == 0)
                self.leave(download, number % 2 == 0, 1000)

        round()
        files = self.server.open_files()
        memory = self.server.resident_bytes()
        for _ in range(4):
            round()
        poll(lambda: self.server.open_files() <= files + 15, "the connections are given back", 30)
        self.assertLess(self.server.resident_bytes() - memory, 100 * MIB)
        self.assert_absent()

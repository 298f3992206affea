"""Slow senders and readers, and many of them: nobody else waits, and they are let go in the end."""

import concurrent.futures
import pathlib
import tempfile
import time

import sigv4
from support import MIB, OwnServerCase, poll, random_bytes


class Slow(OwnServerCase):
    def setUp(self):
        super().setUp()
        self.name = self.bucket()
        self.path = f"/{self.name}/key"

    def put_small(self):
        begin = time.monotonic()
        self.assertEqual(self.service.request("PUT", f"/{self.name}/other", body=b"x" * 4096).status, 200)
        return time.monotonic() - begin

    def test_many_idle_senders_do_not_stop_others(self):
        raw, _ = self.service.build(
            "PUT", self.path, headers=[("content-length", "1000000")], body=None, payload=sigv4.UNSIGNED
        )
        wires = [self.service.wire() for _ in range(100)]
        try:
            for number, wire in enumerate(wires):
                wire.send((raw if number % 2 else raw[:60]) + (b"x" * 1000 if number % 2 else b""))
            for _ in range(20):
                self.assertLess(self.put_small(), 10)
        finally:
            for wire in wires:
                wire.close()
        self.assertNotIn("key", self.keys(self.name))

    def test_a_reader_that_does_not_read_takes_no_memory(self):
        self.put(self.name, "big", random_bytes(64 * MIB, 1))
        raw, _ = self.service.build("GET", f"/{self.name}/big")
        before = self.server.resident_bytes()
        wires = [self.service.wire(receive_buffer=8192) for _ in range(40)]
        try:
            for wire in wires:
                wire.send(raw)
                wire.socket.recv(100)
            for _ in range(10):
                self.put_small()
            self.assertLess(self.server.resident_bytes() - before, 200 * MIB)
        finally:
            for wire in wires:
                wire.close()
        poll(lambda: self.server.is_ready(), "it is ready")

    def test_a_writer_of_single_bytes_gets_there_or_is_let_go(self):
        content = b"0123456789"
        raw, _ = self.service.build("PUT", self.path, body=content)
        with self.service.wire() as wire:
            for byte in raw + content:
                wire.send(bytes([byte]))
            self.assertEqual(wire.receive("PUT").status, 200)

    def test_many_connections_are_fine(self):
        wires = []
        try:
            for _ in range(400):
                wires.append(self.service.wire())
            raw, _ = self.service.build("GET", "/")
            for wire in wires[-20:]:
                wire.send_lenient(raw)
            answers = []
            for wire in wires[-20:]:
                try:
                    answers.append(wire.receive().status)
                except sigv4.Closed:
                    answers.append(0)
            self.assertLessEqual(set(answers), {200, 503, 0})
        finally:
            for wire in wires:
                wire.close()
        poll(lambda: self.service.request("GET", "/").status == 200, "it serves again", 30)


class Limits(OwnServerCase):
    """Limits of seconds, as the configuration file sets them."""

    def setUp(self):
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (directory / "serve.yaml").write_text("limits: {idleSeconds: 2, headSeconds: 2, bytesPerSecondMin: 100000}\n")
        self.begin(options=("--config", directory / "serve.yaml"))
        self.name = self.bucket()

    def drip(self, wire, content):
        """Sends ten bytes a second until the server lets go."""
        end = time.monotonic() + 100
        try:
            while time.monotonic() < end:
                wire.send(content)
                time.sleep(0.1)
        except OSError:
            return
        self.fail("the server reads single bytes for ever")

    def test_what_hardly_moves_is_let_go_and_leaves_nothing(self):
        # At the same time, because each has to wait for its limit.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            steps = (self.idle_connection, self.endless_head, self.slow_body, self.slow_reader)
            for waiting in [pool.submit(step) for step in steps]:
                waiting.result()
        self.assertEqual(self.keys(self.name), ["big"])

    def idle_connection(self):
        with self.service.wire() as wire:
            self.assertTrue(wire.is_closed(60))
        with self.service.wire() as wire:
            wire.send(self.service.build("GET", "/")[0])
            self.assertEqual(wire.receive().status, 200)
            self.assertTrue(wire.is_closed(60))

    def endless_head(self):
        with self.service.wire() as wire:
            wire.send(b"GET / HTTP/1.1\r\nx: ")
            self.drip(wire, b"y")

    def slow_body(self):
        raw, _ = self.service.build(
            "PUT", f"/{self.name}/key", headers=[("content-length", "1000000")], body=None, payload=sigv4.UNSIGNED
        )
        with self.service.wire() as wire:
            wire.send(raw)
            self.drip(wire, b"z")

    def slow_reader(self):
        self.put(self.name, "big", random_bytes(64 * MIB, 1))
        raw, _ = self.service.build("GET", f"/{self.name}/big")
        with self.service.wire(receive_buffer=4096) as wire:
            wire.send(raw)
            wire.socket.recv(100)
            poll(lambda: not self.is_held(wire), "the server lets the reader go", 100)

    def is_held(self, wire):
        """Has the server still its end of this connection open?"""
        ports = f":{self.server.address[1]:04X}", f":{wire.socket.getsockname()[1]:04X}"
        lines = pathlib.Path(f"/proc/{self.server.process.pid}/net/tcp").read_text().splitlines()[1:]
        return any((fields[1][-5:], fields[2][-5:]) == ports and fields[3] == "01" for fields in map(str.split, lines))

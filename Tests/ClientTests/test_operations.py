"""The operations port: alive, ready, measured; and the way a server stops."""

import re
import signal
import threading

import sigv4
from support import MIB, OwnServerCase, poll, random_bytes, sha256


class Operations(OwnServerCase):
    def test_it_is_alive_and_ready(self):
        for path in ("/livez", "/readyz", "/readyz/read"):
            self.assertEqual(self.server.operation(path)[0], 200, path)
        self.assertEqual(self.server.operation("/nonsense")[0], 404)

    def test_the_metrics_count_what_happens(self):
        def count(text):
            return sum(
                float(line.rpartition(" ")[2])
                for line in text.splitlines()
                if not line.startswith("#") and line.startswith("holdfast_s3_requests_total") and "PutObject" in line
            )

        name = self.bucket()
        before = count(self.server.operation("/metrics")[1])
        for number in range(5):
            self.put(name, f"key-{number}")
        status, text = self.server.operation("/metrics")
        self.assertEqual(status, 200)
        self.assertEqual(count(text) - before, 5)
        for line in text.splitlines():
            self.assertRegex(line, r"^(#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.eE]+|.* (NaN|\+Inf))?$")
        self.assertNotIn(self.server.secret_key, text)
        self.assertNotIn("key-3", text)

    def test_a_lost_volume_shows_and_does_not_stop_it(self):
        self.begin(breakable=True)
        name = self.bucket()
        self.server.lose(1)
        for number in range(20):
            self.put(name, f"key-{number}", random_bytes(MIB, number))
        self.assertEqual(self.server.operation("/readyz")[0], 200)
        for number in range(20):
            self.assertEqual(self.get(name, f"key-{number}"), random_bytes(MIB, number))

    def test_the_operations_are_not_on_the_public_port(self):
        for path in ("/metrics", "/livez", "/readyz"):
            answer = self.service.exchange(sigv4.head("GET", path, [("host", self.service.host)]))
            self.assertIn(answer.status, (403, 404), path)


class Stopping(OwnServerCase):
    def test_requests_under_way_are_finished(self):
        name = self.bucket()
        content = random_bytes(4 * MIB, 1)
        raw, _ = self.service.build("PUT", f"/{name}/key", body=content)
        with self.service.wire(timeout=60) as wire:
            wire.send(raw + content[: 2 * MIB])
            under_way = re.compile(r"^holdfast_s3_requests_in_flight[^\n]* [1-9]", re.MULTILINE)
            poll(lambda: under_way.search(self.server.operation("/metrics")[1]), "it is under way")
            self.server.process.send_signal(signal.SIGTERM)
            poll(lambda: not self.server.is_ready(), "it is not ready any more")
            wire.send(content[2 * MIB :])
            self.assertEqual(wire.receive().status, 200)
        self.assertEqual(self.server.process.wait(60), 0)
        self.server.start()
        self.assertEqual(sha256(self.get(name, "key")), sha256(content))

    def test_an_idle_connection_does_not_hold_it(self):
        with self.service.wire() as wire:
            wire.send(self.service.build("GET", "/")[0])
            self.assertEqual(wire.receive().status, 200)
            self.assertEqual(self.server.stop(), 0)

    def test_what_was_acknowledged_survives_a_kill(self):
        name = self.bucket()
        done, stop = {}, threading.Event()

        def write(worker):
            number = 0
            while not stop.is_set():
                key, content = f"{worker}/{number}", random_bytes(5000, number)
                try:
                    answer = self.service.request("PUT", f"/{name}/{key}", body=content)
                except (OSError, sigv4.Closed):
                    return
                if answer.status == 200:
                    done[key] = sha256(content)
                number += 1

        workers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        poll(lambda: len(done) > 100, "a hundred writes")
        self.server.stop(signal.SIGKILL)
        stop.set()
        for worker in workers:
            worker.join()
        self.server.start()
        self.assertLessEqual(set(done), set(self.keys(name)))
        for key, expected in list(done.items())[-60:]:
            self.assertEqual(sha256(self.get(name, key)), expected)

#!/usr/bin/env python3
"""Measures how fast a mirror fills a local backend, beside s5cmd uploading the same files to the same backend.

In each round, in turns: s5cmd puts the files into the backend; and, with the mirror paused, into a Holdfast, whose mirror is then
resumed and timed until nothing waits. Then clients read and write 4 KiB at the Holdfast (holdfast bench server), with nothing else
going on, while its mirror catches up, and, as everything shares the machine, while s5cmd fills the same backend past it. And once
more while the mirror catches up with a backend that only gets what the others leave of the processors, as if it had its own: what
the mirror itself takes from clients. Trust the ratios. Aims: large objects at 80 % of s5cmd, small ones at 1,000 a second or the
backend's own limit, the p99 of clients at most 20 % higher. Start it with ops/bench/mirror, which does the set-up.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

import systems
from systems import BUCKET, CLIENTS

MIB = 1 << 20


class Source(systems.Holdfast):
    name = "source"

    def run(self, *arguments):
        done = subprocess.run(
            [self.program, *map(str, arguments)],
            env={**os.environ, "HOLDFAST_STORE": str(self.directory / "store")},
            capture_output=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"error: holdfast {arguments[0]}: {done.stderr.decode()}")
        return done.stdout

    def __init__(self, directory, program):
        self.program = program
        super().__init__(directory, program)

    def pending(self, mirror):
        text = self.run("mirror", "status", mirror, "--json")
        state = json.loads(text)["mirrors"][0]
        if state["failed"]:
            raise SystemExit(f"error: the mirror gave up {state['failed']} changes")
        return state["pending"]


    def wait(self, mirror):
        """Until nothing waits. Metrics tell: a program that is started twenty times a second would be measured with it."""
        line = re.compile(rf'^holdfast_mirror_pending{{mirror="{re.escape(mirror)}"}} (\S+)$', re.MULTILINE)
        while True:
            with urllib.request.urlopen(f"{self.operations}/metrics", timeout=10) as answer:
                found = line.search(answer.read().decode())
            if found and float(found[1]) == 0:
                return
            time.sleep(0.05)


def upload(system, directory, prefix, concurrency):
    """Puts the files of a directory with s5cmd; returns seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [
            CLIENTS / "main" / "bin" / "s5cmd",
            "--endpoint-url", system.url, "--log", "error", "--numworkers", str(concurrency),
            "cp", "--concurrency", "4", "--part-size", "8", f"{directory}/", f"s3://{BUCKET}/{prefix}/",
        ],
        env={**os.environ, "AWS_ACCESS_KEY_ID": systems.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": systems.SECRET_KEY,
             "AWS_REGION": "us-east-1"},
        capture_output=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"error: s5cmd: {done.stderr.decode()[-500:]}")
    return time.monotonic() - started


def fill(source, backend, directories, name, concurrency, credentials):
    """Puts the files into the source for a mirror that stands still; returns how many there are."""
    source.run(
        "mirror", "add", name, "--endpoint", backend.url, "--bucket", BUCKET, "--prefix", f"{name}/", "--rule",
        f"{BUCKET}/{name}/", "--credentials-file", credentials, "--concurrency", concurrency, "--paused",
    )
    for directory in directories:
        upload(source, directory, f"{name}/{directory.name}", concurrency)
    count = sum(len(list(directory.iterdir())) for directory in directories)
    systems.wait_for(lambda: source.pending(name) == count, "every object is queued")
    return count


def mirror(source, backend, directory, name, concurrency, credentials):
    """Returns the seconds that a mirror takes for the files of a directory."""
    count = fill(source, backend, [directory], name, concurrency, credentials)
    started = time.monotonic()
    source.run("mirror", "resume", name)
    source.wait(name)
    seconds = time.monotonic() - started
    if source.pending(name):
        raise SystemExit("error: the metrics say that nothing waits, and something does")
    report = json.loads(source.run("mirror", "verify", name, "--json"))
    if report["checked"] != count:
        raise SystemExit(f"error: {report}")
    source.run("mirror", "rm", name)
    return seconds


def client_load(source, seconds):
    """Clients that read and write small objects in a bucket that nobody mirrors; returns the p99 of each call, milliseconds."""
    done = subprocess.run(
        [
            source.program, "bench", "server", "--endpoint", source.url, "--mix", "get=70,put=30", "--size", "4K",
            "--concurrency", "4", "--objects", "200", "--seconds", str(seconds), "--json",
        ],
        env={**os.environ, "HOLDFAST_ACCESS_KEY": systems.ACCESS_KEY, "HOLDFAST_SECRET_KEY": systems.SECRET_KEY},
        capture_output=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"error: holdfast bench server: {done.stderr.decode()[-500:]}")
    figures = json.loads(done.stdout)["figures"]
    if any(figure["failed"] for figure in figures):
        raise SystemExit(f"error: calls of clients failed: {figures}")
    return {figure["operation"]: figure["latency"]["p99"] for figure in figures}


def clients_beside_mirror(source, backend, directories, name, options, credentials):
    fill(source, backend, directories, name, options.concurrency, credentials)
    source.run("mirror", "resume", name)
    found = client_load(source, options.seconds)
    is_busy = source.pending(name) > 0
    source.run("mirror", "rm", name)
    return found, is_busy


def clients_beside_s5cmd(source, backend, directories, name, options):
    ended = threading.Event()
    failures = []

    def feed():
        number = 0
        try:
            while not ended.is_set():
                for directory in directories:
                    upload(backend, directory, f"{name}/{number}", options.concurrency)
                number += 1
        except SystemExit as failure:
            failures.append(failure)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        found = client_load(source, options.seconds)
    finally:
        ended.set()
        feeder.join()
    if failures:
        raise failures[0]
    return found


def set_apart(system, is_apart):
    """Lets every other thread of the machine go before those of a system, or no longer."""
    policy = os.SCHED_IDLE if is_apart else os.SCHED_OTHER
    is_changing = True
    # A thread inherits from the one that starts it: until nobody is left who could pass on the other one.
    while is_changing:
        is_changing = False
        for path in [path for process in system.process_ids() for path in pathlib.Path(f"/proc/{process}/task").glob("*")]:
            with contextlib.suppress(ProcessLookupError):
                if os.sched_getscheduler(int(path.name)) != policy:
                    os.sched_setscheduler(int(path.name), policy, os.sched_param(0))
                    is_changing = True


def clients(kind, source, backend, directories, options, credentials):
    """The p99 of clients with nothing beside them, beside a mirror that catches up, with a backend that shares the processors and
    with one that is set apart, and beside s5cmd into the same backend."""
    found = {"alone": [], "mirror": [], "apart": [], "s5cmd": []}
    was_busy = []
    for number in range(options.rounds):
        turns = list(found) if number % 2 == 0 else list(found)[::-1]
        for turn in turns:
            if turn == "alone":
                found[turn].append(client_load(source, options.seconds))
            elif turn in ("mirror", "apart"):
                name = f"p99-{turn}-{number}"
                set_apart(backend, turn == "apart")
                try:
                    one, is_busy = clients_beside_mirror(source, backend, directories, name, options, credentials)
                finally:
                    set_apart(backend, False)
                found[turn].append(one)
                was_busy.append(is_busy)
            else:
                found[turn].append(clients_beside_s5cmd(source, backend, directories, f"direct-p99-{number}", options))
    for call in ("get", "put"):
        p99 = {turn: statistics.median(one[call] for one in rounds) for turn, rounds in found.items()}
        row = {
            "backend": kind, "cell": f"p99 of clients' {call}", "unit": "ms", "rounds": found, **p99,
            "growth": p99["mirror"] / p99["alone"] - 1, "growthApart": p99["apart"] / p99["alone"] - 1,
            "growthBesideS5cmd": p99["s5cmd"] / p99["alone"] - 1,
            "mirrorWasBusyThroughout": all(was_busy),
        }
        print(
            f"{kind:10} {row['cell']:24} alone {p99['alone']:8.2f} ms  beside the mirror {p99['mirror']:8.2f} ms "
            f"({row['growth']:+.0%})  backend apart {p99['apart']:8.2f} ms ({row['growthApart']:+.0%})"
            f"  beside s5cmd {p99['s5cmd']:8.2f} ms ({row['growthBesideS5cmd']:+.0%})"
            + ("" if all(was_busy) else "  the mirror had nothing left at the end"),
            flush=True,
        )
        yield row


def make_files(directory, count, size):
    directory.mkdir()
    chance = random.Random(size)
    for number in range(count):
        with open(directory / f"{number:06}", "wb") as file:
            for _ in range(max(1, size // MIB)):
                file.write(chance.randbytes(min(size, MIB)))
    return directory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", choices=["holdfast", "seaweedfs"], help="default: both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=5000, help="small objects of 4 KiB (default: 5000)")
    parser.add_argument("--large", type=int, default=1024, help="MiB of each of two large objects (default: 1024)")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=6, help="how long clients are measured (default: 6)")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(".build-bench/mirror.json"))
    options = parser.parse_args()
    program = os.path.abspath(os.environ.get("HOLDFAST", ".build/release/holdfast"))
    version = re.sub(r"\s+", " ", subprocess.run([program, "version"], capture_output=True, text=True).stdout).strip()
    rows = []
    for kind in options.backend or ["holdfast", "seaweedfs"]:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-bench-mirror-"))
        running = []
        try:
            credentials = directory / "credentials"
            credentials.write_text(
                f"[bench]\naws_access_key_id = {systems.ACCESS_KEY}\naws_secret_access_key = {systems.SECRET_KEY}\n"
            )
            backend = systems.Holdfast(directory, program) if kind == "holdfast" else systems.SeaweedFS(directory)
            running.append(backend)
            source = Source(directory, program)
            running.append(source)
            small = make_files(directory / "small", options.objects, 4096)
            large = make_files(directory / "large", 2, options.large * MIB)
            cells = [
                ("small objects of 4 KiB", small, options.objects, "/s"),
                (f"2 objects of {options.large} MiB", large, 2 * options.large * MIB / 1e6, "MB/s"),
            ]
            for name, files, amount, unit in cells:
                found = {"s5cmd": [], "mirror": []}
                for number in range(options.rounds):
                    run = f"{files.name}-{number}"
                    turns = ["s5cmd", "mirror"] if number % 2 == 0 else ["mirror", "s5cmd"]
                    for turn in turns:
                        if turn == "s5cmd":
                            seconds = upload(backend, files, f"direct-{run}", options.concurrency)
                        else:
                            seconds = mirror(source, backend, files, f"m-{run}", options.concurrency, credentials)
                        found[turn].append(amount / seconds)
                row = {
                    "backend": kind, "cell": name, "unit": unit, "rounds": found,
                    **{turn: statistics.median(rates) for turn, rates in found.items()},
                }
                row["share"] = row["mirror"] / row["s5cmd"]
                rows.append(row)
                print(
                    f"{kind:10} {name:24} mirror {row['mirror']:8.0f} {unit:5} s5cmd {row['s5cmd']:8.0f} {unit:5}"
                    f" share {row['share']:.0%}",
                    flush=True,
                )
            rows += clients(kind, source, backend, [small, large], options, credentials)
        finally:
            for system in reversed(running):
                system.end()
            shutil.rmtree(directory, ignore_errors=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"version": version, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

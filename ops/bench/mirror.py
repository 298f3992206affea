#!/usr/bin/env python3
"""Measures how fast a mirror fills a local backend, beside s5cmd uploading the same files to the same backend.

In each round, in turns: s5cmd puts the files into the backend; and, with the mirror paused, into a Holdfast, whose mirror is then
resumed and timed until nothing waits. Everything shares the machine: trust the ratio. Aims: large objects at 80 % of s5cmd, small
ones at 1,000 a second or the backend's own limit. Start it with ops/bench/mirror, which does the set-up.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time

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


def mirror(source, backend, directory, name, concurrency, credentials):
    """Puts the files into the source while its mirror stands still; returns the seconds that the mirror then takes."""
    source.run(
        "mirror", "add", name, "--endpoint", backend.url, "--bucket", BUCKET, "--prefix", f"{name}/", "--rule",
        f"{BUCKET}/{name}/", "--credentials-file", credentials, "--concurrency", concurrency,
    )
    source.run("mirror", "pause", name)
    upload(source, directory, name, concurrency)
    count = len(list(directory.iterdir()))
    systems.wait_for(lambda: source.pending(name) == count, "every object is queued")
    started = time.monotonic()
    source.run("mirror", "resume", name)
    while source.pending(name):
        time.sleep(0.05)
    seconds = time.monotonic() - started
    report = json.loads(source.run("mirror", "verify", name, "--json"))
    if report["checked"] != count:
        raise SystemExit(f"error: {report}")
    source.run("mirror", "rm", name)
    return seconds


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
        finally:
            for system in reversed(running):
                system.end()
            shutil.rmtree(directory, ignore_errors=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"version": version, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

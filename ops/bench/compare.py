#!/usr/bin/env python3
"""Measures Holdfast beside SeaweedFS with -fsync (three volume servers, replication 002), nginx with static files, and the disk
floor, in one run on one machine, cell by cell in turn. Writes a Markdown table, a chart (SVG) and the numbers (JSON).

Small objects are driven by wrk with presigned URLs, big ones by curl and s5cmd. Server and loader share the machine: trust
ratios and processor time more than rates. Everything takes some 20 minutes and 60 GB of disk for a while. Start it with ops/bench/compare, which does the set-up.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import report
import systems
from systems import BUCKET, CLIENTS

HERE = pathlib.Path(__file__).resolve().parent
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Cell:
    """One line of the table. `limit` is what bounds it, `aim` the share of it that is to be reached, `more` other aims."""

    def __init__(self, name, kind, size, connections, limit, aim=None, more=""):
        self.name, self.kind, self.size, self.connections = name, kind, size, connections
        self.limit, self.aim, self.more = limit, aim, more

    @property
    def is_big(self):
        return self.kind in ("put-big", "put-multipart", "get-big")

    @property
    def unit(self):
        return "MB/s" if self.is_big else "/s"


CELLS = [
    Cell("PUT 4 KiB, 1 connection", "put", 4 * KIB, 1, "floor"),
    Cell("PUT 4 KiB, 32", "put", 4 * KIB, 32, "floor", 0.5, "≤ 0.25 ms, p99 ≤ 20 ms"),
    Cell("PUT 64 KiB, 32", "put", 64 * KIB, 32, "floor", 0.5),
    Cell("PUT 1 MiB, 8", "put", MIB, 8, "floor"),
    Cell("PUT 1 MiB, 32", "put", MIB, 32, "floor"),
    Cell("GET 4 KiB, 32", "get", 4 * KIB, 32, "nginx", 0.35),
    Cell("GET 4 KiB, 256", "get", 4 * KIB, 256, "nginx"),
    Cell("GET 64 KiB, 32", "get", 64 * KIB, 32, "nginx"),
    Cell("GET 1 MiB, 32", "get", MIB, 32, "nginx", 0.7),
    Cell("256 MiB PUT, curl", "put-big", 256 * MIB, 1, "floor"),
    Cell("1 GiB multipart, s5cmd", "put-multipart", GIB, 1, "engine", 0.7),
    Cell("1 GiB GET, curl", "get-big", GIB, 1, "nginx", 0.6),
]
KEYS = {4 * KIB: 2000, 64 * KIB: 500, MIB: 100}


class Bench:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.floor_program = work / "floor"
        subprocess.run(["cc", "-O2", "-pthread", "-o", self.floor_program, HERE / "floor.c"], check=True)
        self.systems = {}
        self.prepared = set()
        self.samples = {}

    def start(self):
        wanted = [name for name in ("holdfast", "seaweedfs", "nginx") if name not in self.options.without]
        for name in wanted:
            print(f"Starting {name}", flush=True)
            if name == "holdfast":
                self.systems[name] = systems.Holdfast(self.work, self.options.program)
            else:
                self.systems[name] = {"seaweedfs": systems.SeaweedFS, "nginx": systems.Nginx}[name](self.work)

    def end(self):
        for system in self.systems.values():
            system.end()

    # Loads

    def wrk(self, system, method, size, connections, keys, seconds, part=""):
        """Runs wrk and returns what it counted, with the server's processor time."""
        urls = self.work / f"urls{part}"
        urls.write_text("".join(system.target(method, key) + "\n" for key in keys))
        before = system.processor_seconds()
        done = subprocess.run(
            [
                "wrk",
                "-t",
                "1",
                "-c",
                str(connections),
                "-d",
                f"{seconds}s",
                "--timeout",
                "30s",
                "-s",
                HERE / "load.lua",
                system.url,
            ],
            env={
                **os.environ,
                "HOLDFAST_LOAD_URLS": str(urls),
                "HOLDFAST_LOAD_METHOD": method,
                "HOLDFAST_LOAD_SIZE": str(size),
                "HOLDFAST_LOAD_HOST": system.host,
            },
            capture_output=True,
            text=True,
            timeout=seconds + 120,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            raise SystemExit(f"error: wrk on {system.name}: {done.stdout} {done.stderr}")
        found = json.loads(lines[0].removeprefix("RESULT "))
        good = max(found["requests"] - found["failed"], 0)
        cost = system.processor_seconds() - before
        return {
            "rate": good / found["seconds"],
            "cpu": cost * 1000 / max(good, 1),
            "p50": found["p50"],
            "p99": found["p99"],
            "failed": found["failed"],
        }

    def keys(self, size):
        return [f"{size}-{number:05}" for number in range(KEYS[size])]

    def prepare(self, system, size):
        """Lays down the objects that are read."""
        if (system.name, size) in self.prepared:
            return
        self.prepared.add((system.name, size))
        keys = [f"big-{size}"] if size >= GIB else self.keys(size)
        if not system.is_s3:
            for key in keys:
                system.make_file(key, size)
        elif size >= GIB:
            self.multipart(system, size, f"big-{size}")
            # nginx's file is in memory since it was written; a store that writes past the page cache would be measured
            # by its disk.
            self.curl(system, size, "GET", f"big-{size}", "--output", "/dev/null")
        else:
            service = system.service()
            for key in keys:
                answer = service.request("PUT", f"/{BUCKET}/{key}", body=os.urandom(size))
                if answer.status != 200:
                    raise SystemExit(f"error: {system.name} stores no object: {answer}")

    def local_file(self, size):
        """A file of random bytes; new ones each time, or deduplication would make later rounds cheap."""
        path = self.work / "local"
        with path.open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
        return path

    def timed(self, system, size, arguments, **environment):
        before, begin = system.processor_seconds(), time.monotonic()
        done = subprocess.run(
            [str(a) for a in arguments], capture_output=True, text=True, timeout=900, env={**os.environ, **environment}
        )
        seconds = time.monotonic() - begin
        if done.returncode != 0:
            raise SystemExit(f"error: {arguments[0]} on {system.name}: {done.stdout} {done.stderr}")
        cost = system.processor_seconds() - before
        return {"rate": size / seconds / 1e6, "cpu": cost * GIB / size, "failed": 0}

    def curl(self, system, size, method, key, *arguments):
        url = f"http://{system.host}{system.target(method, key)}"
        return self.timed(system, size, ["curl", "--silent", "--show-error", "--fail", *arguments, url])

    def multipart(self, system, size, key):
        return self.timed(
            system,
            size,
            [
                CLIENTS / "main" / "bin" / "s5cmd",
                "--endpoint-url",
                system.url,
                "--log",
                "error",
                "cp",
                "--part-size",
                "16",
                "--concurrency",
                "8",
                self.local_file(size),
                f"s3://{BUCKET}/{key}",
            ],
            AWS_ACCESS_KEY_ID=systems.ACCESS_KEY,
            AWS_SECRET_ACCESS_KEY=systems.SECRET_KEY,
            AWS_REGION="us-east-1",
        )

    def floor(self, cell):
        if cell.is_big:
            size, batch = MIB, 8
        else:
            size, batch = cell.size, cell.connections
        done = subprocess.run(
            [self.floor_program, self.work, str(size), str(batch), str(self.options.seconds)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            raise SystemExit(f"error: the floor: {done.stderr}")
        rate = float(done.stdout)
        return {"rate": rate * size / 1e6 if cell.is_big else rate, "cpu": None, "failed": 0}

    def engine(self, cell):
        """The store itself, called without any protocol."""
        arguments = ["bench", "put", "--size", cell.size, "--count", 1, "--concurrency", 1, "--directory", self.work]
        done = subprocess.run(
            [self.options.program, *map(str, arguments), "--json"], capture_output=True, text=True, timeout=600
        )
        if done.returncode != 0:
            raise SystemExit(f"error: holdfast bench: {done.stderr}")
        return {"rate": json.loads(done.stdout)["figures"][0]["value"] / 1e6, "cpu": None, "failed": 0}

    def measure(self, system, cell):
        if cell.kind == "put":
            # Each round overwrites the same keys: no bucket grows without end.
            return self.wrk(
                system,
                "PUT",
                cell.size,
                cell.connections,
                [f"w-{key}" for key in self.keys(cell.size)],
                self.options.seconds,
            )
        if cell.kind == "get":
            self.prepare(system, cell.size)
            return self.wrk(system, "GET", 0, cell.connections, self.keys(cell.size), self.options.seconds)
        if cell.kind == "put-big":
            return self.curl(system, cell.size, "PUT", f"w-{cell.size}", "--upload-file", self.local_file(cell.size))
        if cell.kind == "put-multipart":
            return self.multipart(system, cell.size, f"m-{cell.size}")
        self.prepare(system, cell.size)
        return self.curl(system, cell.size, "GET", f"big-{cell.size}", "--output", "/dev/null")

    def run(self, cells):
        for cell in cells:
            columns = [name for name, system in self.systems.items() if system.is_s3 or cell.limit == "nginx"]
            if cell.limit == "engine" and "holdfast" not in self.systems:
                cell.limit, cell.aim = "floor", None
            if cell.limit in ("floor", "engine"):
                columns.append(cell.limit)
            for number in range(self.options.rounds):
                # In turn, each round the other way about: what else the machine does then hits all alike.
                for name in columns[:: 1 if number % 2 == 0 else -1]:
                    if name in ("floor", "engine"):
                        sample = getattr(self, name)(cell)
                    else:
                        sample = self.measure(self.systems[name], cell)
                    self.samples.setdefault(cell.name, {}).setdefault(name, []).append(sample)
                    failed = f", {sample['failed']} failed" if sample["failed"] else ""
                    print(f"{cell.name:26} {name:10} {sample['rate']:10.1f} {cell.unit}{failed}", flush=True)

    def quiet_and_loaded(self):
        """The p99 of small reads alone, and while one big upload runs."""
        found = {}
        for name, system in self.systems.items():
            if not system.is_s3:
                continue
            size = 4 * KIB
            self.prepare(system, size)
            path = self.local_file(GIB if not self.options.quick else 256 * MIB)
            quiet = self.wrk(system, "GET", 0, 8, self.keys(size), self.options.seconds)
            upload = subprocess.Popen(
                [
                    "curl",
                    "--silent",
                    "--fail",
                    "--upload-file",
                    path,
                    f"http://{system.host}{system.target('PUT', 'loaded')}",
                ],
                stdout=subprocess.DEVNULL,
            )
            loaded = self.wrk(system, "GET", 0, 8, self.keys(size), self.options.seconds)
            upload.wait()
            found[name] = {"quiet": quiet["p99"], "loaded": loaded["p99"]}
            print(
                f"p99 of GET 4 KiB, {name}: {quiet['p99']:.1f} ms, {loaded['p99']:.1f} ms under an upload", flush=True
            )
        return found


    def with_many(self, count, connections=256):
        """What a server's memory comes to with many objects and many connections."""
        found = {}
        for name, system in self.systems.items():
            if not system.is_s3:
                continue
            keys = [f"many/{number:06}" for number in range(count)]
            samples, stored = [], 0
            # wrk takes the keys in turn; how far it comes depends on the system.
            for _ in range(600 // self.options.seconds):
                if stored >= count:
                    break
                sample = self.wrk(system, "PUT", 4 * KIB, connections, keys[stored:], self.options.seconds)
                stored = min(count, stored + int(sample["rate"] * self.options.seconds))
                samples.append(sample)

            def write():
                samples.append(
                    self.wrk(system, "PUT", 4 * KIB, connections // 2, keys, self.options.seconds, part="-put")
                )

            writer = threading.Thread(target=write)
            writer.start()
            samples.append(
                self.wrk(system, "GET", 0, connections // 2, keys[:stored], self.options.seconds, part="-get")
            )
            writer.join()
            found[name] = {
                "objects": stored,
                "connections": connections,
                "peak": system.peak_bytes(),
                "failed": sum(sample["failed"] for sample in samples),
            }
            print(f"{name}: {found[name]['peak'] / MIB:.0f} MiB with {stored} objects", flush=True)
        return found


def machine():
    """What it ran on."""
    processor = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = int(open("/proc/meminfo").readline().split()[1]) // MIB
    return f"{os.cpu_count()} cores {processor}, {memory} GiB, {platform.system()} {platform.release().split('-')[0]}"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, without the 1 GiB cells")
    parser.add_argument("--rounds", type=int, help="rounds for each cell (3; quick: 1)")
    parser.add_argument("--seconds", type=int, help="seconds for each measurement of small objects (8; quick: 3)")
    parser.add_argument("--cell", action="append", help="only cells whose name contains this; repeatable")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["holdfast", "seaweedfs", "nginx"],
        help="leave a system out; repeatable",
    )
    parser.add_argument("--objects", type=int, help="objects for the memory figure (100,000; quick, or with --cell: none)")
    parser.add_argument("--output", type=pathlib.Path, help="directory (ops/bench/results; quick: .build-bench)")
    parser.add_argument(
        "--program",
        help="the holdfast to measure ($HOLDFAST, or the release build)",
        default=os.environ.get("HOLDFAST", systems.ROOT / ".build" / "release" / "holdfast"),
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (3 if options.quick else 8)
    if options.objects is None:
        options.objects = 0 if options.quick or options.cell else 100_000
    options.output = options.output or systems.ROOT / (".build-bench" if options.quick else "ops/bench/results")
    return options


def main():
    options = parse()
    cells = [cell for cell in CELLS if not options.cell or any(part in cell.name for part in options.cell)]
    if options.quick and not options.cell:
        cells = [cell for cell in cells if cell.size < GIB]
    if not cells:
        sys.exit("error: no cell of that name")
    work = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-compare-"))
    bench = Bench(options, work)
    try:
        bench.start()
        bench.run(cells)
        loaded = bench.quiet_and_loaded() if not options.cell else {}
        peaks = {name: system.peak_bytes() for name, system in bench.systems.items()}
        many = bench.with_many(options.objects) if options.objects else {}
        found = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "labels": {name: system.label for name, system in bench.systems.items()},
            "peak": peaks,
            "loaded": loaded,
            "many": many,
            "cells": [
                {
                    "name": cell.name,
                    "unit": cell.unit,
                    "limit": cell.limit,
                    "aim": cell.aim,
                    "more": cell.more,
                    "isBig": cell.is_big,
                    "samples": bench.samples[cell.name],
                }
                for cell in cells
            ],
        }
    finally:
        bench.end()
        if os.environ.get("KEEP") != "1":
            shutil.rmtree(work, ignore_errors=True)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "compare.json").write_text(json.dumps(found, indent=1) + "\n")
    text = report.markdown(found)
    (options.output / "compare.md").write_text(text)
    (options.output / "compare.svg").write_text(report.chart(found))
    print(f"\n{text}\nWritten to {options.output}/compare.md, .svg and .json")


if __name__ == "__main__":
    main()

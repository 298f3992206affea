"""The program under test: a store, a server on it that can be killed and started again, and ways to harm both."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "Tests" / "ClientTests"))
import sigv4  # noqa: E402

PROGRAM = os.environ.get("HOLDFAST", str(REPOSITORY / ".build" / "release" / "holdfast"))
ACCESS_KEY, SECRET_KEY = "HOLDFASTROOTKEY00001", "root/secret+with=signs0123456789abcdefgh"
START_SECONDS = 120


class Violation(Exception):
    """The store broke a promise."""


def build_library(directory, source):
    compiler = next(filter(None, map(shutil.which, ["cc", "clang", "gcc"])), None)
    if compiler is None:
        raise SystemExit("error: a C compiler is needed for what is preloaded")
    library = directory / f"{source.stem}.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Store:
    """A store of three volumes, its server, and faults."""

    def __init__(self, megabytes=None):
        """`megabytes`: each volume on a file system of its own of that size (root; raises PermissionError without)."""
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-nemesis-"))
        self.path = self.directory / "store"
        self.log = self.directory / "server.log"
        self.clock = self.directory / "clock"
        self.process = None
        # Counts the server's lives: connections of an earlier life are not used again.
        self.life = 0
        self.offset = 0
        self.move_clock(0)
        killpoints = REPOSITORY / "Tests" / "CommandLineTests" / "killpoints" / "killpoints.c"
        self.preload = [build_library(self.directory, source) for source in (killpoints, HERE / "wall.c")]
        self.mounts = []
        volumes = [self.mount(number, megabytes) for number in range(3)] if megabytes else []
        self.run("init", "--json", *[f"--volume={path}" for path in volumes])
        volumes = json.loads(self.run("status", "--json").stdout)["volumes"]
        self.volumes = [pathlib.Path(volume["path"]) for volume in volumes]
        self.address = ("127.0.0.1", free_port())
        self.operations = ("127.0.0.1", free_port())

    def mount(self, number, megabytes):
        path = self.directory / f"disk{number + 1}"
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "holdfast", path], capture_output=True)
        if done.returncode != 0:
            self.remove()
            raise PermissionError("file systems can't be mounted here")
        self.mounts.append(path)
        return path / "volume"

    def leave_room(self, megabytes):
        """Fills the small file systems with something that is not the store's, but for so much."""
        for mount in self.mounts:
            with open(mount / "filler", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(mount).free - (megabytes << 20)))

    def environment(self, preloads):
        environment = {
            **os.environ,
            "HOLDFAST_STORE": str(self.path),
            "HOLDFAST_ROOT_ACCESS_KEY": ACCESS_KEY,
            "HOLDFAST_ROOT_SECRET_KEY": SECRET_KEY,
            "SWIFT_BACKTRACE": "enable=no",
        }
        if preloads:
            environment |= {
                "LD_PRELOAD": ":".join(map(str, self.preload)),
                "KILLPOINTS_WHEN": "lost",
                "KILLPOINTS_ROOT": ":".join(map(str, self.volumes)),
                "WALL_OFFSET": str(self.clock),
            }
        return environment

    def run(self, *arguments, check=True):
        """Runs a command on the store, which no server holds now."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=self.environment(False),
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise Violation(f"holdfast {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    # The server

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [
                    PROGRAM, "serve",
                    "--listen", f"{self.address[0]}:{self.address[1]}",
                    "--operations", f"{self.operations[0]}:{self.operations[1]}",
                    "--lock-timeout", "30",
                ],
                env=self.environment(True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        end = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None:
                raise Violation(f"serve ended with {self.process.returncode}:\n{self.log_text()}")
            if time.monotonic() > end:
                raise Violation(f"serve is not ready after {START_SECONDS} s:\n{self.log_text()}")
            time.sleep(0.005)
        self.life += 1

    def log_text(self, count=4000):
        return self.log.read_text(errors="replace")[-count:]

    def page(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.operations[0]}:{self.operations[1]}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_ready(self):
        try:
            # A store whose disks are full is ready to read only.
            return self.page("/readyz/read" if self.mounts else "/readyz")[0] == 200
        except OSError:
            return False

    def kill(self):
        """kill -9. That it was still there to be killed is checked: a server never ends by itself."""
        self.check_alive()
        self.process.kill()
        self.process.wait()

    def check_alive(self):
        if self.process.poll() is not None:
            raise Violation(f"the server ended by itself with {self.process.returncode}:\n{self.log_text()}")

    def end(self):
        """Ends the server as an operator would."""
        self.check_alive()
        self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise Violation("the server did not end within a minute of SIGTERM") from None
        if code != 0:
            raise Violation(f"the server ended with {code} after SIGTERM:\n{self.log_text()}")

    def pause(self, seconds):
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def move_clock(self, offset):
        """Moves the server's wall clock to so many seconds from the real one."""
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(str(offset))
        fresh.rename(self.clock)
        self.offset = offset

    # The volumes

    def mark(self, number):
        return pathlib.Path(f"{self.volumes[number]}.lost")

    def aside(self, number):
        return pathlib.Path(f"{self.volumes[number]}.aside")

    def lose(self, number):
        """From now on every call on the volume's files fails with EIO."""
        self.mark(number).touch()

    def fill(self, number):
        """From now on every call that needs room fails with ENOSPC."""
        pathlib.Path(f"{self.volumes[number]}.full").touch()

    def take_away(self, number, leave_empty=False):
        if self.aside(number).exists():
            return
        self.volumes[number].rename(self.aside(number))
        if leave_empty:
            self.volumes[number].mkdir()

    def heal(self, number):
        """Everything that was taken away or marked is as before; what is damaged stays so."""
        self.mark(number).unlink(missing_ok=True)
        pathlib.Path(f"{self.volumes[number]}.full").unlink(missing_ok=True)
        if self.aside(number).exists():
            if self.volumes[number].exists():
                left = os.listdir(self.volumes[number])
                if left:
                    raise Violation(f"something was written into an empty mount point: {left}")
                self.volumes[number].rmdir()
            self.aside(number).rename(self.volumes[number])

    def heal_all(self):
        for number in range(3):
            self.heal(number)

    def place(self, number):
        return self.aside(number) if self.aside(number).exists() else self.volumes[number]

    def flip(self, number, chance, count):
        """Flips bits of a volume: anywhere in its segments, or in one of the two copies of its identity."""
        volume, told = self.place(number), []
        for _ in range(count):
            files = sorted((volume / "segments").glob("*.*"))
            path = volume / "volume.json" if not files or chance.random() < 0.1 else chance.choice(files)
            with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
                offset = chance.randrange(max(1, used_bytes(file)))
                file.seek(offset)
                byte = file.read(1)
                if byte:
                    file.seek(offset)
                    file.write(bytes([byte[0] ^ 1 << chance.randrange(8)]))
                    told.append(f"{path.name}@{offset}")
        return told

    def lose_file(self, number, chance):
        """Removes a whole segment."""
        files = sorted((self.place(number) / "segments").glob("*.*"))
        if not files:
            return "nothing, it has no segments"
        path = chance.choice(files)
        path.unlink()
        return path.name

    def harm_catalog(self, chance):
        """The catalog's index: removed, cut off, or full of flipped bits. Only while no server runs."""
        files = sorted((self.path / "catalog").glob("catalog.sqlite*"))
        way = chance.choice(("removed", "cut", "flipped", "without its journal"))
        for path in files:
            if way == "removed" or (way == "without its journal" and path.suffix != ".sqlite"):
                path.unlink()
            elif way == "cut" and path.suffix == ".sqlite":
                os.truncate(path, path.stat().st_size // 2)
            elif way == "flipped" and path.suffix == ".sqlite":
                content = bytearray(path.read_bytes())
                for _ in range(20):
                    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
                path.write_bytes(content)
        return way

    def remove(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for mount in self.mounts:
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


def used_bytes(file):
    """How far a file is filled: what comes after was only reserved."""
    size = file.seek(0, os.SEEK_END)
    while size > 0:
        start = max(0, size - (1 << 20))
        file.seek(start)
        filled = file.read(size - start).rstrip(b"\0")
        if filled:
            return start + len(filled)
        size = start
    return 0

"""The systems that ops/bench/compare measures: each is started in a directory of its own and ended by process id."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "ClientTests"))
import sigv4  # noqa: E402

ACCESS_KEY, SECRET_KEY = "HOLDFASTBENCHKEY0001", "bench-secret-0123456789-abcdefghijklmnop"
CLIENTS = pathlib.Path(os.environ.get("HOLDFAST_CLIENTS", pathlib.Path.home() / ".cache" / "holdfast-clients"))
BUCKET = "bench"


def free_ports(count):
    """Ports below 20,000: SeaweedFS derives a second one from each by adding 10,000."""
    found, port = [], 11000 + os.getpid() % 5000
    while len(found) < count:
        port += 1
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
        found.append(port)
    return found


def wait_for(condition, what, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise SystemExit(f"error: waited {seconds} s in vain: {what}")


def answers(url, statuses=(200,)):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status in statuses
    except urllib.error.HTTPError as error:
        return error.code in statuses
    except OSError:
        return False


class System:
    """Processes that answer at `address`."""

    name = ""
    is_s3 = True

    def __init__(self, directory):
        self.directory = directory / self.name
        self.directory.mkdir(parents=True)
        self.processes = []

    def spawn(self, *arguments, **environment):
        log = open(self.directory / f"log-{len(self.processes)}", "ab")
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.directory,
            env={**os.environ, **environment},
        )
        log.close()
        self.processes.append(process)

    def end(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def process_ids(self):
        """Our processes and their children."""
        parents = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text()
            except OSError:
                continue
            parents[int(path.parent.name)] = int(text.rpartition(")")[2].split()[1])
        found = {process.pid for process in self.processes}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def processor_seconds(self):
        ticks = 0
        for number in self.process_ids():
            try:
                fields = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self):
        """Highest resident memory, the processes added up."""
        total = 0
        for number in self.process_ids():
            try:
                status = pathlib.Path(f"/proc/{number}/status").read_text()
            except OSError:
                continue
            total += int(status.split("VmHWM:")[1].split()[0]) * 1024
        return total

    @property
    def host(self):
        return f"{self.address[0]}:{self.address[1]}"

    @property
    def url(self):
        return f"http://{self.host}"

    def service(self):
        return sigv4.Service(self.address, sigv4.Signer(ACCESS_KEY, SECRET_KEY))

    def make_bucket(self):
        answer = self.service().request("PUT", f"/{BUCKET}")
        if answer.status not in (200, 409):
            raise SystemExit(f"error: {self.name} makes no bucket: {answer}")

    def target(self, method, key):
        """Path and query of a request that needs no other authentication."""
        path = f"/{BUCKET}/{key}"
        signer = sigv4.Signer(ACCESS_KEY, SECRET_KEY)
        return f"{path}?{signer.presign(method, path, self.host, expires=86400)}"


class Holdfast(System):
    name = "holdfast"
    label = "Holdfast"

    def __init__(self, directory, program):
        super().__init__(directory)
        port, operations = free_ports(2)
        self.address = ("127.0.0.1", port)
        self.operations = f"http://127.0.0.1:{operations}"
        self.spawn(
            program,
            "serve",
            "--store",
            self.directory / "store",
            "--listen",
            self.host,
            "--operations",
            f"127.0.0.1:{operations}",
            HOLDFAST_ROOT_ACCESS_KEY=ACCESS_KEY,
            HOLDFAST_ROOT_SECRET_KEY=SECRET_KEY,
            SWIFT_BACKTRACE="enable=no",
        )
        wait_for(lambda: answers(f"{self.operations}/readyz"), "Holdfast is ready")
        self.make_bucket()


class SeaweedFS(System):
    name = "seaweedfs"
    label = "SeaweedFS -fsync"

    def __init__(self, directory):
        super().__init__(directory)
        weed = CLIENTS / "bench" / "bin" / "weed"
        master, first, second, third, filer, s3 = free_ports(6)
        self.address = ("127.0.0.1", s3)
        settings = self.directory / "s3.json"
        settings.write_text(
            json.dumps(
                {
                    "identities": [
                        {
                            "name": "bench",
                            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
                        }
                    ]
                }
            )
        )
        place = ["-ip=127.0.0.1"]
        self.spawn(
            weed,
            "-logtostderr",
            "master",
            *place,
            f"-port={master}",
            f"-mdir={self.folder('master')}",
            "-defaultReplication=002",
            "-volumeSizeLimitMB=4096",
        )
        for number, port in enumerate((first, second, third)):
            self.spawn(
                weed,
                "-logtostderr",
                "volume",
                *place,
                f"-port={port}",
                f"-dir={self.folder(f'volume-{number}')}",
                "-max=100",
                f"-master=127.0.0.1:{master}",
                "-minFreeSpace=1",
            )
        self.spawn(
            weed,
            "-logtostderr",
            "filer",
            *place,
            f"-port={filer}",
            f"-master=127.0.0.1:{master}",
            f"-defaultStoreDir={self.folder('filer')}",
        )
        self.spawn(
            weed,
            "-logtostderr",
            "s3",
            f"-port={s3}",
            f"-filer=127.0.0.1:{filer}",
            f"-config={settings}",
            "-port.iceberg=0",
            "-port.lance=0",
        )
        wait_for(lambda: answers(self.url, (200, 403)), "SeaweedFS is ready")
        done = subprocess.run(
            [weed, "shell", f"-master=127.0.0.1:{master}", f"-filer=127.0.0.1:{filer}"],
            input=b"fs.configure -locationPrefix=/buckets/ -fsync -replication=002 -apply\n",
            capture_output=True,
            timeout=120,
        )
        if b"fsync" not in done.stdout:
            raise SystemExit(f"error: SeaweedFS took no -fsync: {done.stdout} {done.stderr}")
        self.make_bucket()
        wait_for(
            lambda: self.service().request("PUT", f"/{BUCKET}/probe", body=b"x").status == 200,
            "SeaweedFS stores an object",
        )

    def folder(self, name):
        path = self.directory / name
        path.mkdir()
        return path


class Nginx(System):
    """The same bytes as static files."""

    name = "nginx"
    label = "nginx"
    is_s3 = False

    def __init__(self, directory):
        super().__init__(directory)
        port = free_ports(1)[0]
        self.address = ("127.0.0.1", port)
        self.files = self.directory / "files" / BUCKET
        self.files.mkdir(parents=True)
        # The worker drops root's rights: it has to get at the files.
        for path in (self.files, self.files.parent, self.directory, self.directory.parent):
            path.chmod(0o755)
        settings = self.directory / "nginx.conf"
        settings.write_text(
            f"""daemon off; pid {self.directory}/pid; worker_processes auto; error_log {self.directory}/error;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=20000 inactive=600s;
  open_file_cache_valid 600s; client_body_temp_path {self.directory}/t1; proxy_temp_path {self.directory}/t2;
  fastcgi_temp_path {self.directory}/t3; uwsgi_temp_path {self.directory}/t4; scgi_temp_path {self.directory}/t5;
  server {{ listen 127.0.0.1:{port}; root {self.directory}/files; }} }}
"""
        )
        self.spawn("/usr/sbin/nginx", "-c", settings, "-p", self.directory)
        wait_for(lambda: answers(self.url, (200, 403, 404)), "nginx is ready")

    def make_file(self, key, size):
        with open(self.files / key, "wb") as file:
            left = size
            while left > 0:
                left -= file.write(os.urandom(min(left, 1 << 20)))
        (self.files / key).chmod(0o644)

    def target(self, method, key):
        return f"/{BUCKET}/{key}"

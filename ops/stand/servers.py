"""The servers under test and their peers, each started on loopback with the settings it is named for.

Invariant: a peer runs with the settings stated in its docstring, which docs/benchmarks.md repeats.
Every server has `endpoint`, `access`, `secret`, `processes` (for measuring) and start / stop / kill.
"""

import json
import os
import secrets
import subprocess
import time
from pathlib import Path

from . import places
from .process import Process, free_port

ACCESS = "conformance-root"
SECRET = "conformance-secret-key-0123456789"


class Server:
    """What the commands use of any server. `folder` holds its data and its log."""

    name = "server"
    settings = ""

    def __init__(self, folder: Path, cpus: str | None = None):
        self.folder, self.cpus = folder, cpus
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.access, self.secret = ACCESS, SECRET
        self.processes: list[Process] = []

    def launch(self) -> Process:
        """Starts the process and does not wait for it."""
        raise NotImplementedError

    def start(self) -> "Server":
        """Starts it and returns when it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.end()
        self.processes = []

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        self.processes = []

    def usage(self) -> dict:
        """The sum over all processes of this server."""
        each = [p.usage() for p in self.processes]
        return {key: sum(u[key] for u in each) for key in each[0]}

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Ashlar(Server):
    """`ashlar up`, 6 nodes, coding 4+2, everything at its defaults unless `arguments` says so."""

    name = "ashlar"
    settings = "6 nodes, 4+2, every acknowledged write synced"

    def __init__(self, folder, cpus=None, binary: Path | None = None, arguments=(), env=None):
        super().__init__(folder, cpus)
        self.binary = binary or places.ashlar()
        self.arguments, self.env = list(arguments), dict(env or {})
        self.api_port, self.pg_port, self.flight_port = free_port(), free_port(), free_port()
        self.api = f"http://127.0.0.1:{self.api_port}"
        self.data = folder / "data"
        self.access, self.secret = "ashlar-root", "ashlar-root-secret-0123456789"

    def launch(self):
        env = {"ASHLAR_ROOT_ACCESS_KEY": self.access, "ASHLAR_ROOT_SECRET_KEY": self.secret} | self.env
        process = Process(
            [self.binary, "up", "--data-dir", self.data, "--s3-listen", f"127.0.0.1:{self.port}",
             "--api-listen", f"127.0.0.1:{self.api_port}", "--pg-listen", f"127.0.0.1:{self.pg_port}",
             "--flight-listen", f"127.0.0.1:{self.flight_port}", "--chain-listen", "127.0.0.1:0", *self.arguments],
            self.folder / "ashlar.log", env, self.cpus)
        self.processes = [process]
        return process

    def start(self, seconds: float = 120):
        self.launch().wait_http(f"{self.api}/readyz", seconds, accept=lambda status: status == 200)
        return self

    def offline(self, *arguments, seconds: float | None = None) -> str | None:
        """Runs an `ashlar` command on the folder of this server, which is down; None if it was killed after `seconds`."""
        env = os.environ | {"ASHLAR_ROOT_ACCESS_KEY": self.access, "ASHLAR_ROOT_SECRET_KEY": self.secret} | self.env
        command = [self.binary, *arguments, "--data-dir", self.data, *self.arguments]
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None
        if process.returncode != 0:
            raise RuntimeError(f"ashlar {' '.join(arguments)}: {err.strip() or out}")
        return out

    def command(self, *arguments, check=True) -> str:
        """Runs another `ashlar` command against this server with the root's credentials."""
        env = os.environ | {"ASHLAR_ENDPOINT": self.api, "AWS_ACCESS_KEY_ID": self.access,
                            "AWS_SECRET_ACCESS_KEY": self.secret}
        done = subprocess.run([self.binary, *arguments], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise RuntimeError(f"ashlar {' '.join(arguments)}: {done.stderr.strip() or done.stdout}")
        return done.stdout


class Minio(Server):
    """MinIO, one process, six drive folders, EC:2: the same 4+2 as ours.

    MINIO_CI_CD=1 only lets it use folders of the root disk. Its console and update check are off.
    """

    name = "minio"
    settings = "6 drive folders, EC:2 (4+2)"
    drives = 6

    def launch(self):
        folders = [self.folder / f"drive{n}" for n in range(1, self.drives + 1)]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        env = {"MINIO_ROOT_USER": self.access, "MINIO_ROOT_PASSWORD": self.secret, "MINIO_CI_CD": "1",
               "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_DOMAIN": "localhost",
               "HOME": str(self.folder)}
        if self.drives > 1:
            env["MINIO_STORAGE_CLASS_STANDARD"] = "EC:2"
        process = Process([places.minio(), "server", "--quiet", "--address", f"127.0.0.1:{self.port}",
                           *folders], self.folder / "minio.log", env, self.cpus)
        self.processes = [process]
        return process

    def start(self):
        self.launch().wait_http(f"{self.endpoint}/minio/health/ready", accept=lambda s: s == 200)
        time.sleep(1)  # It answers ready a moment before its IAM is loaded, and 503s until then.
        return self


class MinioSingle(Minio):
    """MinIO on one drive folder, no erasure coding: the kindest setting for its LIST."""

    name = "minio-single"
    settings = "1 drive folder, no redundancy"
    drives = 1


class SeaweedFS(Server):
    """SeaweedFS as `weed server` with filer and S3: one copy, no fsync, telemetry off."""

    name = "seaweedfs"
    settings = "one copy, no fsync"
    replication = "000"
    volume_servers = 1
    fsync = False

    def __init__(self, folder, cpus=None):
        super().__init__(folder, cpus)
        self.ports = {name: self._port() for name in ("master", "filer")}
        self.port = self._port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    @staticmethod
    def _port() -> int:
        # Its gRPC port is the HTTP port + 10,000, so that one must be free and below 65,536 too.
        while (port := free_port()) > 55_000:
            pass
        return port

    def start(self):
        weed = places.seaweedfs()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "s3.json").write_text(json.dumps({"identities": [{
            "name": "root", "credentials": [{"accessKey": self.access, "secretKey": self.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}))
        master = f"127.0.0.1:{self.ports['master']}"

        def run(role, *arguments):
            folder = self.folder / role
            folder.mkdir(exist_ok=True)
            process = Process([weed, "-logtostderr", "-v=0", *arguments], self.folder / f"{role}.log",
                              {"HOME": str(self.folder)}, self.cpus, cwd=folder)
            self.processes.append(process)
            return process

        loopback = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1")
        run("master", "master", *loopback, f"-port={self.ports['master']}", f"-mdir={self.folder}/master",
            f"-defaultReplication={self.replication}", "-telemetry=false", "-volumeSizeLimitMB=1024",
            ).wait_http(f"http://{master}/cluster/status")
        for n in range(self.volume_servers):
            port = self._port()
            # The pinned core has fewer free bytes than its default reserve wants on a shared disk.
            run(f"volume{n}", "volume", *loopback, f"-port={port}", f"-dir={self.folder}/volume{n}",
                f"-master={master}", "-max=100", "-minFreeSpace=1",
                ).wait_http(f"http://127.0.0.1:{port}/status")
        filer = f"127.0.0.1:{self.ports['filer']}"
        run("filer", "filer", *loopback, f"-port={self.ports['filer']}", f"-master={master}",
            f"-defaultReplicaPlacement={self.replication}").wait_http(f"http://{filer}/")
        if self.fsync:
            self.shell(weed, master, filer,
                       f"fs.configure -locationPrefix=/buckets/ -fsync -replication={self.replication} -apply")
        run("s3", "s3", "-ip.bind=127.0.0.1", f"-port={self.port}", f"-filer={filer}",
            f"-config={self.folder}/s3.json", "-iam=false", "-domainName=localhost").wait_http(self.endpoint)
        return self

    def shell(self, weed, master, filer, command) -> str:
        done = subprocess.run([weed, "shell", f"-master={master}", f"-filer={filer}"],
                              input=f"lock\n{command}\nunlock\nexit\n", text=True, capture_output=True,
                              timeout=60, cwd=self.folder)
        return done.stdout + done.stderr


class SeaweedFSDurable(SeaweedFS):
    """SeaweedFS with what 4+2 gives: three copies on three volume servers, fsync on every write.

    Three copies outlive any two losses, as 4+2 does, at twice its bytes.
    """

    name = "seaweedfs-durable"
    settings = "replication 002 (three copies), fsync for /buckets/"
    replication = "002"
    volume_servers = 3
    fsync = True


class Nginx(Server):
    """nginx serving files by sendfile, no TLS, no auth, no checking: the yardstick for a GET."""

    name = "nginx"
    settings = "sendfile, one worker"

    def start(self):
        root = self.folder / "root"
        root.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "nginx.conf"
        configuration.write_text(f"""
daemon off; master_process off; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path {self.folder}/t1; proxy_temp_path {self.folder}/t2; fastcgi_temp_path {self.folder}/t3;
  uwsgi_temp_path {self.folder}/t4; scgi_temp_path {self.folder}/t5;
  server {{ listen 127.0.0.1:{self.port}; root {root}; }}
}}""")
        process = Process(["nginx", "-c", configuration, "-p", self.folder], self.folder / "nginx.log",
                          None, self.cpus)
        self.processes = [process]
        process.wait_http(self.endpoint)
        return self


KINDS = {kind.name: kind for kind in (Ashlar, Minio, MinioSingle, SeaweedFS, SeaweedFSDurable, Nginx)}


def unique_bucket(prefix: str = "b") -> str:
    """A bucket name nobody has used."""
    return f"{prefix}-{secrets.token_hex(6)}"

"""One server process: started on loopback, watched, measured, and ended by its own pid.

Invariant: only processes started here are ever signalled. Does not know which server it runs.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In the child before exec: the kernel kills it when the command that started it is gone."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_on_signals() -> None:
    """SIGTERM (a CI's time limit, `timeout`) unwinds like Ctrl-C, so that servers end and folders go."""
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(143)))


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A child with its log in a file; `cpus` is a taskset list such as "0" or None."""

    def __init__(self, command, log: Path, env=None, cpus=None, cwd=None):
        self.command = [str(c) for c in command]
        if cpus is not None:
            self.command = ["taskset", "-c", cpus, *self.command]
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.child = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=log.open("ab"), stderr=subprocess.STDOUT,
            env=os.environ | (env or {}), cwd=cwd, start_new_session=True,
            preexec_fn=die_with_parent)

    @property
    def pid(self) -> int:
        return self.child.pid

    def alive(self) -> bool:
        return self.child.poll() is None

    def wait_http(self, url: str, seconds: float = 60, accept=lambda status: status < 500) -> None:
        """Returns when `url` answers acceptably; raises with the log's end when it does not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.alive():
                raise RuntimeError(f"{self.command[0]} ended with {self.child.returncode}:\n{self.tail()}")
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
            except OSError:
                status = None
            if status is not None and accept(status):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{url} did not answer in {seconds} s:\n{self.tail()}")

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def end(self, seconds: float = 30) -> int:
        """SIGTERM, then SIGKILL when it does not stop in time; returns the exit status."""
        if self.alive():
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.child.wait()

    def kill(self) -> None:
        """SIGKILL, and the zombie is reaped: when this returns the process is gone."""
        if self.alive():
            self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def usage(self) -> dict:
        """CPU seconds, bytes written and read at the block layer, resident bytes, so far."""
        # Fields of proc(5) stat after the parenthesised name: utime is the 12th, stime the 13th.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        io = dict(line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines())
        status = Path(f"/proc/{self.pid}/status").read_text()
        sizes = {line.split()[0]: int(line.split()[1]) * 1024
                 for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))}
        return {
            "cpu_s": (int(fields[11]) + int(fields[12])) / TICKS,
            "written": int(io["write_bytes"]), "read": int(io["read_bytes"]),
            "rss": sizes.get("VmRSS:", 0), "rss_peak": sizes.get("VmHWM:", 0),
        }

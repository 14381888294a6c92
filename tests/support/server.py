"""What the real servers of the tests have in common: a folder, a process, a free port, an end."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self


class Unavailable(Exception):
    """This machine lacks the server's programs; the message tells how to get them."""


class Server(ABC):
    """One server with its own folder; a context manager that removes it.

    Args:
        name: What it is called.
        options: Of its processes.

    Attributes:
        port: Where it listens.
        polite: The signal on which it stops in order.
        crash: The one on which it stops as in a crash.
    """

    polite, crash = signal.SIGTERM, signal.SIGKILL

    def __init__(self, name: str, **options: Any) -> None:
        self._name = name
        self._options = options
        self._home = Path(tempfile.mkdtemp(prefix=f"trivet-{name.lower()}-"))
        self._log = self._home / "log"
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def new_name(self, prefix: str = "topic") -> str:
        """Return a name that nothing on this server has yet."""
        return f"{prefix}-{next(self._names)}-{secrets.token_hex(3)}"

    def log(self) -> str:
        """Return the end of the server's log."""
        return self._log.read_text(errors="replace")[-6000:] if self._log.exists() else ""

    def start(self) -> None:
        """Start the server and wait until it takes requests."""
        begun = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends the server
                **self._options,
            )
        deadline = time.monotonic() + 120
        while not self.is_ready(begun):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(immediate=True)
                raise RuntimeError(f"{self._name} did not start:\n{self.log()}")
            time.sleep(0.02)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server, in order or as in a crash."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self.crash if immediate else self.polite)
            try:
                self._process.wait(60)
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

    def start_somewhere(self) -> None:
        """Start at free ports; another process may take one before the server does."""
        for last in (False, False, True):
            try:
                self.settle()
                return self.start()
            except RuntimeError:
                if last:
                    raise
        return None

    @abstractmethod
    def settle(self) -> None:
        """Choose ports, and write down what the server must know of them."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return what starts the server."""

    @abstractmethod
    def is_ready(self, begun: int) -> bool:
        """Say whether it takes requests; `begun` is where its log ended before it was started."""

    def run(self, command: Sequence[str | Path]) -> None:
        """Run a program of the server to its end."""
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home,
            timeout=120,
            **self._options,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as probes:
        ports = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports

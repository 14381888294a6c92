"""``trivet up`` in a process of its own, and everything that it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import trivet
from trivet.up.board import State, read

TESTS = Path(__file__).parents[1]
SOURCE = Path(trivet.__file__).parents[1]

Until = Callable[[Callable[[], bool]], None]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{TESTS}", "COLUMNS": "200"}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with contextmanager(_opened)(count) as sockets:
        return [each.getsockname()[1] for each in sockets]


def _opened(count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    yield sockets
    for each in sockets:
        each.close()


def here(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in a folder, but for the zombies."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                Path(process.cwd()).is_relative_to(folder)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


class Up:
    """A project that is brought up in its own folder, so that all its processes can be found."""

    def __init__(self, folder: Path, until: Until, *options: str) -> None:
        self.folder = folder
        self._until = until
        self._log = (folder / "up.log").open("ab")
        command = [sys.executable, "-P", "-m", "trivet", "--log", "json", "up", *options]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=self._log, stderr=self._log
        )

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
        self._until(lambda: not here(self.folder))

    @property
    def log(self) -> list[dict[str, Any]]:
        text = (self.folder / "up.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    @property
    def names(self) -> set[str]:
        return {state.name for state in self._states()}

    def state(self, name: str) -> State:
        return next(state for state in self._states() if state.name == name)

    def _states(self) -> tuple[State, ...]:
        found = read(self.folder)
        return () if found is None else found.processes

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, (self.folder / "up.log").read_text()
            found = read(self.folder)
            return found is not None and found.is_ready

        self._until(ready)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Have it end, and say that nothing is left."""
        self.process.send_signal(number)
        code = self.process.wait(120)
        assert not here(self.folder), (self.folder / "up.log").read_text()
        return code


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, from outside of it."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "trivet", "--file", str(folder), *arguments],
        env=environment(),
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )

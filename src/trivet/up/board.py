"""What a running ``trivet up`` tells of itself, in the project's ``.trivet`` folder.

``up.lock`` is locked for as long as it runs, by the kernel: a killed one leaves no claim behind.
``up.json`` has the state of each process, replaced whole at every change.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from trivet.errors import AlreadyUp, UpError
from trivet.up import guard

FOLDER = ".trivet"
_LOCK, _STATE = "up.lock", "up.json"
_LOOKS_SECONDS = 0.5
_ENDS_SECONDS = 2 * guard.PATIENCE + 5.0

Word = Literal["waiting", "starting", "ready", "restarting", "done", "stopping", "stopped"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One process.

    Attributes:
        name: Its name.
        state: What it is doing.
        pid: Its process id while it runs.
        since: When it came into this state, seconds since the epoch.
        restarts: How often it was started again.
        last_end: How it ended the last time, if it did.
        url: Where a person finds it.
    """

    name: str
    state: Word = "waiting"
    pid: int | None = None
    since: float = 0.0
    restarts: int = 0
    last_end: str = ""
    url: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A running project.

    Attributes:
        project: Its name.
        pid: The process of ``trivet up``.
        started: When it was started, seconds since the epoch.
        processes: Its processes, in the order in which they start.
    """

    project: str
    pid: int
    started: float
    processes: tuple[State, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether every process is where it should be."""
        return all(process.state in ("ready", "done") for process in self.processes)


class Board:
    """The folder of a project, claimed.

    Args:
        folder: The ``.trivet`` folder.
        lock: The descriptor of the locked file.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self.lock = lock

    def show(self, status: Status) -> None:
        """Replace what others read."""
        draft = self._folder / f"{_STATE}.{os.getpid()}"
        draft.write_bytes(msgspec.json.encode(status))
        draft.replace(self._folder / _STATE)

    def clear(self) -> None:
        """Leave nothing to read."""
        (self._folder / _STATE).unlink(missing_ok=True)


@contextmanager
def claimed(root: Path, waits: Callable[[str], object] = str) -> Iterator[Board]:
    """Claim a project for this process, and for those that inherit the board's lock.

    Args:
        root: The project's folder.
        waits: Called once if what a killed one left behind has to end first.

    Raises:
        AlreadyUp: Another process has it.
        UpError: The folder cannot be written.
    """
    folder = root / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UpError(
            f"{folder}: {error.strerror}; the state of `trivet up` is kept there: make it writable"
        ) from error
    try:
        if not _locked(lock, _LOOKS_SECONDS):
            found = _read(folder)
            if found is None or psutil.pid_exists(found.pid):
                who = f" (process {found.pid})" if found else ""
                raise AlreadyUp(
                    f"{root.absolute()}: this project is up already{who}; look with `trivet status`"
                )
            waits(f"process {found.pid} was killed; waiting for what it started to end")
            if not _locked(lock, _ENDS_SECONDS):
                raise AlreadyUp(
                    f"{root.absolute()}: the processes of a killed `trivet up` "
                    f"(process {found.pid}) do not end; look for them and kill them"
                )
        board = Board(folder, lock)
        board.clear()
        try:
            yield board
        finally:
            board.clear()
    finally:
        os.close(lock)


def _locked(lock: int, seconds: float) -> bool:
    """Lock the file; whoever only looks whether it is locked holds it for a moment."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        else:
            return True


def read(root: Path) -> Status | None:
    """Return what a running ``trivet up`` tells, or None if there is none."""
    folder = root / FOLDER
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UpError(f"{folder / _LOCK}: cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        found = _read(folder)
        # A killed one is survived by its guard, which has the lock until it is done.
        return found if found is not None and psutil.pid_exists(found.pid) else None
    finally:
        os.close(lock)
    return None


def _read(folder: Path) -> Status | None:
    try:
        return msgspec.json.decode((folder / _STATE).read_bytes(), type=Status)
    except (OSError, msgspec.DecodeError):  # it is just starting, or just ending
        return None

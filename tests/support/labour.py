"""What worker processes of tests do. It is imported in each of them: keep it light."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from trivet.errors import ResultsError
from trivet.workers import BEAT, READY, failed


def work(
    act: Callable[[Path, Connection], None], folder: Path, number: int, pipe: Connection
) -> None:
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    act(folder, pipe)


def steady(folder: Path, pipe: Connection) -> None:
    """Work until told to stop, and note each request to look for a new version."""

    def look(*_: object) -> None:
        (folder / f"{os.getpid()}.looked").touch()

    signal.signal(signal.SIGHUP, look)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    pipe.send_bytes(READY + b"all well")
    while True:
        time.sleep(0.05)
        pipe.send_bytes(BEAT)


def deaf(_: Path, pipe: Connection) -> None:
    """Hear no SIGTERM, and show no sign of life."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.send_bytes(READY)
    while True:
        signal.pause()


def late(_: Path, __: Connection) -> None:
    """Never get ready."""
    while True:
        signal.pause()


def wrong(_: Path, pipe: Connection) -> None:
    """Meet a mistake of the user's."""
    pipe.send_bytes(failed(ResultsError("no such table")))


def broken(_: Path, pipe: Connection) -> None:
    """Meet a mistake of ours."""
    pipe.send_bytes(failed(KeyError("x")))


def later_wrong(folder: Path, pipe: Connection) -> None:
    """Work at first, and meet a mistake then."""
    pipe.send_bytes(READY)
    while not (folder / "go").exists():
        time.sleep(0.01)
    wrong(folder, pipe)


def last(_: Path, pipe: Connection) -> None:
    """Be ready and end."""
    pipe.send_bytes(READY)
    os._exit(3)

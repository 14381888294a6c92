"""The access log: one JSON line a request, written a little later, so that no request waits.

A thread of its own writes: whoever should read standard error may have stopped to.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import msgspec

from trivet.hosts.service.serving import Served

FLUSH_SECONDS = 0.2
FLUSH_PATIENCE = 2.0
"""So long an end waits for lines that nobody may ever read."""

MAX_LINES = 10_000
"""So many lines may wait; more are not written, and their number is."""

_TRACE = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?![^-])"
)
"""A ``traceparent``; what a later version adds comes behind a dash."""

Scope = MutableMapping[str, Any]


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """What is told of one request."""

    time: float
    logger: str
    method: str
    path: str
    status: int
    ms: float
    request: str
    protocol: str
    client: str = ""
    trace: str = ""
    model: str = ""
    version: str = ""
    rows: int = 0


def to_stderr(text: str) -> None:
    """Write to standard error, past the lock of `sys.stderr`: others want that to end."""
    left = text.encode()
    while left:
        left = left[os.write(2, left) :]


class AccessLog:
    """Gathers lines, and has a thread write them together.

    Args:
        errors_only: Whether only requests that were refused or failed are told.
        write: Takes some lines of text; may take as long as it wants.
    """

    def __init__(self, *, errors_only: bool, write: Callable[[str], object] = to_stderr) -> None:
        self._least = 400 if errors_only else 0
        self._write = write
        self._lines: SimpleQueue[Line | threading.Event] = SimpleQueue()
        # One is written by the event loop only, the other one by the thread only.
        self._left_out = 0
        self._told = 0
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def request(
        self,
        scope: Scope,
        status: int,
        seconds: float,
        name: str,
        served: Served | None,
        rows: int,
        protocol: str,
    ) -> None:
        """Take note of one request."""
        if status < self._least:
            return
        if self._lines.qsize() >= MAX_LINES:
            self._left_out += 1
            return
        client = scope.get("client")
        self._lines.put(
            Line(
                time.time(),
                "trivet.access",
                scope["method"],
                scope["path"],
                status,
                round(seconds * 1000, 3),
                name,
                protocol,
                client[0] if client else "",
                _trace(scope["headers"]),
                served.name if served is not None else "",
                served.model.version if served is not None else "",
                rows,
            )
        )
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until what there is has been written, a little while at most."""
        if self._thread is None:
            return
        written = threading.Event()
        self._lines.put(written)
        self._hurry.set()
        written.wait(FLUSH_PATIENCE)
        self._hurry.clear()

    def _run(self) -> None:
        while True:
            first = self._lines.get()
            self._hurry.wait(FLUSH_SECONDS)
            taken = [first, *(self._lines.get() for _ in range(self._lines.qsize()))]
            told = [msgspec.json.encode(line).decode() for line in taken if isinstance(line, Line)]
            left_out = self._left_out - self._told
            if left_out:
                parts = {"logger": "trivet.access", "left_out": left_out}
                told.append(msgspec.json.encode(parts).decode())
                self._told += left_out
            if told:
                with suppress(OSError):  # nobody can read it any more
                    self._write("\n".join(told) + "\n")
            for each in taken:
                if isinstance(each, threading.Event):
                    each.set()


def _trace(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the trace id of a W3C ``traceparent``."""
    for key, value in headers:
        if key == b"traceparent":
            match = _TRACE.match(value)
            return match[1].decode() if match else ""
    return ""

"""The access log: one JSON line a request, written a little later, so that no request waits."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec

from trivet.hosts.service.serving import Served

FLUSH_SECONDS = 0.2
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


class AccessLog:
    """Gathers lines and writes them together.

    Args:
        errors_only: Whether only requests that were refused or failed are told.
        write: Takes some lines of text.
    """

    def __init__(
        self, *, errors_only: bool, write: Callable[[str], object] = sys.stderr.write
    ) -> None:
        self._least = 400 if errors_only else 0
        self._write = write
        self._lines: list[Line] = []
        self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None

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
        if len(self._lines) >= MAX_LINES:
            self._left_out += 1
            return
        client = scope.get("client")
        self._lines.append(
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
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        lines, self._lines = self._lines, []
        told = [msgspec.json.encode(line).decode() for line in lines]
        if self._left_out:
            left_out = {"logger": "trivet.access", "left_out": self._left_out}
            told.append(msgspec.json.encode(left_out).decode())
            self._left_out = 0
        if told:
            self._write("\n".join(told) + "\n")


def _trace(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the trace id of a W3C ``traceparent``."""
    for key, value in headers:
        if key == b"traceparent":
            match = _TRACE.match(value)
            return match[1].decode() if match else ""
    return ""

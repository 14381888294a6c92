"""The lines that a process writes, however long and in whatever encoding."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

LONGEST = 64 * 2**10
"""A longer line is cut into several: a process that never ends one must not fill the memory."""


def lines_of(stream: IO[bytes]) -> Iterator[str]:
    """Give the lines of a stream as they come, without their ends."""
    assert isinstance(stream, io.BufferedReader)  # of a pipe
    rest = b""
    while piece := stream.read1(LONGEST):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield _text(line)
        while len(rest) >= LONGEST:
            yield _text(rest[:LONGEST])
            rest = rest[LONGEST:]
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")

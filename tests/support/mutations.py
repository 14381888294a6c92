"""Good requests made bad: bytes and JSON changed at random places, the same for the same seed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping
from typing import Any

DEEP = 10_000

TOKENS = (
    *("null", "true", "0", "-1", "-0.0", "1e400", "-1e400", "1e-400", "NaN", "Infinity"),
    *("-Infinity", str(2**31), str(2**63), str(2**64), str(-(2**63) - 1), "9" * 5000),
    *("0." + "1" * 5000, "1e-9999999999", "01", "+1", "1.", "", ",", "'x'", "undefined"),
    *('""', '"\\ud800"', '"\\u0000"', '"NaN"', '"1"', '"' + "x" * 10_000 + '"', '"\x00"', '"'),
    *('"9999-12-31T23:59:59.999999999Z"', '"0000-00-00"', '"2026-02-30"', '"1e5"', '"true"'),
    *("[]", "{}", "[null]", "[[]]", '{"":{}}', "[1,[2]]", "/**/1", "\ufeff1"),
)
"""What JSON and what is no JSON, to stand where a value was."""

NUMBERS = (0, 1, -1, 127, -128, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1, -(2**63))


def any_bytes(draw: random.Random, body: bytes) -> bytes:
    """Change some bytes: one to four changes, each of any kind."""
    for _ in range(draw.randint(1, 4)):
        body = draw.choice(_CHANGES)(draw, body)
    return body


def any_json(draw: random.Random, value: Any) -> bytes:
    """Write a JSON value with one to three of its parts changed."""
    count = _size(value)
    struck = frozenset(draw.sample(range(count), min(count, draw.randint(1, 3))))
    return _Writer(draw, struck).write(value).encode("utf-8", "surrogatepass")


def _flip(draw: random.Random, body: bytes) -> bytes:
    at = draw.randrange(len(body)) if body else 0
    return body[:at] + bytes(b ^ 1 << draw.randrange(8) for b in body[at : at + 1]) + body[at + 1 :]


def _cut(draw: random.Random, body: bytes) -> bytes:
    return body[: draw.randint(0, len(body))]


def _behead(draw: random.Random, body: bytes) -> bytes:
    return body[draw.randint(0, min(len(body), 16)) :]


def _slice(draw: random.Random, body: bytes) -> tuple[int, int]:
    start = draw.randint(0, len(body))
    return start, min(len(body), start + draw.randint(1, 64))


def _leave_out(draw: random.Random, body: bytes) -> bytes:
    start, end = _slice(draw, body)
    return body[:start] + body[end:]


def _repeat(draw: random.Random, body: bytes) -> bytes:
    start, end = _slice(draw, body)
    return body[:start] + body[start:end] * draw.choice((2, 3, 1000)) + body[end:]


def _insert(draw: random.Random, body: bytes) -> bytes:
    at = draw.randint(0, len(body))
    return body[:at] + draw.randbytes(draw.randint(1, 16)) + body[at:]


def _number(draw: random.Random, body: bytes) -> bytes:
    kind = draw.choice(("<i", ">i", "<q", ">q"))
    size = struct.calcsize(kind)
    number = draw.choice(NUMBERS) % 2 ** (8 * size)
    at = draw.randint(0, max(0, len(body) - size))
    at -= draw.choice((0, at % 4))
    return body[:at] + struct.pack(kind.upper(), number) + body[at + size :]


def _digits(draw: random.Random, body: bytes) -> bytes:
    places = [i for i, b in enumerate(body) if 48 <= b < 58]
    if not places:
        return _flip(draw, body)
    at = draw.choice(places)
    return body[:at] + str(draw.choice(NUMBERS)).encode() + body[at + 1 :]


_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_flip, _flip, _cut, _behead, _leave_out, _repeat, _insert, _number, _number, _digits),
)


def _size(value: Any) -> int:
    if isinstance(value, Mapping):
        return 1 + sum(map(_size, value.values()))
    return 1 + (sum(map(_size, value)) if isinstance(value, list) else 0)


class _Writer:
    """Writes a JSON value; the parts whose number is struck, changed."""

    def __init__(self, draw: random.Random, struck: frozenset[int]) -> None:
        self._draw = draw
        self._struck = struck
        self._next = 0

    def write(self, value: Any) -> str:
        """Write a value, and those within it."""
        struck = self._next in self._struck
        self._next += 1
        if isinstance(value, Mapping):
            parts = [(json.dumps(key), self.write(part)) for key, part in value.items()]
            if struck and self._draw.random() < 0.7:
                parts = self._changed(parts, (json.dumps("x0"), self._odd("")))
            return "{" + ",".join(f"{key}:{part}" for key, part in parts) + "}"
        if isinstance(value, list):
            members = [self.write(part) for part in value]
            if struck and self._draw.random() < 0.7:
                members = self._changed(members, self._odd(""))
            text = "[" + ",".join(members) + "]"
        else:
            text = json.dumps(value)
        return self._odd(text) if struck and self._draw.random() < 0.7 else text

    def _odd(self, text: str) -> str:
        if self._draw.random() < 0.2:
            deep = self._draw.choice((1, 2, 100, DEEP))
            opening, closing = self._draw.choice((("[", "]"), ('{"a":', "}")))
            return opening * deep + (text or "1") + closing * deep
        return self._draw.choice(TOKENS)

    def _changed(self, parts: list[Any], odd: Any) -> list[Any]:
        """Leave a member out, repeat it, add one, or change their order."""
        kind = self._draw.randrange(4)
        if kind == 0 or not parts:
            return [*parts, odd]
        at = self._draw.randrange(len(parts))
        if kind == 1:
            return parts[:at] + parts[at + 1 :]
        if kind == 2:
            return parts[:at] + [parts[at]] * self._draw.choice((2, 2, 3, 500)) + parts[at:]
        return self._draw.sample(parts, len(parts))

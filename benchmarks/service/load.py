"""Load: `wrk` for as much as a server takes, and an open loop for more than that.

    python -m service.load HOST PORT PATH BODIES CONNECTIONS RATE SECONDS

As a program it sends so many requests a second whatever comes back, over so many connections that
are used in turn, and prints what became of them as one line of JSON; run it in Trivet's
environment.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import cast

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did under load.

    Attributes:
        rate: Requests a second that were answered with 200.
        p50: Median latency, ms.
        p99: Latency that one request in a hundred exceeded, ms.
        refused: Requests that were answered with something else than 200.
        broken: Requests without an answer.
    """

    rate: float
    p50: float
    p99: float
    refused: int
    broken: int


def wrk(
    url: str, bodies: Path, content_type: str, connections: int, seconds: float, *, whole: bool
) -> Load:
    """Have a server answer as fast as it can, each connection one request at a time.

    Args:
        url: Where to.
        bodies: A file of bodies, one a line, that are sent in turn.
        content_type: What they are.
        connections: How many.
        seconds: How long.
        whole: Whether the file is one body instead.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "20s"]
    script = ["-s", HERE / "load.lua", url, "--", bodies, content_type, "whole" if whole else ""]
    told = subprocess.run(
        [*command, *map(str, script)], check=True, capture_output=True, text=True
    ).stdout
    found = json.loads(told.splitlines()[-1])
    good = found["requests"] - found["refused"]
    rate = good / found["seconds"]
    return Load(rate, found["p50"], found["p99"], found["refused"], found["broken"])


def warm(url: str, bodies: Path, content_type: str) -> None:
    """Send some requests that are not counted."""
    for connections in (16, 1):
        wrk(url, bodies, content_type, connections, 1, whole=False)


class _Connection(asyncio.Protocol):
    """One kept-alive connection: writes requests behind each other, reads answers in order."""

    def __init__(self, told: dict[str, list[float]]) -> None:
        self.began: deque[float] = deque()
        self._told = told
        self._buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self, request: bytes) -> None:
        assert self.transport is not None
        self.began.append(time.perf_counter())
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                break
            head = buffer[:end].lower()
            place = head.index(b"content-length:") + 15
            line = head.find(b"\r\n", place)
            length = int(head[place : line if line >= 0 else None])
            if len(buffer) < end + 4 + length:
                break
            status = buffer[9:12].decode()
            self._told.setdefault(status, []).append(time.perf_counter() - self.began.popleft())
            buffer = buffer[end + 4 + length :]
        self._buffer = buffer


async def _open_loop(
    address: tuple[str, int], requests: list[bytes], connections: int, rate: float, seconds: float
) -> dict[str, object]:
    told: dict[str, list[float]] = {}
    loop = asyncio.get_running_loop()
    every = [
        (await loop.create_connection(lambda: _Connection(told), *address))[1]
        for _ in range(connections)
    ]
    free: deque[_Connection] = deque(every)
    began = time.perf_counter()
    sent = held = 0
    while (now := time.perf_counter() - began) < seconds:
        for _ in range(int(now * rate) - sent):
            # A client has so many connections; a request for which none is free is its own loss.
            for _ in range(len(free)):
                connection = free[0]
                free.rotate(-1)
                if not connection.began:
                    connection.send(requests[sent % len(requests)])
                    break
            else:
                held += 1
            sent += 1
        await asyncio.sleep(0.002)
    deadline = time.perf_counter() + 10
    while any(c.began for c in every) and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    lost = sum(len(c.began) for c in every)
    counts = Counter({status: len(some) for status, some in told.items()})
    answer: dict[str, object] = {"offered": sent / seconds, "held": held, "lost": lost}
    answer["statuses"] = dict(counts)
    for status, some in told.items():
        some.sort()
        answer[f"p50 {status}"] = 1e3 * some[len(some) // 2]
        answer[f"p99 {status}"] = 1e3 * some[int(0.99 * len(some))]
        answer[f"max {status}"] = 1e3 * some[-1]
    return answer


def main() -> None:
    import uvloop

    host, port, path, bodies, connections, rate, seconds = sys.argv[1:]
    lines = Path(bodies).read_bytes().splitlines()
    head = "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}"
    requests = [(head.format(path, host, len(line)) + "\r\n\r\n").encode() + line for line in lines]
    address = (host, int(port))
    answer = _open_loop(address, requests, int(connections), float(rate), float(seconds))
    print(json.dumps(uvloop.run(answer)))


if __name__ == "__main__":
    main()

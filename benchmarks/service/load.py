"""Load: by `wrk` as much as a server takes, by `h2load` more than that."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Overload:
    """What a server did when it was offered more than it can do.

    Attributes:
        rate: Requests a second that were answered with 200.
        offered: Requests a second, whatever became of them.
        p99: Latency that one in a hundred of the answered exceeded, ms.
        p99_refused: The same of those that were answered with 503.
        worst: The longest of all, ms.
        broken: Requests with another answer, or none.
    """

    rate: float
    offered: float
    p99: float
    p99_refused: float
    worst: float
    broken: int


def wrk(
    url: str,
    bodies: Path,
    content_type: str,
    connections: int,
    seconds: float,
    *,
    whole: bool,
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
    kind = "whole" if whole else ""
    script = ["-s", HERE / "load.lua", url, "--", bodies, content_type, kind]
    told = subprocess.run(
        [*command, *map(str, script)], check=True, capture_output=True, text=True
    ).stdout
    found = json.loads(told.splitlines()[-1])
    good = found["requests"] - found["refused"]
    rate = good / found["seconds"]
    return Load(
        rate,
        found["p50"],
        found["p99"],
        found["refused"],
        found["broken"],
    )


def warm(url: str, bodies: Path, content_type: str) -> None:
    """Send some requests that are not counted."""
    for connections in (16, 1):
        wrk(url, bodies, content_type, connections, 1, whole=False)


def offered(
    url: str, body: bytes, content_type: str, connections: int, rate: float, seconds: int
) -> Overload:
    """Offer so many requests a second, whatever comes back; by `h2load`.

    A connection sends its next request when it is due, or as soon as the last one is answered. It
    is written in C++: a generator in Python would take a core from the server.
    """
    with tempfile.TemporaryDirectory() as folder:
        sent, log = Path(folder, "body"), Path(folder, "log")
        sent.write_bytes(body)
        load = ["--h1", "-t1", f"-c{connections}", f"--rps={rate / connections:.3f}"]
        time = [f"-D{seconds}", "--warm-up-time=1", f"--log-file={log}"]
        what = ["-d", str(sent), "-H", f"content-type: {content_type}", url]
        subprocess.run(["h2load", *load, *time, *what], check=True, stdout=subprocess.DEVNULL)
        rows = [tuple(map(int, line.split("\t")[:3])) for line in log.read_text().splitlines()]
    starts = [start for start, _, _ in rows]
    whole = (max(starts) - min(starts)) / 1e6
    good, refused = (sorted(t / 1e3 for _, s, t in rows if s == status) for status in (200, 503))
    return Overload(
        rate=len(good) / whole,
        offered=len(rows) / whole,
        p99=good[len(good) * 99 // 100] if good else math.inf,
        p99_refused=refused[len(refused) * 99 // 100] if refused else 0.0,
        worst=max(t for _, _, t in rows) / 1e3,
        broken=len(rows) - len(good) - len(refused),
    )

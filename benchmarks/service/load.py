"""Load by `wrk`: as much as a server takes, or more than that."""

from __future__ import annotations

import json
import subprocess
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
        late: Latency that one in 133 exceeded, ms: of three refused for each that is answered, no
            more than one in a hundred.
        offered: Requests a second, whatever became of them.
        refused: Requests that were answered with something else than 200.
        broken: Requests without an answer.
    """

    rate: float
    p50: float
    p99: float
    late: float
    offered: float
    refused: int
    broken: int


def wrk(
    url: str,
    bodies: Path,
    content_type: str,
    connections: int,
    seconds: float,
    *,
    whole: bool,
    rest: float = 0.0,
) -> Load:
    """Have a server answer as fast as it can, each connection one request at a time.

    Args:
        url: Where to.
        bodies: A file of bodies, one a line, that are sent in turn.
        content_type: What they are.
        connections: How many.
        seconds: How long.
        whole: Whether the file is one body instead.
        rest: How long a connection rests between two requests, ms, on the average.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "20s"]
    kind = "whole" if whole else ""
    script = ["-s", HERE / "load.lua", url, "--", bodies, content_type, kind, rest]
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
        found["late"],
        found["requests"] / found["seconds"],
        found["refused"],
        found["broken"],
    )


def warm(url: str, bodies: Path, content_type: str) -> None:
    """Send some requests that are not counted."""
    for connections in (16, 1):
        wrk(url, bodies, content_type, connections, 1, whole=False)


def offered(
    url: str, bodies: Path, content_type: str, connections: int, rate: float, seconds: float
) -> Load:
    """Offer so many requests a second, whatever comes back.

    In C, and each connection resting between its requests: a generator in Python would take a core
    from the server. How long they rest is found out before.
    """
    rest = 0.0
    for _ in range(6):
        found = wrk(url, bodies, content_type, connections, 1, whole=False, rest=rest)
        if abs(found.offered / rate - 1) < 0.05:
            break
        rest = max(0.0, rest + 1e3 * connections * (1 / rate - 1 / found.offered))
    return wrk(url, bodies, content_type, connections, seconds, whole=False, rest=rest)

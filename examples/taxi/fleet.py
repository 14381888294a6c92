"""A simulated fleet: real rides, in order, through the backend, ended as they truly ended.

    python fleet.py --rides 100 --speed 3600     # an hour of New York in a second
    python fleet.py --rides 60000 --rate 200     # evenly, 200 rides a second

Each ride keeps the time at which it really began, so what the models say can be held against what
a batch run says of the same ride. A request that is not answered is repeated with the same id, so
it gives one ride, until it is; what the backend has acknowledged must never be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
from rides import DATA, between, month, read

TOKEN = Path(__file__).parent / "data" / "fleet.token"
_TRIES = 60
_PAUSE = 0.5
_LONGEST = 10.0


@dataclass
class Tally:
    """What came of it.

    Attributes:
        requested: Rides that were acknowledged.
        fallbacks: Of these, first estimates that were not the models'.
        ended: Rides whose end was acknowledged.
        retries: Requests that had to be repeated.
        lost: Requests given up.
        versions: By version of the duration model, the first estimates that were its.
        seconds: How long each request's answer took.
    """

    requested: int = 0
    fallbacks: int = 0
    ended: int = 0
    retries: int = 0
    lost: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        """Return the quantile of the answers' times."""
        times = sorted(self.seconds) or [0.0]
        return times[min(len(times) - 1, int(share * len(times)))]

    def told(self) -> dict[str, Any]:
        """Return the figures."""
        told = {name: value for name, value in vars(self).items() if name != "seconds"}
        p50, p99 = (round(1000 * self.at(share), 1) for share in (0.5, 0.99))
        return {**told, "p50_ms": p50, "p99_ms": p99}

    def __str__(self) -> str:
        return (
            f"{self.requested:,} rides, {self.ended:,} ended, {self.fallbacks:,} with a fallback, "
            f"{self.retries:,} requests repeated, {self.lost:,} given up\n"
            f"answered in {1000 * self.at(0.5):.0f} ms (p50), {1000 * self.at(0.99):.0f} ms (p99)"
        )


class Fleet:
    """Requests and ends rides.

    Args:
        client: Knows the fleet's token.
        backend: The backend's address.
        prefix: Before a trip's number, it is the ride's id.
    """

    def __init__(self, client: aiohttp.ClientSession, backend: str, prefix: str = "trip") -> None:
        self._client = client
        self._backend = backend
        self._prefix = prefix
        self.tally = Tally()

    def id_of(self, trip: dict[str, Any]) -> str:
        """Return the id of a trip's ride."""
        return f"{self._prefix}-{trip['trip_id']:06d}"

    async def request(self, trip: dict[str, Any]) -> bool:
        """Request a ride; say whether it was acknowledged."""
        began = time.perf_counter()
        answer = await self._post(
            "/api/rides",
            {
                "ride_id": self.id_of(trip),
                "pickup_at": trip["pickup_at"].isoformat().replace("+00:00", "Z"),
                "pickup_zone": trip["pickup_zone"],
                "dropoff_zone": trip["dropoff_zone"],
                "passengers": min(max(trip["passengers"], 1), 6),
                "payment": "card" if trip["card"] else "cash",
            },
        )
        if answer is None:
            return False
        self.tally.seconds.append(time.perf_counter() - began)
        self.tally.requested += 1
        sources = (answer["duration"]["source"], answer["fare"]["source"])
        self.tally.fallbacks += "fallback" in sources
        self.tally.versions[answer["duration"]["version"]] += 1
        return True

    async def end(self, trip: dict[str, Any]) -> None:
        """End a ride as it truly ended."""
        answer = await self._post(
            f"/api/rides/{self.id_of(trip)}/end",
            {
                "duration_minutes": trip["minutes"],
                "fare": trip["fare"],
                "tip": max(trip["tip"], 0.0),
                "total": max(trip["total"], 0.0),
            },
        )
        self.tally.ended += answer is not None

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        for _ in range(_TRIES):
            try:
                async with self._client.post(self._backend + path, json=body) as reply:
                    if reply.status < 500:
                        reply.raise_for_status()
                        return dict(await reply.json())
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                pass
            self.tally.retries += 1
            await asyncio.sleep(_PAUSE)
        self.tally.lost += 1
        return None


async def drive(fleet: Fleet, trips: Iterator[dict[str, Any]], speed: float, rate: float) -> None:
    """Replay trips in order.

    Args:
        fleet: Drives them.
        trips: In the order of their pickup.
        speed: So much faster than they were, where there is no rate.
        rate: Rides a second, evenly; 0: as they were.
    """
    start = time.monotonic()
    first = None
    under_way: set[asyncio.Task[None]] = set()

    async def ride(trip: dict[str, Any]) -> None:
        if await fleet.request(trip):
            await asyncio.sleep(1.0 if rate else 60 * trip["minutes"] / speed)
            await fleet.end(trip)

    for number, trip in enumerate(trips):
        first = first or trip["pickup_at"]
        due = number / rate if rate else (trip["pickup_at"] - first).total_seconds() / speed
        await asyncio.sleep(max(0.0, start + due - time.monotonic()))
        task = asyncio.create_task(ride(trip))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    while under_way:
        await asyncio.wait(under_way)


def trips_of(rides: pa.RecordBatch, count: int) -> Iterator[dict[str, Any]]:
    """Give so many rides as dicts; from the start again when there are no more."""
    given = 0
    while given < count:
        for place in range(0, rides.num_rows, 1000):
            for trip in rides.slice(place, 1000).to_pylist():
                if given == count:
                    return
                # Round the calendar a second time, a trip is another ride.
                trip["trip_id"] += 1_000_000 * (given // rides.num_rows)
                given += 1
                yield trip


def session(token: str) -> aiohttp.ClientSession:
    """Return a client with the fleet's token."""
    return aiohttp.ClientSession(
        headers={"authorization": f"Bearer {token}"}, timeout=aiohttp.ClientTimeout(_LONGEST)
    )


async def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", default="http://127.0.0.1:8000")
    parser.add_argument("--token", type=Path, default=TOKEN, help="file with the fleet's token")
    parser.add_argument("--from", dest="first", type=month, default=month("2019-07"))
    parser.add_argument("--until", type=month, default=month("2020-07"), help="excluded")
    parser.add_argument("--rides", type=int, default=100)
    parser.add_argument("--speed", type=float, default=3600.0, help="so much faster than life")
    parser.add_argument("--rate", type=float, default=0.0, help="rides a second instead")
    parser.add_argument("--prefix", default="trip", help="another one gives other rides")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    rides = between(read(DATA), chosen.first, chosen.until)
    async with session(chosen.token.read_text(encoding="ascii").strip()) as client:
        fleet = Fleet(client, chosen.backend, chosen.prefix)
        await drive(fleet, trips_of(rides, chosen.rides), chosen.speed, chosen.rate)
    print(json.dumps(fleet.tally.told()) if chosen.json else fleet.tally)
    return 1 if fleet.tally.lost else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

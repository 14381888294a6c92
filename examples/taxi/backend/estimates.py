"""The first answer: duration and fare from the models' service, or what rides usually take.

Two concurrent calls over connections that are kept, one deadline for both, one retry within it.
Whatever goes wrong, the passenger gets an answer in time; a fallback is marked as one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from backend.rides import Estimate

DURATION, FARE = ("trip-duration", "duration_minutes"), ("fare", "fare")
_SANE = {"duration_minutes": (0.0, 240.0), "fare": (0.0, 1000.0)}
_TRIES = 2
_CONNECTIONS, _KEPT = 32, 30.0
_FAILURES, _PAUSE = 5, 1.0


class Usual:
    """Medians of earlier rides between two zones: right on average, blind to the hour.

    Args:
        pairs: Minutes and fare by "PICKUP-DROPOFF".
        overall: The same for all other pairs.
    """

    def __init__(
        self, pairs: Mapping[str, tuple[float, float]], overall: tuple[float, float]
    ) -> None:
        self._pairs = pairs
        self._overall = overall

    @classmethod
    def read(cls, path: Path) -> Usual:
        """Read the file that prepare.py writes."""
        return msgspec.convert(msgspec.json.decode(path.read_bytes()), _Usual).made()

    def of(self, pickup: int, dropoff: int) -> tuple[float, float]:
        """Return minutes and fare."""
        return self._pairs.get(f"{pickup}-{dropoff}", self._overall)


class _Usual(msgspec.Struct):
    overall: tuple[float, float]
    pairs: dict[str, tuple[float, float]]

    def made(self) -> Usual:
        return Usual(self.pairs, self.overall)


class Wrong(Exception):
    """The service answered something that cannot be used."""


class Estimates:
    """Asks the service; a context manager that keeps the connections.

    Args:
        service: Its address.
        usual: What is told when the service does not answer.
        deadline: Seconds that a passenger may be kept waiting.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        service: str,
        usual: Usual,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._usual = usual
        self._deadline = deadline
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"content-type": "application/json"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def of(self, ride_id: str, facts: Mapping[str, Any]) -> tuple[Estimate, Estimate]:
        """Return the duration in minutes and the fare in $."""
        until = self._clock() + self._deadline
        body = msgspec.json.encode({"ride_id": ride_id, **facts})
        usual = self._usual.of(facts["pickup_zone"], facts["dropoff_zone"])
        return await asyncio.gather(
            self._one(*DURATION, ride_id, body, until, usual[0]),
            self._one(*FARE, ride_id, body, until, usual[1]),
        )

    async def _one(
        self, model: str, output: str, ride_id: str, body: bytes, until: float, usual: float
    ) -> Estimate:
        try:
            return await self._asked(model, output, ride_id, body, until)
        except (aiohttp.ClientError, TimeoutError, Wrong) as error:
            return Estimate(usual, "fallback", reason=_said(error))

    async def _asked(
        self, model: str, output: str, ride_id: str, body: bytes, until: float
    ) -> Estimate:
        """Ask, and once more if there is time; after some failures in a row, leave it alone."""
        if self._clock() < self._closed_until:
            raise Wrong("did not answer a moment ago")
        try:
            for left in reversed(range(_TRIES)):
                seconds = (until - self._clock()) / (left + 1)
                try:
                    async with asyncio.timeout(seconds):
                        estimate = await self._call(model, output, ride_id, body, seconds)
                except (aiohttp.ClientError, TimeoutError, Wrong):
                    if not left or self._clock() >= until:
                        raise
                else:
                    self._failures = 0
                    return estimate
        except (aiohttp.ClientError, TimeoutError, Wrong):
            self._failures += 1
            if self._failures >= _FAILURES:
                self._closed_until = self._clock() + _PAUSE
            raise
        raise AssertionError("a try ends with an answer or an error")

    async def _call(
        self, model: str, output: str, ride_id: str, body: bytes, seconds: float
    ) -> Estimate:
        headers = {"x-request-id": ride_id, "x-request-timeout": f"{seconds:.3f}"}
        url = f"{self._service}/predict/{model}"
        async with self._client.post(url, data=body, headers=headers) as reply:
            content = await reply.read()
        if reply.status != 200:
            raise Wrong(f"answered {reply.status}")
        try:
            told = msgspec.json.decode(content)
            value, version = float(told["prediction"][output]), str(told["version"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise Wrong("answered something else than a prediction") from None
        low, high = _SANE[output]
        if not (math.isfinite(value) and low <= value <= high):
            raise Wrong(f"answered {value}")
        return Estimate(value, version=version)


def _said(error: Exception) -> str:
    """Say in a few words why there is no prediction."""
    if isinstance(error, Wrong):
        return f"the service {error}"
    slow = isinstance(error, TimeoutError)
    return "the service was too slow" if slow else "the service is down"

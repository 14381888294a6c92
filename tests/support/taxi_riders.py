"""Rides that are requested for as long as they are wanted, whatever becomes of the backend."""

from __future__ import annotations

import itertools
import random
import sys
import threading
from types import TracebackType
from typing import Any, Self

import httpx

PAUSE = 0.05


class Riders:
    """Threads that request rides, each until it is acknowledged, and end them the same way.

    Args:
        backend: Its address.
        token: Says that they are the fleet.
        pause: Seconds between two rides of a thread.
    """

    def __init__(self, backend: str, token: str, *, threads: int = 2, pause: float = PAUSE) -> None:
        self._backend = backend
        self._headers = {"authorization": f"Bearer {token}"}
        self._pause = pause
        self._enough = threading.Event()
        self._abandoned = threading.Event()
        self._acknowledged: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=self._ride, args=(number,), name=f"rider {number}")
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is not None:  # nobody may ever answer
            self._abandoned.set()
        self.finish()

    @property
    def acknowledged(self) -> dict[str, str]:
        """The rides that the backend took so far, and who estimated their duration."""
        return dict(self._acknowledged)

    def finish(self) -> None:
        """Request no more; the rides that are being requested are waited for."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ride(self, number: int) -> None:
        draw = random.Random(number)
        with httpx.Client(base_url=self._backend, headers=self._headers, timeout=10) as client:
            for ride in itertools.count():
                ride_id = f"rider{number}-{ride:06d}"
                asked = {
                    "ride_id": ride_id,
                    "pickup_at": "2019-07-01T14:00:00Z",
                    "pickup_zone": draw.randint(1, 263),
                    "dropoff_zone": draw.randint(1, 263),
                    "passengers": draw.randint(1, 6),
                    "payment": draw.choice(["card", "cash"]),
                }
                told = self._post(client, "/api/rides", asked)
                self._acknowledged[ride_id] = told["duration"]["source"]
                meter = {"duration_minutes": 12.0, "fare": 11.5, "tip": 2.0, "total": 16.0}
                self._post(client, f"/api/rides/{ride_id}/end", meter)
                if self._enough.wait(self._pause):
                    return

    def _post(self, client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
        while True:
            try:
                reply = client.post(path, json=body)
            except httpx.TransportError:
                if self._abandoned.wait(self._pause):
                    sys.exit()  # this thread
                continue
            if reply.status_code < 500:
                reply.raise_for_status()
                return dict(reply.json())

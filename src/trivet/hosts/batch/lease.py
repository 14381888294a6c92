"""The sign of life of an attempt under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from trivet.databases import Connection
from trivet.errors import TrivetError
from trivet.results import ledger

HEARTBEAT_SECONDS = ledger.LEASE_SECONDS / 4


class Lease:
    """Prolongs an attempt's lease from a thread and a connection of its own."""

    def __init__(self, claimed: ledger.Attempt, connect: Callable[[], Connection]) -> None:
        self._claimed = claimed
        self._connect = connect
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self.lost = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self.lost and not self._done.wait(HEARTBEAT_SECONDS):
            with suppress(TrivetError):  # the next beat may get through
                with self._connect() as db:
                    self.lost = not ledger.heartbeat(db, self._claimed)
                last = time.monotonic()
            self.lost = self.lost or time.monotonic() - last > ledger.LEASE_SECONDS

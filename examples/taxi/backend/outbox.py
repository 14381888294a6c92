"""Sends what the outbox holds, in order, and none is lost.

An event leaves the outbox when the broker has it on disk. If this process dies in between, or the
broker's answer is lost, the event is sent again, with the same id: readers count it once.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading

from backend.storage import Database
from trivet import Producer
from trivet.errors import TrivetError

TOPIC = "rides"
SOURCE = "/taxi/backend"

_log = logging.getLogger("taxi.outbox")
_TOGETHER = 500
_GATHER = 0.05
_PAUSE, _LONGEST = 0.1, 5.0
_FLUSH = 10.0


class Outbox:
    """Sends events from a database to a broker, in a thread of its own.

    Args:
        broker: The broker's url; a relative path starts from the working directory.
        partitions: Of the topic, if it is not there yet.
    """

    def __init__(self, broker: str, partitions: int = 1) -> None:
        self._broker = broker
        self._partitions = partitions
        self._stopping = threading.Event()
        self._queued = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Say that there is something to send."""
        self._queued.set()

    def start(self, database: Database) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._run, args=(database,), name="outbox")
        self._thread.start()

    def stop(self) -> None:
        """Stop; what was not sent stays in the database for the next start."""
        self._stopping.set()
        self._queued.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, database: Database) -> None:
        pause = _PAUSE
        while not self._stopping.is_set():
            try:
                producer = Producer(self._broker, SOURCE)
                try:
                    producer.create_topic(TOPIC, self._partitions)
                    while not self._stopping.is_set():
                        self._send(database, producer)
                        pause = _PAUSE
                finally:
                    producer.close(0.0)
            except TrivetError as error:
                _log.warning("events wait, next try in %.1f s: %s", pause, error)
                self._stopping.wait(pause)
                pause = min(2 * pause, _LONGEST)

    def _send(self, database: Database, producer: Producer) -> None:
        """Send what waits, or wait for something to send."""
        self._queued.clear()  # before the look: what is queued after it sets it again
        waiting = database.waiting(_TOGETHER)
        for event in waiting:
            producer.send(
                TOPIC,
                event.ride_id,
                event.data.encode(),
                type=event.type,
                id=event.event_id,
                time=dt.datetime.fromisoformat(event.time),
                subject=event.ride_id,
            )
        if waiting:
            producer.flush(_FLUSH)
            database.sent(waiting[-1].number)
        else:
            self._queued.wait(1.0)
        if len(waiting) < _TOGETHER:
            self._stopping.wait(_GATHER)  # the next ones go together: the disk is waited for once

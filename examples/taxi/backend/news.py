"""Reads what the stream says of the rides, and tells their passengers.

The backend is a consumer like others, with a group of its own, of the topic that all of the
streams write their answers to. It keeps an answer before it commits the offset: after a crash
some answers come again, and each ride keeps the first of a kind.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from backend.live import Live
from backend.rides import ANSWERS
from backend.storage import Answer, Database
from trivet import brokers
from trivet.brokers.base import Broker, Fetched
from trivet.errors import TrivetError
from trivet.events import CloudEvents

TOPIC, GROUP = "answers", "backend"
_STREAMS = "/trivet/"

_log = logging.getLogger("taxi.news")
_MOST = 1000
_GATHER = 0.05
_COMMIT_EVERY = 0.5
_PAUSE = 1.0
_read = CloudEvents().decode


class News:
    """Reads the answers in a thread of its own.

    Args:
        broker: The broker's url; a relative path starts from the working directory.
        database: Keeps the answers.
        live: Tells the passengers.
        partitions: Of the topic, if it is not there yet.
    """

    def __init__(self, broker: str, database: Database, live: Live, partitions: int = 1) -> None:
        self._broker = broker
        self._partitions = partitions
        self._database = database
        self._live = live
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read; `loop` is the one that the pages are served in."""
        self._thread = threading.Thread(target=self._run, args=(loop,), name="news")
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.is_set():
            try:
                broker = brokers.connect(self._broker, Path())
                try:
                    self._follow(broker, loop)
                finally:
                    broker.close()
            except TrivetError as error:
                _log.warning("no news, next try in %.0f s: %s", _PAUSE, error)
                self._stopping.wait(_PAUSE)

    def _follow(self, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        broker.create(TOPIC, self._partitions)
        member = broker.member(TOPIC, GROUP, _Nothing())
        try:
            offsets: dict[int, int] = {}
            committed = time.monotonic()
            while not self._stopping.is_set():
                fetched = member.poll(_MOST, 0.5)
                answers = [answer for part in fetched for answer in _answers(part)]
                if answers:
                    for ride in self._database.answered(answers, self._live.watches):
                        loop.call_soon_threadsafe(self._live.tell, ride)
                offsets |= {part.partition: part.offsets[-1] + 1 for part in fetched}
                if offsets and time.monotonic() - committed > _COMMIT_EVERY:
                    member.commit(offsets)
                    offsets, committed = {}, time.monotonic()
                if fetched:  # the next ones come together
                    self._stopping.wait(_GATHER)
            if offsets:
                member.commit(offsets)
        finally:
            member.close()


class _Nothing:
    """Begins where the group committed last, and commits nothing on the way out."""

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return {}

    def revoked(self, partitions: Sequence[int], *, lost: bool) -> None:
        pass


def _answers(fetched: Fetched) -> Iterator[Answer]:
    decoded = _read(fetched, TOPIC)
    for source, data in zip(decoded.sources, decoded.data, strict=True):
        kind = source.removeprefix(_STREAMS)
        if kind not in ANSWERS:
            continue
        try:
            told = msgspec.json.decode(data, type=dict[str, Any])
            answer = {name: float(told[name]) for name in ANSWERS[kind]}
            yield Answer(str(told["ride_id"]), kind, answer)
        except (msgspec.ValidationError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            _log.warning("an answer of %s cannot be read: %r", source, bytes(data)[:200])

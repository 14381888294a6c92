"""The embedded broker: an append-only log in one SQLite file, shared by processes of one machine.

Url: ``sqlite:///data/events.db``, with parameters:

* ``synchronous``: ``full`` (what is acknowledged is on disk) or ``normal`` (a power cut may take
  the last events; nothing that a process does can).
* ``partitions``: of a topic that is made by its first use; 0 makes none.
* ``keep_for``, ``keep_bytes``: the retention of each partition.
* ``lease``: how long a member that does not poll keeps its partitions.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from trivet import owners
from trivet.brokers import embedded_log as log
from trivet.brokers.base import Fetched, Lag, Listener, Start
from trivet.brokers.embedded_appender import EmbeddedAppender
from trivet.brokers.embedded_file import LogFile
from trivet.brokers.embedded_member import EmbeddedMember
from trivet.durations import parse_duration
from trivet.errors import BrokerError, TopicNotFound

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_MOST_PARTITIONS = 1024
_TRIM_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class _Options:
    path: Path
    synchronous: str = "FULL"
    partitions: int = 4
    keep_for: dt.timedelta = dt.timedelta(days=7)
    keep_bytes: int | None = None
    lease: dt.timedelta = dt.timedelta(seconds=10)


class EmbeddedBroker:
    """A file of events; see `trivet.brokers.base.Broker`.

    Args:
        url: The url.
        root: The folder that a relative path starts from.
    """

    def __init__(self, url: str, root: Path) -> None:
        self._options = _options(url, root)
        self._file = LogFile(self._options.path, self._options.synchronous)
        self._trimming = threading.Lock()
        self._next_trim = 0.0

    @property
    def first_partitions(self) -> int:
        return self._options.partitions

    def topics(self) -> Mapping[str, int]:
        return dict(self._file.rows("topics"))

    def create(self, topic: str, partitions: int = 1) -> None:
        if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
            raise BrokerError(
                f"{topic!r} cannot be the name of a topic: write letters, digits, '.', '_' and "
                "'-', 249 at most"
            )
        if not 1 <= partitions <= _MOST_PARTITIONS:
            raise BrokerError(f"topic {topic!r}: 1 to {_MOST_PARTITIONS} partitions")
        with self._file.writing():
            for (number,) in self._file.rows("add_topic", topic=topic, partitions=partitions):
                for partition in range(partitions):
                    self._file.rows("add_log", topic=number, partition=partition)

    def delete(self, topic: str) -> None:
        with self._file.writing():
            for (number,) in self._file.rows("bury_topic", topic=topic):
                for what in ("offsets", "claims", "members", "generations"):
                    self._file.rows(f"delete_{what}_of_topic", topic=number)
        self._trim()

    def delete_group(self, group: str) -> None:
        with self._file.writing():
            now = time.time()
            for owner, until in self._file.rows("group_members", group=group):
                if until >= now and owners.is_alive(owner):
                    raise BrokerError(
                        f"{self._options.path}: the group {group!r} has members; stop them first"
                    )
            for what in ("offsets", "claims", "members", "generations"):
                self._file.rows(f"delete_{what}_of_group", group=group)

    def member(
        self,
        topic: str,
        group: str,
        listener: Listener,
        *,
        start: Start = "earliest",
        instance: str = "",
    ) -> EmbeddedMember:
        self._found_or_made(topic)
        lease = self._options.lease.total_seconds()
        # An offset that a power cut takes back is only read again: no need to wait for the disk.
        file = LogFile(self._options.path, "NORMAL")
        try:
            return EmbeddedMember(
                file, topic, group, listener, start=start, instance=instance, lease=lease
            )
        except BaseException:
            file.close()
            raise

    def appender(self, *, transaction: str = "", most: int = 100_000) -> EmbeddedAppender:
        return EmbeddedAppender(
            LogFile(self._options.path, self._options.synchronous),
            self._found_or_made,
            transaction=transaction,
            most=most,
            after=self._trim_now_and_then,
        )

    def read(self, topic: str, partition: int, offset: int, most: int) -> Fetched:
        logs = log.logs_of(self._file, topic)
        if partition not in logs:
            raise TopicNotFound(f"topic {topic!r} has no partition {partition}, but {len(logs)}")
        found = log.read(self._file, topic, partition, logs[partition], offset, most)
        return log.split(found, most)[0]

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        log.logs_of(self._file, topic)
        return {row[0]: (row[1], row[2]) for row in self._file.rows("bounds", topic=topic)}

    def lag(self, topic: str, group: str) -> list[Lag]:
        log.logs_of(self._file, topic)
        with self._file.reading():
            committed = dict(self._file.rows("committed", group=group, topic=topic))
            bounds = self._file.rows("bounds", topic=topic)
        return [
            Lag(partition, committed.get(partition), end, end - committed.get(partition, first))
            for partition, first, end in bounds
        ]

    def close(self) -> None:
        self._file.close()

    def _found_or_made(self, topic: str) -> dict[int, int]:
        try:
            return log.logs_of(self._file, topic)
        except TopicNotFound:
            if not self._options.partitions:
                raise
        self.create(topic, self._options.partitions)
        return log.logs_of(self._file, topic)

    def _trim_now_and_then(self) -> None:
        if time.monotonic() < self._next_trim or not self._trimming.acquire(blocking=False):
            return
        try:
            self._next_trim = time.monotonic() + _TRIM_EVERY
            self._trim()
        finally:
            self._trimming.release()

    def _trim(self) -> None:
        log.trim(self._file, self._options.keep_for, self._options.keep_bytes)


def _options(url: str, root: Path) -> _Options:
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path or parts.fragment:
        raise BrokerError(f"{url}: write sqlite:///folder/events.db for a file of events")
    options = _Options(path=(root / path).absolute())
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _READ:
            raise BrokerError(f"{url}: unknown parameter {name!r}; there are {', '.join(_READ)}")
        try:
            options = dataclasses.replace(options, **{name: _READ[name](text)})
        except ValueError as error:
            raise BrokerError(f"{url}: {name}: {error}") from None
    return options


def _synchronous(text: str) -> str:
    if text.lower() not in ("full", "normal"):
        raise ValueError(f"write full or normal, not {text!r}")
    return text.upper()


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) > 2**62:
        raise ValueError(f"write a whole number, not {text!r}")
    return int(text)


_READ: Mapping[str, Callable[[str], Any]] = {
    "synchronous": _synchronous,
    "partitions": _number,
    "keep_for": parse_duration,
    "keep_bytes": _number,
    "lease": parse_duration,
}

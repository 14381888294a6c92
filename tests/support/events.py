"""Brokers of every kind, to do the same on each, and a listener that remembers."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from trivet.brokers import connect
from trivet.brokers.base import Appender, Broker, Fetched, Headers, Member

_numbers = itertools.count(1)

SECONDS = 60.0
"""How long anything may take on a machine that is busy."""


@dataclass(frozen=True)
class Place:
    """A broker of one kind.

    Attributes:
        kind: ``embedded`` or ``kafka``.
        url: Its url, without parameters.
    """

    kind: str
    url: str

    def connect(self, **parameters: object) -> Broker:
        """Connect; parameters may end in the name of a kind, and then are for that only."""
        mine = []
        for parameter, value in parameters.items():
            name, _, kind = parameter.partition("__")
            if kind in ("", self.kind):
                mine.append(f"{name.replace('_', '.') if self.kind == 'kafka' else name}={value}")
        return connect(f"{self.url}?{'&'.join(mine)}")

    def impatient(self) -> Broker:
        """Connect such that a member that does not poll is soon taken for dead."""
        return self.connect(
            lease__embedded="1s", session_timeout_ms__kafka=2000, max_poll_interval_ms__kafka=2000
        )

    def new_name(self, prefix: str = "topic") -> str:
        return f"{prefix}-{next(_numbers)}-{secrets.token_hex(3)}"

    def new_topic(self, partitions: int = 1) -> str:
        name = self.new_name()
        broker = self.connect()
        broker.create(name, partitions)
        broker.close()
        return name

    def shorten(self, topic: str) -> int:
        """Let events fall out of a topic of one partition; return the oldest offset left."""
        if self.kind == "kafka":
            admin = AdminClient({"bootstrap.servers": self.url.removeprefix("kafka://")})
            for done in admin.delete_records([TopicPartition(topic, 0, 3)]).values():
                done.result(SECONDS)
        else:
            broker = self.connect(keep_bytes=10)
            fill(broker, topic, [b"the last"])
            broker.close()
        broker = self.connect()
        oldest = broker.bounds(topic)[0][0]
        broker.close()
        assert oldest > 0
        return oldest


def make_place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    if kind == "kafka":
        return Place(kind, request.getfixturevalue("kafka").url)
    return Place(kind, f"sqlite:///{folder / 'events.db'}")


@dataclass
class Remembers:
    """A listener that remembers what it was told, and may commit when partitions go."""

    begin: Mapping[int, int] = field(default_factory=dict)
    told: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    on_revoked: Callable[[Sequence[int]], None] | None = None

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int]:
        assert not self.held & set(partitions)
        self.told.append(("assigned", tuple(partitions)))
        self.held |= set(partitions)
        return {p: offset for p, offset in self.begin.items() if p in partitions}

    def revoked(self, partitions: Sequence[int], *, lost: bool) -> None:
        assert self.held >= set(partitions)
        self.told.append(("lost" if lost else "revoked", tuple(partitions)))
        if self.on_revoked is not None and not lost:
            self.on_revoked(partitions)
        self.held -= set(partitions)


Event = tuple[bytes | None, bytes | None, Headers]


def fill(broker: Broker, topic: str, values: Iterable[bytes], key: bytes | None = b"k") -> None:
    """Append values and wait until they are durable."""
    send(broker, topic, [(key, value, ()) for value in values])


_senders: dict[Broker, Appender] = {}


def send(broker: Broker, topic: str, events: Iterable[Event]) -> None:
    """Append events, with one appender a broker, and wait until they are durable."""
    if broker not in _senders:
        _senders[broker] = broker.appender()
    for key, value, headers in events:
        _senders[broker].append(topic, key, value, headers)
    flush(_senders[broker])


def close_senders() -> None:
    while _senders:
        _senders.popitem()[1].close()


def flush(appender: Appender) -> None:
    assert appender.flush(SECONDS) == 0


def everything(broker: Broker, topic: str) -> dict[int, list[Event]]:
    """Read all events of a topic, by partition."""
    found: dict[int, list[Event]] = {}
    for partition, (oldest, end) in broker.bounds(topic).items():
        found[partition], offset = [], oldest
        while offset < end:
            some = broker.read(topic, partition, offset, 1000)
            if not some.offsets:
                break  # what is left is not for readers: marks of transactions
            found[partition] += rows(some)
            offset = some.offsets[-1] + 1
    return found


def rows(fetched: Fetched) -> list[Event]:
    headers = fetched.headers or [()] * len(fetched.values)
    return list(zip(fetched.keys, fetched.values, headers, strict=True))


def take(member: Member, count: int, most: int = 100) -> list[Fetched]:
    """Poll until so many events have come."""
    deadline = time.monotonic() + SECONDS
    found: list[Fetched] = []
    while sum(len(each.offsets) for each in found) < count:
        assert time.monotonic() < deadline, f"no {count} events"
        found += member.poll(most, 0.05)
    return found


def values_of(fetched: Iterable[Fetched]) -> list[bytes | None]:
    return [value for each in fetched for value in each.values]


def nexts(fetched: Iterable[Fetched]) -> dict[int, int]:
    """Return the next offset of each partition."""
    return {each.partition: each.offsets[-1] + 1 for each in fetched}


def settle(members: Mapping[Member, Remembers], partitions: int) -> None:
    """Poll members until the partitions are shared evenly between them."""
    deadline = time.monotonic() + SECONDS
    least = partitions // len(members)
    while True:
        held = [len(listener.held) for listener in members.values()]
        if sum(held) == partitions and min(held) == least:
            return
        assert time.monotonic() < deadline, f"shares: {held}"
        for member in members:
            assert not member.poll(10, 0.02)

"""How far a stream has come in each partition, kept beside what came of its events.

An offset moves by compare-and-set in the transaction that keeps the effects of the events before
it: who has lost a partition to another worker moves nothing, and keeps nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trivet.databases import Connection
from trivet.errors import MembershipLost
from trivet.results.statements import named

Span = tuple[int, int]
"""The offset that a batch began at, and the one behind its last event."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a partition is, as its consumer sees it.

    Attributes:
        partition: The partition.
        waiting: Its events that are not scored yet.
        moved_at: When the last step was made, or the partition came.
        seen_at: When the consumer looked.
    """

    partition: int
    waiting: int
    moved_at: dt.datetime
    seen_at: dt.datetime


def consumed(db: Connection, deployment: str, topic: str, standings: Iterable[Standing]) -> None:
    """Tell that partitions are consumed, and how they are."""
    statement = named("consumed", db.dialect.name)
    with db.transaction():
        for each in standings:
            db.execute(
                statement,
                deployment=deployment,
                topic=topic,
                partition=each.partition,
                waiting=each.waiting,
                moved_at=each.moved_at,
                seen_at=each.seen_at,
            )


def offsets(db: Connection, deployment: str, topic: str) -> dict[int, int]:
    """Return the next offset of each partition that a deployment has begun."""
    found = db.rows(named("offsets", db.dialect.name), deployment=deployment, topic=topic)
    numbers = found["partition_number"].to_pylist()
    return dict(zip(numbers, found["next_offset"].to_pylist(), strict=True))


def place(
    db: Connection, deployment: str, topic: str, begin: Mapping[int, int], now: dt.datetime
) -> None:
    """Say where a deployment begins in partitions, unless that was said before."""
    for partition, offset in begin.items():
        db.execute(
            named("place_offset", db.dialect.name),
            deployment=deployment,
            topic=topic,
            partition=partition,
            next=offset,
            now=now,
        )


def advance(
    db: Connection, deployment: str, topic: str, spans: Mapping[int, Span], now: dt.datetime
) -> None:
    """Within a transaction, move the offsets of some partitions.

    Raises:
        MembershipLost: One is not where this worker began: another worker has moved it.
    """
    moves = [
        {
            "deployment": deployment,
            "topic": topic,
            "partition": partition,
            "before": begin,
            "next": end,
            "now": now,
        }
        for partition, (begin, end) in sorted(spans.items())
    ]
    if db.execute_each(named("advance_offset", db.dialect.name), moves) != len(moves):
        begun = ", ".join(f"{partition} at {begin}" for partition, (begin, _) in spans.items())
        raise MembershipLost(
            f"{deployment}: of topic {topic!r} no longer every partition is where it was begun "
            f"({begun}): another worker has moved one"
        )


def skip(
    db: Connection, deployment: str, topic: str, partition: int, to: int, now: dt.datetime
) -> None:
    """Go on behind events that the topic no longer has."""
    db.execute(
        named("skip_offset", db.dialect.name),
        deployment=deployment,
        topic=topic,
        partition=partition,
        next=to,
        now=now,
    )

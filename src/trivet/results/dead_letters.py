"""Events that a stream could not score, as they came, with what was wrong with them."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from trivet.databases import Connection
from trivet.databases.values import from_text
from trivet.errors import ResultsError
from trivet.results.statements import named

Headers = tuple[tuple[str, bytes], ...]

DEAD_LETTERS = pa.schema(
    [
        pa.field("deployment", pa.string()),
        pa.field("topic", pa.string()),
        pa.field("partition_number", pa.int32()),
        pa.field("event_offset", pa.int64()),
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("event_key", pa.binary()),
        pa.field("event_value", pa.binary()),
        pa.field("event_bytes", pa.int64()),
        pa.field("event_headers", pa.string()),
        pa.field("rejected_at", pa.timestamp("us", "UTC")),
    ]
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what `str` gave.

        Raises:
            ResultsError: It names no place.
        """
        topic, _, rest = text.rpartition("/")
        topic, _, partition = topic.rpartition("/")
        if not topic or not partition.isdigit() or not rest.isdigit():
            raise ResultsError(
                f"{text!r} names no event; write TOPIC/PARTITION/OFFSET as trivet dead list shows"
            )
        return cls(topic, int(partition), int(rest))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event as it came.

    Attributes:
        place: Where it lies.
        id: Its id, or its place if it told none.
        source: Where it came from, as it told.
        key: Its key.
        value: Its bytes; None where they are too many to be kept.
        size: How many they are.
        headers: Its headers.
        problems: What was wrong: field, code, reason and key of the row.
        replayed_at: When it was sent again.
    """

    place: Place
    id: str
    source: str
    key: bytes | None
    value: bytes | None
    size: int
    headers: Headers
    problems: Sequence[dict[str, str]]
    replayed_at: dt.datetime | None


def keep(db: Connection, letters: pa.RecordBatch, rejects: pa.RecordBatch) -> None:
    """Within a transaction, add dead letters and their problems, but those that are there.

    Args:
        db: The results database.
        letters: Of the schema `DEAD_LETTERS`.
        rejects: Of the schema `trivet.results.rows.EVENT_REJECTS`.
    """
    if not letters.num_rows:
        return
    known = _known(db, letters)
    if known:
        letters, rejects = _without(letters, known), _without(rejects, known)
    db.append("trivet_dead_letters", letters)
    db.append("trivet_rejects", rejects)


def dead_letters(
    db: Connection, deployment: str, *, code: str = "", replayed: bool = False, limit: int = 50
) -> list[dict[str, Any]]:
    """Return dead letters, a row a problem, the newest first.

    Args:
        db: The results database.
        deployment: Whose.
        code: Only those with a problem of this reject code.
        replayed: Also those that were sent again.
        limit: So many rows at most.
    """
    found = db.rows(
        named("dead_letters", db.dialect.name),
        deployment=deployment,
        code=code,
        replayed=int(replayed),
        limit=limit,
    )
    return _dated(found).to_pylist()  # type: ignore[no-any-return]


def dead_letter(db: Connection, deployment: str, place: Place) -> DeadLetter:
    """Return one dead letter.

    Raises:
        ResultsError: There is none at that place.
    """
    where = {
        "deployment": deployment,
        "topic": place.topic,
        "partition": place.partition,
        "offset": place.offset,
    }
    found = _dated(db.rows(named("dead_letter", db.dialect.name), **where)).to_pylist()
    if not found:
        raise ResultsError(
            f"{deployment} has no dead letter {place}; see: trivet dead list {deployment}"
        )
    row = found[0]
    problems = db.rows(named("dead_letter_problems", db.dialect.name), **where).to_pylist()
    return DeadLetter(
        place,
        row["id"],
        row["source"],
        _bytes(row["event_key"]),
        _bytes(row["event_value"]),
        row["event_bytes"],
        headers_of(row["event_headers"]),
        problems,
        row["replayed_at"],
    )


def mark_replayed(db: Connection, deployment: str, place: Place, now: dt.datetime) -> None:
    """Note that a dead letter was sent again."""
    db.execute(
        named("replayed", db.dialect.name),
        deployment=deployment,
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        now=now,
    )


def headers_text(headers: Headers) -> str:
    """Write headers as they are kept."""
    parts = [(name, base64.b64encode(value or b"").decode()) for name, value in headers]
    return msgspec.json.encode(parts).decode()


def headers_of(text: str) -> Headers:
    """Read headers as they are kept."""
    parts = msgspec.json.decode(text, type=list[tuple[str, str]])
    return tuple((name, base64.b64decode(value)) for name, value in parts)


def _known(db: Connection, letters: pa.RecordBatch) -> set[tuple[int, int]]:
    deployment, topic = letters["deployment"][0].as_py(), letters["topic"][0].as_py()
    places = zip(
        letters["partition_number"].to_pylist(), letters["event_offset"].to_pylist(), strict=True
    )
    by_partition: dict[int, list[int]] = {}
    for partition, offset in places:
        by_partition.setdefault(partition, []).append(offset)
    known: set[tuple[int, int]] = set()
    for partition, numbers in by_partition.items():
        found = db.rows(
            named("known_dead_letters", db.dialect.name),
            deployment=deployment,
            topic=topic,
            partition=partition,
            first=min(numbers),
            last=max(numbers),
        )
        known |= {(partition, offset) for offset in found["event_offset"].to_pylist()}
    return known


def _without(batch: pa.RecordBatch, known: set[tuple[int, int]]) -> pa.RecordBatch:
    places = zip(
        batch["partition_number"].to_pylist(), batch["event_offset"].to_pylist(), strict=True
    )
    return batch.filter(pa.array([place not in known for place in places], pa.bool_()))


def _dated(table: pa.Table) -> pa.Table:
    for name in ("rejected_at", "replayed_at"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, from_text(table[name]))
    return table


def _bytes(value: bytes | str | None) -> bytes | None:
    """SQLite's driver guesses what a column is from its value."""
    return value.encode() if isinstance(value, str) else value

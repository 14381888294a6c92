"""Events decoded: which are to be scored, what their data says, and which are none."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trivet.brokers.base import Fetched, Headers
from trivet.events import CloudEvents, Format, PlainJson
from trivet.hosts.stream.intake import Batch
from trivet.hosts.stream.settings import StreamSettings
from trivet.records import Record, RecordReader, plain_text
from trivet.results.dead_letters import Place
from trivet.schema import Schema


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """One event as it came."""

    place: Place
    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """The events of a batch that are to be scored, column by column, in order.

    Attributes:
        records: Their data.
        ids: With the source, what tells an event from any other.
        sources: Where they came from.
        times: When they happened.
        places: For each, the chunk that it is in and its place there.
        skipped: How many others there were: of another type, or without a value.
        batch: Where they are from.
    """

    records: Sequence[Record]
    ids: Sequence[str]
    sources: Sequence[str]
    times: Sequence[dt.datetime]
    places: Sequence[tuple[int, int]]
    skipped: int
    batch: Batch

    def raw(self, topic: str, row: int) -> Raw:
        """Return an event as it came."""
        chunk, place = self.places[row]
        fetched = self.batch.chunks[chunk].fetched
        return Raw(
            Place(topic, fetched.partition, fetched.offsets[place]),
            fetched.keys[place],
            fetched.values[place] or b"",
            () if fetched.headers is None else fetched.headers[place],
        )

    def key(self, row: int) -> bytes | None:
        """Return an event's key."""
        chunk, place = self.places[row]
        return self.batch.chunks[chunk].fetched.keys[place]


class EventReader:
    """Reads a stream's events.

    Args:
        settings: The deployment.
        inputs: The model's inputs.

    Attributes:
        records: Reads their data.
    """

    def __init__(self, settings: StreamSettings, inputs: Schema) -> None:
        self._topic = settings.topic
        self._types = frozenset(settings.types)
        self._max = settings.max_event
        self._format = format_of(settings)
        self.records = RecordReader(inputs, (*settings.key, *settings.keep))

    def read(self, batch: Batch) -> Events:
        """Read a batch."""
        records: list[Record] = []
        ids: list[str] = []
        sources: list[str] = []
        times: list[dt.datetime] = []
        places: list[tuple[int, int]] = []
        for number, chunk in enumerate(batch.chunks):
            for place, record, id_, source, moment in self._chunk(chunk.fetched):
                records.append(record)
                ids.append(id_)
                sources.append(source)
                times.append(moment)
                places.append((number, place))
        skipped = batch.count - len(records)
        return Events(records, ids, sources, times, places, skipped, batch)

    def _chunk(self, fetched: Fetched) -> Iterator[tuple[int, Record, str, str, dt.datetime]]:
        kept, refused = self._fit(fetched)
        part = fetched if kept is None else _picked(fetched, kept)
        found = self._format.decode(part, self._topic)
        refused += found.bad if kept is None else [(kept[p], why) for p, why in found.bad]
        read, types = self.records.read, self._types
        rows = zip(
            found.places if kept is None else [kept[p] for p in found.places],
            found.data,
            found.ids,
            found.sources,
            found.times,
            found.types,
            strict=True,
        )
        good = (
            (place, read(data), id_, source, moment or _moment(fetched.times[place]))
            for place, data, id_, source, moment, kind in rows
            if not types or kind in types
        )
        if not refused:
            return good
        bad = (
            (
                place,
                self.records.unread(why),
                f"{self._topic}-{fetched.partition}-{fetched.offsets[place]}",
                self._topic,
                _moment(fetched.times[place]),
            )
            for place, why in refused
        )
        return iter(sorted([*good, *bad], key=lambda row: row[0]))

    def _fit(self, fetched: Fetched) -> tuple[list[int] | None, list[tuple[int, str]]]:
        """Return the places of events that are neither tombstones nor too long, None for all."""
        refused: list[tuple[int, str]] = []
        kept: list[int] = []
        for place, value in enumerate(fetched.values):
            if value is None:
                continue
            if len(value) > self._max:
                why = f"the event has {len(value):,} bytes; max_event allows {self._max:,}"
                refused.append((place, why))
                continue
            kept.append(place)
        return (None if len(kept) == len(fetched.values) else kept), refused


def format_of(settings: StreamSettings) -> Format:
    """Return how a stream's events are read and written."""
    if settings.format == "json":
        return PlainJson(settings.id_field, settings.time_field)
    return CloudEvents()


def key_text(value: bytes | None) -> str | None:
    """Return an event's key as a text for people."""
    return None if value is None else plain_text(value.decode("utf-8", "replace"))


def _moment(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def _picked(fetched: Fetched, places: Sequence[int]) -> Fetched:
    headers = fetched.headers
    return Fetched(
        fetched.partition,
        [fetched.offsets[p] for p in places],
        [fetched.keys[p] for p in places],
        [fetched.values[p] for p in places],
        None if headers is None else [headers[p] for p in places],
        [fetched.times[p] for p in places],
    )

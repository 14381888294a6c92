"""Events decoded: which are to be scored, what their data says, and which are none."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.brokers.base import Fetched, Headers
from trivet.events import CloudEvents, Format, PlainJson
from trivet.hosts.stream.intake import Batch
from trivet.hosts.stream.settings import StreamSettings
from trivet.records import UNREADABLE, Columns, Record, RecordReader
from trivet.results.dead_letters import Place
from trivet.schema import TYPES, Schema
from trivet.validation import Decoded, no_problems

Text = Annotated[str, msgspec.Meta(min_length=1)]

_PLAIN_TIME = r"^[1-8]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
"""Times that Arrow and the codec of `trivet.events` read alike; Arrow takes more than RFC 3339."""


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
        decoded: Their data, as the model's inputs.
        beside: What else of their data is carried along, by column.
        ids: With the source, what tells an event from any other.
        sources: Where they came from.
        times: When they happened.
        places: For each, the chunk that it is in and its place there; None: all of them, in order.
        skipped: How many others there were: of another type, or without a value.
        batch: Where they are from.
    """

    decoded: Decoded
    beside: Columns
    ids: Sequence[str]
    sources: Sequence[str]
    times: pa.Array
    places: Sequence[tuple[int, int]] | None
    skipped: int
    batch: Batch

    @property
    def count(self) -> int:
        """How many events."""
        return len(self.ids)

    def raw(self, topic: str, row: int) -> Raw:
        """Return an event as it came."""
        fetched, place = self._at(row)
        return Raw(
            Place(topic, fetched.partition, fetched.offsets[place]),
            fetched.keys[place],
            fetched.values[place] or b"",
            () if fetched.headers is None else fetched.headers[place],
        )

    def keys(self, rows: Sequence[int] | None) -> list[bytes | None]:
        """Return the keys of some events, or of all."""
        if self.places is None and rows is None:
            return [key for chunk in self.batch.chunks for key in chunk.fetched.keys]
        found = (self._at(row) for row in (range(self.count) if rows is None else rows))
        return [fetched.keys[place] for fetched, place in found]

    def _at(self, row: int) -> tuple[Fetched, int]:
        if self.places is not None:
            chunk, place = self.places[row]
            return self.batch.chunks[chunk].fetched, place
        for each in self.batch.chunks:
            if row < each.count:
                return each.fetched, row
            row -= each.count
        raise IndexError(row)


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
        self._decode: Callable[[bytes | None], Any] | None = None
        if settings.format == "cloudevents" and not settings.types:
            whole: list[Any] = [("id", Text), ("source", Text), ("type", Text)]
            whole += [("specversion", Literal["1.0"]), ("data", self.records.shape)]
            whole += [("time", str | None, None), ("subject", str | None, None)]
            whole += [("data_base64", None, None)]
            shape = msgspec.defstruct("Event", whole, gc=False)
            self._decode = msgspec.json.Decoder(shape).decode  # type: ignore[assignment]

    def read(self, batch: Batch) -> Events:
        """Read a batch."""
        return self._at_once(batch) or self._one_by_one(batch)

    def _at_once(self, batch: Batch) -> Events | None:
        """Read a batch in which every event is a good one, as nearly all are; None for any other.

        An event is decoded together with its data, and nothing is done for it alone.
        """
        decode = self._decode
        if decode is None or any(chunk.largest > self._max for chunk in batch.chunks):
            return None
        rows: list[Any] = []
        try:
            for chunk in batch.chunks:
                if chunk.fetched.headers is not None and any(
                    map(_is_binary, chunk.fetched.headers)
                ):
                    return None
                rows += map(decode, chunk.fetched.values)
            told = pa.array([row.time for row in rows], pa.string())
            if pc.all(pc.match_substring_regex(told, _PLAIN_TIME)).as_py() is False:
                return None
            times = told.cast(TYPES["timestamp"])
        except (*UNREADABLE, TypeError, pa.ArrowInvalid):
            return None
        together = self.records.together([row.data for row in rows])
        if together is None:
            return None
        if times.null_count:
            appended = np.concatenate([chunk.fetched.times for chunk in batch.chunks])
            times = pc.coalesce(times, pa.array(appended * 1000).cast(TYPES["timestamp"]))
        decoded, beside = together
        ids, sources = [row.id for row in rows], [row.source for row in rows]
        return Events(Decoded(decoded, no_problems()), beside, ids, sources, times, None, 0, batch)

    def _one_by_one(self, batch: Batch) -> Events:
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
        beside = [list(column) for column in zip(*(r.beside for r in records), strict=True)]
        return Events(
            self.records.columns(records) if records else self._nothing(),
            beside or [[] for _ in self.records.beside],
            ids,
            sources,
            pa.array(times, TYPES["timestamp"]),
            places,
            batch.count - len(records),
            batch,
        )

    def _nothing(self) -> Decoded:
        arrow = self.records.arrow
        empty = [pa.array([], field.type) for field in arrow]
        return Decoded(pa.RecordBatch.from_arrays(empty, schema=arrow), no_problems())

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


def _is_binary(headers: Headers) -> bool:
    return any(name == "ce_specversion" for name, _ in headers)


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

"""Values on their way between a driver's types and plain Arrow ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_YEARS = (-62_167_219_200_000_000, 253_402_300_800_000_000)
"""Microseconds since 1970 of the years 0 and 10000, between which Arrow writes plain texts."""

_HEX = np.array([f"{i:02x}".encode() for i in range(256)], dtype="S2")


def for_sqlite(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write timestamps and dates as SQLite's own text, so that its date functions read them.

    A timestamp becomes ``YYYY-MM-DD HH:MM:SS`` in UTC, with a fraction only where it has one:
    the texts sort as the moments do.
    """
    changed = {
        i: _sqlite_text(column)
        for i, column in enumerate(batch.columns)
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    }
    if not changed:
        return batch
    columns = [changed.get(i, column) for i, column in enumerate(batch.columns)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def sqlite_text(value: object) -> object:
    """Write a moment as `for_sqlite` does; other values come back as they are."""
    if not isinstance(value, dt.datetime):
        return value
    moment = value.astimezone(dt.UTC) if value.tzinfo else value
    return moment.replace(tzinfo=None).isoformat(" ")


def sqlite_bound(value: object) -> object:
    """Write a moment as the shortest text that sorts rightly among SQLite's own.

    Midnight is a bare date: a column of dates compares with it as a column of times does.
    """
    if not isinstance(value, dt.datetime):
        return value
    moment = value.astimezone(dt.UTC) if value.tzinfo else value
    return moment.replace(tzinfo=None).isoformat(" ").removesuffix(" 00:00:00")


def moment_literal(value: object) -> str | None:
    """Write a moment, a day or null as PostgreSQL's literal; return None for any other value."""
    if value is None:
        return "NULL"
    if isinstance(value, dt.datetime):
        moment = value.astimezone(dt.UTC).replace(tzinfo=None).isoformat(" ")
        return f"TIMESTAMPTZ '{moment}+00'"
    return f"DATE '{value.isoformat()}'" if isinstance(value, dt.date) else None


def from_text(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Read SQLite's text timestamps back as UTC; other columns come back as they are."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC"))
    return column.cast(pa.string()).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))


def plain_table(table: pa.Table) -> pa.Table:
    """Return a table without a driver's extension types."""
    columns = [_plain(column, f) for column, f in zip(table.columns, table.schema, strict=True)]
    return pa.Table.from_arrays(columns, names=table.schema.names)


def plain_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Return batches without a driver's extension types, empty ones left out."""
    for batch in batches:
        if batch.num_rows:
            columns = [
                _plain(column, f) for column, f in zip(batch.columns, batch.schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _plain(column: pa.Array | pa.ChunkedArray, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    kind = column.type
    typname = ((field.metadata or {}).get(b"ADBC:postgresql:typname") or b"").decode()
    if isinstance(kind, pa.BaseExtensionType):
        typname = getattr(kind, "type_name", typname) or kind.extension_name
        column = (
            pa.chunked_array([c.storage for c in column.chunks], kind.storage_type)
            if isinstance(column, pa.ChunkedArray)
            else column.storage
        )
        kind = column.type
    if typname == "numeric" and pa.types.is_string(kind):
        # An exact decimal of any length has no Arrow type: the nearest double, as a model takes it.
        return pc.cast(column, pa.float64())
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return _uuid_text(column)
    return column


def _uuid_text(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([_uuid_text(chunk) for chunk in column.chunks], pa.string())
    n = len(column)
    raw = np.frombuffer(column.buffers()[1] or b"", np.uint8)[column.offset * 16 :][: n * 16]
    digits = _HEX[raw].view("S1").reshape(n, 32)
    text = np.full((n, 36), b"-", dtype="S1")
    for source, place in ((0, 0), (8, 9), (12, 14), (16, 19), (20, 24)):
        width = 12 if place == 24 else (8 if place == 0 else 4)
        text[:, place : place + width] = digits[:, source : source + width]
    offsets = pa.py_buffer(np.arange(0, 36 * n + 1, 36, dtype=np.int32))
    whole = pa.StringArray.from_buffers(n, offsets, pa.py_buffer(text.tobytes()))
    return pc.if_else(column.is_valid(), whole, None) if column.null_count else whole


def _sqlite_text(column: pa.Array) -> pa.Array:
    if pa.types.is_date(column.type):
        return pc.strftime(column, "%Y-%m-%d")
    zone = "UTC" if column.type.tz else None
    column = column.cast(pa.timestamp("us", zone), safe=False)
    since = column.cast(pa.int64())
    moments = since.fill_null(0).to_numpy()
    if not len(moments) or moments.min() < _YEARS[0] or moments.max() >= _YEARS[1]:
        return pc.strftime(column, "%Y-%m-%d %H:%M:%S")
    # A few casts, not arithmetic on digits: other threads wait for none of them.
    plain = since.cast(pa.timestamp("us"))
    fraction = moments % 1_000_000 != 0
    text = plain.cast(pa.string())
    if fraction.all():
        return text
    whole = plain.cast(pa.timestamp("s"), safe=False).cast(pa.string())
    return pc.if_else(pa.array(fraction), text, whole) if fraction.any() else whole

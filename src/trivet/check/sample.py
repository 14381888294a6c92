"""Rows to send through every host: good ones, and one for each thing that the schema forbids."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet import parity
from trivet.databases import connect
from trivet.databases.parameters import bare
from trivet.hosts.batch.settings import BatchSettings
from trivet.manifest import Manifest
from trivet.schema import TYPES, Field, Schema
from trivet.validation import conform

ROWS = 64
"""So many rows are made up."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_EXTREMES: Mapping[str, Sequence[Any]] = {
    "float64": [5e-324, 2.2250738585072014e-308, 0.1, -0.0, 1.2345678901234567e300, 1e-7],
    "float32": [1.401298464324817e-45, 0.1, -0.0, 3.4028234663852886e38],
    "int8": [-(2**7), 2**7 - 1],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [2**53 + 1, -(2**63), 2**63 - 1],
    "string": ["", "déjà vu", "日本", "🚕", 'a "quoted", \\ line\n', " lead"],
}
"""Values that a border may lose on the way."""


def sample(manifest: Manifest, rows: pa.RecordBatch | None = None) -> pa.RecordBatch:
    """Return rows in the types of a model's inputs; null may stand where it is not allowed.

    Args:
        manifest: Of the model: its inputs, and its example, if there is one.
        rows: Rows to begin with, of the inputs' columns; by default rows made from the schema.
    """
    schema = manifest.inputs
    begin = rows if rows is not None else parity.synthetic(schema, ROWS)
    found = [dict(row) for row in begin.to_pylist()]
    if manifest.example:
        found.insert(0, {name: manifest.example.get(name) for name in schema.names})
    base = found[0]
    for field in schema:
        found += [base | {field.name: value} for value in (*_allowed(field), *_forbidden(field))]
    arrow = pa.schema([pa.field(f.name, TYPES[f.type]) for f in schema])
    columns = [pa.array([row[f.name] for row in found], f.type) for f in arrow]
    return pa.RecordBatch.from_arrays(columns, schema=arrow)


def _allowed(field: Field) -> Iterator[Any]:
    """Give the ends of a field's range and other values that are easily lost."""
    if field.values is not None:
        return
    if field.nullable:
        yield None
    yield from (bound for bound in (field.min, field.max) if bound is not None)
    for value in _EXTREMES.get(field.type, ()):
        if not _outside(field, value):
            yield value


def _forbidden(field: Field) -> Iterator[Any]:
    """Give a value for each code that a typed row can have."""
    if not field.nullable:
        yield None
    if field.type in ("float32", "float64"):
        yield from (float("nan"), float("inf"))
    if field.values is not None and field.type == "string":
        yield "\N{REPLACEMENT CHARACTER} is none of them"
    if field.type.startswith(("int", "float")):
        beyond = [value for value in _EXTREMES.get(field.type, ()) if _outside(field, value)]
        yield from beyond[-2:]


def _outside(field: Field, value: Any) -> bool:
    low, high = field.min, field.max
    return (low is not None and value < low) or (high is not None and value > high)


def without(rows: pa.RecordBatch, places: set[int]) -> tuple[list[int], pa.RecordBatch]:
    """Return the rows that are not in some places, and their own places."""
    kept = [place for place in range(rows.num_rows) if place not in places]
    return kept, rows.take(pa.array(kept, pa.int64()))


def nans(rows: pa.RecordBatch) -> set[int]:
    """Return the places of rows with a NaN in them, which SQLite keeps as null."""
    found: set[int] = set()
    for column in rows.columns:
        if pa.types.is_floating(column.type):
            nan = pc.is_nan(column).fill_null(False).to_numpy(zero_copy_only=False)
            found |= set(np.flatnonzero(nan).tolist())
    return found


def nulls(rows: pa.RecordBatch) -> set[int]:
    """Return the places of rows with a null in them."""
    found: set[int] = set()
    for column in rows.columns:
        found |= set(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist())
    return found


def from_source(
    settings: BatchSettings, inputs: Schema, root: Path, count: int, now: dt.datetime
) -> pa.RecordBatch | None:
    """Read rows of a batch deployment from its newest intervals, wider and wider until some come.

    Args:
        settings: The deployment.
        inputs: The model's inputs.
        root: The folder that relative paths start from.
        count: So many rows at most.
        now: The moment.

    Returns:
        Rows in the types of the inputs, or None if there are none.

    Raises:
        DatabaseError: The source cannot be read.
    """
    newest = settings.calendar.previous(settings.calendar.interval_at(now))
    wanted = f"SELECT * FROM (\n{bare(settings.query)}\n) AS q LIMIT {count}"  # noqa: S608
    width = newest.end - newest.start
    parts: list[pa.RecordBatch] = []
    with connect(settings.source, root=root) as db:
        while True:
            start = max(newest.end - width, _EPOCH)
            bounds = {"interval_start": start, "interval_end": newest.end}
            found = db.stream(wanted, bounds, inputs)
            parts = [conform(batch, inputs).batch for batch, _ in found]
            if sum(part.num_rows for part in parts) >= count or start == _EPOCH:
                break
            width *= 4
    return pa.concat_batches(parts) if parts else None

"""Rows made up for a schema, the same ones each time, in a table of their own."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pyarrow as pa

from trivet.databases import connect
from trivet.results.tables import sql_type
from trivet.schema import TYPES, Field, Schema

DAYS = range(-7, 30)
"""The days that have rows, from today: those past are scored at once, those to come one by one."""

ROWS_A_DAY = 100


def made(schema: Schema, count: int, seed: int = 1) -> pa.RecordBatch:
    """Return rows that a schema allows, of moderate values."""
    rng = np.random.default_rng(seed)
    columns = [_column(field, count, rng) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow)


def write(url: str, root: Path, table: str, schema: Schema, today: dt.date) -> pa.RecordBatch:
    """Make a table with rows for some days; return the rows, without their key and moment.

    Args:
        url: The database.
        root: The folder that a relative path starts from.
        table: The table; its key is ``row_id``, its moment ``at``.
        schema: The other columns.
        today: The day around which the rows lie.
    """
    rows = made(schema, ROWS_A_DAY * len(DAYS))
    midnight = dt.datetime.combine(today, dt.time(), dt.UTC)
    step = dt.timedelta(days=1) / ROWS_A_DAY
    moments = [
        f"{midnight + dt.timedelta(days=day) + number * step:%Y-%m-%d %H:%M:%S}"
        for day in DAYS
        for number in range(ROWS_A_DAY)
    ]
    columns = ", ".join(f'"{f.name}" {sql_type(f.type, "sqlite")}' for f in schema)
    whole = rows.append_column("row_id", pa.array(range(1, rows.num_rows + 1), pa.int64()))
    with connect(url, root=root, write=True) as db:
        db.execute(f'CREATE TABLE "{table}" ({columns}, row_id INTEGER PRIMARY KEY, at TEXT)')
        db.append(table, whole.append_column("at", pa.array(moments)))
        db.execute(f'CREATE INDEX "{table}_at" ON "{table}" (at)')
    return rows


def _column(field: Field, count: int, rng: np.random.Generator) -> pa.Array:
    arrow = TYPES[field.type]
    if field.values is not None:
        places = rng.integers(len(field.values), size=count)
        return pa.array([field.values[place] for place in places], arrow)
    if field.type == "string":
        return pa.array([f"text {i}" for i in rng.integers(1, 10, count)])
    if field.type == "bool":
        return pa.array(rng.random(count) < 0.5)
    if field.type in ("timestamp", "date"):
        return _moments(field, count, rng)
    low, high = _span(field)
    if field.type.startswith("float"):
        return pa.array(np.round(rng.uniform(low, high, count), 3)).cast(arrow)
    whole = rng.integers(math.ceil(low), math.floor(high), count, endpoint=True)
    return pa.array(whole).cast(arrow)


def _span(field: Field) -> tuple[float, float]:
    """Return the ends of moderate values of a field of numbers."""
    low = field.min if isinstance(field.min, int | float) else None
    high = field.max if isinstance(field.max, int | float) else None
    if low is None:
        low = 0 if high is None or high >= 0 else high - 10
    return low, low + 10 if high is None else high


def _moments(field: Field, count: int, rng: np.random.Generator) -> pa.Array:
    """Return moments of the year before the latest that is allowed, or of 2025."""
    latest, sign = dt.datetime(2025, 12, 31, tzinfo=dt.UTC), -1
    bound = field.max if field.max is not None else field.min
    if isinstance(bound, dt.datetime):
        latest = bound.astimezone(dt.UTC)
    elif isinstance(bound, dt.date):
        latest = dt.datetime.combine(bound, dt.time(), dt.UTC)
    if field.max is None and field.min is not None:
        sign = 1
    hours = rng.integers(0, 24 * 365, count).tolist()
    moments = [latest + sign * dt.timedelta(hours=hour) for hour in hours]
    if field.type == "date":
        return pa.array([moment.date() for moment in moments])
    return pa.array(moments, TYPES["timestamp"])

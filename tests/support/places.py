"""Databases of every kind, to do the same in each."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from trivet.databases import Connection, connect
from trivet.schema import Field, Schema

UTC = dt.UTC
NO_FIELDS = Schema([])
JANUARY = dt.datetime(2026, 1, 1, tzinfo=UTC)

SQL_TYPES = {
    "bool": "BOOLEAN",
    "int8": "SMALLINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "REAL",
    "float64": "DOUBLE PRECISION",
    "string": "TEXT",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "date": "DATE",
}
LITERALS = {  # as each database writes what another writes otherwise
    "series": {
        "sqlite": "(WITH RECURSIVE g(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM g "
        "WHERE i + 1 < {n}) SELECT i FROM g)",
        "postgresql": "(SELECT CAST(i AS bigint) AS i FROM generate_series(0, {n} - 1) AS g(i))",
        "duckdb": "(SELECT i FROM range({n}) AS g(i))",
    }
}


@dataclass(frozen=True)
class Place:
    """A database of one kind; `fill` makes a table of it for reading."""

    kind: str
    url: str

    def open(self, write: bool = False) -> Connection:
        return connect(self.url, write=write)

    def fill(self, name: str, columns: dict[str, str], *rows: str) -> None:
        with self.open(write=True) as db:
            described = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            db.execute(f"CREATE TABLE {name} ({described})")
            for row in rows:
                db.execute(f"INSERT INTO {name} VALUES ({row})")

    def series(self, n: int) -> str:
        return LITERALS["series"][self.kind].format(n=n)


def make_place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    if kind == "postgresql":
        return Place(kind, request.getfixturevalue("postgres_url"))
    place = Place(kind, f"{kind}:///{folder / 'the file.db'}")
    with place.open(write=True) as db:
        db.execute("CREATE TABLE there_is_a_file (x INTEGER)")
    return place


def read(db: Connection, query: str, schema: Schema = NO_FIELDS, **parameters: Any) -> pa.Table:
    batches = []
    for batch, problems in db.stream(query, parameters, schema):
        assert not problems.num_rows, problems.to_pylist()
        batches.append(batch)
    return pa.Table.from_batches(batches)


def fields(**kinds: str) -> Schema:
    return Schema(Field(name=name, type=kind, nullable=True) for name, kind in kinds.items())

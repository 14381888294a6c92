"""Sample rows through the batch host, from a database of each kind into one of each kind.

The user's databases are only read: rows go into a SQLite file of the check's own, or into the
text of a query; results go into a SQLite file, or into a schema of their own on PostgreSQL.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from trivet.check.outcome import Outcome, Told, spread
from trivet.check.sample import nans, without
from trivet.contract import Model
from trivet.current import Ready
from trivet.databases import connect
from trivet.databases.dialects import of
from trivet.databases.values import from_text
from trivet.hosts.batch.job import Job
from trivet.hosts.batch.run import Surroundings
from trivet.hosts.batch.settings import BatchSettings
from trivet.results.layout import open_results
from trivet.results.tables import sql_type, view_of
from trivet.schema import TYPES, Schema
from trivet.validation import conform

ROW = "trivet_row"
"""The key of the rows of a check."""

_SQL = {
    "bool": "BOOLEAN",
    "int8": "SMALLINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "REAL",
    "float64": "DOUBLE PRECISION",
    "string": "VARCHAR",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "date": "DATE",
}


class Place(NamedTuple):
    """Where rows come from and go to.

    Attributes:
        name: What it is called in the table.
        source: Url of the source.
        query: The query that gives the rows; None: put them into a table of the source.
        results: Url of the results.
    """

    name: str
    source: str
    query: Callable[[Schema, pa.RecordBatch], str] | None
    results: str


@contextmanager
def places(source: str, results: str, root: Path) -> Iterator[list[Place]]:
    """Give the ways of a batch deployment: embedded, and over its own kinds of databases."""
    with (
        tempfile.TemporaryDirectory(prefix="trivet-check-") as folder,
        own_schema(results, root) as own,
    ):
        embedded = f"sqlite:///{folder}/source.db"
        found = [Place("sqlite to sqlite", embedded, None, f"sqlite:///{folder}/results.db")]
        kind, into = of(source).name, of(results).name
        if kind != "sqlite":
            name = f"{kind} to sqlite"
            found.append(Place(name, source, literal_rows, f"sqlite:///{folder}/other.db"))
        if into != "sqlite":
            found.append(Place(f"sqlite to {into}", embedded, None, own))
        yield found


@contextmanager
def own_schema(results: str, root: Path) -> Iterator[str]:
    """Give the url of an empty schema of a PostgreSQL database, gone at the end."""
    if of(results).name != "postgresql":
        yield results
        return
    name = f"trivet_check_{uuid.uuid4().hex[:12]}"
    with connect(results, root=root, write=True) as db:
        db.execute(f'CREATE SCHEMA "{name}"')
        try:
            joint = "&" if "?" in results else "?"
            yield f"{results}{joint}options=-csearch_path%3D{name}"
        finally:
            db.execute(f'DROP SCHEMA "{name}" CASCADE')


def run(
    place: Place, ready: Ready, settings: BatchSettings, rows: pa.RecordBatch, root: Path
) -> Outcome:
    """Run the deployment over the rows, as one interval."""
    model = ready.model
    taken, carried = without(rows, nans(rows) if place.query is None else set())
    numbered = carried.append_column(ROW, pa.array(taken, pa.int64()))
    if place.query is None:
        query = _filled(place.source, model.inputs, numbered)
    else:
        query = place.query(model.inputs, numbered)
    changed = dataclasses.replace(
        settings,
        source=place.source,
        query=query,
        key=(ROW,),
        keep=(),
        max_rejects=1.0,
        start=dt.date(2020, 1, 1),
        schedule="@daily",
        timezone="UTC",
    )
    around = Surroundings(
        root=root,
        results=place.results,
        clock=lambda: dt.datetime.now(dt.UTC),
        stop=threading.Event(),
    )
    job = Job(changed, lambda: ready, around)
    job.register()
    job.run(changed.calendar.named("2020-01-01"), cause="manual")
    return outcome(place.results, root, settings.name, model, taken)


def _filled(source: str, schema: Schema, rows: pa.RecordBatch) -> str:
    """Put the rows into a table of their own, and return the query that reads it."""
    table = f"sample_{uuid.uuid4().hex[:12]}"
    names = ", ".join(f'"{field.name}" {sql_type(field.type, "sqlite")}' for field in schema)
    with connect(source, write=True) as db:
        db.execute(f'CREATE TABLE "{table}" ({names}, "{ROW}" INTEGER)')
        db.append(table, rows)
    return f'SELECT * FROM "{table}"'  # noqa: S608 - names are the model's, quoted


def literal_rows(schema: Schema, rows: pa.RecordBatch) -> str:
    """Return a query whose text has the rows in it: nothing is written to the source."""
    lines = []
    for row in rows.to_pylist():
        values = [_literal(row[field.name], field.type) for field in schema]
        aliases = [f'{v} AS "{f.name}"' for v, f in zip(values, schema, strict=True)]
        lines.append(f'SELECT {", ".join(aliases)}, CAST({row[ROW]} AS BIGINT) AS "{ROW}"')
    return "\nUNION ALL ".join(lines)


def _literal(value: Any, kind: str) -> str:
    sql = _SQL[kind]
    if value is None:
        return f"CAST(NULL AS {sql})"
    if isinstance(value, float) and not math.isfinite(value):
        text = "NaN" if math.isnan(value) else "Infinity"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, float):
        text = repr(value)
    elif isinstance(value, dt.date):
        text = value.isoformat()
    else:
        text = str(value).replace("'", "''")
    return f"CAST('{text}' AS {sql})"


def outcome(
    results: str, root: Path, deployment: str, model: Model, taken: Sequence[int]
) -> Outcome:
    """Read what a deployment made of rows that were numbered."""
    with open_results(results, root=root) as db:
        names = ", ".join(f'"{name}"' for name in model.outputs.names)
        view = view_of(deployment)
        found = db.rows(f'SELECT "{ROW}", {names}, model_digest FROM "{view}" ORDER BY "{ROW}"')  # noqa: S608
    answers = _typed(found, model.outputs)
    row_of = {place: row for row, place in enumerate(taken)}
    return Outcome(
        taken,
        spread(answers, [row_of[int(place)] for place in found[ROW].to_pylist()], len(taken)),
        rejects(results, root, deployment),
        frozenset(found["model_digest"].to_pylist()),
        unsigned_zero=True,  # in the source, in the results or in both there is SQLite
    )


def rejects(results: str, root: Path, deployment: str) -> dict[int, Told]:
    """Read which numbered rows a deployment rejected, and why."""
    with open_results(results, root=root) as db:
        query = "SELECT row_key, field, code FROM trivet_rejects WHERE deployment = $name"
        told = db.rows(query, name=deployment).to_pylist()
    found: dict[int, set[tuple[str, str]]] = {}
    for reject in told:
        place = int(msgspec.json.decode(reject["row_key"])[ROW])
        found.setdefault(place, set()).add((reject["field"], reject["code"]))
    return {place: frozenset(codes) for place, codes in found.items()}


def _typed(found: pa.Table, outputs: Schema) -> pa.RecordBatch:
    """Bring what a database gave back to the types of a model's outputs."""
    rows = found.select(list(outputs.names)).combine_chunks()
    columns = {name: rows[name] for name in rows.column_names}
    for field in outputs:
        column = columns[field.name]
        if column.null_count == len(column):  # SQLite has no type for them
            column = pa.nulls(len(column), TYPES[field.type])
        elif field.type == "timestamp":
            column = from_text(column)
        elif field.type in ("bool", "date"):
            column = column.cast(TYPES[field.type])
        columns[field.name] = column
    batches = pa.table(columns).combine_chunks().to_batches()
    empty = pa.RecordBatch.from_pylist([], pa.schema([(n, c.type) for n, c in columns.items()]))
    return conform(batches[0] if batches else empty, outputs).batch

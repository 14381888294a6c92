"""The predictions table of a deployment and the view that everyone reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.databases import Connection
from trivet.errors import ResultsError
from trivet.monitoring import Profile
from trivet.results.ledger import Attempt, guard
from trivet.results.statements import identifier, named, with_names
from trivet.schema import TYPES, type_name

LINEAGE = (
    "interval_start",
    "interval_end",
    "attempt",
    "model_name",
    "model_version",
    "model_digest",
    "scored_at",
)
"""Columns that the view adds to every prediction."""

REJECTS = pa.schema(
    [
        pa.field(name, pa.int64() if name == "attempt" else pa.string())
        for name in ("deployment", "attempt", "row_key", "field", "code", "reason")
    ]
)

_SQL = {
    "sqlite": {
        "bool": "BOOLEAN",
        **dict.fromkeys(("int8", "int16", "int32", "int64"), "INTEGER"),
        **dict.fromkeys(("float32", "float64"), "REAL"),
        **dict.fromkeys(("string", "timestamp", "date"), "TEXT"),
    },
    "postgresql": {
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
    },
}


def view_of(deployment: str) -> str:
    """Return the name of a deployment's view: its own, with underscores for dashes."""
    return re.sub(r"\W", "_", deployment)


def table_of(deployment: str) -> str:
    """Return the name of a deployment's predictions table."""
    return f"predictions_{view_of(deployment)}"


def sql_type(field_type: str, dialect: str) -> str:
    """Return the type of the column that keeps a type of `trivet.schema.TYPES`."""
    return _SQL[dialect][field_type]


def plain_columns(columns: pa.Schema) -> pa.Schema:
    """Return the types in which columns of a query are kept.

    Raises:
        ResultsError: A column has a type or a name that the results cannot keep.
    """
    kept = []
    for field in columns:
        name = type_name(field.type)
        if name is None:
            raise ResultsError(
                f"column {field.name!r} is {field.type}, which the results cannot keep; "
                "cast it in the query or leave it out of key and keep"
            )
        if field.name.lower() in LINEAGE:  # SQLite takes one for the other
            raise ResultsError(f"column {field.name!r} has the name of a lineage column; rename it")
        kept.append(pa.field(field.name, TYPES[name]))
    return pa.schema(kept)


def prepare(db: Connection, deployment: str, columns: pa.Schema) -> None:
    """Create or widen the predictions table for these columns, and its view.

    Columns are only ever added; one that a query no longer gives stays, and is null.

    Raises:
        ResultsError: A column has another type in the table than the query gives.
    """
    dialect = db.dialect.name
    table, view = table_of(deployment), view_of(deployment)
    wanted = {f.name: _SQL[dialect][str(type_name(f.type))] for f in plain_columns(columns)}
    if _agrees(columns_of(db, table), wanted, table) and columns_of(db, view):
        return
    with db.transaction():
        db.rows(named("lock_layout", dialect))
        db.execute(with_names("create_predictions", dialect, table=identifier(table)))
        db.execute(
            with_names(
                "index_predictions",
                dialect,
                index=identifier(f"{table}_attempt"),
                table=identifier(table),
            )
        )
        have = columns_of(db, table)
        _agrees(have, wanted, table)
        for name in (n for n in wanted if n not in have):
            db.execute(
                with_names(
                    "add_column",
                    dialect,
                    table=identifier(table),
                    column=identifier(name),
                    type=wanted[name],
                )
            )
        every = [*(n for n in have if n != "attempt"), *(n for n in wanted if n not in have)]
        show(db, view, table, [*every, *LINEAGE], "create_view")


def append(
    db: Connection, attempt: Attempt, predictions: pa.RecordBatch, rejects: pa.RecordBatch
) -> None:
    """Append rows of an attempt in short transactions, leaving other writers their turn.

    Raises:
        RunLost: The attempt was declared dead.
    """
    for table, batch in (
        (table_of(attempt.deployment), predictions),
        ("trivet_rejects", _without_nul(rejects)),
    ):
        rows = db.dialect.turn_rows or max(batch.num_rows, 1)
        for start in range(0, batch.num_rows, rows):
            with db.turn():
                guard(db, attempt)
                db.append(table, batch.slice(start, rows))


def append_profiles(
    db: Connection, attempt: Attempt, profiles: Mapping[tuple[str, str], Profile]
) -> None:
    """Write an attempt's profiles, by side (``input`` or ``output``) and column."""
    if not profiles:
        return
    keys, found = list(profiles), list(profiles.values())
    n = len(keys)
    batch = pa.record_batch(
        {
            "deployment": pa.array([attempt.deployment] * n),
            "attempt": pa.array([attempt.id] * n, pa.int64()),
            "side": pa.array([side for side, _ in keys]),
            "column_name": pa.array([name for _, name in keys]),
            "row_count": pa.array([p.rows for p in found], pa.int64()),
            "null_count": pa.array([p.nulls for p in found], pa.int64()),
            "counts": pa.array([str(list(p.counts)) for p in found]),
            "total": pa.array([p.total for p in found], pa.float64()),
            "low": pa.array([p.low for p in found], pa.float64()),
            "high": pa.array([p.high for p in found], pa.float64()),
        }
    )
    with db.transaction():
        guard(db, attempt)
        db.append("trivet_profiles", batch)


def show(db: Connection, view: str, table: str, columns: Sequence[str], statement: str) -> None:
    """Create or widen a view; PostgreSQL wants new columns behind those that are there."""
    dialect = db.dialect.name
    ordered, create = list(columns), "CREATE VIEW"
    if dialect == "postgresql":
        have = columns_of(db, view)
        ordered, create = [*have, *(n for n in ordered if n not in have)], "CREATE OR REPLACE VIEW"
    db.rows(with_names("drop_view", dialect, view=identifier(view)))
    db.execute(
        with_names(
            statement,
            dialect,
            create=create,
            view=identifier(view),
            table=identifier(table),
            columns=", ".join(map(identifier, ordered)),
        )
    )


def _without_nul(rejects: pa.RecordBatch) -> pa.RecordBatch:
    """Escape NUL characters, which a reason may quote and PostgreSQL cannot keep."""
    place = rejects.schema.get_field_index("reason")
    reasons = pc.replace_substring(rejects.column(place), "\0", "\\0")
    return rejects.set_column(place, "reason", reasons)


def stamped(attempt: Attempt, columns: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Put batches of as many rows side by side, with the attempt's number before them."""
    rows = columns[0].num_rows
    number = pa.array(np.full(rows, attempt.id, dtype=np.int64))
    arrays, names = [number], ["attempt"]
    for batch in columns:
        arrays += batch.columns
        names += batch.schema.names
    return pa.RecordBatch.from_arrays(arrays, names=names)


def columns_of(db: Connection, table: str) -> dict[str, str]:
    """Return the columns of a table or view and their types, in order; none if there is no such."""
    rows = db.rows(named("columns", db.dialect.name), table=table)
    return dict(zip(rows["name"].to_pylist(), rows["type"].to_pylist(), strict=True))


def _agrees(have: Mapping[str, str], wanted: Mapping[str, str], table: str) -> bool:
    for name, sql in wanted.items():
        if name in have and have[name] != sql.lower():
            raise ResultsError(
                f"column {name!r} of {table} is {have[name]}, now it would be {sql.lower()}; "
                "cast it in the query, or give the deployment another name"
            )
    return wanted.keys() <= have.keys()

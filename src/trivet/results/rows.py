"""Predictions that come row by row, from a service or a stream: unique by source and id."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from trivet.databases import Connection
from trivet.errors import QueryError, ResultsError
from trivet.results.ledger import Lineage
from trivet.results.profiles import Counted, add_profiles
from trivet.results.statements import identifier, named, with_names
from trivet.results.tables import columns_of, show, sql_type, table_of, view_of
from trivet.schema import type_name

FIXED = pa.schema(
    [
        pa.field("lineage", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("id", pa.string()),
        pa.field("scored_at", pa.timestamp("us", "UTC")),
    ]
)
"""Columns of every such table: the model's version, what the row is about or where it came from,
its id there, and when its prediction was ready."""

SERVICE = pa.schema([pa.field("seconds", pa.float64()), pa.field("inputs", pa.string())])
"""Columns that a service adds: how long the answer took, and the inputs as JSON."""

STREAM = pa.schema([pa.field("event_at", pa.timestamp("us", "UTC"))])
"""Columns that a stream adds: the event's own time."""

LINEAGE = ("model_name", "model_version", "model_digest")
"""Columns that the view adds."""

REJECTS = pa.schema(
    [
        pa.field("deployment", pa.string()),
        pa.field("attempt", pa.int64()),
        pa.field("row_key", pa.string()),
        pa.field("field", pa.string()),
        pa.field("code", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("id", pa.string()),
        pa.field("rejected_at", pa.timestamp("us", "UTC")),
    ]
)

EVENT_REJECTS = pa.schema(
    [
        *REJECTS,
        pa.field("topic", pa.string()),
        pa.field("partition_number", pa.int32()),
        pa.field("event_offset", pa.int64()),
    ]
)
"""The same for events, which have a place in a topic."""


def reserved(host: pa.Schema) -> frozenset[str]:
    """Return the names that every row of a host has, in small letters: SQLite takes no other."""
    return frozenset((*FIXED.names, *host.names, *LINEAGE))


def deployment_of(model: str) -> str:
    """Return the name of a model's deployment in the service."""
    return f"service-{model}"


def lineage(db: Connection, deployment: str, model: Lineage, now: dt.datetime) -> int:
    """Return the number under which a version of a model is known in a deployment."""
    with db.transaction():
        found = db.rows(
            named("lineage", db.dialect.name),
            deployment=deployment,
            model_name=model.name,
            model_version=model.version,
            model_digest=model.digest,
            first_used_at=now,
        )
    return int(found["lineage"][0].as_py())


def prepare(db: Connection, deployment: str, host: pa.Schema, columns: pa.Schema) -> None:
    """Create or widen the table for these columns, its view and its staging.

    Args:
        db: The results database.
        deployment: Whose table.
        host: What its host adds to `FIXED`: `SERVICE` or `STREAM`.
        columns: What the deployment and its model add.

    Raises:
        ResultsError: A column has the name of a fixed one, or another type than in the table.
    """
    for name in columns.names:
        if name.lower() in reserved(host):
            raise ResultsError(
                f"column {name!r} has the name of a column that every row has; rename it"
            )
    dialect = db.dialect.name
    table = identifier(table_of(deployment))
    wanted = {f.name: sql_type(str(type_name(f.type)), dialect) for f in (*host, *columns)}
    have = columns_of(db, table_of(deployment))
    if not have or any(name not in have for name in wanted):
        with db.transaction():
            db.rows(named("lock_layout", dialect))
            have = _widened(db, deployment, wanted)
    for name, sql in wanted.items():
        if have[name] != sql.lower():
            raise ResultsError(
                f"column {name!r} of {table_of(deployment)} is {have[name]}, now it would be "
                f"{sql.lower()}; give the model another name in [models]"
            )
    staging = identifier(_staging(deployment))
    db.execute(with_names("drop_staging", dialect, staging=staging))
    db.execute(with_names("create_staging", dialect, staging=staging, table=table))


def _widened(db: Connection, deployment: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Create the table, add the columns that it lacks and show them in the view."""
    dialect, name = db.dialect.name, table_of(deployment)
    table = identifier(name)
    db.execute(with_names("create_rows", dialect, table=table))
    for statement, suffix in (("index_rows", "id"), ("index_rows_time", "time")):
        index = identifier(f"{name}_{suffix}")
        db.execute(with_names(statement, dialect, table=table, index=index))
    have = columns_of(db, name)
    for column, sql in wanted.items():
        if column not in have:
            db.execute(
                with_names("add_column", dialect, table=table, column=identifier(column), type=sql)
            )
    have = columns_of(db, name)
    shown = [*(column for column in have if column != "lineage"), *LINEAGE]
    show(db, view_of(deployment), name, shown, "create_rows_view")
    return have


def append(
    db: Connection,
    deployment: str,
    predictions: pa.RecordBatch,
    rejects: pa.RecordBatch,
    counted: Counted | None = None,
) -> int:
    """Add rows in one short transaction; return how many of them were there already.

    Args:
        db: The connection that `prepare` was called on.
        deployment: Whose rows.
        predictions: The columns of `FIXED` and those given to `prepare`.
        rejects: Rows of the schema `REJECTS`.
        counted: What the rows add to the profiles of their hours.
    """

    def beside() -> None:
        db.append("trivet_rejects", rejects)

    return write(db, deployment, predictions, beside, counted)


def write(
    db: Connection,
    deployment: str,
    predictions: pa.RecordBatch,
    beside: Callable[[], None],
    counted: Counted | None = None,
) -> int:
    """Add predictions in one short transaction; return how many of them were there already.

    Rows that come twice are rare, and to look for them first would cost every row a second write:
    only where the database refuses one is the transaction run again with care.

    Args:
        db: The connection that `prepare` was called on.
        deployment: Whose rows.
        predictions: The columns of `FIXED` and those given to `prepare`.
        beside: What else belongs to the transaction; it may be called twice.
        counted: What the rows add to the profiles of their hours.
    """
    try:
        with db.transaction():
            beside()
            db.append(table_of(deployment), predictions)
            if counted is not None:
                add_profiles(db, deployment, predictions, counted)
            return 0
    except QueryError:
        with db.transaction():
            beside()
            moved = _insert_new(db, deployment, predictions)
            if counted is not None:
                new = replace(counted, inputs=counted.inputs.take(moved))
                add_profiles(db, deployment, predictions.take(moved), new)
            return int(predictions.num_rows - len(moved))


def _insert_new(db: Connection, deployment: str, predictions: pa.RecordBatch) -> pa.Array:
    """Add those predictions that are not there, by way of a table of this connection's own.

    Returns:
        Their places.
    """
    dialect = db.dialect.name
    table, staging = identifier(table_of(deployment)), identifier(_staging(deployment))
    columns = ", ".join(identifier(name) for name in predictions.schema.names)
    db.append(_staging(deployment), predictions, temporary=True)
    moved = db.rows(
        with_names("insert_staged", dialect, table=table, staging=staging, columns=columns)
    )
    db.execute(with_names("empty_staging", dialect, staging=staging))
    new = set(zip(moved["source"].to_pylist(), moved["id"].to_pylist(), strict=True))
    places = []
    rows = zip(*(predictions.column(name).to_pylist() for name in ("source", "id")), strict=True)
    for place, row in enumerate(rows):
        if row in new:  # of a row that comes twice at once, the first one was moved
            new.remove(row)
            places.append(place)
    return pa.array(places, pa.int64())


def without_nul(column: pa.Array) -> pa.Array:
    """Escape NUL characters, which PostgreSQL cannot keep in a text."""
    return pc.replace_substring(column, "\0", "\\0") if pa.types.is_string(column.type) else column


def _staging(deployment: str) -> str:
    return f"staging_{view_of(deployment)}"

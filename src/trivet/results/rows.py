"""Predictions that come row by row, from a service: unique by deployment, source and id."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import pyarrow as pa

from trivet.contract import Model
from trivet.databases import Connection
from trivet.errors import ResultsError
from trivet.results.statements import identifier, named, with_names
from trivet.results.tables import columns_of, show, sql_type, table_of, view_of
from trivet.schema import type_name

FIXED = pa.schema(
    [
        pa.field("lineage", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("id", pa.string()),
        pa.field("scored_at", pa.timestamp("us", "UTC")),
        pa.field("seconds", pa.float64()),
        pa.field("inputs", pa.string()),
    ]
)
"""Columns of every such table: the model's version, what the row is about (its key as JSON), its id
as its answer told it, when its prediction was ready, how long that took, and its inputs as JSON."""

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


def deployment_of(model: str) -> str:
    """Return the name of a model's deployment in the service."""
    return f"service-{model}"


def lineage(db: Connection, deployment: str, model: Model, now: dt.datetime) -> int:
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


def prepare(db: Connection, deployment: str, columns: pa.Schema) -> None:
    """Create or widen the table for these columns beside the fixed ones, its view and its staging.

    Raises:
        ResultsError: A column has the name of a fixed one, or another type than in the table.
    """
    for name in columns.names:
        if name in FIXED.names or name in LINEAGE:
            raise ResultsError(
                f"column {name!r} has the name of a column that every row has; rename it"
            )
    dialect = db.dialect.name
    table = identifier(table_of(deployment))
    wanted = {f.name: sql_type(str(type_name(f.type)), dialect) for f in columns}
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
    db: Connection, deployment: str, predictions: pa.RecordBatch, rejects: pa.RecordBatch
) -> int:
    """Add rows in one short transaction; return how many of them were there already.

    Args:
        db: The connection that `prepare` was called on.
        deployment: Whose rows.
        predictions: The columns of `FIXED` and those given to `prepare`.
        rejects: Rows of the schema `REJECTS`.
    """
    dialect = db.dialect.name
    table, staging = identifier(table_of(deployment)), identifier(_staging(deployment))
    columns = ", ".join(identifier(name) for name in predictions.schema.names)
    moved = 0
    with db.transaction():
        if predictions.num_rows:
            db.append(_staging(deployment), predictions, temporary=True)
            moved = db.rows(
                with_names("insert_staged", dialect, table=table, staging=staging, columns=columns)
            ).num_rows
            db.execute(with_names("empty_staging", dialect, staging=staging))
        db.append("trivet_rejects", rejects)
    return int(predictions.num_rows - moved)


def _staging(deployment: str) -> str:
    return f"staging_{view_of(deployment)}"

"""What the results say of rejects, for people."""

from __future__ import annotations

import datetime as dt
from typing import Any

from trivet.databases import Connection
from trivet.databases.values import from_text
from trivet.results.statements import named

Bounds = tuple[dt.datetime, dt.datetime]

_ALWAYS: Bounds = (dt.datetime(1, 1, 2, tzinfo=dt.UTC), dt.datetime(9999, 12, 30, tzinfo=dt.UTC))


def rejects(
    db: Connection, deployment: str, bounds: Bounds | None, limit: int
) -> list[dict[str, Any]]:
    """Return rejected rows, the newest intervals first; optionally of those starting in a span."""
    since, until = bounds or _ALWAYS
    table = db.rows(
        named("rejects", db.dialect.name),
        deployment=deployment,
        since=since,
        until=until,
        limit=limit,
    )
    for name in ("interval_start", "interval_end"):
        table = table.set_column(table.schema.get_field_index(name), name, from_text(table[name]))
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def reject_counts(db: Connection, deployment: str, bounds: Bounds | None) -> list[dict[str, Any]]:
    """Return how many problems there are by code and field, the most frequent first."""
    since, until = bounds or _ALWAYS
    rows = db.rows(
        named("reject_counts", db.dialect.name), deployment=deployment, since=since, until=until
    )
    counts: list[dict[str, Any]] = rows.to_pylist()
    return counts

"""Rows that nobody can see any more, deleted a little at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from trivet.databases import Connection
from trivet.results.statements import identifier, named, with_names
from trivet.results.tables import columns_of, table_of

SWEEP_ROWS = 10_000
"""Rows deleted in one transaction: few enough for other writers to wait unnoticeably."""

_NEVER = dt.datetime(1, 1, 2, tzinfo=dt.UTC)
_ROW_IDS = ("rowid", "_rowid_", "oid")
"""SQLite's names of a row's place; a column of the same name hides one of them."""


def sweep(
    db: Connection,
    deployment: str,
    stop: Callable[[], bool] = lambda: False,
    before: dt.datetime = _NEVER,
) -> int:
    """Delete the rows of attempts that were superseded, killed or failed.

    Args:
        db: The results database.
        deployment: Whose rows.
        stop: Asked between two transactions; True ends the sweep, to go on another time.
        before: Rejects of failed attempts go too where their interval ended by then.

    Returns:
        The number of rows deleted.
    """
    dialect = db.dialect.name
    gone = 0
    table = table_of(deployment)
    exists = bool(columns_of(db, table))  # not before a first attempt got as far as to write
    found = db.rows(named("to_sweep", dialect), deployment=deployment, before=before)
    for row in found.to_pylist():
        attempt = row["attempt"]
        doomed = []
        if row["has_predictions"] and exists:
            doomed.append((table, "has_predictions"))
        if row["rejects_too"]:
            doomed.append(("trivet_rejects", "has_rejects"))
        if doomed:  # first: an attempt with nothing else left is not looked at again
            db.execute(named("sweep_profiles", dialect), attempt=attempt)
        for name, done in doomed:
            deleted = SWEEP_ROWS
            while deleted == SWEEP_ROWS:
                if stop():
                    return gone
                deleted = _sweep_some(db, name, attempt)
                gone += deleted
            swept = with_names("swept", dialect, table=identifier(name), done=done)
            db.execute(swept, attempt=attempt)
    return gone


def prune(db: Connection, deployment: str, before: dt.datetime) -> int:
    """Forget a deployment's intervals that ended before a moment; return how many there were.

    Their predictions and rejects are deleted; the runs stay in the ledger.
    """
    with db.transaction():
        gone: int = db.rows(
            named("unpublish_before", db.dialect.name), deployment=deployment, before=before
        ).num_rows
    sweep(db, deployment, before=before)
    return gone


def _sweep_some(db: Connection, table: str, attempt: int) -> int:
    taken = {name.lower() for name in columns_of(db, table)}
    rowid = next((name for name in _ROW_IDS if name not in taken), _ROW_IDS[0])
    statement = with_names("sweep_some", db.dialect.name, table=identifier(table), rowid=rowid)
    with db.turn():
        gone: int = db.rows(statement, attempt=attempt, limit=SWEEP_ROWS).num_rows
    return gone

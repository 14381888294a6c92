"""Old decisions without their people: deleted a little at a time, none that is still needed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from trivet.actions.outbox import moments
from trivet.databases import Connection
from trivet.results.retention import SWEEP_ROWS
from trivet.results.statements import named


def prune(
    db: Connection,
    deployment: str,
    before: dt.datetime,
    now: dt.datetime,
    cooldowns: Mapping[str, dt.timedelta],
) -> dict[str, int]:
    """Forget whom the actions after a deployment chose on intervals that ended before a moment.

    An interval goes as a whole, and not before all its deliveries have ended and its cooldown is
    over. That it was decided on stays known for ever: nobody gets a second offer for it.

    Args:
        db: The results database.
        deployment: What the actions follow.
        before: The moment.
        now: The present moment.
        cooldowns: What the project says today; the longer of it and the registered one counts.

    Returns:
        The number of intervals by action, for those that had any.
    """
    gone: dict[str, int] = {}
    for row in db.rows(named("actions_after", db.dialect.name), deployment=deployment).to_pylist():
        action = row["name"]
        registered = dt.timedelta(seconds=row["cooldown_seconds"])
        cooled = now - max(registered, cooldowns.get(action, registered))
        found = db.rows(
            named("prunable_decisions", db.dialect.name),
            action=action,
            before=before,
            cooled=cooled,
        )
        for start in moments(found["interval_start"]):
            # People last: as long as there are some, a prune that was cut short comes back.
            _delete(db, "prune_deliveries", action, start)
            _delete(db, "prune_assignments", action, start)
        if found.num_rows:
            gone[action] = found.num_rows
    return gone


def _delete(db: Connection, statement: str, action: str, start: dt.datetime) -> None:
    deleted = SWEEP_ROWS
    while deleted == SWEEP_ROWS:
        with db.turn():
            deleted = db.rows(
                named(statement, db.dialect.name),
                action=action,
                interval_start=start,
                limit=SWEEP_ROWS,
            ).num_rows

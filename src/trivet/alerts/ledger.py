"""Which alerts go on, which are over, and who was told: kept in the results database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from trivet.alerts.rules import Alert
from trivet.databases import Connection
from trivet.results.asking import asking
from trivet.results.statements import named

CLAIM_SECONDS = 120.0
"""How long a process has for telling of an alert before another one may try."""

_WAITS = (60.0, 3600.0)
"""The shortest and the longest wait before it is tried again."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert to tell of.

    Attributes:
        id: Its number.
        alert: What is wrong, or was.
        raised_at: Since when.
        resolved_at: When it was over; None while it goes on.
        failures: How often telling failed.
    """

    id: int
    alert: Alert
    raised_at: dt.datetime
    resolved_at: dt.datetime | None
    failures: int

    @property
    def state(self) -> str:
        """``raised`` or ``resolved``."""
        return "raised" if self.resolved_at is None else "resolved"


def record(db: Connection, alerts: Iterable[Alert], now: dt.datetime) -> None:
    """Compare what is wrong with what was: raise what is new, resolve what is over."""
    dialect = db.dialect.name
    wrong = {(each.deployment, each.kind, each.subject): each for each in alerts}
    with db.transaction():
        db.rows(named("lock_alerts", dialect))
        known = {
            (row["deployment"], row["kind"], row["subject"]): row
            for row in asking(db)("open_alerts")
        }
        for place, row in known.items():
            if place not in wrong:
                db.execute(named("resolve_alert", dialect), alert=row["alert"], resolved_at=now)
        for place, each in wrong.items():
            told = {"message": each.message, "value": each.value, "threshold": each.threshold}
            if place in known:
                db.execute(named("update_alert", dialect), alert=known[place]["alert"], **told)
            else:
                db.execute(
                    named("raise_alert", dialect),
                    deployment=each.deployment,
                    kind=each.kind,
                    subject=each.subject,
                    raised_at=now,
                    **told,
                )


def claim(db: Connection, now: dt.datetime) -> list[Notice]:
    """Take the alerts that nobody was told of, so that no other process tells of them too."""
    dialect, clock = db.dialect.name, now.timestamp()
    taken = []
    for row in asking(db)("unsent_alerts", clock=clock):
        mine = db.rows(
            named("claim_alert", dialect),
            alert=row["alert"],
            clock=clock,
            until=clock + CLAIM_SECONDS,
        )
        if mine.num_rows:
            alert = Alert(
                row["deployment"],
                row["kind"],
                row["message"],
                row["subject"],
                row["value"],
                row["threshold"],
            )
            taken.append(
                Notice(row["alert"], alert, row["raised_at"], row["resolved_at"], row["failures"])
            )
    return taken


def told(db: Connection, notice: Notice, now: dt.datetime) -> None:
    """Write down that an alert was told."""
    statement = "alert_sent" if notice.state == "raised" else "resolution_sent"
    db.execute(named(statement, db.dialect.name), alert=notice.id, now=now)


def untold(db: Connection, notice: Notice, now: dt.datetime, error: str) -> None:
    """Write down that telling failed; it is tried again, each time a while later."""
    wait = min(_WAITS[0] * 2**notice.failures, _WAITS[1])
    db.execute(
        named("alert_unsent", db.dialect.name),
        alert=notice.id,
        until=now.timestamp() + wait,
        error=error[:1000],
    )

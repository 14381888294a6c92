"""One look at what is wrong: judged, written down, told."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence

from trivet.alerts import ledger
from trivet.alerts.channels import Channel
from trivet.alerts.facts import Limits, gather
from trivet.alerts.rules import Alert, judge
from trivet.alerts.settings import AlertSettings
from trivet.databases import Connection
from trivet.errors import AlertNotSent
from trivet.results.asking import asking

log = logging.getLogger("trivet.alerts")


def look(db: Connection, settings: AlertSettings, limits: Limits, now: dt.datetime) -> list[Alert]:
    """Return what is wrong now."""
    facts = gather(asking(db), limits, now)
    return [alert for each in facts for alert in judge(each, settings.of(each.name), now)]


def tell(
    db: Connection, alerts: Sequence[Alert], channels: Sequence[Channel], now: dt.datetime
) -> tuple[int, int]:
    """Write down what is wrong, and tell of what is new or over.

    An alert that one of two channels did not take is told again by both.

    Returns:
        How many were told, and how many could not be.
    """
    ledger.record(db, alerts, now)
    sent = failed = 0
    for notice in ledger.claim(db, now) if channels else ():
        try:
            for channel in channels:
                channel(notice)
        except AlertNotSent as error:
            failed += 1
            log.warning("alert %d: %s", notice.id, error)
            ledger.untold(db, notice, now, str(error))
        else:
            sent += 1
            ledger.told(db, notice, now)
    return sent, failed

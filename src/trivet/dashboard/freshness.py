"""Which intervals a batch deployment should have, and which it has.

All of it follows from what the host registered: schedule, time zone, start and delay.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trivet.errors import ScheduleError
from trivet.hosts.schedule import Interval, Schedule

Outcome = Literal["done", "running", "failed", "missing", "gone", "waiting"]

_EPOCH = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)

MOST = 1500
"""Intervals that are looked at, the newest."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One interval and how it stands.

    Attributes:
        start: Its start.
        end: Its end.
        label: Its name in the schedule's zone.
        outcome: ``done``, ``running``, ``failed`` (nothing published), ``missing`` (due, never
            tried), ``gone`` (published once, pruned since) or ``waiting`` (not due yet).
        attempt: Its published attempt, or its last one; 0 for none.
        rows: Rows scored by it.
        rejected: Rows rejected by it.
        error: Why the last attempt failed.
        again: Whether an attempt after the published one failed or runs.
    """

    start: dt.datetime
    end: dt.datetime
    label: str
    outcome: Outcome
    attempt: int = 0
    rows: int = 0
    rejected: int = 0
    error: str = ""
    again: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The intervals of a deployment, oldest first.

    Attributes:
        cells: Those that are due or were run.
        next_due: When the next one is due; None without a schedule.
        late: How long the newest missing interval has been due.
        is_cut: Whether there are older ones.
    """

    cells: Sequence[Cell]
    next_due: dt.datetime | None
    late: dt.timedelta | None
    is_cut: bool

    def of(self, *outcomes: str) -> list[Cell]:
        """Return the cells that stand so."""
        return [cell for cell in self.cells if cell.outcome in outcomes]


def timeline(
    deployment: Mapping[str, Any],
    attempts: Sequence[Mapping[str, Any]],
    now: dt.datetime,
    most: int = MOST,
) -> Timeline:
    """Hold what ran against what was due.

    Args:
        deployment: A row of ``trivet_deployments``.
        attempts: Its newest attempts with ``is_published``, in any order.
        now: The moment to judge by.
        most: Intervals to look at, the newest.
    """
    by_start: dict[dt.datetime, list[Mapping[str, Any]]] = {}
    for attempt in sorted(attempts, key=lambda a: a["attempt"]):
        by_start.setdefault(attempt["interval_start"], []).append(attempt)
    calendar = _calendar(deployment["schedule"] or "", deployment["timezone"] or "UTC")
    delay = dt.timedelta(seconds=deployment["delay_seconds"] or 0)
    due: list[Interval] = []
    next_due = None
    if calendar is not None:
        start = deployment["start_at"]
        if start is None or start < _EPOCH:
            start = min(by_start, default=None)
        if start is not None:
            due = _due(calendar, start, now - delay, most)
            next_due = calendar.wake_at(now, delay)
    known = {interval.start: interval for interval in due}
    for first, tries in by_start.items():
        known.setdefault(first, Interval(first, tries[-1]["interval_end"]))
    whole = [known[first] for first in sorted(known)]
    cells = [
        _cell(interval, by_start.get(interval.start, []), calendar) for interval in whole[-most:]
    ]
    waiting = [cell for cell in cells if cell.outcome == "missing"]
    late = now - (waiting[-1].end + delay) if waiting else None
    return Timeline(cells, next_due, late, len(whole) > most or len(due) == most)


def _due(calendar: Schedule, start: dt.datetime, until: dt.datetime, most: int) -> list[Interval]:
    """Return the newest intervals that ended by then."""
    newest = calendar.previous(calendar.interval_at(until))
    length = newest.end - newest.start
    # A schedule need not be even, so a little further back than it seems to need.
    start = max(start, newest.start - length * (most + 2))
    found = [i for i in calendar.between(start, newest.end) if i.end <= until]
    return found[-most:]


def _cell(
    interval: Interval, tries: Sequence[Mapping[str, Any]], calendar: Schedule | None
) -> Cell:
    label = name_of(calendar, interval)
    published = next((t for t in tries if t["is_published"]), None)
    last = tries[-1] if tries else None
    if last is None:
        return Cell(interval.start, interval.end, label, "missing")
    told = published or last
    outcome: Outcome = "failed"
    if published:
        outcome = "done"
    elif last["state"] == "running":
        outcome = "running"
    elif any(t["state"] == "succeeded" for t in tries):
        outcome = "gone"
    later = last["state"] if published and last is not published else ""
    return Cell(
        interval.start,
        interval.end,
        label,
        outcome,
        told["attempt"],
        told["rows_scored"] or 0,
        told["rows_rejected"] or 0,
        last["error"] or "",
        later if later in ("running", "failed", "killed") else "",
    )


def name_of(calendar: Schedule | None, interval: Interval) -> str:
    """Return an interval's name as commands take it."""
    return _label(calendar, interval) if calendar else f"{interval.start:%Y-%m-%dT%H:%MZ}"


@functools.lru_cache(maxsize=8192)
def _label(calendar: Schedule, interval: Interval) -> str:
    return calendar.label(interval)  # a millisecond, and a page may have a thousand of them


def label_of(deployment: Mapping[str, Any], start: dt.datetime, end: dt.datetime) -> str:
    """Return the name of an interval of a deployment as commands take it."""
    calendar = _calendar(deployment["schedule"] or "", deployment["timezone"] or "UTC")
    return name_of(calendar, Interval(start, end))


@functools.lru_cache(maxsize=256)
def _calendar(schedule: str, timezone: str) -> Schedule | None:
    if not schedule:
        return None
    try:
        return Schedule(schedule, timezone)
    except ScheduleError:  # registered by a program that knew more than this one
        return None


def repair(deployment: str, cells: Sequence[Cell]) -> str:
    """Return the command that fills missing or failed intervals."""
    if not cells:
        return ""
    if len(cells) == 1:
        again = " --force" if cells[0].outcome == "done" else ""
        return f"trivet score {deployment} --interval {cells[0].label}{again}"
    return f"trivet backfill {deployment} --from {cells[0].label} --to {cells[-1].label}"

"""What the results tell that alerts are judged by."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trivet.alerts.rules import Facts, Moved
from trivet.errors import ScheduleError
from trivet.hosts.schedule import Interval, Schedule
from trivet.monitoring.drift import compare
from trivet.monitoring.profiles import Profile
from trivet.results.asking import EVER, Asking
from trivet.results.offsets import Standing
from trivet.results.profiles import periods, references
from trivet.results.quality import added_up, groups
from trivet.results.tables import table_of

Limits = Mapping[str, Sequence[tuple[str, bool, float]]]
"""Limits of measures by deployment: metric, whether above is bad, and the value."""

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
_MOST = 1000
_EPOCH = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)


def gather(ask: Asking, limits: Limits, now: dt.datetime) -> list[Facts]:
    """Return the facts of every deployment.

    The newest period of a batch deployment is its newest published interval; of the others, the
    day up to their newest row.

    Args:
        ask: Asks the results.
        limits: Limits of measures.
        now: The present moment.
    """
    return [
        _batch(ask, each, limits, now) if each["kind"] == "batch" else _rows(ask, each, limits, now)
        for each in ask("all_deployments")
    ]


def _batch(ask: Asking, deployment: Mapping[str, Any], limits: Limits, now: dt.datetime) -> Facts:
    name = deployment["name"]
    label = _Labels(deployment)
    published = ask("newest_published", deployment=name, limit=_MOST)
    failed = ask("failed_intervals", deployment=name)
    done = {row["interval_start"] for row in ask("succeeded_intervals", deployment=name)}
    done |= {row["interval_start"] for row in published}
    told = {
        "name": name,
        "failed": [label(row["interval_start"], row["interval_end"]) for row in failed],
        "error": _why(failed[-1]) if failed else "",
        **_freshness(deployment, label, published, done, now),
    }
    if published:
        newest = published[0]
        start, end = newest["interval_start"], newest["interval_end"]
        told |= {
            "latest": label(start, end),
            "period": label(start, end),
            "rows": newest["rows_read"],
            "rejected": newest["rows_rejected"],
            "moved": moved(ask, name, "batch", start, start + dt.timedelta(microseconds=1)),
        }
    return Facts(**told, **_measured(ask, deployment, limits, label))


def _rows(ask: Asking, deployment: Mapping[str, Any], limits: Limits, now: dt.datetime) -> Facts:
    name = deployment["name"]
    consumed = _consumed(ask, deployment)
    newest = ask("newest_hour_profiled", deployment=name)[0]["hour"]
    if newest is None:
        return Facts(name, **consumed)
    since, until = newest + HOUR - DAY, newest + HOUR
    label = _Labels(deployment)
    found = periods(ask, name, deployment["kind"], since, until)
    scored = sum(max((p.rows for p in each.profiles.values()), default=0) for each in found)
    rejected = ask("rejected_rows", deployment=name, since=since, until=until)[0]["n"]
    told = {
        "name": name,
        "period": f"the day up to {until:%Y-%m-%d %H:%M} UTC",
        "rows": scored + rejected,
        "rejected": rejected,
        "moved": moved(ask, name, deployment["kind"], since, until),
        "lag": _lag(ask, deployment, now),
        **consumed,
    }
    return Facts(**told, **_measured(ask, deployment, limits, label))


def moved(
    ask: Asking, deployment: str, kind: str, since: dt.datetime, until: dt.datetime
) -> list[Moved]:
    """Return the drift of every column in a span from the training sample, the largest first.

    Rows of other versions than the newest one in the span are left out: their bins are others.
    So are moments, which move on by themselves.
    """
    found = periods(ask, deployment, kind, since, until)
    if not found:
        return []
    version = found[-1].version
    sums: dict[tuple[str, str], Profile] = {}
    for period in found:
        if period.version == version:
            for place, profile in period.profiles.items():
                have = sums.get(place)
                if have is None:
                    sums[place] = profile
                elif len(have.counts) == len(profile.counts):
                    sums[place] = have + profile
    bins = references(ask, deployment, version)
    drifts = [
        Moved(*place, drift)
        for place, profile in sums.items()
        if place in bins and (drift := compare(bins[place], profile)) is not None
    ]
    return sorted(drifts, key=lambda each: -each.drift.psi)


def _measured(
    ask: Asking, deployment: Mapping[str, Any], limits: Limits, label: _Labels
) -> dict[str, Any]:
    name = deployment["name"]
    newest = ask("newest_measured", deployment=name)[0]["period_start"]
    if newest is None:
        return {}
    batch = deployment["kind"] == "batch"
    since = newest if batch else newest + HOUR - DAY
    found = groups(ask, name, since, EVER[1])
    measure = added_up(found)
    if measure is None:
        return {}
    last = found[-1]
    return {
        "metrics": measure.metrics(),
        "measured": label(last.start, last.end) if batch else f"the day up to {last.end:%H:%M} UTC",
        "measured_rows": measure.rows,
        "trained": json.loads(deployment["manifest"]).get("metrics", {}),
        "limits": limits.get(name, ()),
    }


def _freshness(
    deployment: Mapping[str, Any],
    label: _Labels,
    published: Sequence[Mapping[str, Any]],
    done: set[dt.datetime],
    now: dt.datetime,
) -> dict[str, Any]:
    """Return which interval is due, and which are missing between others."""
    calendar = label.calendar
    if calendar is None:
        return {}
    delay = dt.timedelta(seconds=deployment["delay_seconds"] or 0)
    newest = calendar.previous(calendar.interval_at(now - delay))
    start = deployment["start_at"]
    first = start if start is not None and start > _EPOCH else None
    told: dict[str, Any] = {}
    if newest.start not in done and (first is None or newest.start >= first):
        told["due"] = (label(newest.start, newest.end), newest.end + delay)
    if published:
        oldest, latest = published[-1]["interval_start"], published[0]["interval_start"]
        told["missing"] = [
            calendar.label(each)
            for each in calendar.between(oldest, latest)
            if each.start not in done
        ]
    return told


def _consumed(ask: Asking, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the partitions of a stream are, as its consumers told."""
    if deployment["kind"] != "stream":
        return {}
    found = ask("consumers", deployment=deployment["name"])
    standings = [
        Standing(row["partition_number"], row["waiting"], row["moved_at"], row["seen_at"])
        for row in found
    ]
    return {"topic": found[0]["topic"] if found else "", "consumers": standings}


def _lag(ask: Asking, deployment: Mapping[str, Any], now: dt.datetime) -> dt.timedelta | None:
    """Return how long after its event the newest prediction of the last hour came."""
    table = table_of(deployment["name"])
    if deployment["kind"] != "stream" or not ask("tells_event_time", name=table)[0]["n"]:
        return None
    found = ask("newest_event", table=table, since=now - HOUR)
    if not found or found[0]["event_at"] is None:
        return None
    lag: dt.timedelta = found[0]["scored_at"] - found[0]["event_at"]
    return lag


def _why(row: Mapping[str, Any]) -> str:
    return row["error"] or ("its process was killed" if row["state"] == "killed" else "")


class _Labels:
    """Names intervals as the deployment's schedule does."""

    def __init__(self, deployment: Mapping[str, Any]) -> None:
        self.calendar: Schedule | None = None
        if deployment["schedule"]:
            try:
                self.calendar = Schedule(deployment["schedule"], deployment["timezone"] or "UTC")
            except ScheduleError:  # registered by a program that knew more than this one
                self.calendar = None

    def __call__(self, start: dt.datetime, end: dt.datetime) -> str:
        if self.calendar is None:
            return f"{start:%Y-%m-%dT%H:%MZ}"
        return self.calendar.label(Interval(start, end))

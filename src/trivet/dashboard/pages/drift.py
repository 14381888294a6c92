"""Drift: how far inputs and predictions have moved from the training sample, or an interval."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trivet.dashboard import freshness, moves
from trivet.dashboard.ask import EVER, Ask, Glance, Page, Span, State, urgency
from trivet.dashboard.moves import Column
from trivet.dashboard.periods import counts_of_day, day_of
from trivet.monitoring import Profile, Reference
from trivet.monitoring.drift import PSI_ACT, PSI_WATCH, Drift, compare
from trivet.results.profiles import Period, periods, references

TRAINING = "training"
MOST = 400
"""Intervals or days that are looked at, the newest."""

_OFFERED = 60
_DAY = dt.timedelta(days=1)

Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Whole:
    """The profiles of an interval or a day, of one version."""

    start: dt.datetime
    label: str
    version: str
    profiles: Mapping[Place, Profile]


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows."""
    deployments = {d["name"]: d for d in ask.deployments()}
    known = [name for name, each in deployments.items() if _newest(ask, each) is not None]
    if not known:
        return {"names": []}
    chosen = ask.get("deployment")
    if chosen not in known:
        chosen = max(known, key=lambda name: _urgency(ask, deployments[name]))
    deployment = deployments[chosen]
    newest = _newest(ask, deployment)
    span = Span.read(
        ask, newest and newest + _DAY, "all" if deployment["kind"] == "batch" else "30d"
    )
    found = _read(ask, deployment, span)
    shown: dict[str, Any] = {"names": known, "deployment": deployment, "span": span, "ranked": []}
    if not found:
        return shown
    labels = [each.label for each in found][::-1]
    label = ask.get("period")
    period = next((each for each in reversed(found) if each.label == label), found[-1])
    against = ask.get("against", TRAINING)
    against = against if against in labels else TRAINING
    bins = _bins(ask, deployment, found, period.version, against)
    ranked = _ranked(bins, period.profiles)
    column = next(
        (each for each in ranked if f"{each.side}.{each.name}" == ask.get("column")),
        ranked[0] if ranked else None,
    )
    watch, act = thresholds(ask, deployment["name"])
    return shown | {
        "period": period,
        "cut": MOST if len(found) >= MOST else 0,
        "labels": labels[:_OFFERED],
        "against": against,
        "is_against_training": against == TRAINING,
        "version": period.version,
        "ranked": ranked,
        "column": column,
        "watch": watch,
        "act": act,
        "state_of": lambda drift: state_of(ask, deployment["name"], drift),
        "over_time": moves.over_time(_history(ask, deployment, found, against), watch, act),
        "laid_over": moves.laid_over(column, against, period.label) if column else None,
    }


def glances(ask: Ask) -> Mapping[str, list[Glance]]:
    """Return the largest drift of each deployment's newest period."""
    told: dict[str, list[Glance]] = {}
    for deployment in ask.deployments():
        worst = _moved_most(ask, deployment)
        if worst is not None:
            told[deployment["name"]] = [
                Glance(
                    "largest drift",
                    f"PSI {worst.drift.psi:.2f}",
                    worst.name,
                    state_of(ask, deployment["name"], worst.drift),
                    ask.link("/drift", deployment=deployment["name"]),
                )
            ]
    return told


def thresholds(ask: Ask, deployment: str) -> tuple[float, float]:
    """Return the PSI from which on a column is watched, and from which on it is an alert."""
    act = ask.alerts.of(deployment).drift or PSI_ACT
    return min(PSI_WATCH, act * PSI_WATCH / PSI_ACT), act


def state_of(ask: Ask, deployment: str, drift: Drift) -> State:
    """Say how bad a drift is; what chance would do is none."""
    watch, act = thresholds(ask, deployment)
    if not drift.is_certain or drift.psi <= watch:
        return "good"
    return "bad" if drift.psi > act else "warn"


def _moved_most(ask: Ask, deployment: Mapping[str, Any]) -> Column | None:
    """Return the column of a deployment's newest period that has moved most."""
    newest = _newest(ask, deployment)
    if newest is None:
        return None
    since = newest if deployment["kind"] == "batch" else newest - _DAY
    found = _read(ask, deployment, Span(since, EVER[1], ""))
    if not found:
        return None
    bins = references(ask.results, deployment["name"], found[-1].version)
    return next(iter(_ranked(bins, found[-1].profiles)), None)


def _urgency(ask: Ask, deployment: Mapping[str, Any]) -> tuple[int, float]:
    """Say how much a deployment wants to be looked at; among equals, how sure that is."""
    worst = _moved_most(ask, deployment)
    if worst is None:
        return 0, 0.0
    state = state_of(ask, deployment["name"], worst.drift)
    return urgency(state), worst.drift.psi / worst.drift.noise if worst.drift.noise else 0.0


def _newest(ask: Ask, deployment: Mapping[str, Any]) -> dt.datetime | None:
    name = deployment["name"]
    if deployment["kind"] == "batch":
        rows = ask.results("newest_published", deployment=name, limit=1)
        return rows[0]["interval_start"] if rows else None
    found: dt.datetime | None = ask.results("newest_hour_profiled", deployment=name)[0]["hour"]
    return found


def _read(ask: Ask, deployment: Mapping[str, Any], span: Span) -> list[_Whole]:
    """Return the profiles by interval, or by day, the oldest first."""
    name = deployment["name"]
    if deployment["kind"] == "batch":
        first = ask.source.first("newest_intervals", deployment=name, limit=MOST, **span.bounds())
        since = first["since"] or span.since
        found = periods(ask.results, name, "batch", since, span.until)
        return [_Whole(p.start, _label(deployment, p), p.version, p.profiles) for p in found]
    newest = _newest(ask, deployment) or span.until
    since = max(span.since, newest - MOST * _DAY)
    rows = ask.source.rows(
        "day_profiles", deployment=name, side="", column="", since=since, until=span.until
    )
    days: dict[tuple[dt.datetime, str], dict[Place, Profile]] = {}
    for row in rows:
        day = days.setdefault((day_of(row), row["model_version"]), {})
        day[row["side"], row["column_name"]] = Profile(
            counts_of_day(row),
            row["null_count"],
            row["row_count"],
            row["total"],
            row["low"],
            row["high"],
        )
    return [_Whole(start, f"{start:%Y-%m-%d}", v, day) for (start, v), day in days.items()]


def _label(deployment: Mapping[str, Any], period: Period) -> str:
    return freshness.label_of(deployment, period.start, period.end)


def _bins(
    ask: Ask, deployment: Mapping[str, Any], found: Sequence[_Whole], version: str, against: str
) -> Mapping[Place, Reference]:
    """Return what is compared with: the training sample, or an interval counted on its bins."""
    bins = references(ask.results, deployment["name"], version)
    if against == TRAINING:
        return bins
    other = next(each for each in reversed(found) if each.label == against)
    return {
        place: replace(reference, counts=profile.counts, nulls=profile.nulls)
        for place, reference in bins.items()
        if (profile := other.profiles.get(place)) is not None
        and len(profile.counts) == len(reference.counts)
    }


def _ranked(bins: Mapping[Place, Reference], profiles: Mapping[Place, Profile]) -> list[Column]:
    found = [
        Column(*place, drift, bins[place], profile)
        for place, profile in profiles.items()
        if place in bins and (drift := compare(bins[place], profile)) is not None
    ]
    return sorted(found, key=lambda each: -each.drift.psi)


def _history(
    ask: Ask, deployment: Mapping[str, Any], found: Sequence[_Whole], against: str
) -> list[dict[str, Any]]:
    known: dict[str, Mapping[Place, Reference]] = {}
    rows = []
    for each in found:
        if each.version not in known:
            known[each.version] = _bins(ask, deployment, found, each.version, against)
        rows += [
            {
                "start": each.start,
                "period": each.label,
                "column": f"{column.name} ({column.side})",
                "psi": round(column.drift.psi, 5),
                "rows": column.drift.rows,
                "version": each.version,
            }
            for column in _ranked(known[each.version], each.profiles)
        ]
    return rows


PAGE = Page("drift", "Drift", "/drift", content, glances=glances)

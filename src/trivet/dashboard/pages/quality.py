"""Quality: predictions held against the truth, by period, version and segment."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trivet.alerts.rules import grown, main_metric
from trivet.dashboard import freshness, measures
from trivet.dashboard.ask import EVER, Ask, Glance, Page, Span, State, urgency
from trivet.dashboard.measures import NAMES, Measured
from trivet.monitoring.quality import Scores, is_worse
from trivet.results.quality import Group, added_up, by_value, groups, segments

_MANY_HOURS = 24 * 8
_SEGMENTS = 15
_MOST = 24 * 31
_MOST_SCORED = 30
"""Periods that are looked at, and those of a classifier's scores for segments: each of these is a
curve."""
_DAY = dt.timedelta(days=1)


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows."""
    deployments = {d["name"]: d for d in ask.deployments()}
    measured = [name for name in deployments if _newest(ask, name) is not None]
    if not measured:
        return {"names": [], "known_deployments": list(deployments)}
    name = ask.get("deployment")
    if name not in measured:
        told = glances(ask)
        name = max(measured, key=lambda each: urgency(told[each][0].state) if each in told else 0)
    deployment = deployments[name]
    newest = _newest(ask, name)
    asked = Span.read(ask, newest and newest + _DAY, "all")
    span = _newest_of(ask, name, asked, _MOST)
    found = groups(ask.results, name, span.since, span.until)
    whole = added_up(found)
    manifest = _manifest(ask, name)
    trained: Mapping[str, float] = manifest.get("metrics") or {}
    shown: dict[str, Any] = {
        "names": measured,
        "deployment": deployment,
        "span": asked,
        "cut": _MOST if span is not asked else 0,
        "pulled": _pulled(ask, name),
        "whole": whole,
    }
    if whole is None:
        return shown
    metrics = list(whole.metrics())
    metric = ask.get("metric")
    metric = metric if metric in metrics else main_metric(whole.metrics(), trained) or metrics[0]
    columns = segments(ask.results, name)
    by = ask.get("by")
    by = by if by in columns else next(iter(columns), "")
    limit = _limit(ask, name, metric, trained)
    periods = [*_periods(deployment, found)]
    return shown | {
        "metric": metric,
        "metrics": {each: NAMES[each] for each in metrics},
        "tiles": _tiles(periods[-1], metric, trained, limit),
        "over_time": measures.over_time(metric, periods, trained.get(metric), limit),
        "more": _more(whole, periods),
        "segments": columns,
        "by": by,
        "by_segment": _by_segment(ask, name, span, by, metric, scored=isinstance(whole, Scores))
        if by
        else None,
        "versions": _versions(found, metrics),
        "trained": trained,
        "version": manifest.get("version", ""),
        "threshold": found[-1].threshold,
        "positive": found[-1].positive,
    }


def glances(ask: Ask) -> Mapping[str, list[Glance]]:
    """Return the newest period's quality of each deployment."""
    told: dict[str, list[Glance]] = {}
    for deployment in ask.deployments():
        name = deployment["name"]
        newest = _newest(ask, name)
        if newest is None:
            continue
        since = newest if deployment["kind"] == "batch" else newest - _DAY
        found = groups(ask.results, name, since, EVER[1])
        measure = added_up(found)
        if measure is None:
            continue
        trained = _manifest(ask, name).get("metrics") or {}
        metric = main_metric(measure.metrics(), trained) or next(iter(measure.metrics()))
        value = measure.metrics()[metric]
        note = f"was {measures.figure(metric, trained[metric])}" if metric in trained else ""
        limit = _limit(ask, name, metric, trained)
        told[name] = [
            Glance(
                NAMES[metric],
                measures.figure(metric, value),
                note,
                _state(metric, value, trained.get(metric), limit),
                ask.link("/quality", deployment=name),
            )
        ]
    return told


def _newest(ask: Ask, name: str) -> dt.datetime | None:
    found: dt.datetime | None = ask.results("newest_measured", deployment=name)[0]["period_start"]
    return found


def _manifest(ask: Ask, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(ask.source.first("manifest", deployment=name)["manifest"])
    return found


def _pulled(ask: Ask, name: str) -> Mapping[str, Any]:
    return next(iter(ask.results("pulls", deployment=name)), {})


def _limit(ask: Ask, name: str, metric: str, trained: Mapping[str, float]) -> float | None:
    """Return from where on a measure raises an alert."""
    for each, _, value in ask.limits.get(name, ()):
        if each == metric:
            return value
    quality = ask.alerts.of(name).quality
    if metric != main_metric({metric: 0.0}, trained) or not quality:
        return None
    if is_worse(metric, 0.0, 1.0):  # best at 1
        return 1 - (1 - trained[metric]) * (1 + quality)
    return trained[metric] * (1 + quality)


def _state(metric: str, value: float, trained: float | None, limit: float | None) -> State:
    if limit is not None and is_worse(metric, value, limit):
        return "bad"
    if trained is None:
        return "none"
    return "warn" if grown(metric, value, trained) > 0.1 else "good"


def _periods(deployment: Mapping[str, Any], found: Sequence[Group]) -> Iterable[Measured]:
    """Return the measures of each period and version; hours add up to days where there are many."""
    if deployment["kind"] == "batch":
        for each in found:
            label = freshness.label_of(deployment, each.start, each.end)
            yield Measured(each.start, label, each.version, each.measure)
        return
    daily = len(found) > _MANY_HOURS
    held: dict[tuple[dt.datetime, str], list[Group]] = {}
    for each in found:
        start = each.start.replace(hour=0) if daily else each.start
        held.setdefault((start, each.version), []).append(each)
    for (start, version), parts in held.items():
        measure = added_up(parts)
        if measure is not None:
            label = f"{start:%Y-%m-%d}" if daily else f"{start:%Y-%m-%d %H:%M}"
            yield Measured(start, label, version, measure)


def _tiles(
    newest: Measured, metric: str, trained: Mapping[str, float], limit: float | None
) -> list[Glance]:
    value = newest.metrics[metric]
    tiles = [
        Glance(
            f"{NAMES[metric]}, {newest.label}",
            measures.figure(metric, value),
            "",
            _state(metric, value, trained.get(metric), limit),
        )
    ]
    if metric in trained:
        share = grown(metric, value, trained[metric])
        tiles += [
            Glance("in training", measures.figure(metric, trained[metric])),
            Glance(
                "against training",
                f"{share:+.0%}",
                "",
                _state(metric, value, trained[metric], limit),
            ),
        ]
    return [*tiles, Glance("rows with a true value", f"{newest.measure.rows:,}")]


def _more(whole: Any, periods: Sequence[Measured]) -> list[Any]:
    if isinstance(whole, Scores):
        return [measures.calibration(whole), measures.lift(whole)]
    return [
        chart
        for chart in (measures.means(periods), measures.bias(periods))
        if chart is not None and "bias" in whole.metrics()
    ]


def _by_segment(
    ask: Ask, name: str, whole_span: Span, by: str, metric: str, *, scored: bool
) -> Any:
    span, note = whole_span, "Over the whole span of time."
    if scored:
        span = _newest_of(ask, name, whole_span, _MOST_SCORED)
        note = note if span is whole_span else f"Over the newest {_MOST_SCORED} periods."
    found, known = by_value(ask.results, name, span.since, span.until, by, _SEGMENTS)
    return measures.by_segment(by, metric, found, known, note)


def _newest_of(ask: Ask, name: str, span: Span, most: int) -> Span:
    """Return a span as it is, or the part of it with its newest periods if there are more."""
    told = {"deployment": name, **span.bounds()}
    first, next_one = (
        ask.results("quality_newest", limit=n, **told)[0]["since"] for n in (most, most + 1)
    )
    return span if first == next_one else Span(first, span.until, span.choice)


def _versions(found: Sequence[Group], metrics: Sequence[str]) -> list[dict[str, Any]]:
    held: dict[str, list[Group]] = {}
    for each in found:
        held.setdefault(each.version, []).append(each)
    rows = []
    for version, parts in held.items():
        measure = added_up(parts)
        if measure is not None:
            told = measure.metrics()
            rows.append(
                {
                    "version": version,
                    "since": parts[0].start,
                    "until": parts[-1].end,
                    "rows": measure.rows,
                    "figures": [measures.figure(metric, told[metric]) for metric in metrics],
                }
            )
    return rows


PAGE = Page("quality", "Quality", "/quality", content, glances=glances)

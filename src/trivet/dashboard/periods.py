"""What a deployment predicted, period by period, from the profiles that its host wrote.

A batch deployment has a profile for each interval; a service or a stream has one for each hour,
which are added up to days where there are many. Quantiles are read off the bins of the reference.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from trivet.dashboard import words
from trivet.dashboard.ask import Ask, Span
from trivet.monitoring import Reference

_MOST = 1_500
_MANY_HOURS = 24 * 8


@dataclass(frozen=True, slots=True)
class Period:
    """One column of one period.

    Attributes:
        start: Its start.
        end: Its end.
        version: The model's version; several are joined with a comma.
        attempt: The attempt of a batch deployment.
        rows: Rows.
        nulls: Rows that were null.
        counts: Rows by bin.
        total: Sum of a numeric column.
        low: Its smallest value.
        high: Its largest value.
    """

    start: dt.datetime
    end: dt.datetime
    version: str
    attempt: int
    rows: int
    nulls: int
    counts: tuple[int, ...]
    total: float | None
    low: float | None
    high: float | None

    @property
    def mean(self) -> float | None:
        """The mean of the values that are not null."""
        there = self.rows - self.nulls
        return None if self.total is None or not there else self.total / there


def newest(ask: Ask, deployment: Mapping[str, Any]) -> dt.datetime | None:
    """Return the end of the newest period that has results, or None."""
    name = deployment["name"]
    if deployment["kind"] == "batch":
        found: dt.datetime | None = ask.source.first("newest_interval", deployment=name)["newest"]
        return found
    hour = ask.source.first("newest_hour", deployment=name)["newest"]
    return hour + dt.timedelta(hours=1) if hour else None


def read(
    ask: Ask, deployment: Mapping[str, Any], side: str, column: str, span: Span
) -> list[Period]:
    """Return a column's periods in a span, the oldest first."""
    asked = {"deployment": deployment["name"], "side": side, "column": column, **span.bounds()}
    batch = deployment["kind"] == "batch"
    if not batch and ask.source.first("hours_profiled", **asked)["n"] > _MANY_HOURS:
        days = ask.source.rows("day_profiles", **asked)
        return list(_joined([_of_day(row) for row in days]))[-_MOST:]
    rows = ask.source.rows("interval_profiles" if batch else "hour_profiles", limit=_MOST, **asked)
    return list(_joined([_period(row) for row in reversed(rows)]))


def counts_of_day(row: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the sums of the counts of a day's hours, which a row of ``day_profiles`` lists."""
    return tuple(map(sum, zip(*words.parsed(row["counts"], []), strict=True)))


def _period(row: Mapping[str, Any]) -> Period:
    return Period(
        row["starts"],
        row["ends"] or row["starts"] + dt.timedelta(hours=1),
        row["model_version"],
        row["attempt"],
        row["row_count"],
        row["null_count"],
        tuple(words.parsed(row["counts"], [])),
        row["total"],
        row["low"],
        row["high"],
    )


def _of_day(row: Mapping[str, Any]) -> Period:
    start = day_of(row)
    return Period(
        start,
        start + dt.timedelta(days=1),
        row["model_version"],
        0,
        row["row_count"],
        row["null_count"],
        counts_of_day(row),
        row["total"],
        row["low"],
        row["high"],
    )


def day_of(row: Mapping[str, Any]) -> dt.datetime:
    """Return the start of the day of a row of ``day_profiles``."""
    return dt.datetime.fromisoformat(row["day"]).replace(tzinfo=dt.UTC)


def _joined(periods: Sequence[Period]) -> Iterator[Period]:
    """Add up what has the same start: versions of one hour, hours of one day."""
    held: Period | None = None
    for period in periods:
        if held is not None and held.start == period.start:
            held = _sum(held, period)
            continue
        if held is not None:
            yield held
        held = period
    if held is not None:
        yield held


def _sum(a: Period, b: Period) -> Period:
    same = len(a.counts) == len(b.counts)
    totals = [t for t in (a.total, b.total) if t is not None]
    versions = dict.fromkeys([*a.version.split(", "), *b.version.split(", ")])
    return replace(
        a,
        version=", ".join(versions),
        rows=a.rows + b.rows,
        nulls=a.nulls + b.nulls,
        counts=tuple(x + y for x, y in zip(a.counts, b.counts, strict=True)) if same else b.counts,
        total=sum(totals) if totals else None,
        low=min((v for v in (a.low, b.low) if v is not None), default=None),
        high=max((v for v in (a.high, b.high) if v is not None), default=None),
    )


def quantile(period: Period, reference: Reference | None, share: float) -> float | None:
    """Return a quantile of a numeric column, as near as its bins tell."""
    if reference is None or reference.edges is None or period.low is None or period.high is None:
        return None
    there = sum(period.counts)
    if not there or len(period.counts) != len(reference.edges) + 1:
        return None
    bounds = [period.low, *(min(max(e, period.low), period.high) for e in reference.edges)]
    bounds.append(period.high)
    wanted, before = share * there, 0
    for (low, high), count in zip(pairwise(bounds), period.counts, strict=True):
        if count and before + count >= wanted:
            return min(low + (high - low) * (wanted - before) / count, high)
        before += count
    return period.high


def bin_names(reference: Reference) -> list[str]:
    """Return the names of a reference's bins, in their order."""
    if reference.edges is None:
        return [*(reference.values or ()), "other"]
    edges = [words.number(edge) for edge in reference.edges]
    if not edges:
        return ["all"]
    inner = [f"{a} to {b}" for a, b in pairwise(edges)]
    return [f"under {edges[0]}", *inner, f"{edges[-1]} and more"]


def reference_of(manifest: Mapping[str, Any], side: str, column: str) -> Reference | None:
    """Return what a column looked like in training, if the manifest tells."""
    found = (manifest.get("references") or {}).get(f"{side}.{column}")
    return Reference.from_dict(found) if found else None

"""Rate, latency and errors of a service or a stream, from its prediction log.

A log can have any number of rows: counts by hour come from the profiles, finer ones from the log
where few enough rows lie in the span, and percentiles from a sample of it.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trivet.dashboard import charts
from trivet.dashboard.ask import Ask, Span
from trivet.dashboard.charts import Chart
from trivet.dashboard.drawing import channel
from trivet.results.reading import Row
from trivet.results.statements import named

SAMPLE = 20_000
"""Rows that percentiles are taken from, about."""

_FINE_ROWS = 150_000
_WHOLE_ROWS = 60_000
_BARS = 120
_WIDTHS = (1, 5, 10, 30, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400)
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through a deployment in a span.

    Attributes:
        charts: Rate, latency and errors.
        rows: Rows in the span.
        errors: Problems in the span.
        latency: Percentiles over the span, in seconds.
    """

    charts: Sequence[Chart] = ()
    rows: int = 0
    errors: int = 0
    latency: Mapping[str, float | None] = field(default_factory=dict)


def read(
    ask: Ask,
    deployment: Mapping[str, Any],
    columns: Mapping[str, str],
    output: str,
    span: Span,
    newest: dt.datetime,
) -> Traffic:
    """Return the traffic of a span.

    Args:
        ask: The request.
        deployment: The service's or stream's row.
        columns: The columns of its table.
        output: A column of its model's outputs, by which the profiles count rows.
        span: The span.
        newest: The end of the newest hour.
    """
    table = f"predictions_{deployment['view_name']}"
    name = deployment["name"]
    hours = ask.source.rows("hour_counts", deployment=name, column=output, **span.bounds())
    total = sum(row["n"] for row in hours)
    if not hours:
        return Traffic()
    since = max(span.since, hours[0]["at"])
    until = min(span.until, newest)
    fine = total <= _FINE_ROWS
    width = _width((until - since).total_seconds(), 1 if fine else 3600)
    bounds = {"since": since, "until": until, "width": width}
    if fine:
        counted = ask.source.named_rows("log_counts", {"table": table}, **bounds)
        counts = {row["at"]: row["n"] for row in counted}
        total = sum(counts.values())
    else:
        counts = _wider(hours, width)
    found = [_rate(counts, width)]
    step = 1 if total <= _WHOLE_ROWS else round(total / SAMPLE)
    latency, chart = _latencies(ask, table, columns, bounds, step)
    found += [chart] if chart else []
    errors = ask.source.rows("log_errors", deployment=name, **bounds)
    if errors:
        found.append(_errors(errors, counts, width))
    return Traffic(found, total, sum(row["n"] for row in errors), latency)


def _width(seconds: float, least: int) -> int:
    return next((w for w in _WIDTHS if w >= least and seconds / w <= _BARS), _WIDTHS[-1])


def _wider(hours: Sequence[Row], width: int) -> dict[int, int]:
    counts: dict[int, int] = {}
    for row in hours:
        at = int(row["at"].timestamp()) // width * width
        counts[at] = counts.get(at, 0) + row["n"]
    return counts


def _at(seconds: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(seconds=seconds)


def _rate(counts: Mapping[int, int], width: int) -> Chart:
    first, last = min(counts, default=0), max(counts, default=0)
    unit, per = ("minute", 60) if width < 3600 else ("hour", 3600)
    if width < 60:
        unit, per = "second", 1
    rows = [
        {"at": _at(at), "rows": counts.get(at, 0), "rate": counts.get(at, 0) * per / width}
        for at in range(first, last + 1, width)
        if counts
    ]
    drawing = (
        charts.base()
        .mark(
            "area", line={"color": "$series-1"}, color="$series-1", opacity=0.2, interpolate="step"
        )
        .encode(
            x=charts.time_axis("at"),
            y=charts.value_axis("rate", f"rows a {unit}", of="figure"),
            tooltip=[
                charts.moment_tip("at", "from"),
                channel("rows:Q", format=","),
                channel("rate:Q", format=",.4~g", title=f"a {unit}"),
            ],
        )
    )
    return charts.chart(
        "rate",
        "Rate",
        drawing,
        rows,
        says=f"Rows a {unit} over time.",
        height=190,
        table={"at": "from", "rows": "rows", "rate": f"rows a {unit}"},
    )


def _latencies(
    ask: Ask, table: str, columns: Mapping[str, str], bounds: Mapping[str, Any], step: int
) -> tuple[dict[str, float | None], Chart | None]:
    if "seconds" in columns:
        expression, what = '"seconds"', "From the request's arrival to its answer."
    elif "event_at" in columns:
        expression = named("latency_of_events", ask.source.dialect, "trivet.dashboard")
        what = "From the event's own time to its prediction."
    else:
        return {}, None
    kind = "sampled_latencies" if step > 1 else "log_latencies"
    sql = named(kind, ask.source.dialect, "trivet.dashboard")
    sql = sql.format(table=f'"{table}"', latency=expression)
    given = {"step": step} if step > 1 else {}
    found = ask.source.ask(sql, **given, **bounds)
    spans = {row["at"]: sorted(json.loads(row["latencies"])) for row in found}
    if not spans:
        return {}, None
    rows = [
        {"at": _at(at), "percentile": p, "ms": 1000 * _rank(spans[at], share)}
        for at in sorted(spans)
        for p, share in _SHARES.items()
    ]
    drawing = (
        charts.base()
        .mark("line", interpolate="monotone")
        .encode(
            x=charts.time_axis("at"),
            y=charts.value_axis("ms", "milliseconds", of="figure"),
            color=channel("percentile:N", sort=["p50", "p95", "p99"]),
            tooltip=[
                charts.moment_tip("at", "from"),
                "percentile:N",
                channel("ms:Q", format=",.4~g"),
            ],
        )
    )
    sampled = f" Of a sample of one row in {step:,}." if step > 1 else ""
    chart = charts.chart(
        "latency",
        "Latency",
        drawing,
        rows,
        says="The 50th, 95th and 99th percentile of the latency over time.",
        height=190,
        note=what + sampled,
        table={"at": "from", "percentile": "percentile", "ms": "ms"},
    )
    whole = sorted(value for values in spans.values() for value in values)
    return {p: _rank(whole, share) for p, share in _SHARES.items()}, chart


def _rank(values: Sequence[float], share: float) -> float:
    """Return a percentile of values in order: the nearest rank."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _errors(found: Sequence[Row], counts: Mapping[int, int], width: int) -> Chart:
    below: dict[int, int] = {}
    rows = []
    for row in found:
        low = below.get(row["at"], 0)
        below[row["at"]] = low + row["n"]
        rows.append(
            {
                "at": _at(row["at"]),
                "end": _at(row["at"] + width),
                "code": row["code"],
                "rows": row["n"],
                "low": low,
                "high": low + row["n"],
            }
        )
    # Nothing at both ends, so that the chart covers the time that the others do.
    for at in (min([*counts, *below]), max([*counts, *below])):
        edge = {"at": _at(at), "end": _at(at + width), "code": rows[0]["code"]}
        rows.append(edge | {"rows": 0, "low": 0, "high": 0})
    drawing = (
        charts.base()
        .mark("rect")
        .encode(
            x=charts.time_axis("at"),
            x2="end:T",
            y=charts.value_axis("low", "problems"),
            y2="high:Q",
            color=channel("code:N"),
            tooltip=[charts.moment_tip("at", "from"), "code:N", channel("rows:Q", format=",")],
        )
    )
    return charts.chart(
        "errors",
        "Errors",
        drawing,
        rows,
        says="Rows that could not be scored, by code, over time.",
        height=160,
        table={"at": "from", "code": "code", "rows": "problems"},
    )

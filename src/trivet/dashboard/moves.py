"""Charts of drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trivet.dashboard import charts
from trivet.dashboard.charts import Chart
from trivet.dashboard.drawing import Drawing, channel
from trivet.dashboard.periods import bin_names
from trivet.monitoring import Profile, Reference
from trivet.monitoring.drift import Drift

_MOST_LINES = 8
_MOST_BINS = 24


@dataclass(frozen=True, slots=True)
class Column:
    """A column and how far it has moved."""

    side: str
    name: str
    drift: Drift
    reference: Reference
    profile: Profile


def over_time(rows: Sequence[Mapping[str, Any]], watch: float, act: float) -> Chart:
    """Return the chart of PSI by period, of the columns that moved most."""
    most: dict[str, float] = {}
    for row in rows:
        most[row["column"]] = max(most.get(row["column"], 0.0), row["psi"])
    kept = sorted(most, key=lambda column: -most[column])[:_MOST_LINES]
    shown = [row for row in rows if row["column"] in kept]
    starts = {row["start"] for row in shown}
    drawing = (
        charts.base()
        .mark("line", point=len(starts) < 80)
        .encode(
            x=charts.time_axis("start"),
            y=channel("psi:Q", title="PSI", axis={"tickCount": 5}),
            color=channel("column:N", title=None, sort=kept),
            tooltip=[
                "period:N",
                "column:N",
                channel("psi:Q", format=".3f", title="PSI"),
                channel("rows:Q", format=","),
                "version:N",
            ],
        )
    )
    for value, shade, dash in ((watch, "$warn", [3, 3]), (act, "$bad", [6, 3])):
        drawing += (
            Drawing.over([{"at": value}])
            .mark("rule", color=shade, strokeDash=dash, strokeWidth=1.5)
            .encode(y="at:Q")
        )
    cut = f" The {_MOST_LINES} columns that moved most." if len(most) > _MOST_LINES else ""
    return charts.chart(
        "over-time",
        "Drift over time",
        drawing,
        shown,
        says="PSI of each column by period.",
        height=280,
        note=f"Lines: worth a look from {watch:g} on, an alert from {act:g} on.{cut}",
        table={"period": "period", "column": "column", "psi": "PSI", "rows": "rows"},
    )


def laid_over(column: Column, against: str, period: str) -> Chart:
    """Return the chart of a column's two distributions, one over the other."""
    names = bin_names(column.reference)
    before, after = column.reference.counts, column.profile.counts
    sides = ((_reference_name(against), before), (period, after))
    order = sorted(range(len(names)), key=lambda i: -(before[i] / sum(before)))
    if column.reference.values is None or len(names) <= _MOST_BINS:
        order = list(range(len(names)))
    order = order[:_MOST_BINS]
    rows = [
        {
            "bin": names[i],
            "sample": what,
            "share": counts[i] / (sum(counts) or 1),
            "rows": counts[i],
        }
        for i in order
        for what, counts in sides
    ]
    numeric = column.reference.edges is not None
    drawing = (
        charts.base()
        .mark("bar", cornerRadiusEnd=2)
        .encode(
            x=channel(
                "bin:N",
                title=column.name,
                sort=[names[i] for i in order],
                axis={"labelAngle": -35, "labelLimit": 110},
            ),
            xOffset=channel("sample:N", sort=[what for what, _ in sides]),
            y=charts.value_axis("share", "share of rows", of="share"),
            color=channel(
                "sample:N",
                title=None,
                sort=[what for what, _ in sides],
                scale={"domain": [what for what, _ in sides], "range": ["$muted", "$series-1"]},
            ),
            tooltip=[
                "sample:N",
                channel("bin:N", title=column.name),
                channel("share:Q", format=".1%"),
                channel("rows:Q", format=","),
            ],
        )
    )
    what = "Bins are the tenths of the training sample." if numeric else ""
    return charts.chart(
        "laid-over",
        f"{column.name} ({column.side}): {_reference_name(against)} and {period}",
        drawing,
        rows,
        says=f"Share of rows by bin of {column.name}, in the reference and in {period}.",
        height=280,
        note=what,
        table={"bin": column.name, "sample": "of", "share": "share", "rows": "rows"},
    )


def _reference_name(against: str) -> str:
    return "training sample" if against == "training" else against

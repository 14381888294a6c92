"""Charts of what a deployment predicted, from its profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trivet.dashboard import charts, words
from trivet.dashboard.charts import Chart
from trivet.dashboard.drawing import Drawing, channel
from trivet.dashboard.periods import Period, bin_names, quantile
from trivet.monitoring import Reference

_MOST_VALUES = 8


def over_time(column: str, periods: Sequence[Period], reference: Reference | None) -> Chart:
    """Return the chart of a column's predictions over time."""
    if reference is not None and reference.values is not None:
        return _shares(column, periods, reference)
    rows: list[dict[str, Any]] = [
        {
            "start": p.start,
            "mean": p.mean,
            "median": quantile(p, reference, 0.5),
            "p10": quantile(p, reference, 0.1),
            "p90": quantile(p, reference, 0.9),
            "low": p.low,
            "high": p.high,
            "rows": p.rows,
            "version": p.version,
        }
        for p in periods
    ]
    x = charts.time_axis("start")
    y = charts.value_axis("p10", column, zero=False, of="figure")
    tips = [
        charts.moment_tip("start", "from"),
        *(channel(f"{n}:Q", title=n, format=".4~g") for n in ("mean", "median", "p10", "p90")),
        channel("rows:Q", format=","),
        channel("version:N"),
    ]
    base = charts.base()
    drawing = base.mark("area", opacity=0.16, color="$series-1", line=False).encode(
        x=x, y=y, y2="p90:Q"
    )
    drawing += base.mark("line", color="$series-1", point=len(rows) < 80).encode(
        x=x, y=channel("median:Q"), tooltip=tips
    )
    drawing += base.mark("line", color="$series-2", strokeDash=[5, 3], strokeWidth=1.6).encode(
        x=x, y=channel("mean:Q"), tooltip=tips
    )
    if reference is not None and reference.edges and len(reference.edges) > 1:
        middle = reference.edges[len(reference.edges) // 2]
        drawing += (
            Drawing.over([{"trained": middle}])
            .mark("rule", color="$muted", strokeDash=[2, 3])
            .encode(y="trained:Q")
        )
    changed = _changes(periods)
    if changed:
        drawing += _version_marks(changed)
    return charts.chart(
        "over-time",
        f"{column} over time",
        drawing,
        rows,
        says=f"Median, mean and the middle 80 % of {column} by period.",
        height=260,
        note=(
            "Solid: the median; dashed: the mean; the band holds the middle 80 %. Quantiles are "
            "read off the bins of the training sample, whose median is the dotted line."
        ),
        table={
            "start": "from",
            "rows": "rows",
            "mean": "mean",
            "median": "median",
            "p10": "10 %",
            "p90": "90 %",
            "low": "smallest",
            "high": "largest",
            "version": "version",
        },
    )


def _shares(column: str, periods: Sequence[Period], reference: Reference) -> Chart:
    """Return the shares of a column's values over time."""
    names = bin_names(reference)
    kept = names[: _MOST_VALUES - 1] if len(names) > _MOST_VALUES else names
    rows = []
    for p in periods:
        if len(p.counts) != len(names):
            continue
        by_name: dict[str, int] = dict.fromkeys(kept, 0)
        for name, count in zip(names, p.counts, strict=True):
            place = name if name in by_name else "other"
            by_name[place] = by_name.get(place, 0) + count
        there, below = sum(by_name.values()) or 1, 0.0
        for k, n in by_name.items():
            share = n / there
            rows.append(
                {
                    "start": p.start,
                    "end": p.end,
                    "value": k,
                    "share": share,
                    "below": below,
                    "above": below + share,
                    "rows": n,
                }
            )
            below += share
    drawing = (
        charts.base()
        .mark("rect", stroke="$surface", strokeWidth=1)
        .encode(
            x=charts.time_axis("start"),
            x2="end:T",
            y=channel("below:Q", title="share", axis={"format": "%", "tickCount": 5}),
            y2="above:Q",
            color=channel("value:N", sort=kept, legend={"title": None}),
            tooltip=[
                charts.moment_tip("start", "from"),
                channel("value:N", title=column),
                channel("share:Q", format=".1%"),
                channel("rows:Q", format=","),
            ],
        )
    )
    return charts.chart(
        "over-time",
        f"{column} over time",
        drawing,
        rows,
        says=f"The share of each value of {column} by period.",
        height=260,
        table={"start": "from", "value": column, "share": "share", "rows": "rows"},
    )


def distribution(
    column: str, periods: Sequence[Period], reference: Reference | None
) -> Chart | None:
    """Return the distribution of a column by period: a row a bin, a colour a share."""
    if reference is None:
        return None
    names = bin_names(reference)
    trained_rows = sum(reference.counts) or 1
    trained = [count / trained_rows for count in reference.counts]
    rows = []
    for p in periods:
        if len(p.counts) != len(names):
            continue
        there = sum(p.counts) or 1
        rows += [
            {
                "start": p.start,
                "end": p.end,
                "bin": name,
                "share": count / there,
                "trained": was,
                "rows": count,
            }
            for name, count, was in zip(names, p.counts, trained, strict=True)
        ]
    drawing = (
        charts.base()
        .mark("rect", stroke="$surface", strokeWidth=1)
        .encode(
            x=charts.time_axis("start"),
            x2="end:T",
            y=channel("bin:N", sort=list(reversed(names)), title=column),
            color=channel(
                "share:Q",
                scale={"domainMin": 0},
                legend={"title": "share of the rows", "format": "%", "gradientLength": 140},
            ),
            tooltip=[
                charts.moment_tip("start", "from"),
                channel("bin:N", title=column),
                channel("share:Q", format=".1%"),
                channel("trained:Q", format=".1%", title="in training"),
                channel("rows:Q", format=","),
            ],
        )
    )
    return charts.chart(
        "distribution",
        "Distribution by period",
        drawing,
        rows,
        says=f"How the rows of each period spread over the bins of {column}.",
        height=max(180, min(24 * len(names), 420)),
        note="The bins are those of the training sample: there, each held about as many rows."
        if reference.edges
        else "",
        table={"start": "from", "bin": column, "share": "share", "trained": "in training"},
    )


def volume(periods: Sequence[Period]) -> Chart:
    """Return the rows by period, with the version that scored them."""
    rows = [
        {"start": p.start, "end": p.end, "rows": p.rows, "version": p.version or "unknown"}
        for p in periods
    ]
    several = len({row["version"] for row in rows}) > 1
    encoding: dict[str, Any] = {
        "x": charts.time_axis("start"),
        "x2": "end:T",
        "y": charts.value_axis("rows", "rows"),
        "y2": {"datum": 0},
        "tooltip": [
            charts.moment_tip("start", "from"),
            channel("rows:Q", format=","),
            channel("version:N"),
        ],
    }
    if several:
        encoding["color"] = channel("version:N", legend={"title": "version"})
    drawing = charts.base().mark("rect", stroke="$surface", strokeWidth=1).encode(**encoding)
    return charts.chart(
        "volume",
        "Rows by period",
        drawing,
        rows,
        says="How many rows were scored in each period, by version of the model.",
        height=180,
        table={"start": "from", "rows": "rows", "version": "version"},
    )


def breakdown_chart(by: str, column: str, rows: Sequence[Mapping[str, Any]], note: str) -> Chart:
    """Return the predictions by the value of a column, the most frequent values first."""
    values = [
        {
            "value": words.NONE if row["value"] is None else str(row["value"]),
            "rows": row["n"],
            "mean": row["mean"],
        }
        for row in rows
    ]
    ordered = by.endswith((": hour", ": weekday", ": month"))
    if ordered:
        values.sort(key=lambda row: row["value"])
    has_mean = any(row["mean"] is not None for row in values)
    measure = "mean:Q" if has_mean else "rows:Q"
    drawing = (
        charts.base()
        .mark("bar", cornerRadiusEnd=3)
        .encode(
            y=channel("value:N", sort=[row["value"] for row in values], title=None),
            x=channel(
                measure,
                title=f"mean of {column}" if has_mean else "rows",
                axis={"tickCount": 5, "format": ".3~g" if has_mean else "~s"},
            ),
            opacity=channel("rows:Q", legend=None, scale={"range": [0.45, 1], "zero": True}),
            tooltip=[
                channel("value:N", title=by),
                channel("mean:Q", format=".4~g", title=f"mean of {column}"),
                channel("rows:Q", format=","),
            ],
        )
    )
    return charts.chart(
        "breakdown",
        f"By {by}",
        drawing,
        values,
        says=f"The mean of {column} by {by}.",
        height=max(110, 19 * len(values)),
        note=note,
        table={"value": by, "rows": "rows", "mean": f"mean of {column}"},
    )


def _changes(periods: Sequence[Period]) -> list[dict[str, Any]]:
    """Return where another version took over."""
    found, before = [], periods[0].version if periods else ""
    for p in periods:
        if p.version != before:
            found.append({"at": p.start, "version": p.version})
        before = p.version
    return found[-12:]


def _version_marks(changed: Sequence[Mapping[str, Any]]) -> Drawing:
    base = Drawing.over([charts.plain(row) for row in changed])
    x = channel("at:T", scale={"type": "utc"})
    rule = base.mark("rule", color="$accent", strokeWidth=1.4).encode(x=x)
    text = base.mark(
        "text", align="left", baseline="top", dx=4, color="$accent", fontSize=11
    ).encode(x=x, y={"value": 0}, text="version:N")
    return rule + text

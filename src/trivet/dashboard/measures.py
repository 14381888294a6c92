"""Charts and words of measures of quality."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trivet.dashboard import charts, words
from trivet.dashboard.charts import Chart
from trivet.dashboard.drawing import Drawing, channel
from trivet.monitoring.quality import Errors, Measure, Scores

NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "bias": "bias",
    "roc_auc": "ROC-AUC",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "log_loss": "log loss",
    "brier": "Brier score",
}

SAYS = {
    "mae": "the mean size of the error, in the units of the target",
    "rmse": "the root of the mean squared error: large errors count more",
    "bias": "the mean of predicted minus true: above nothing, predictions are too high",
    "roc_auc": "how often a positive row has a higher score than a negative one",
    "accuracy": "the share of rows whose class is right",
    "precision": "of the rows predicted positive, the share that is",
    "recall": "of the positive rows, the share that was predicted so",
    "f1": "the harmonic mean of precision and recall",
    "log_loss": "what the scores lose on the truth, in nats: sure mistakes cost most",
    "brier": "the mean squared difference of score and truth",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A period's measure, of one version."""

    start: dt.datetime
    label: str
    version: str
    measure: Measure

    @property
    def metrics(self) -> Mapping[str, float]:
        """The measures by name."""
        return self.measure.metrics()


def figure(metric: str, value: float | None) -> str:
    """Write a measure."""
    if metric in ("accuracy", "precision", "recall"):
        return words.percent(value)
    text = words.number(value)
    return f"+{text}" if metric == "bias" and value is not None and value > 0 else text


def over_time(
    metric: str, periods: Sequence[Measured], trained: float | None, limit: float | None
) -> Chart:
    """Return the chart of a measure over time, with what it was in training and its limit."""
    rows: list[dict[str, Any]] = [
        {
            "start": each.start,
            "period": each.label,
            "value": each.metrics[metric],
            "version": each.version,
            "rows": each.measure.rows,
        }
        for each in periods
    ]
    tips = [
        channel("period:N"),
        channel("value:Q", title=NAMES[metric], format=".4~g"),
        channel("rows:Q", format=",", title="rows with a true value"),
        channel("version:N"),
    ]
    versions = len({row["version"] for row in rows}) > 1
    color = (
        {"color": channel("version:N", title="version")}
        if versions
        else {"color": {"value": "$series-1"}}
    )
    line = charts.base().encode(
        x=charts.time_axis("start"),
        y=charts.value_axis(
            "value", NAMES[metric], zero=metric not in ("roc_auc", "accuracy"), of="figure"
        ),
        tooltip=tips,
        **color,
    )
    drawing = line.mark("line", point={"filled": True, "size": 46} if len(rows) < 120 else False)
    for value, text, shade, dash in (
        (trained, "in training", "$muted", [2, 3]),
        (limit, "alert", "$bad", [6, 3]),
    ):
        if value is not None:
            drawing += _rule(value, text, shade, dash)
    notes = [f"{NAMES[metric]}: {SAYS[metric]}."]
    if trained is not None:
        notes.append("Dotted: in training.")
    if limit is not None:
        notes.append("Dashed: from here on it is an alert.")
    return charts.chart(
        "over-time",
        f"{NAMES[metric]} over time",
        drawing,
        rows,
        says=f"{NAMES[metric]} by period and version.",
        height=280,
        note=" ".join(notes),
        table={
            "period": "period",
            "version": "version",
            "value": NAMES[metric],
            "rows": "rows with a true value",
        },
    )


def means(periods: Sequence[Measured]) -> Chart:
    """Return the chart of what was predicted beside what came true."""
    rows = []
    for each in periods:
        measure = each.measure
        if isinstance(measure, Errors) and measure.rows:
            true = measure.actual / measure.rows
            told = {"predicted": true + measure.error / measure.rows, "true": true}
            rows += [
                {"start": each.start, "period": each.label, "what": what, "mean": value}
                for what, value in told.items()
            ]
    drawing = (
        charts.base()
        .mark("line", point=len(rows) < 200)
        .encode(
            x=charts.time_axis("start"),
            y=charts.value_axis("mean", "mean", zero=False, of="figure"),
            color=channel(
                "what:N",
                title=None,
                scale={"domain": ["predicted", "true"], "range": ["$series-1", "$series-2"]},
            ),
            tooltip=["period:N", "what:N", channel("mean:Q", format=".4~g")],
        )
    )
    return charts.chart(
        "means",
        "Predicted and true",
        drawing,
        rows,
        says="The means of the predictions and of the true values by period.",
        table={"period": "period", "what": "mean of", "mean": "mean"},
    )


def bias(periods: Sequence[Measured]) -> Chart:
    """Return the chart of the bias over time."""
    rows = [
        {"start": each.start, "period": each.label, "bias": each.metrics.get("bias")}
        for each in periods
    ]
    drawing = (
        charts.base()
        .mark("bar", size=max(2.0, min(26.0, 420 / max(len(rows), 1))), cornerRadius=2)
        .encode(
            x=charts.time_axis("start"),
            y=charts.value_axis("bias", "predicted minus true", of="figure"),
            color={
                "condition": {"test": "datum.bias > 0", "value": "$series-2"},
                "value": "$series-1",
            },
            tooltip=["period:N", channel("bias:Q", format="+.4~g")],
        )
    )
    return charts.chart(
        "bias",
        "Bias",
        drawing,
        rows,
        says="The mean of predicted minus true by period.",
        note="Above nothing, predictions are too high.",
        table={"period": "period", "bias": "bias"},
    )


def calibration(scores: Scores) -> Chart:
    """Return the calibration curve of a span."""
    rows = [
        {"predicted": point.predicted, "observed": point.observed, "rows": point.rows}
        for point in scores.calibration()
    ]
    share = {"format": "%", "tickCount": 5}
    # Scores of rare events lie close to nothing: both axes end where the scores do.
    top = max([0.01, *(max(row["predicted"], row["observed"]) for row in rows)])
    scale = {"domain": [0, min(1.0, 1.08 * top)], "nice": top < 0.9}
    drawing = (
        charts.base()
        .mark("line", point={"filled": True, "size": 60}, color="$series-1")
        .encode(
            x=channel("predicted:Q", title="score", axis=share, scale=scale),
            y=channel("observed:Q", title="came true", axis=share, scale=scale),
            tooltip=[
                channel("predicted:Q", title="mean score", format=".1%"),
                channel("observed:Q", title="came true", format=".1%"),
                channel("rows:Q", format=","),
            ],
        )
    )
    drawing += (
        Drawing.over([{"x": 0, "y": 0}, {"x": min(1.0, top), "y": min(1.0, top)}])
        .mark("line", color="$muted", strokeDash=[3, 3])
        .encode(x="x:Q", y="y:Q")
    )
    return charts.chart(
        "calibration",
        "Calibration",
        drawing,
        rows,
        says="The share that came true by mean score, in ten groups of as many rows.",
        height=260,
        note="On the dotted line, as much came true as was predicted.",
        table={"predicted": "mean score", "observed": "came true", "rows": "rows"},
    )


def lift(scores: Scores) -> Chart:
    """Return the cumulative lift of a span."""
    rows = [{"share": share, "lift": value} for share, value in scores.lift(20)]
    drawing = (
        charts.base()
        .mark("line", point={"filled": True, "size": 36}, color="$series-1")
        .encode(
            x=channel("share:Q", title="best-scored rows", axis={"format": "%", "tickCount": 5}),
            y=charts.value_axis("lift", "times the average", of="figure"),
            tooltip=[
                channel("share:Q", title="best-scored rows", format=".0%"),
                channel("lift:Q", format=".3~g"),
            ],
        )
    )
    drawing += _rule(1.0, "average", "$muted", [3, 3])
    return charts.chart(
        "lift",
        "Lift",
        drawing,
        rows,
        says="How many times the average the best-scored rows hold of the positive class.",
        height=260,
        note="Of the best-scored share of rows, how many times more are positive than on average.",
        table={"share": "best-scored rows", "lift": "lift"},
    )


def by_segment(
    by: str, metric: str, found: Sequence[tuple[str, Measure]], known: int, note: str
) -> Chart:
    """Return the chart of a measure by the values of a segment, those with most rows."""
    rows = [
        {"value": value, "metric": measure.metrics()[metric], "rows": measure.rows}
        for value, measure in found
    ]
    ordered = sorted(rows, key=lambda row: -_sortable(row["metric"]))
    drawing = (
        charts.base()
        .mark("bar", color="$series-1", cornerRadiusEnd=3)
        .encode(
            y=channel("value:N", title=None, sort=[str(row["value"]) for row in ordered]),
            x=channel("metric:Q", title=NAMES[metric], axis={"tickCount": 5}),
            tooltip=[
                channel("value:N", title=by),
                channel("metric:Q", title=NAMES[metric], format=".4~g"),
                channel("rows:Q", format=","),
            ],
        )
    )
    cut = f" Those with most rows of {known:,}." if known > len(rows) else ""
    return charts.chart(
        "by-segment",
        f"{NAMES[metric]} by {by}",
        drawing,
        ordered,
        says=f"{NAMES[metric]} by the values of {by}.",
        height=max(120, 24 * len(rows) + 50),
        note=f"{note}{cut}",
        table={"value": by, "metric": NAMES[metric], "rows": "rows with a true value"},
    )


def _sortable(value: Any) -> float:
    return value if isinstance(value, float) and value == value else float("-inf")  # noqa: PLR0124


def _rule(value: float, text: str, color: str, dash: list[int]) -> Any:
    return (
        Drawing.over([{"at": value, "what": text}])
        .mark("rule", color=color, strokeDash=dash, strokeWidth=1.5)
        .encode(y="at:Q", tooltip=["what:N", channel("at:Q", format=".4~g")])
    )

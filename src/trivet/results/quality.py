"""How good predictions were, read from the sums that were kept when true values arrived."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trivet.databases import Connection
from trivet.monitoring.quality import Bin, Errors, Labels, Measure, Scores
from trivet.results.statements import named, with_moments


@dataclass(frozen=True, slots=True)
class Group:
    """A period's rows of one version and segment.

    Attributes:
        start: The period's start.
        end: Its end.
        version: The model's version.
        value: The segment's value; empty for all rows.
        positive: The positive class of a classifier.
        threshold: From where on a score counted as positive.
        measure: The sums.
    """

    start: dt.datetime
    end: dt.datetime
    version: str
    value: str
    positive: str
    threshold: float | None
    measure: Measure


def groups(
    db: Connection,
    deployment: str,
    since: dt.datetime,
    until: dt.datetime,
    segment: str = "",
) -> list[Group]:
    """Return the sums of the periods that start in a span, the oldest first."""
    table = db.rows(
        named("quality", db.dialect.name),
        deployment=deployment,
        since=since,
        until=until,
        segment=segment,
    )
    return [
        Group(
            row["period_start"],
            row["period_end"],
            row["model_version"],
            row["value"],
            row["positive"],
            row["threshold"],
            _measure(row),
        )
        for row in with_moments(table, "period_start", "period_end").to_pylist()
    ]


def segments(db: Connection, deployment: str) -> list[str]:
    """Return the columns by whose values the quality of a deployment is known."""
    table = db.rows(named("quality_segments", db.dialect.name), deployment=deployment)
    return [name for name in table["segment"].to_pylist() if name]


def measured_deployments(db: Connection) -> list[str]:
    """Return the deployments whose quality is known."""
    found: list[str] = db.rows(named("quality_deployments", db.dialect.name))[
        "deployment"
    ].to_pylist()
    return found


def _measure(row: Mapping[str, Any]) -> Measure:
    rows = int(row["row_count"])
    if row["kind"] == "regression":
        return Errors(
            rows, row["error_sum"], row["absolute_sum"], row["squared_sum"], row["actual_sum"]
        )
    if row["kind"] == "classes":
        return Labels(rows, int(row["right_count"]))
    return Scores(
        rows,
        int(row["positive_count"]),
        int(row["true_positives"]),
        int(row["false_positives"]),
        row["log_loss_sum"],
        row["brier_sum"],
        {place: Bin(*counts) for place, *counts in json.loads(row["scores"])},
    )

"""How good predictions were, read from the sums that were kept when true values arrived."""

from __future__ import annotations

import datetime as dt
import functools
import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trivet.monitoring.quality import Bin, Errors, Labels, Measure, Scores
from trivet.results.asking import Asking


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
    ask: Asking,
    deployment: str,
    since: dt.datetime,
    until: dt.datetime,
    segment: str = "",
) -> list[Group]:
    """Return the sums of the periods that start in a span, the oldest first."""
    rows = ask("quality", deployment=deployment, since=since, until=until, segment=segment)
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
        for row in rows
    ]


def segments(ask: Asking, deployment: str) -> list[str]:
    """Return the columns by whose values the quality of a deployment is known."""
    rows = ask("quality_segments", deployment=deployment)
    return [row["segment"] for row in rows if row["segment"]]


def added_up(found: Iterable[Group]) -> Measure | None:
    """Return the sum of groups of one deployment; None of none, or if they are not of one kind."""
    measures = [group.measure for group in found]
    if len({type(measure) for measure in measures}) != 1:
        return None
    scores = [measure for measure in measures if isinstance(measure, Scores)]
    if scores:
        return Scores.summed(scores)
    total: Measure = functools.reduce(operator.add, measures)
    return total


def by_value(
    ask: Asking,
    deployment: str,
    since: dt.datetime,
    until: dt.datetime,
    segment: str,
    limit: int,
) -> tuple[list[tuple[str, Measure]], int]:
    """Return the sums of a span by the values of a segment, and how many values there are.

    Those with most rows come first; the database adds them up.
    """
    rows = ask(
        "quality_by_value",
        deployment=deployment,
        since=since,
        until=until,
        segment=segment,
        limit=limit,
    )
    return [(row["value"], _measure(row)) for row in rows], rows[0]["known"] if rows else 0


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
        _bins(row["scores"] or "[]"),
    )


def _bins(text: str) -> dict[int, Bin]:
    """Read bins; of several periods, a bin comes several times."""
    found: dict[int, Bin] = {}
    for place, *counts in json.loads(text):
        have = found.get(place)
        found[place] = Bin._make(map(operator.add, have, counts) if have else counts)
    return found

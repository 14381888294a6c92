"""``[actuals.NAME]``: where the true values of a deployment's predictions come from."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import NamedTuple

from trivet.monitoring.quality import METRICS

_BOUNDED = re.compile(r"\$interval_(start|end)\b")
_LIMIT = re.compile(rf"\s*({'|'.join(METRICS)})\s*([<>])\s*(-?\d+(?:\.\d+)?)\s*")


class Limit(NamedTuple):
    """What a measure must not pass: ``above`` a value, or below it."""

    metric: str
    above: bool
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualsSettings:
    """``[actuals.NAME]``: where the true values of a deployment's predictions come from.

    Attributes:
        name: The section's name.
        source: Url of the database that is read.
        query: The SELECT. With ``$interval_start`` and ``$interval_end`` it is run for each
            interval; with ``$since`` it gives what is newer; with neither, everything.
        value: The column with the true value.
        deployment: Whose predictions; by default that of the section's name.
        key: The columns that name the row, in the order of the deployment's key; by default those.
        output: The output that the value is the truth of; by default the model's only one.
        positive: The class that is measured, of a classifier; by default the second of two.
        threshold: Scores from here on count as positive.
        delay: How long after its end the true values of an interval are there.
        lookback: So many intervals before the newest are pulled again, for values that come late.
        overlap: How far ``$since`` lies before the last pull, for rows that were written late.
        every: How long the scheduler waits between two pulls.
        alert: Limits of measures, such as ``mae > 4.5`` or ``roc_auc < 0.8``.
    """

    name: str
    source: str
    query: str
    value: str
    deployment: str = ""
    key: tuple[str, ...] = ()
    output: str = ""
    positive: str = ""
    threshold: float = 0.5
    delay: dt.timedelta = dt.timedelta()
    lookback: int = 0
    overlap: dt.timedelta = dt.timedelta(hours=1)
    every: dt.timedelta = dt.timedelta(hours=1)
    alert: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.query.strip():
            raise ValueError("query: it is empty; write a SELECT, or the path of a .sql file")
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold: write a number between 0 and 1, such as 0.5")
        if not 0 <= self.lookback <= 10_000:
            raise ValueError("lookback: write a number from 0 to 10000")
        if not self.every:
            raise ValueError("every: more than nothing")
        for text in self.alert:
            if not _LIMIT.fullmatch(text):
                raise ValueError(
                    f'alert: {text!r} is no limit; write "mae > 4.5", with one of '
                    f"{', '.join(METRICS)}"
                )

    @property
    def of(self) -> str:
        """The deployment whose predictions they are the truth of."""
        return self.deployment or self.name

    @property
    def by_interval(self) -> bool:
        """Whether the query is run for one interval at a time."""
        return _BOUNDED.search(self.query) is not None

    @property
    def limits(self) -> list[Limit]:
        """`alert`, read."""
        matches = (_LIMIT.fullmatch(text) for text in self.alert)
        return [Limit(m[1], m[2] == ">", float(m[3])) for m in matches if m]

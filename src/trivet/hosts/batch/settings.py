"""``[batch.NAME]``: one model, scored by interval from a source into the results."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from trivet.hosts.schedule import Schedule

_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """A batch deployment.

    Attributes:
        name: The deployment's name.
        model: A name of ``[models]``.
        source: Url of the database that is read.
        query: The SELECT; binds ``$interval_start`` and ``$interval_end``.
        key: Columns that together name a row.
        keep: Columns copied beside the predictions.
        schedule: ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly`` or a cron line.
        timezone: Where the schedule's days begin.
        start: The first interval's start.
        delay: How long after its end an interval is run.
        catchup: Which missed intervals the schedule runs: all, the latest or none.
        catchup_limit: The most intervals that one look at the schedule runs.
        lookback: So many earlier intervals are scored again with each run of the schedule.
        overlap: What to do while another process runs the interval: skip it, or queue behind.
        max_rejects: The largest share of rejected rows with which a run is published.
        allow_empty: Whether an interval without a row is a success, with a warning.
        retries: How often the schedule runs a failed interval again.
        retry_delay: How long it waits before that.
        retry_for: How long a run waits, in all, to try again after a lost connection or a busy
            database.
        workers: Threads that score side by side, if the model gains from it.
    """

    name: str
    model: str
    source: str
    query: str
    key: tuple[str, ...]
    keep: tuple[str, ...] = ()
    schedule: str = "@daily"
    timezone: str = "UTC"
    start: dt.date | dt.datetime | None = None
    delay: dt.timedelta = dt.timedelta()
    catchup: Literal["all", "latest", "none"] = "latest"
    catchup_limit: int = 1000
    lookback: int = 0
    overlap: Literal["skip", "queue"] = "skip"
    max_rejects: float = 0.1
    allow_empty: bool = True
    retries: int = 0
    retry_delay: dt.timedelta = dt.timedelta(minutes=5)
    retry_for: dt.timedelta = dt.timedelta(minutes=2)
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        mistakes = list(self._mistakes())
        if mistakes:
            raise ValueError("\n".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        if not self.query.strip():
            yield 'query: it is empty; write a SELECT, or a file that has it: "sql/trips.sql"'
        if not self.key:
            yield 'key: name at least one column that tells the rows apart, such as ["trip_id"]'
        for name, columns in (("key", self.key), ("keep", self.keep)):
            twice = sorted({each for each in columns if columns.count(each) > 1})
            if twice:
                yield f"{name}: {', '.join(twice)} is in it twice; name it once"
        both = sorted(set(self.key) & set(self.keep))
        if both:
            yield f"keep: {', '.join(both)} is in key already; leave it out of keep"
        if not 0 <= self.max_rejects <= 1:
            yield "max_rejects: write a share between 0 and 1, such as 0.05"
        for name, least in (("catchup_limit", 1), ("lookback", 0), ("retries", 0), ("workers", 1)):
            if not least <= getattr(self, name) <= _MOST:
                yield f"{name}: write a number from {least} to {_MOST}"
        if self.start is None and self.catchup == "all":
            yield 'start: it is needed with catchup = "all"; write start = 2026-01-01, for example'

    @property
    def calendar(self) -> Schedule:
        """The schedule's arithmetic."""
        return Schedule(self.schedule, self.timezone)

    @property
    def first(self) -> dt.datetime | None:
        """The moment, in UTC, from which intervals start."""
        return None if self.start is None else self.calendar.start_of(self.start)

"""Predictions held against true values as these arrive, kept as sums that add up.

A period is a published interval of a batch deployment, or an hour of predictions that come row by
row. Its sums by version and segment are small; whoever shows them never joins rows.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from trivet.databases import Connection
from trivet.errors import ResultsError
from trivet.monitoring.quality import (
    BINS_A_LOGIT,
    SMALLEST_SCORE,
)
from trivet.results.actuals import (
    ANY_INTERVAL,
    Bounds,
    Registered,
    pull,
    pulls,
    registered,
    spans,
)
from trivet.results.actuals_settings import ActualsSettings
from trivet.results.keys import key_sql
from trivet.results.statements import identifier, named, with_moments, with_names
from trivet.results.tables import columns_of, table_of

MAX_SEGMENTS = 500
"""A kept column with more values in a period than this is no segment."""

_PREFIX = "probability_"
_SETTLED = dt.timedelta(minutes=5)
"""So long after its end the rows of an hour are there: those measured earlier are again."""

_QUALITY = pa.schema(
    [
        ("deployment", pa.string()),
        ("period_start", pa.timestamp("us", "UTC")),
        ("period_end", pa.timestamp("us", "UTC")),
        ("model_version", pa.string()),
        ("segment", pa.string()),
        ("value", pa.string()),
        ("kind", pa.string()),
        ("positive", pa.string()),
        ("threshold", pa.float64()),
        ("row_count", pa.int64()),
        ("error_sum", pa.float64()),
        ("absolute_sum", pa.float64()),
        ("squared_sum", pa.float64()),
        ("actual_sum", pa.float64()),
        ("right_count", pa.int64()),
        ("positive_count", pa.int64()),
        ("true_positives", pa.int64()),
        ("false_positives", pa.int64()),
        ("log_loss_sum", pa.float64()),
        ("brier_sum", pa.float64()),
        ("scores", pa.string()),
    ]
)
_NUMBERS = [f.name for f in _QUALITY if f.name.endswith(("_sum", "_count", "_positives"))]


class Target(NamedTuple):
    """What is measured: ``regression``, ``binary`` or ``classes``, and of which output."""

    kind: str
    output: str
    positive: str = ""


@dataclass(frozen=True, slots=True)
class _Period:
    start: dt.datetime
    end: dt.datetime
    attempt: int = 0
    version: str = ""


def target_of(settings: ActualsSettings, known: Registered) -> Target:
    """Return what a deployment's true values are held against.

    Raises:
        ResultsError: The model has no such output, or several that it could be.
    """
    outputs, where = known.outputs, f"[actuals.{settings.name}]"
    classes = [name.removeprefix(_PREFIX) for name in outputs if name.startswith(_PREFIX)]
    if settings.output:
        if settings.output not in outputs:
            raise ResultsError(
                f"{where} output: {known.name} has no output {settings.output!r}; "
                f"it has {', '.join(outputs)}"
            )
        if settings.output.startswith(_PREFIX):
            positive = settings.positive or settings.output.removeprefix(_PREFIX)
            return Target("binary", settings.output, positive)
        if not outputs[settings.output].startswith(("int", "float")):
            return Target("classes", settings.output)
        if settings.positive:
            return Target("binary", settings.output, settings.positive)
        return Target("regression", settings.output)
    if settings.positive:
        if settings.positive in classes:
            return Target("binary", _PREFIX + settings.positive, settings.positive)
        raise ResultsError(
            f"{where} positive: {known.name} has no output {_PREFIX}{settings.positive}; "
            f"it has {', '.join(outputs)}"
        )
    if len(classes) == 2:
        return Target("binary", _PREFIX + classes[1], classes[1])
    if "label" in outputs:
        return Target("classes", "label")
    numbers = [name for name, kind in outputs.items() if kind.startswith(("int", "float"))]
    if len(numbers) != 1:
        raise ResultsError(
            f"{where} output: name the output that the value is the truth of; "
            f"{known.name} has {', '.join(outputs) or 'none'}"
        )
    return Target("regression", numbers[0])


class Round(NamedTuple):
    """What pulling and measuring came to.

    Attributes:
        rows: True values that the query gave.
        unusable: Of them, those without a key or a value.
        periods: Periods that were measured.
    """

    rows: int
    unusable: int
    periods: int


def pull_and_measure(
    db: Connection,
    settings: ActualsSettings,
    *,
    root: Path,
    now: dt.datetime,
    stop: Callable[[], bool] = lambda: False,
    bounds: Sequence[Bounds] | None = None,
) -> Round:
    """Pull what is there to pull, and measure what that changes.

    Args:
        db: The results database.
        settings: What to pull.
        root: The folder that relative paths start from.
        now: The moment to write down.
        stop: Asked between two steps; True ends it, to go on another time.
        bounds: Pull these intervals, again too; by default what is not there yet.

    Raises:
        TrivetError: As of `trivet.results.actuals.pull` and `target_of`.
    """
    target_of(settings, registered(db, settings.of))  # before anything is read
    rows = unusable = 0
    for each in spans(db, settings, now) if bounds is None else bounds:
        if stop():
            break
        part = pull(db, settings, each, root=root, now=now)
        rows, unusable = rows + part.rows, unusable + part.unusable
    return Round(rows, unusable, refresh(db, settings, now, stop))


def refresh(
    db: Connection,
    settings: ActualsSettings,
    now: dt.datetime,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Measure what has new predictions or new true values; return how many periods that were.

    Args:
        db: The results database.
        settings: The true values, already pulled.
        now: The moment to write down.
        stop: Asked between two periods; True ends it, to go on another time.

    Raises:
        ResultsError: The deployment is unknown, or what is to be measured is not clear.
    """
    known = registered(db, settings.of)
    target = target_of(settings, known)
    measured = 0
    for period in _unmeasured(db, settings, known, now):
        if stop():
            break
        _Measuring(db, settings, known, target, period).run(now)
        measured += 1
    return measured


def _unmeasured(
    db: Connection, settings: ActualsSettings, known: Registered, now: dt.datetime
) -> list[_Period]:
    dialect = db.dialect.name
    done = pulls(db, known.name)
    if not done or not columns_of(db, table_of(known.name)):
        return []
    if known.kind == "batch":
        table = db.rows(named("unmeasured_intervals", dialect), deployment=known.name)
        pulled = {each["interval_start"] for each in done}
        return [
            _Period(row["period_start"], row["period_end"], row["attempt"], row["model_version"])
            for row in with_moments(table, "period_start", "period_end").to_pylist()
            if not settings.by_interval or row["period_start"] in pulled
        ]
    table = db.rows(named("measured_hours", dialect), deployment=known.name)
    hour = dt.timedelta(hours=1)
    return [
        _Period(row["period_start"], row["period_start"] + hour)
        for row in with_moments(table, "period_start", "measured_at").to_pylist()
        if row["measured_at"] is None
        or row["measured_at"] < min(row["period_start"] + hour + _SETTLED, now)
    ]


@dataclass(frozen=True, slots=True)
class _Measuring:
    """One period."""

    db: Connection
    settings: ActualsSettings
    known: Registered
    target: Target
    period: _Period

    def run(self, now: dt.datetime) -> None:
        """Measure the period and replace what was known of it.

        True values that come meanwhile leave it to be measured again.
        """
        db, dialect = self.db, self.db.dialect.name
        columns = columns_of(db, table_of(self.known.name))
        before = self._last_pull()
        rows = self._rows(columns, "")
        for name in self.known.keep:
            if _is_segment(columns.get(name, "")) and self._is_small(name):
                rows += self._rows(columns, name)
        batch = pa.RecordBatch.from_pylist(rows, schema=_QUALITY)
        at = {"deployment": self.known.name, "period_start": self.period.start}
        with db.transaction():
            db.execute(named("forget_quality", dialect), **at)
            db.append("trivet_quality", batch)
            if self._last_pull() == before:
                attempt = self.period.attempt
                db.execute(named("add_measured", dialect), **at, attempt=attempt, measured_at=now)

    def _rows(self, columns: Mapping[str, str], segment: str) -> list[dict[str, Any]]:
        known, dialect = self.known, self.db.dialect.name
        predicted = f"p.{identifier(self.target.output)}"
        if self.target.kind != "classes":
            predicted = f"CAST({predicted} AS DOUBLE PRECISION)"
        else:
            predicted = _text_of(predicted, columns[self.target.output], dialect)
        joined = with_names(
            self._form("joined"),
            dialect,
            table=identifier(table_of(known.name)),
            key=key_sql(columns, known.key, dialect),
            segment=_segment(segment, columns, dialect),
            predicted=predicted,
        )
        sql = with_names(
            f"measure_{self.target.kind}",
            dialect,
            joined=joined,
            threshold=repr(self.settings.threshold),
            bins=repr(float(BINS_A_LOGIT)),
            smallest=f"{SMALLEST_SCORE:.7f}",
            least="2.220446049250313e-16",
        )
        found = self.db.rows(
            sql,
            **self._where(),
            deployment=known.name,
            model_version=self.period.version,
            positive=self.target.positive,
            truth=self._truth(),
        ).to_pylist()
        return [
            dict.fromkeys(_NUMBERS, 0)
            | {
                "deployment": known.name,
                "period_start": self.period.start,
                "period_end": self.period.end,
                "segment": segment,
                "kind": self.target.kind,
                "positive": self.target.positive,
                "threshold": self.settings.threshold if self.target.kind == "binary" else None,
                "scores": "[]",
            }
            | row
            for row in (_binned(found) if self.target.kind == "binary" else found)
        ]

    def _is_small(self, segment: str) -> bool:
        columns = columns_of(self.db, table_of(self.known.name))
        sql = with_names(
            self._form("values_of"),
            self.db.dialect.name,
            table=identifier(table_of(self.known.name)),
            segment=_segment(segment, columns, self.db.dialect.name),
        )
        found = self.db.rows(sql, **self._where(), limit=MAX_SEGMENTS + 1)
        return int(found["n"][0].as_py()) <= MAX_SEGMENTS

    def _form(self, statement: str) -> str:
        return f"{statement}_{'attempt' if self.period.attempt else 'rows'}"

    def _where(self) -> dict[str, Any]:
        if self.period.attempt:
            return {"attempt": self.period.attempt}
        return {"since": self.period.start, "until": self.period.end}

    def _truth(self) -> dt.datetime:
        by_interval = self.settings.by_interval and self.known.kind == "batch"
        return self.period.start if by_interval else ANY_INTERVAL

    def _last_pull(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.db.rows(
            named("last_pull", self.db.dialect.name), deployment=self.known.name
        ).to_pylist()
        return found


def _binned(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the bins of a version and segment into one row."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for part in found:
        row = rows.setdefault(
            (part["model_version"], part["value"]),
            {"model_version": part["model_version"], "value": part["value"], "scores": []},
        )
        row["scores"].append(
            [part["bin"], part["row_count"], part["positive_count"], part["score_sum"]]
        )
        for name in _NUMBERS:
            if name in part:
                row[name] = row.get(name, 0) + part[name]
    return [row | {"scores": json.dumps(sorted(row["scores"]))} for row in rows.values()]


def _is_segment(kind: str) -> bool:
    """Say whether a column of a type may be one; in SQLite a time is a text too."""
    return kind in ("text", "integer", "boolean", "smallint", "bigint")


def _segment(name: str, columns: Mapping[str, str], dialect: str) -> str:
    if not name:
        return "''"
    return f"coalesce({_text_of(f'p.{identifier(name)}', columns[name], dialect)}, 'null')"


def _text_of(column: str, kind: str, dialect: str) -> str:
    if kind == "boolean" and dialect == "sqlite":
        return f"CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
    return f"CAST({column} AS TEXT)"

"""The last predictions, and those about one key, each with its lineage."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trivet.dashboard import words
from trivet.dashboard.ask import Ask, Span
from trivet.dashboard.columns import Columns
from trivet.results.reading import Row
from trivet.results.statements import identifier, named

SHOWN = 15
_SEARCHED_ROWS = 500_000
_INTERVALS = 1_000
_LOOK_BACK = dt.timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Found:
    """A table of predictions.

    Attributes:
        columns: Its columns.
        rows: Its rows as text, each with its lineage.
        note: What was looked at.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Mapping[str, Any]]]
    note: str


def read(
    ask: Ask,
    deployment: Mapping[str, Any],
    columns: Columns,
    span: Span,
    newest: dt.datetime,
    search: str,
) -> Found:
    """Return the newest predictions of a span, or those whose key is the text searched for."""
    names = columns.shown
    listed = ", ".join(identifier(name) for name in names)
    view = identifier(deployment["view_name"])
    if deployment["kind"] == "batch":
        rows, note = _of_intervals(ask, deployment, columns, span, search, listed, view)
    else:
        rows, note = _of_log(ask, columns, span, newest, search, listed, view)
    shown = [([words.value(row[name]) for name in names], row) for row in rows]
    return Found(names, shown, note)


def _of_intervals(
    ask: Ask,
    deployment: Mapping[str, Any],
    columns: Columns,
    span: Span,
    search: str,
    listed: str,
    view: str,
) -> tuple[list[Row], str]:
    sizes = ask.source.rows(
        "published_sizes", deployment=deployment["name"], limit=_INTERVALS, **span.bounds()
    )
    most = _SEARCHED_ROWS if search else 1
    taken: list[Row] = []
    seen = 0
    for size in sizes:
        if taken and seen + size["rows_scored"] > most:
            break
        taken.append(size)
        seen += size["rows_scored"]
    if not taken:
        return [], ""
    where = "1 = 1"
    if search:
        every = [name for name in columns.key if name in columns.types]
        where = " OR ".join(f"CAST({identifier(name)} AS TEXT) = $search" for name in every)
    sql = named("rows_of_intervals", ask.source.dialect, "trivet.dashboard")
    sql = sql.format(columns=listed, view=view, search=where or "1 = 0")
    attempts = ",".join(str(size["attempt"]) for size in taken)
    given = {"search": search} if search else {}
    rows = ask.source.ask(sql, attempts=attempts, limit=SHOWN, **given)
    if search and len(taken) < len(sizes):
        oldest = words.moment(taken[-1]["interval_start"])
        return rows, f"Searched from {oldest} on; choose an earlier span to search further back."
    return rows, "" if search else "Of the newest interval."


def _of_log(
    ask: Ask,
    columns: Columns,
    span: Span,
    newest: dt.datetime,
    search: str,
    listed: str,
    view: str,
) -> tuple[list[Row], str]:
    extra = [name for name in ("seconds", "inputs", "event_at") if name in columns.types]
    more = "".join(f", {identifier(name)}" for name in extra)
    kind = "rows_of_log"
    if search:
        kind = "rows_of_log_by_source" if columns.key else "rows_of_log_by_id"
    sql = named(kind, ask.source.dialect, "trivet.dashboard")
    sql = sql.format(columns=listed, view=view, more=more)
    if not search:
        until = min(span.until, newest)
        since = max(span.since, until - _LOOK_BACK)
        rows = ask.source.ask(sql, since=since, until=until, limit=SHOWN)
        return rows, ""
    if columns.key:
        # The source is the JSON object of the key; with several columns, the first is searched.
        given: dict[str, Any] = {"source": _source(columns.key, search)}
    else:
        given = {"source": "{}", "id": search}
    return ask.source.ask(sql, limit=SHOWN, **given), "Searched all rows."


def _source(key: Sequence[str], search: str) -> str:
    values = [part.strip() for part in search.split(",")]
    values += [""] * (len(key) - len(values))
    parts = dict(zip(key, values, strict=False))
    return json.dumps(parts, separators=(",", ":"), ensure_ascii=False)

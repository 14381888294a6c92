"""Predictions broken down by the value of a key or kept column.

Rows are looked at up to a limit, the newest intervals first, and the chart says how many: a page
must be fast however many rows there are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from trivet.dashboard.ask import Ask, Span
from trivet.dashboard.charts import Chart
from trivet.dashboard.columns import Columns
from trivet.dashboard.predictions import breakdown_chart
from trivet.results.reading import Row
from trivet.results.statements import identifier, named

MOST_ROWS = 200_000
_VALUES = 24
_INTERVALS = 1_000


def read(
    ask: Ask,
    deployment: Mapping[str, Any],
    columns: Columns,
    output: str,
    by: str,
    span: Span,
    newest: dt.datetime,
) -> Chart | None:
    """Return the breakdown of an output by one of `Columns.groupings`."""
    groupings = columns.groupings()
    if by not in groupings:
        return None
    name, part = groupings[by]
    value = identifier(name)
    if part:
        value = named(f"part_{part}", ask.source.dialect, "trivet.dashboard").format(column=value)
    measure = identifier(output) if columns.is_number(output) else "NULL"
    names = {
        "table": identifier(f"predictions_{deployment['view_name']}"),
        "value": value,
        "measure": measure,
    }
    if deployment["kind"] == "batch":
        return _of_intervals(ask, deployment, output, by, span, names)
    until = min(span.until, newest)
    since = max(span.since, until - dt.timedelta(days=366 * 20))
    sql = named("breakdown_of_rows", ask.source.dialect, "trivet.dashboard").format(**names)
    rows = ask.source.ask(sql, since=since, until=until, most=MOST_ROWS, limit=_VALUES + 1)
    seen = sum(row["n"] for row in rows)
    note = f"Of {seen:,} rows." if seen < MOST_ROWS else f"Of {MOST_ROWS:,} rows of the span."
    return _chart(by, output, rows, note)


def _of_intervals(
    ask: Ask,
    deployment: Mapping[str, Any],
    output: str,
    by: str,
    span: Span,
    names: Mapping[str, str],
) -> Chart:
    sizes = ask.source.rows(
        "published_sizes", deployment=deployment["name"], limit=_INTERVALS, **span.bounds()
    )
    taken: list[str] = []
    rows = 0
    for size in sizes:
        if taken and rows + size["rows_scored"] > MOST_ROWS:
            break
        taken.append(str(size["attempt"]))
        rows += size["rows_scored"]
    sql = named("breakdown_of_intervals", ask.source.dialect, "trivet.dashboard").format(**names)
    found = ask.source.ask(sql, attempts=",".join(taken), most=MOST_ROWS, limit=_VALUES + 1)
    if rows > MOST_ROWS:
        note = f"Of the first {MOST_ROWS:,} rows of the newest interval."
    elif len(taken) < len(sizes):
        note = f"Of the newest {len(taken):,} intervals, {rows:,} rows."
    else:
        note = f"Of {rows:,} rows."
    return _chart(by, output, found, note)


def _chart(by: str, output: str, rows: Sequence[Row], note: str) -> Chart:
    if len(rows) > _VALUES:
        note += f" The {_VALUES} most frequent values."
    return breakdown_chart(by, output, rows[:_VALUES], note)

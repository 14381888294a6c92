"""The user's own charts: SQL over the results, drawn as the project file says."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from trivet.dashboard import charts, words
from trivet.dashboard.ask import Ask, State
from trivet.dashboard.charts import Chart
from trivet.dashboard.drawing import channel
from trivet.dashboard.settings import ChartSettings, DashboardSettings
from trivet.dashboard.source import MOST_ROWS
from trivet.errors import DatabaseError, TransientError
from trivet.results.reading import Row

_TABLE_ROWS = 200


@dataclass(frozen=True, slots=True)
class Tile:
    """A big number, and how it compares with the period before."""

    value: str
    change: str = ""
    before: str = ""
    state: State = "none"


@dataclass(frozen=True, slots=True)
class Own:
    """A chart of the user's, as far as it could be made.

    Attributes:
        settings: What was asked for.
        chart: The chart, or None.
        tile: The number, or None.
        columns: Columns of a table.
        rows: Its rows.
        problem: Why there is nothing.
        note: A sentence below it.
    """

    settings: ChartSettings
    chart: Chart | None = None
    tile: Tile | None = None
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    problem: str = ""
    note: str = ""


def own_pages(settings: DashboardSettings) -> list[tuple[str, str]]:
    """Return the pages that charts name: title and address."""
    names = dict.fromkeys(chart.page for chart in settings.charts.values() if chart.page)
    return [(name, page_path(name)) for name in names]


def page_path(name: str) -> str:
    """Return the address of a page of the user's."""
    return f"/charts/{quote(name, safe='')}"


def shown(ask: Ask, page: str) -> list[Own]:
    """Return the charts of a page; the empty name is the overview's."""
    return [_made(ask, chart) for chart in ask.settings.charts.values() if chart.page == page]


def _made(ask: Ask, settings: ChartSettings) -> Own:
    """Make one chart; what is wrong with it is told in its place, and hurts no other one."""
    span = ask.span()
    try:
        rows, cut = ask.source.select(settings.query, **span.bounds())
    except TransientError:
        raise
    except DatabaseError as error:
        return Own(settings, problem=str(error))
    note = settings.note
    if cut:
        note = f"{note} The first {MOST_ROWS:,} rows only: aggregate in the query.".strip()
    if not rows:
        return Own(settings, problem="The query gives no row.")
    names = list(rows[0])
    x, ys = settings.x or names[0], list(settings.y)
    asked = [name for name in (x, *ys, settings.color) if name]
    unknown = [name for name in asked if name not in names]
    if unknown and settings.kind not in ("table", "spec"):
        return Own(
            settings, problem=f"the query has no column {unknown[0]}; it has {', '.join(names)}"
        )
    if settings.kind == "number":
        return Own(settings, tile=_tile(settings, rows[0]), note=note)
    if settings.kind == "table":
        cells = [[words.value(row[name]) for name in names] for row in rows[:_TABLE_ROWS]]
        return Own(settings, columns=names, rows=cells, note=note)
    if settings.kind == "spec":
        return _whole_spec(settings, rows, note)
    return Own(settings, chart=_drawn(settings, rows, x, ys, note))


def _tile(settings: ChartSettings, row: Row) -> Tile:
    values = [row[name] for name in settings.y or row]
    value = values[0]
    before = values[1] if len(values) > 1 else None
    if not isinstance(value, int | float):
        return Tile(words.value(value))
    told = written(settings, value)
    if not isinstance(before, int | float):
        return Tile(told)
    state: State = "none"
    if settings.better and value != before:
        state = "good" if (value > before) == (settings.better == "up") else "bad"
    if settings.format == "percent":
        change = f"{100 * (value - before):+.1f} points"
    elif before:
        change = f"{100 * (value - before) / abs(before):+.1f} %"
    else:
        change = ""
    return Tile(told, change.replace("-", "\N{MINUS SIGN}"), written(settings, before), state)


def written(settings: ChartSettings, value: float) -> str:
    """Write a number as the chart says."""
    if settings.format == "percent":
        return words.percent(value)
    if settings.format == "count":
        text = words.compact(value)
    elif settings.format == "money":
        text = f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    else:
        text = words.number(value)
    if not settings.unit:
        return text
    before = len(settings.unit) == 1 and not settings.unit.isalpha()
    return f"{settings.unit}{text}" if before else f"{text} {settings.unit}"


def _whole_spec(settings: ChartSettings, rows: Sequence[Row], note: str) -> Own:
    try:
        spec = json.loads(settings.spec)
        if not isinstance(spec, dict):
            raise TypeError
    except (ValueError, TypeError):
        return Own(settings, problem="spec is no JSON object with a Vega-Lite specification")
    spec.setdefault("data", {"name": "rows"})
    spec.setdefault("width", "container")
    spec.setdefault("height", 240)
    spec["datasets"] = {**spec.get("datasets", {}), "rows": [charts.plain(row) for row in rows]}
    cells = [[words.value(cell) for cell in row.values()] for row in rows[:_TABLE_ROWS]]
    chart = Chart(
        f"own-{settings.name}", spec, settings.heading, settings.heading, list(rows[0]), cells, note
    )
    return Own(settings, chart=chart)


def _drawn(settings: ChartSettings, rows: Sequence[Row], x: str, ys: list[str], note: str) -> Chart:
    names = list(rows[0])
    ys = ys or [name for name in names if name not in (x, settings.color)]
    color = settings.color
    long = rows
    if len(ys) > 1:  # a column a series
        long = [{x: row[x], "series": name, "value": row[name]} for row in rows for name in ys]
        y, color = "value", "series"
    else:
        y = ys[0] if ys else x
    kind = _type(long, x)
    if kind == "T":
        axis = charts.time_axis(_field(x), x)
    else:
        longest = max((len(str(row[x])) for row in long), default=0)
        turned = 0 if kind == "Q" or longest <= 4 else -35
        axis = channel(
            f"{_field(x)}:{kind}",
            title=x,
            sort=None,
            axis={"labelAngle": turned, "labelLimit": 120, "labelOverlap": True, "grid": False},
        )
    zero = settings.kind in ("bar", "area")
    formats = {"percent": ".0%", "money": "~s", "count": "~s", "number": ".4~g"}
    written_as = f"format(datum.value, '{formats[settings.format]}')"
    value = channel(
        f"{_field(y)}:Q",
        title=settings.unit or (y if len(ys) == 1 else None),
        scale={"zero": zero},
        axis={"labelExpr": written_as, "tickCount": 5},
    )
    tips: list[Any] = [
        charts.moment_tip(_field(x), x) if kind == "T" else channel(f"{_field(x)}:{kind}", title=x),
        channel(f"{_field(y)}:Q", title=y, format=",.4~g"),
    ]
    encoding: dict[str, Any] = {"x": axis, "y": value}
    if color:
        encoding["color"] = channel(f"{_field(color)}:N", title=None)
        tips.insert(1, channel(f"{_field(color)}:N", title=color))
    encoding["tooltip"] = tips
    start = charts.base()
    marks: Mapping[str, Any] = {
        "line": start.mark("line", point=len(rows) < 60),
        "area": start.mark("area", opacity=0.35, line=True),
        "bar": start.mark("bar"),
        "point": start.mark("point"),
    }
    return charts.chart(
        f"own-{settings.name}",
        settings.heading,
        marks[settings.kind].encode(**encoding),
        long,
        says=settings.heading,
        height=240,
        note=note,
    )


def _field(name: str) -> str:
    """Return a column's name as Vega-Lite takes it: dots and brackets would mean parts of it."""
    escaped = name.replace("\\", "\\\\")
    for mark in ".[]:":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped


def _type(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    value = next((row[name] for row in rows if row[name] is not None), None)
    if isinstance(value, dt.datetime | dt.date) or _is_day(value):
        return "T"
    return "Q" if isinstance(value, int | float) and not isinstance(value, bool) else "N"


def _is_day(value: Any) -> bool:
    if not isinstance(value, str) or len(value) != 10:
        return False
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return True

"""Charts as Vega-Lite specifications.

A specification has no colours of its own: names such as ``$accent`` stand for those of the
theme, which the page (light or dark) or the report puts in.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trivet.dashboard import words
from trivet.dashboard.drawing import SCHEMA, Drawing, Part, channel

Rows = Sequence[Mapping[str, Any]]

STATES = {"good": "$good", "note": "$accent", "warn": "$warn", "bad": "$bad", "none": "$muted"}

_TABLE_ROWS = 400

_CLOCK = {
    "year": "%Y",
    "quarter": "%b",
    "month": "%b",
    "week": "%b %d",
    "date": "%b %d",
    "day": "%b %d",
    "hours": "%H:%M",
    "minutes": "%H:%M",
    "seconds": "%H:%M:%S",
}
"""How a tick of the axis of time is written, by what it is a tick of; a clock of 24 hours."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart on a page.

    Attributes:
        name: Its name on the page; unique there.
        spec: The Vega-Lite specification with its data.
        title: Its heading.
        says: What it shows, in a sentence, for those who do not see it.
        columns: The columns of its table.
        rows: The figures as a table.
        note: A sentence below it.
    """

    name: str
    spec: Mapping[str, Any]
    title: str
    says: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    note: str = ""

    @property
    def json(self) -> str:
        """The specification, fit to stand inside a script element."""
        text = json.dumps(self.spec, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace("\u2028", "\\u2028")


def chart(
    name: str,
    title: str,
    drawing: Drawing,
    rows: Rows,
    *,
    says: str = "",
    height: int = 220,
    note: str = "",
    table: Mapping[str, str] | None = None,
) -> Chart:
    """Put a drawing on a page.

    Args:
        name: The chart's name on the page.
        title: Its heading.
        drawing: The marks, begun with `base`.
        rows: The figures.
        says: What it shows, for those who do not see it.
        height: In pixels; the width is the page's.
        note: A sentence below it.
        table: Columns of the table of its figures, by name, with their headings.
    """
    spec = {
        "$schema": SCHEMA,
        **drawing.spec(),
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "datasets": {"rows": [plain(row) for row in rows]},
    }
    heads = table if table is not None else {key: key for key in (rows[0] if rows else {})}
    cells = [[words.value(row.get(key)) for key in heads] for row in rows[:_TABLE_ROWS]]
    return Chart(name, spec, title, says or title, list(heads.values()), cells, note)


def base() -> Drawing:
    """Return the beginning of a drawing over the rows that `chart` is given."""
    return Drawing({"name": "rows"})


def time_axis(column: str, title: str = "", *, kind: str = "T") -> Part:
    """Return the axis of time: UTC, whatever the visitor's clock says."""
    return channel(
        f"{column}:{kind}",
        title=title or None,
        scale={"type": "utc"},
        axis={
            "grid": False,
            "labelOverlap": "greedy",
            "labelSeparation": 8,
            "tickCount": 8,
            "format": _CLOCK,
        },
    )


def value_axis(column: str, title: str, *, zero: bool = True, of: str = "count") -> Part:
    """Return the axis of a value: of a ``count``, a ``figure`` or a ``share``."""
    axis: Part = {"tickCount": 5}
    if of == "count":  # written one by one: a common prefix would make 0k of nothing
        axis |= {"tickMinStep": 1, "labelExpr": "format(datum.value, '~s')"}
    else:
        axis["format"] = {"figure": ".4~g", "share": "%"}[of]
    return channel(
        f"{column}:Q",
        title=title,
        scale={"zero": zero, "nice": True},
        axis=axis,
    )


def moment_tip(column: str, title: str) -> Part:
    """Return a line of a tooltip with a moment, in UTC."""
    return channel(f"{column}:T", title=title, format="%Y-%m-%d %H:%M", formatType="utc")


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON takes it: moments in ISO 8601, no figure that is none."""
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def spark(values: Sequence[float | None], width: int = 120, height: int = 28) -> dict[str, Any]:
    """Return the bars of a small chart without axes, drawn by the page itself."""
    known = [v for v in values if v is not None]
    top = max(known, default=0) or 1
    step = width / max(len(values), 1)
    bars = [
        {
            "x": round(i * step, 2),
            "width": round(max(step - 1, 0.6), 2),
            "height": round(max(height * v / top, 1.0 if v else 0.0), 2),
            "y": round(height - max(height * v / top, 1.0 if v else 0.0), 2),
        }
        for i, v in enumerate(values)
        if v is not None
    ]
    return {"width": width, "height": height, "bars": bars}

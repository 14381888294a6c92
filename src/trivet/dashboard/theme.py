"""The light theme for charts that are drawn without a page: in reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLOURS: Mapping[str, str] = {
    "good": "#16764a",
    "warn": "#8a5800",
    "bad": "#b4232c",
    "accent": "#1f4fd8",
    "muted": "#566373",
    "ink": "#17202b",
    "line": "#dde2e8",
    "surface": "#ffffff",
    "series-1": "#2f66e8",
    "series-2": "#e0742d",
    "series-3": "#1d9a74",
    "series-4": "#9b51c4",
    "series-5": "#b8930f",
    "series-6": "#128bab",
    "series-7": "#cf4676",
    "series-8": "#66768a",
}
"""The names that a specification uses behind a ``$``; the same values as in ``trivet.css``."""


def coloured(part: Any) -> Any:
    """Put colours in the places of their names, in a specification or a piece of one."""
    if isinstance(part, str):
        return COLOURS.get(part[1:], part) if part.startswith("$") else part
    if isinstance(part, list):
        return [coloured(item) for item in part]
    if isinstance(part, Mapping):
        return {k: v if k == "datasets" else coloured(v) for k, v in part.items()}
    return part


def config() -> dict[str, Any]:
    """Return the configuration of charts that `trivet.js` gives them on a page."""
    font = "DejaVu Sans, Helvetica, Arial, sans-serif"
    text = {
        "labelFont": font,
        "titleFont": font,
        "labelColor": COLOURS["muted"],
        "titleColor": COLOURS["muted"],
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    }
    first = COLOURS["series-1"]
    soft = "#e8eefc"
    return {
        "background": COLOURS["surface"],
        "font": font,
        "view": {"stroke": None},
        "axis": {
            **text,
            "gridColor": COLOURS["line"],
            "domainColor": "#c3cbd5",
            "tickColor": "#c3cbd5",
            "labelPadding": 5,
            "titlePadding": 8,
        },
        "axisY": {"domain": False, "ticks": False},
        "legend": {**text, "symbolType": "circle", "orient": "top", "offset": 6},
        "title": {"font": font, "fontSize": 14, "color": COLOURS["ink"], "anchor": "start"},
        "range": {
            "category": [COLOURS[f"series-{i}"] for i in range(1, 9)],
            "heatmap": [soft, first],
            "ramp": [soft, first],
        },
        "line": {"strokeWidth": 2.2, "color": first},
        "point": {"size": 42, "filled": True, "color": first},
        "area": {"color": first},
        "bar": {"color": first},
        "rect": {"color": first},
        "rule": {"color": COLOURS["muted"]},
        "text": {"color": COLOURS["ink"], "font": font},
    }

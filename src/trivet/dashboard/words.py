"""Figures and moments as people read them."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

NONE = "\N{EN DASH}"
"""What stands where there is no figure."""

_STEPS = ((60.0, "s", 1.0), (3600.0, "min", 60.0), (86_400.0, "h", 3600.0))


def number(value: Any, digits: int = 3) -> str:
    """Write a figure with as many digits as say something; whole ones with separators."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    places = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    if places > 8:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def compact(value: Any) -> str:
    """Write a large count shortly: 1,234 stays, 12,345 is 12.3k."""
    if value is None:
        return NONE
    size = abs(value)
    for least, letter, unit in ((1e10, "B", 1e9), (1e7, "M", 1e6), (1e4, "k", 1e3)):
        if size >= least:
            return (
                f"{value / unit:.3g}{letter}"
                if size < 1000 * unit
                else f"{value / unit:,.0f}{letter}"
            )
    return number(value)


def percent(value: Any, digits: int = 1) -> str:
    """Write a share."""
    if value is None or not math.isfinite(value):
        return NONE
    share = 100 * value
    if 0 < abs(share) < 10**-digits:
        return f"<{10**-digits:g} %"
    return f"{share:.{digits}f} %"


def length(seconds: Any) -> str:
    """Write a length of time with its two largest units at most."""
    if seconds is None:
        return NONE
    if isinstance(seconds, dt.timedelta):
        seconds = seconds.total_seconds()
    size = abs(float(seconds))
    if size < 0.1:
        return f"{1000 * size:.3g} ms"
    for limit, unit, one in _STEPS:
        if size < limit:
            return f"{size / one:.{1 if size / one < 10 else 0}f} {unit}".replace(".0 ", " ")
    days = size / 86_400
    if days < 60:
        return f"{days:.0f} days" if round(days) != 1 else "1 day"
    return f"{days / 30.44:.0f} months" if days < 730 else f"{days / 365.25:.1f} years"


def ago(moment: dt.datetime | None, now: dt.datetime) -> str:
    """Write how long ago a moment was, or in how long it will be."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    if 0 <= seconds < 1:
        return "just now"
    return f"{length(seconds)} ago" if seconds >= 0 else f"in {length(-seconds)}"


def moment(value: Any) -> str:
    """Write a moment in UTC, as short as it can be."""
    if not isinstance(value, dt.datetime):
        return NONE if value is None else str(value)
    if (value.hour, value.minute, value.second) == (0, 0, 0):
        return f"{value:%Y-%m-%d}"
    if value.second:
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{value:%Y-%m-%d %H:%M}"


def value(cell: Any) -> str:
    """Write a cell of a table."""
    if isinstance(cell, dt.datetime):
        return moment(cell)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return number(cell, 4)
    return NONE if cell is None else str(cell)


def parsed(text: Any, otherwise: Any = None) -> Any:
    """Return what a JSON text says, or something else if it says nothing."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return otherwise


FILTERS = {
    "number": number,
    "compact": compact,
    "percent": percent,
    "lasting": length,
    "moment": moment,
    "cell": value,
}

"""Lengths of time as ``trivet.toml`` writes them: ``90s``, ``15m``, ``6h``, ``30d``; ``5ms``."""

from __future__ import annotations

import datetime as dt
import re

_UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
    "w": "weeks",
}
_PART = re.compile(r"(\d{1,12})(ms|[smhdw])", re.ASCII)
_LONGEST = dt.timedelta(days=36_525)


def parse_duration(text: str) -> dt.timedelta:
    """Read a length of time; several parts add up (``1h30m``).

    Raises:
        ValueError: The text is none, or is more than a century.
    """
    parts = _PART.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f"{text[:60]!r} is no length of time; write 90s, 15m, 6h, 30d or 2w")
    try:
        total = sum(
            (dt.timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), dt.timedelta()
        )
    except OverflowError:
        total = dt.timedelta.max
    if total > _LONGEST:
        raise ValueError(f"{text!r} is more than a century; write 90s, 15m, 6h, 30d or 2w")
    return total

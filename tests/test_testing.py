from __future__ import annotations

import datetime as dt

import pytest

from trivet.testing import Clock

START = dt.datetime(2024, 3, 31, 0, 30, tzinfo=dt.UTC)


def test_a_clock_stands_still_until_it_is_moved() -> None:
    clock = Clock(START)
    assert clock() == clock() == START
    assert clock.advance(dt.timedelta(hours=1)) == START + dt.timedelta(hours=1)
    assert clock() == START + dt.timedelta(hours=1)


def test_a_clock_tells_utc() -> None:
    local = START.astimezone(dt.timezone(dt.timedelta(hours=2)))
    assert Clock(local)() == START
    assert Clock(local)().tzinfo is dt.UTC
    with pytest.raises(ValueError, match="no time zone"):
        Clock(START.replace(tzinfo=None))


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        Clock(START).advance(dt.timedelta(seconds=-1))

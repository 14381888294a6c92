from __future__ import annotations

import datetime as dt
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.durations import parse_duration

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
parts = st.lists(st.tuples(st.integers(0, 500), st.sampled_from("smhdw")), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("6h", 21_600), ("30d", 2_592_000), ("2w", 1_209_600), ("0s", 0)],
)
def test_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == dt.timedelta(seconds=seconds)


@settings(deadline=None)
@given(parts)
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{n}{unit}" for n, unit in parts)
    assert parse_duration(text).total_seconds() == sum(n * SECONDS[unit] for n, unit in parts)


@pytest.mark.parametrize(
    "text", ["", "5", "h", "5 h", "-5h", "1.5h", "5H", "5y", "5h ", "1h,30m", "٣h", "5hours"]
)
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is no length of time; write 90s") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["5219w", "999999999999w", "99999999999h1s"])
def test_more_than_a_century_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text}.*century"):
        parse_duration(text)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) >= dt.timedelta()

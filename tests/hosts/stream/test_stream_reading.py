"""Events read: what becomes of one does not depend on those that came with it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trivet.brokers.base import Fetched
from trivet.hosts.stream.intake import Batch, Chunk
from trivet.hosts.stream.reading import EventReader, Events
from trivet.hosts.stream.settings import StreamSettings
from trivet.schema import Field, Schema

APPENDED = 1_767_225_600_000
SCHEMA = Schema(
    [
        Field(name="fare", type="float64"),
        Field(name="zone", type="string", nullable=True),
        Field(name="at", type="timestamp", nullable=True),
        Field(name="count", type="int32", nullable=True),
    ]
)
READER = EventReader(
    StreamSettings(name="tip", model="tip", topic="rides", key=("ride",)),
    SCHEMA,
)
GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a",
    "source": "/taxi",
    "type": "ride",
    "data": {"ride": 7, "fare": 12.5},
}
NO_EVENT = b"this is no event"
"""Whatever comes with it is read one by one."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
MOMENTS = (
    st.datetimes(timezones=st.none() | st.timezones() | st.just(dt.UTC)).map(dt.datetime.isoformat)
    | st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ]?([0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?)?"
        r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?",
        fullmatch=True,
    )
    | st.text(max_size=20)
)
DATA = st.fixed_dictionaries(
    {"fare": st.floats() | st.integers() | JSON},
    optional={
        "ride": JSON,
        "zone": st.text(max_size=5) | JSON,
        "at": MOMENTS | JSON,
        "count": st.integers() | JSON,
    },
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.just("1.0") | JSON,
        "id": st.text(max_size=5) | JSON,
        "source": st.text(max_size=5) | JSON,
        "type": st.text(max_size=5) | JSON,
        "time": MOMENTS | JSON,
        "subject": st.text(max_size=5) | JSON,
        "data": DATA | JSON,
        "data_base64": st.sampled_from([None, "eyJmYXJlIjoxfQ==", "?"]) | JSON,
        "datacontenttype": JSON,
    },
).map(lambda changed: GOOD | changed)


def read(*values: bytes | None) -> Events:
    n = len(values)
    fetched = Fetched(0, range(n), [b"k"] * n, values, None, [APPENDED] * n)
    return READER.read(Batch([Chunk.of(fetched, 0, 0.0)], 0))


def told(events: Events) -> list[tuple[Any, ...]]:
    """Return what is known of each event, in order."""
    problems: dict[int, list[tuple[str, str]]] = {}
    for problem in events.decoded.problems.to_pylist():
        problems.setdefault(problem["row"], []).append((problem["field"], problem["code"]))
    return [
        (
            repr(events.decoded.batch.slice(row, 1).to_pylist()),
            repr([column[row] for column in events.beside]),
            events.ids[row],
            events.sources[row],
            events.times[row].as_py(),
            problems.get(row, []),
        )
        for row in range(events.count)
    ]


def same_with_and_without_a_neighbour(value: bytes) -> None:
    alone = told(read(value))
    together = told(read(value, NO_EVENT))
    assert len(together) == len(alone) + 1
    assert together[:-1] == alone


@given(EVENTS.map(lambda event: json.dumps(event).encode()))
@example(json.dumps(GOOD | {"time": "2020-01-01T00:00Z"}).encode())
@example(json.dumps(GOOD | {"time": "2020-01-01T00Z"}).encode())
@example(json.dumps(GOOD | {"time": "2020-01-01T00:00:00Z"}).encode())
@example(json.dumps(GOOD | {"time": "2020-01-01T00:00:00+23:59"}).encode())
@example(json.dumps(GOOD | {"time": "0000-01-01T00:00:00Z"}).encode())
@example(json.dumps(GOOD | {"time": "2016-12-31T23:59:60Z"}).encode())
@example(json.dumps(GOOD | {"subject": 7}).encode())
@example(json.dumps(GOOD | {"subject": None}).encode())
@example(json.dumps(GOOD | {"data_base64": "eyJmYXJlIjoxfQ=="}).encode())
@example(json.dumps(GOOD | {"data_base64": None}).encode())
def test_a_neighbour_changes_nothing(value: bytes) -> None:
    same_with_and_without_a_neighbour(value)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_event_are_one_too(value: bytes) -> None:
    same_with_and_without_a_neighbour(value)


@pytest.mark.parametrize(
    "text",
    [
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"fare":1},"id":"b"}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"fare":1},"data":{"fare":2}}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"fare":1,"zone":"\xff"}}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"fare":1,"x":"\xff"}}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","x":"\xff","data":{"fare":1}}',
        b'{"specversion":"1.0","id":"\\ud800","source":"s","type":"t","data":{"fare":1}}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"fare":1,"zone":"\\ud800"}}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"fare":1e999}}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"fare":NaN}}',
        b'{"specversion":"1.0","id":"a","source":"s","type":"t","data":' + b"[" * 5000,
    ],
)
def test_odd_texts_are_the_same_too(text: bytes) -> None:
    same_with_and_without_a_neighbour(text)


def test_an_event_says_when_it_happened_or_its_broker_does() -> None:
    events = read(
        json.dumps(GOOD | {"time": "2020-01-01T02:00:00.5+02:00"}).encode(),
        json.dumps(GOOD).encode(),
    )
    assert events.times.to_pylist() == [
        dt.datetime(2020, 1, 1, 0, 0, 0, 500_000, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    ]

"""JSON objects as columns: held against `trivet.validation.conform`, which reads Arrow."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trivet.records import Record, RecordReader
from trivet.schema import TYPES, Field, Schema
from trivet.validation import Decoded, conform, validate

EVERY = Schema(Field(name=name, type=name) for name in TYPES)
OPEN = Schema(Field(name=name, type=name, nullable=True) for name in TYPES)


def read(text: str | bytes, schema: Schema = OPEN, beside: tuple[str, ...] = ()) -> Record:
    return RecordReader(schema, beside).read(text.encode() if isinstance(text, str) else text)


def one(value: str, kind: str) -> tuple[Any, list[tuple[str, str]]]:
    """Read one value, as JSON writes it, into a field of a type."""
    schema = Schema([Field(name="f", type=kind, nullable=True)])
    reader = RecordReader(schema)
    decoded = reader.columns([reader.read(f'{{"f": {value}}}'.encode())])
    found = decoded.problems.to_pylist()
    return decoded.batch.column(0)[0].as_py(), [(p["field"], p["code"]) for p in found]


UTC = dt.UTC
LAST = dt.datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        ("true", "bool", True),
        ("1", "int8", 1),
        ("1.0", "int64", 1),
        ("-0.0", "int64", 0),
        ("3", "float64", 3.0),
        ("3.4028235677973362e38", "float32", 3.4028234663852886e38),
        ('"a\\u0000é"', "string", "a\0é"),
        ('"2020-01-01T01:00:00+01:00"', "timestamp", dt.datetime(2020, 1, 1, tzinfo=UTC)),
        ('"2020-01-01T00:00:00"', "timestamp", dt.datetime(2020, 1, 1, tzinfo=UTC)),
        (
            '"2020-01-01T00:00:00.1234569"',
            "timestamp",
            dt.datetime(2020, 1, 1, 0, 0, 0, 123456, UTC),
        ),
        ('"1969-12-31T23:59:59\\u002e99999999Z"', "timestamp", LAST.replace(year=1969)),
        ('"9999-12-31T23:59:59.9999999Z"', "timestamp", LAST),
        ('"2020-01-01"', "date", dt.date(2020, 1, 1)),
        ("null", "string", None),
    ],
)
def test_what_is_read(value: str, kind: str, found: object) -> None:
    assert one(value, kind) == (found, [])


@pytest.mark.parametrize(
    ("value", "kind", "code"),
    [
        ("1", "bool", "type"),
        ("true", "int8", "type"),
        ('"1"', "int64", "type"),
        ('"1"', "float64", "type"),
        ("128", "int8", "type"),
        ("1.5", "int64", "type"),
        ("9223372036854775808", "int64", "type"),
        ("1e30", "int64", "type"),
        ("NaN", "int64", "not_finite"),
        ("1e999", "float64", "not_finite"),
        ("-Infinity", "float32", "not_finite"),
        ("1e39", "float32", "type"),
        ('"2020-01-01T00:00:00.1234567?"', "timestamp", "type"),
        ("-3.4028235677973366e38", "float32", "type"),
        ("9" * 400, "float64", "type"),
        ("[1]", "float64", "type"),
        ('{"a": 1}', "string", "type"),
        ('"\\ud800"', "string", "type"),
        ('"\\ud800"', "timestamp", "type"),
        ('"\\ud800"', "date", "type"),
        ("5", "timestamp", "type"),
        ('"soon"', "timestamp", "type"),
        ('"0001-01-01T00:00:00+23:59"', "timestamp", "type"),
        ('"9999-12-31T23:59:59-23:59"', "timestamp", "type"),
        ('"2020-01-01T25:00:00Z"', "timestamp", "type"),
        ('"2020-13-01"', "date", "type"),
    ],
)
def test_what_is_not(value: str, kind: str, code: str) -> None:
    assert one(value, kind) == (None, [("f", code)])


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        ("9300000000000000000", "int64", "9300000000000000000 does not fit int64"),
        ("-129.0", "int8", "-129.0 does not fit int8"),
        ("1e30", "int32", "1e+30 does not fit int32"),
        ("9" * 400, "float64", f"{'9' * 60} does not fit float64"),
        ("1e39", "float32", "1e+39 does not fit float32"),
        ("1.5", "int8", "1.5 is a number, not int8"),
        ("1e30", "bool", "1e+30 is a number, not bool"),
    ],
)
def test_a_number_that_does_not_fit_is_told_from_what_is_none(
    value: str, kind: str, reason: str
) -> None:
    reader = RecordReader(Schema([Field(name="f", type=kind)]))
    decoded = reader.columns([reader.read(f'{{"f": {value}}}'.encode())])
    assert decoded.problems["reason"].to_pylist() == [reason]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 10_000, "the JSON is nested too deeply"),
        ('{"a":' * 10_000, "the JSON is nested too deeply"),
        ('{"float64": 1' + "0" * 5000 + "}", "a number in the JSON has too many digits"),
        (b'{"float64": NaN, "x": 1' + b"0" * 6000 + b"}", "has too many digits"),
        (b'{"string": "\xff"}', "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ("null", "the row is null, not an object"),
        ("[]", "the row is a list, not an object"),
        ('"x"', "the row is text, not an object"),
        ("true", "the row is a boolean, not an object"),
    ],
)
def test_what_cannot_be_decoded(text: str | bytes, reason: str) -> None:
    record = read(text, beside=("ride",))
    assert [(field, code) for field, code, _ in record.problems] == [("", "undecodable")]
    assert reason in record.problems[0][2]
    assert list(record.beside) == [None]


def test_every_problem_of_a_row_is_named() -> None:
    record = read('{"int8": 300, "string": null, "bool": 1}', EVERY)
    codes = {field: code for field, code, _ in record.problems}
    assert codes == dict.fromkeys(EVERY.names, "missing") | {
        "int8": "type",
        "string": "null",
        "bool": "type",
    }


def test_the_last_of_two_equal_names_counts() -> None:
    schema = Schema([Field(name="a", type="int8")])
    assert read('{"a": 1, "a": 2}', schema).values == (2,)
    assert read('{"a": "x", "a": 2.0}', schema).values == [2]


def test_names_need_not_be_pythons() -> None:
    schema = Schema([Field(name="class", type="int8"), Field(name="a b", type="int8")])
    assert read('{"class": 1, "a b": 2, "other": {}}', schema).values == (1, 2)


def test_what_is_carried_along() -> None:
    schema = Schema([Field(name="a", type="int8")])
    beside = ("ride", "a", "note")
    assert read('{"a": 1, "ride": [1]}', schema, beside).beside == ([1], 1, None)
    assert read('{"a": 1.0, "ride": "x"}', schema, beside).beside == ("x", 1.0, None)
    assert RecordReader(schema, beside).beside == beside


def test_a_key_that_is_an_input_is_told_as_it_was_read_beside_a_bad_value_too() -> None:
    schema = Schema([Field(name="at", type="timestamp"), Field(name="n", type="int8")])
    key, moment = ("n", "at"), dt.datetime(2020, 1, 1, tzinfo=UTC)
    assert read('{"at": "2020-01-01T00:00:00", "n": 1.0}', schema, key).beside == (1, moment)
    assert read('{"at": "2020-01-01T00:00:00", "n": "x"}', schema, key).beside == ("x", moment)


def test_python_objects_are_read_too() -> None:
    schema = Schema([Field(name="at", type="timestamp"), Field(name="day", type="date")])
    moment, day = dt.datetime(2020, 1, 1), dt.date(2020, 1, 1)  # noqa: DTZ001 - naive on purpose
    record = RecordReader(schema).read_object({"at": moment, "day": day})
    assert record.values == [moment.replace(tzinfo=UTC), day]
    assert RecordReader(schema).read_object([1]).problems[0][1] == "undecodable"


def test_rows_are_put_together_in_order() -> None:
    schema = Schema([Field(name="a", type="float32"), Field(name="s", type="string")])
    reader = RecordReader(schema)
    rows = [
        '{"a": 1, "s": "x"}',
        '{"a": 1e300, "s": "\\ud800"}',
        '{"a": "b"}',
        '{"a": 2, "s": "z"}',
    ]
    decoded = reader.columns([reader.read(row.encode()) for row in rows])
    assert decoded.batch.to_pydict() == {"a": [1.0, None, None, 2.0], "s": ["x", None, None, "z"]}
    found = [(p["row"], p["field"], p["code"]) for p in decoded.problems.to_pylist()]
    assert found == [(1, "a", "type"), (1, "s", "type"), (2, "a", "type"), (2, "s", "missing")]


EDGES = [2.0**p + d for p in (7, 15, 31, 53, 63, 127, 128) for d in (-1, 0, 1)]
NUMBERS = (
    st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([sign * edge for edge in EDGES for sign in (-1, 1)])
    | st.none()
)
FIELDS = st.tuples(
    st.sampled_from(["int8", "int16", "int32", "int64", "float32", "float64"]),
    st.booleans(),
    st.none() | st.integers(-100, 100),
    st.none() | st.integers(101, 1000),
).map(
    lambda f: Field(name="f", type=f[0], nullable=f[1], min=_fit(f[0], f[2]), max=_fit(f[0], f[3]))
)


def _fit(kind: str, bound: int | None) -> int | None:
    return None if bound is None else min(bound, 127) if kind == "int8" else bound


def problems(decoded: Decoded, schema: Schema) -> list[tuple[int, str, str]]:
    return sorted((p["row"], p["field"], p["code"]) for p in validate(decoded, schema).to_pylist())


@settings(max_examples=150, deadline=None)
@given(field=FIELDS, values=st.lists(NUMBERS, min_size=1, max_size=8))
def test_numbers_are_the_same_in_json_and_in_arrow(field: Field, values: list[Any]) -> None:
    schema = Schema([field])
    floats = [None if v is None else float(v) for v in values]
    arrow = conform(pa.record_batch({"f": pa.array(floats, pa.float64())}), schema)
    reader = RecordReader(schema)
    mine = reader.columns([reader.read(json.dumps({"f": v}).encode()) for v in values])
    assert problems(mine, schema) == problems(arrow, schema)
    same(mine, arrow)


@settings(max_examples=150, deadline=None)
@given(field=FIELDS, values=st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=8))
def test_integers_are_the_same_in_json_and_in_arrow(field: Field, values: list[int]) -> None:
    schema = Schema([field])
    arrow = conform(pa.record_batch({"f": pa.array(values, pa.int64())}), schema)
    reader = RecordReader(schema)
    mine = reader.columns([reader.read(json.dumps({"f": v}).encode()) for v in values])
    assert problems(mine, schema) == problems(arrow, schema)
    same(mine, arrow)


MOMENTS = (
    st.datetimes(
        dt.datetime(1, 1, 3),  # noqa: DTZ001 - the zones are drawn too
        dt.datetime(9999, 12, 29),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, dt.timezone(dt.timedelta(hours=5))]),
    )
    | st.datetimes()
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "bool": st.booleans() | st.none(),
        "string": st.text() | st.none(),
        "timestamp": MOMENTS | st.none(),
        "date": st.dates() | st.none(),
    },
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(OTHERS, min_size=1, max_size=5), open_=st.booleans())
def test_other_types_are_the_same_in_json_and_in_arrow(rows: list[Any], open_: bool) -> None:
    names = ("bool", "string", "timestamp", "date")
    schema = Schema(Field(name=n, type=n, nullable=open_) for n in names)
    columns = {n: pa.array([_utc(row.get(n)) for row in rows], TYPES[n]) for n in names}
    arrow = conform(pa.record_batch(columns), schema)
    reader = RecordReader(schema)
    mine = reader.columns([reader.read(json.dumps(r, default=_iso).encode()) for r in rows])
    missing = [(i, n, "missing") for i, row in enumerate(rows) for n in names if n not in row]
    expected = [p for p in problems(arrow, schema) if (*p[:2], "missing") not in missing]
    assert problems(mine, schema) == sorted([*expected, *(missing if not open_ else [])])
    same(mine, arrow)


def _utc(value: Any) -> Any:
    naive = isinstance(value, dt.datetime) and value.tzinfo is None
    return value.replace(tzinfo=UTC) if naive else value


def _iso(value: Any) -> str:
    text: str = value.isoformat()
    return text


def same(a: Decoded, b: Decoded) -> None:
    for mine, other in zip(a.batch.columns, b.batch.columns, strict=True):
        assert mine.type == other.type
        for x, y in zip(mine.to_pylist(), other.to_pylist(), strict=True):
            both_nan = isinstance(x, float) and isinstance(y, float) and math.isnan(x + y)
            # Whoever finds that a float is not finite, it is named and nobody sees it.
            lost = (x is None and isinstance(y, float)) and not math.isfinite(y)
            assert x == y or both_nan or lost


@settings(max_examples=150, deadline=None)
@given(since=st.integers(-(2**63), 2**63 - 1), zoned=st.booleans())
@example(since=-1, zoned=True)
def test_a_time_is_cut_to_microseconds_in_json_and_in_arrow(since: int, zoned: bool) -> None:
    schema = Schema([Field(name="at", type="timestamp")])
    column = pa.array([since], pa.timestamp("ns"))
    text = column.cast(pa.string())[0].as_py() + ("Z" if zoned else "")
    cut = conform(pa.record_batch({"at": column}), schema).batch
    reader = RecordReader(schema)
    assert reader.columns([reader.read(json.dumps({"at": text}).encode())]).batch == cut
    row = msgspec.json.decode(json.dumps({"at": text}), type=reader.shape)
    together = reader.together([row, row])
    assert together is not None
    assert together[0][:1] == cut


@settings(max_examples=150, deadline=None)
@given(text=st.binary(max_size=100))
def test_no_text_makes_it_stumble(text: bytes) -> None:
    reader = RecordReader(OPEN, ("ride",))
    reader.columns([reader.read(text)])

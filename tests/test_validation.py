from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.errors import SchemaError
from trivet.schema import TYPES, Field, Schema
from trivet.validation import (
    CODES,
    NOT_ALLOWED,
    NOT_FINITE,
    NULL,
    PROBLEMS,
    RANGE,
    TYPE,
    UNDECODABLE,
    Decoded,
    clean_rows,
    conform,
    merge,
    no_problems,
    problems,
    take,
    validate,
)

INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
UNSIGNED = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def integers(bits: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.one_of(st.integers(least, most), st.sampled_from([least, most, 0, 1, 100]))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    **{name: integers(bits) for name, bits in INTEGERS.items()},
    "float32": st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, 2.0**31, -128.0])),
    "float64": st.one_of(
        st.floats(),
        st.integers(-300, 300).map(float),
        st.sampled_from([0.0, -0.0, -(2.0**63), 2.0**63, -128.0, 3.5e38, 1e-50]),
    ),
    "string": st.one_of(st.text(max_size=5), st.just("x" * 70)),
    "timestamp": st.datetimes(timezones=st.just(dt.UTC)),
    "date": st.dates(),
}
LEGAL: dict[str, st.SearchStrategy[Any]] = VALUES | {
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
}


# What validate finds, against one row after the other in Python.


@st.composite
def fields(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(sorted(TYPES)))
    parts: dict[str, Any] = {}
    if kind not in ("bool", "string") and draw(st.booleans()):
        low, high = sorted(draw(st.tuples(LEGAL[kind], LEGAL[kind])))
        parts |= draw(st.sampled_from([{"min": low}, {"max": high}, {"min": low, "max": high}]))
    if draw(st.booleans()):
        parts["values"] = draw(st.lists(LEGAL[kind], min_size=1, max_size=4))
    return Field(name=name, type=kind, nullable=draw(st.booleans()), **parts)


@st.composite
def decoded_rows(draw: st.DrawFn) -> tuple[Schema, Decoded]:
    schema = Schema([draw(fields(name)) for name in draw(st.sampled_from(["a", "ab", "bca"]))])
    count = draw(st.integers(0, 6))
    columns, told = [], []
    for field in schema:
        near = [*(field.values or ()), *(b for b in (field.min, field.max) if b is not None)]
        one: st.SearchStrategy[Any] = VALUES[field.type]
        if near:
            one = st.one_of(one, st.sampled_from(near))
        column = draw(st.lists(st.one_of(st.none(), one), min_size=count, max_size=count))
        unread = [row for row in range(count) if column[row] is None and draw(st.booleans())]
        if unread:
            told.append(problems(unread, field.name, TYPE, "no number"))
        skip = draw(st.integers(0, 2))
        array = pa.array([None] * skip + column, TYPES[field.type])
        columns.append(array.slice(skip))
    if count and draw(st.booleans()):
        told.append(problems([draw(st.integers(0, count - 1))], "", UNDECODABLE, "no JSON"))
    arrow = pa.schema([pa.field(f.name, TYPES[f.type]) for f in schema])
    return schema, Decoded(pa.RecordBatch.from_arrays(columns, schema=arrow), merge(told))


def found_in_row(field: Field, value: Any, known: set[tuple[str, str]]) -> list[str]:
    if value is None:
        named = {name for name, _ in known} & {"", field.name}
        return [] if field.nullable or named else [NULL]
    if isinstance(value, float) and not math.isfinite(value):
        return [NOT_FINITE]
    rounded: Callable[[Any], Any] = (
        (lambda v: float(np.float32(v))) if field.type == "float32" else (lambda v: v)
    )
    codes = []
    if field.min is not None and value < rounded(field.min):
        codes.append(RANGE)
    if field.max is not None and value > rounded(field.max):
        codes.append(RANGE)
    if field.values is not None and value not in [rounded(v) for v in field.values]:
        codes.append(NOT_ALLOWED)
    return codes


def by_row(found: pa.RecordBatch) -> dict[int, set[tuple[str, str]]]:
    rows: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for line in found.to_pylist():
        rows[line["row"]].add((line["field"], line["code"]))
    return rows


@settings(max_examples=150, deadline=None)
@given(decoded_rows())
def test_validate_finds_what_a_look_at_each_row_finds(case: tuple[Schema, Decoded]) -> None:
    schema, decoded = case
    known = by_row(decoded.problems)
    expected = []
    for row, values in enumerate(decoded.batch.to_pylist()):
        expected += [(row, field, code) for field, code in known.get(row, ())]
        for field in schema:
            codes = found_in_row(field, values[field.name], known.get(row, set()))
            expected += [(row, field.name, code) for code in codes]
    found = validate(decoded, schema)
    assert found.schema == PROBLEMS
    lines = found.to_pylist()
    assert sorted((p["row"], p["field"], p["code"]) for p in lines) == sorted(expected)
    assert [p["row"] for p in lines] == sorted(p["row"] for p in lines)
    assert all(p["reason"] and p["code"] in CODES for p in lines)
    bad = {row for row, _, _ in expected}
    good = [row for row in range(decoded.batch.num_rows) if row not in bad]
    rows = clean_rows(decoded.batch.num_rows, found)
    assert (list(range(decoded.batch.num_rows)) if rows is None else rows.tolist()) == good
    assert (rows is None) == (not expected)


def only(field: Field, values: list[Any]) -> list[tuple[int, str, str]]:
    batch = pa.record_batch([pa.array(values, TYPES[field.type])], names=[field.name])
    lines = validate(Decoded(batch, no_problems()), Schema([field])).to_pylist()
    return [(line["row"], line["code"], line["reason"]) for line in lines]


def test_reasons_name_the_value_and_the_bound() -> None:
    age = Field(name="age", type="int32", min=18, max=99)
    assert only(age, [17, 18, 99, 100, None]) == [
        (0, RANGE, "17 is below the minimum 18"),
        (3, RANGE, "100 is above the maximum 99"),
        (4, NULL, "null is not allowed"),
    ]
    plan = Field(name="plan", type="string", values=("free", "paid"), nullable=True)
    assert only(plan, ["paid", None, "x" * 500]) == [
        (2, NOT_ALLOWED, "x" * 60 + " is not one of the allowed values")
    ]
    since = Field(name="since", type="timestamp", min=EPOCH)
    assert only(since, [EPOCH, EPOCH - dt.timedelta(seconds=1)]) == [
        (
            1,
            RANGE,
            "1969-12-31 23:59:59.000000Z is below the minimum 1970-01-01 00:00:00.000000Z",
        )
    ]


def test_a_number_that_is_not_finite_has_that_code_alone() -> None:
    share = Field(name="share", type="float64", min=0, max=1, values=(0.0, 0.5))
    codes = [(row, code) for row, code, _ in only(share, [math.nan, math.inf, -math.inf, -0.0])]
    assert codes == [(0, NOT_FINITE), (1, NOT_FINITE), (2, NOT_FINITE)]


def test_a_bound_of_a_narrow_float_is_rounded_as_its_values_are() -> None:
    share = Field(name="share", type="float32", min=0.1, max=0.1, values=(0.1,))
    assert only(share, [0.1]) == []


def test_a_column_without_a_row_has_no_problem() -> None:
    for kind in TYPES:
        assert only(Field(name="a", type=kind), []) == []


# What conform makes of a value, against exact arithmetic in Python.

SOURCES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    **{name: (TYPES[name], VALUES[name]) for name in TYPES},
    **{
        name: (getattr(pa, name)(), integers(bits, signed=False)) for name, bits in UNSIGNED.items()
    },
    "float16": (pa.float16(), st.floats(width=16).map(np.float16)),
    "decimal128": (
        pa.decimal128(30, 6),
        st.one_of(
            st.decimals(-(10**23), 10**23, places=6),
            st.integers(-(10**20), 10**20).map(Decimal),
            st.sampled_from([2**53 + 1, -(2**63), 2**63, 2**63 - 1, -128, 128]).map(Decimal),
        ),
    ),
    "decimal256": (
        pa.decimal256(76, 40),
        st.integers(-(10**75), 10**75).map(lambda n: Decimal(n).scaleb(-40)),
    ),
    "large": (pa.decimal256(50, 0), st.integers(-(10**49), 10**49).map(Decimal)),
    "decimal64": (pa.decimal64(9, 3), st.decimals(-(10**5), 10**5, places=3)),
    "large_string": (pa.large_string(), VALUES["string"]),
    "string_view": (pa.string_view(), VALUES["string"]),
    "timestamp_s": (pa.timestamp("s"), integers(64)),
    "timestamp_ms": (pa.timestamp("ms", "Europe/Berlin"), integers(64)),
    "timestamp_us": (pa.timestamp("us", "America/New_York"), integers(64)),
    "timestamp_ns": (pa.timestamp("ns", "Asia/Kathmandu"), integers(64)),
    "timestamp_naive": (pa.timestamp("us"), integers(64)),
    "date64": (pa.date64(), st.dates()),
    "null": (pa.null(), st.none()),
    "binary": (pa.binary(), st.binary(max_size=2)),
    "list": (pa.list_(pa.int8()), st.lists(st.integers(0, 5), max_size=2)),
}
TICKS = {"s": 1_000_000, "ms": 1000, "us": 1}
FIRST = (dt.datetime.min.replace(tzinfo=dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)
LAST = (dt.datetime.max.replace(tzinfo=dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)


def kinds(arrow: pa.DataType) -> str:
    t = pa.types
    for name in ("integer", "floating", "decimal", "timestamp", "date", "boolean", "null"):
        if getattr(t, f"is_{name}")(arrow):
            return name
    strings = (t.is_string, t.is_large_string, t.is_string_view)
    return "string" if any(is_string(arrow) for is_string in strings) else "other"


FEEDS = {
    "integer": {"integer", "floating", "decimal"},
    "floating": {"integer", "floating", "decimal"},
}


def converted(value: Any, source: pa.DataType, target: str) -> tuple[Any, str | None]:
    """Return what a value must become, or null and the code of its problem."""
    if value is None:
        return None, None
    if target in INTEGERS:
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            return None, NOT_FINITE
        end = 2 ** (INTEGERS[target] - 1)
        fits = value == int(value) and -end <= int(value) < end
        return (int(value), None) if fits else (None, TYPE)
    if target in ("float32", "float64"):
        width = np.float32 if target == "float32" else np.float64
        with np.errstate(over="ignore"):
            exact = value if isinstance(value, int) else float(value)
            number = float(np.asarray(exact, _numpy(source)).astype(width))
        return (None, TYPE) if math.isinf(number) and not math.isinf(value) else (number, None)
    if target == "timestamp" and isinstance(value, int):
        if source.unit == "ns":
            return value // 1000, None
        ticks = value * TICKS[source.unit]
        return (ticks, None) if FIRST <= ticks <= LAST else (None, TYPE)
    if target == "timestamp":
        return (value - EPOCH) // dt.timedelta(microseconds=1), None
    return value, None


def _numpy(source: pa.DataType) -> Any:
    integer = pa.types.is_integer(source)
    return source.to_pandas_dtype() if integer else np.float64


def values_of(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]
    return column.to_pylist()  # type: ignore[no-any-return]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() or (a != a and b != b)
    return bool(a == b) and type(a) is type(b)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SOURCES)), st.sampled_from(sorted(TYPES)), st.booleans(), st.data())
def test_conform_changes_no_value(
    name: str, target: str, dictionary: bool, data: st.DataObject
) -> None:
    arrow, strategy = SOURCES[name]
    values = data.draw(st.lists(st.one_of(st.none(), strategy), max_size=6))
    skip = data.draw(st.integers(0, min(2, len(values))))
    raw = pa.int64() if pa.types.is_timestamp(arrow) and name != "timestamp" else arrow
    column = pa.array(values, raw).cast(arrow).slice(skip)
    values = values[skip:]
    kind = kinds(arrow)
    encodable = kind in ("integer", "string", "floating") and name not in ("float16", "string_view")
    if dictionary and encodable:
        column = column.dictionary_encode()
    batch = pa.record_batch([pa.array([7] * len(values)), column], names=["other", "a"])
    schema = Schema([Field(name="a", type=target)])
    wanted = kinds(TYPES[target])
    if kind != "null" and kind not in FEEDS.get(wanted, {wanted}):
        with pytest.raises(SchemaError, match=f"'a' is .*the model wants {target}; cast it"):
            conform(batch, schema)
        return
    done = conform(batch, schema)
    assert done.batch.schema == pa.schema([pa.field("a", TYPES[target])])
    expected = [converted(value, arrow, target) for value in values]
    got = values_of(done.batch.column(0))
    assert all(same(a, b) for a, (b, _) in zip(got, expected, strict=True)), (got, expected)
    lines = done.problems.to_pylist()
    assert [(p["row"], p["field"], p["code"]) for p in lines] == [
        (row, "a", code) for row, (_, code) in enumerate(expected) if code
    ]


@pytest.mark.parametrize("source", [pa.float64(), pa.float32(), pa.decimal128(25, 0)])
@pytest.mark.parametrize("target", sorted(INTEGERS))
def test_the_ends_of_an_integer_type_are_in_it(source: pa.DataType, target: str) -> None:
    end = 2 ** (INTEGERS[target] - 1)
    make = Decimal if pa.types.is_decimal(source) else float
    batch = pa.record_batch([pa.array([make(-end), make(end)], source)], names=["a"])
    done = conform(batch, Schema([Field(name="a", type=target)]))
    assert done.batch.to_pydict() == {"a": [-end, None]}
    assert [p["row"] for p in done.problems.to_pylist()] == [1]


@pytest.mark.parametrize(
    ("kind", "target", "ends"),
    [
        (pa.timestamp("us", "UTC"), "timestamp", (FIRST, LAST)),
        (pa.timestamp("s"), "timestamp", (FIRST // 10**6, LAST // 10**6)),
        (pa.date32(), "date", (FIRST // 86_400_000_000, LAST // 86_400_000_000)),
    ],
)
def test_years_are_those_that_have_four_digits(
    kind: pa.DataType, target: str, ends: tuple[int, int]
) -> None:
    raw = pa.int32() if target == "date" else pa.int64()
    column = pa.array([ends[0] - 1, *ends, ends[1] + 1, None], raw).view(kind)
    done = conform(pa.record_batch({"a": column}), Schema([Field(name="a", type=target)]))
    years = [None if v is None else v.year for v in done.batch["a"].to_pylist()]
    assert years == [None, 1, 9999, None, None]
    assert [(p["row"], p["code"]) for p in done.problems.to_pylist()] == [(0, TYPE), (3, TYPE)]


def test_columns_that_fit_are_not_copied() -> None:
    column = pa.array([1.0, 2.0])
    done = conform(
        pa.record_batch([column], names=["a"]), Schema([Field(name="a", type="float64")])
    )
    assert done.batch.column(0).buffers()[1].address == column.buffers()[1].address


def test_order_is_the_schemas_and_other_columns_are_left_out() -> None:
    batch = pa.record_batch({"a": [1], "b": ["x"], "c": [True]})
    done = conform(batch, Schema([Field(name="c", type="bool"), Field(name="a", type="int64")]))
    assert done.batch.schema.names == ["c", "a"]


def test_missing_columns_are_all_named() -> None:
    schema = Schema(Field(name=name, type="int8") for name in ("a", "b", "c"))
    with pytest.raises(SchemaError, match="missing columns b, c; there are a, d"):
        conform(pa.record_batch({"a": [1], "d": [2]}), schema)
    with pytest.raises(SchemaError, match="missing column c; there are a, b"):
        conform(pa.record_batch({"a": [1], "b": [2]}), schema)
    with pytest.raises(SchemaError, match="there are none"):
        conform(pa.record_batch([], names=[]), schema)


def test_a_column_that_is_there_twice_is_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(SchemaError, match="column a is there twice"):
        conform(batch, Schema([Field(name="a", type="int64")]))


def test_a_batch_is_never_changed() -> None:
    batch = pa.record_batch({"a": pa.array([1.0, math.nan, 2.5, None])})
    before = batch.serialize().to_pybytes()
    schema = Schema([Field(name="a", type="int8", min=2)])
    validate(conform(batch, schema), schema)
    assert batch.serialize().to_pybytes() == before


# Problems.


def test_problems_are_merged_by_row_each_rows_in_the_order_given() -> None:
    a = problems([3, 1], "a", TYPE, "x")
    b = problems(np.array([1, 0]), "b", NULL, pa.array(["y", "z"]))
    merged = merge([a, no_problems(), b])
    assert [(p["row"], p["field"]) for p in merged.to_pylist()] == [
        (0, "b"),
        (1, "a"),
        (1, "b"),
        (3, "a"),
    ]
    assert merged.schema == PROBLEMS


def test_one_batch_of_problems_is_put_in_order_too() -> None:
    assert merge([problems([3, 1], "a", TYPE, "x")]).column("row").to_pylist() == [1, 3]


def test_merging_nothing_gives_no_problem() -> None:
    assert merge([]).num_rows == 0
    assert merge([no_problems()]).schema == PROBLEMS


def test_take_none_is_the_batch_itself() -> None:
    batch = pa.record_batch({"a": [1, 2, 3]})
    assert take(batch, None) is batch
    assert take(batch, [2, 0]).to_pydict() == {"a": [3, 1]}
    assert take(batch, np.array([], np.int64)).num_rows == 0

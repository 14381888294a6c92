from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.manifest import BatchDependence
from trivet.parity import (
    ANOTHER_ANSWER,
    CROWD,
    LEAST,
    MAX_ROWS,
    SIZES,
    difference,
    measure,
    synthetic,
    ulps,
)
from trivet.schema import TYPES, Field, Schema
from trivet.testing import FailingModel, LinearModel
from trivet.validation import Decoded, no_problems, validate

relaxed = settings(deadline=None)
finite = {
    np.float32: st.floats(width=32, allow_nan=False, allow_infinity=False),
    np.float64: st.floats(allow_nan=False, allow_infinity=False),
}
KINDS = [np.float32, np.float64]


@pytest.mark.parametrize("kind", KINDS)
@relaxed
@given(data=st.data(), steps=st.integers(0, 40), up=st.booleans())
def test_so_many_steps_of_nextafter_are_so_many_ulps(
    kind: type[np.floating[Any]], data: st.DataObject, steps: int, up: bool
) -> None:
    a = kind(data.draw(finite[kind]))
    b = a
    towards = kind(np.inf if up else -np.inf)
    with np.errstate(over="ignore"):
        for _ in range(steps):
            b = np.nextafter(b, towards)
    if np.isinf(b):
        return
    assert ulps(pa.array([a]), pa.array([b])) == steps
    assert ulps(pa.array([b]), pa.array([a])) == steps


@relaxed
@given(st.floats(1e-300, 1e300), st.integers(1, 1000))
def test_within_a_binade_an_ulp_is_numpys_spacing(low: float, steps: int) -> None:
    start = 2.0 ** math.floor(math.log2(low))
    assert ulps(pa.array([start]), pa.array([start + steps * np.spacing(start)])) == steps


@pytest.mark.parametrize(
    ("a", "b", "kind", "expected"),
    [
        ([], [], "float64", 0),
        ([1.0, None], [1.0, None], "float64", 0),
        ([math.nan, 1.0], [math.nan, 1.0], "float64", 0),
        ([0.0, -0.0], [0.0, -0.0], "float64", 0),
        ([0.0], [-0.0], "float64", 1),
        ([0.0], [-0.0], "float32", 1),
        ([5e-324], [-5e-324], "float64", 2),
        ([1.0, 2.0], [1.0, np.nextafter(2, 3)], "float64", 1),
        ([None], [1.0], "float64", ANOTHER_ANSWER),
        ([math.nan], [1.0], "float64", ANOTHER_ANSWER),
        ([1.0], [1.0, 1.0], "float64", ANOTHER_ANSWER),
        ([math.inf], [math.inf], "float64", 0),
        ([-1.7976931348623157e308], [1.7976931348623157e308], "float64", ANOTHER_ANSWER),
        ([1, -3], [1, 4], "int8", 7),
        ([-128], [127], "int8", 255),
        ([-(2**63)], [2**63 - 1], "int64", ANOTHER_ANSWER),
        ([2**62], [2**62 + 1], "int64", 1),
        ([1], [None], "int64", ANOTHER_ANSWER),
        (["a"], ["a"], "string", 0),
        (["a"], ["b"], "string", ANOTHER_ANSWER),
        ([True], [False], "bool", ANOTHER_ANSWER),
    ],
)
def test_the_difference_of_two_columns(
    a: list[Any], b: list[Any], kind: str, expected: int
) -> None:
    one, other = pa.array(a, TYPES[kind]), pa.array(b, TYPES[kind])
    assert ulps(one, other) == ulps(other, one) == expected


def test_columns_of_two_types_are_another_answer() -> None:
    assert ulps(pa.array([1.0]), pa.array([1.0], pa.float32())) == ANOTHER_ANSWER


def test_tables_differ_as_their_worst_columns_do() -> None:
    a = pa.table({"a": pa.chunked_array([[1.0], [2.0]]), "b": [1, 1]})
    b = pa.record_batch({"a": [1.0, 2.0], "b": [1, 4]})
    assert difference(a, b) == 3
    assert difference(a, a) == 0
    assert difference(pa.table({}), pa.table({})) == 0


def column(batch: pa.RecordBatch) -> npt.NDArray[np.float64]:
    return np.asarray(batch.column(0).to_numpy())


def answer(values: npt.ArrayLike) -> pa.RecordBatch:
    return pa.record_batch([pa.array(np.asarray(values))], names=["prediction"])


ROWS = pa.record_batch({"x0": np.random.default_rng(0).normal(size=400)})
MANY = pa.record_batch({"x0": np.random.default_rng(0).normal(size=MAX_ROWS + 10)})


def test_a_model_whose_arithmetic_ignores_the_batch() -> None:
    measured = measure(LinearModel(weights=(3.0,)).predict, ROWS, source="sample")
    assert measured is not None
    assert (measured.max_ulps, measured.rows, measured.source) == (0, 400, "sample")


def test_a_slow_model_is_asked_less_often_and_of_every_size() -> None:
    sizes: list[int] = []
    now = 0.0

    def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
        nonlocal now
        now += 1.0
        sizes.append(batch.num_rows)
        return LinearModel(weights=(3.0,)).predict(batch)

    measured = measure(slow, MANY, source="sample", clock=lambda: now)
    quick = measure(LinearModel(weights=(3.0,)).predict, MANY, clock=lambda: 0.0)
    assert measured is not None
    assert quick is not None
    assert measured.compared == sum(sizes[1:]) < quick.compared
    assert len(sizes) <= 1 + len(SIZES) * LEAST
    assert set(SIZES) <= set(sizes)
    assert all(sizes.count(size) >= min(LEAST, MAX_ROWS // size) for size in SIZES)


def test_a_quick_model_is_asked_for_every_row_alone_and_for_a_crowd() -> None:
    alone, sizes = set(), []

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        sizes.append(batch.num_rows)
        if batch.num_rows == 1:
            alone.add(batch.column(0)[0].as_py())
        return LinearModel(weights=(3.0,)).predict(batch)

    measure(predict, MANY, clock=lambda: 0.0)
    assert alone == set(MANY.column(0).to_pylist()[:MAX_ROWS])
    assert max(sizes) == CROWD * MAX_ROWS
    assert len(sizes) < 2500  # 0.1 ms each for most models


def test_few_rows_are_asked_for_in_every_smaller_size() -> None:
    sizes: list[int] = []

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        sizes.append(batch.num_rows)
        return LinearModel(weights=(3.0,)).predict(batch)

    measured = measure(predict, MANY.slice(0, 5), source="sample")
    assert measured is not None
    assert (measured.rows, set(sizes), sizes.count(5)) == (5, {1, 2, 3, 4, 5}, 1)
    assert measure(predict, MANY.slice(0, 1)) == BatchDependence(
        max_ulps=0, rows=1, source="synthetic", compared=0
    )


@pytest.mark.parametrize("rare", [MAX_ROWS - 1, 517])
def test_one_row_that_a_kernel_for_one_row_adds_in_another_order_is_found(rare: int) -> None:
    """As with a matrix product: one row in a hundred shows it, and only alone."""
    value = MANY.column(0)[rare].as_py()

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        values = column(batch)
        return answer(np.nextafter(values, np.inf) if values.tolist() == [value] else values)

    measured = measure(predict, MANY)
    assert measured is not None
    assert measured.max_ulps == 1


def test_two_batches_that_err_to_two_sides_of_the_whole_are_held_against_each_other() -> None:
    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        towards = {1: np.inf, 16: -np.inf}.get(batch.num_rows)
        values = column(batch)
        return answer(values if towards is None else np.nextafter(values, towards))

    def integers(batch: pa.RecordBatch) -> pa.RecordBatch:
        return answer(np.full(batch.num_rows, {1: 2, 16: -3}.get(batch.num_rows, 0)))

    assert [measure(each, MANY).max_ulps for each in (predict, integers)] == [2, 5]  # type: ignore[union-attr]


def dense(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add as BLAS may: in another order for another number of rows."""
    terms = np.outer(column(batch), 1 / np.arange(1, 50))
    order = np.arange(49) if batch.num_rows > 4 else np.arange(49)[::-1]
    total = np.zeros(batch.num_rows)
    for i in order:
        total += terms[:, i]
    return answer(total)


def test_a_dense_model_that_adds_in_another_order_is_found() -> None:
    measured = measure(dense, ROWS, source="sample")
    assert measured is not None
    assert 0 < measured.max_ulps < 1000


@pytest.mark.parametrize(
    "predict",
    [
        lambda batch: answer(column(batch) - column(batch).mean()),
        lambda batch: answer(np.arange(batch.num_rows)),
        lambda batch: answer(column(batch)[:1]) if batch.num_rows == 3 else answer(column(batch)),
        lambda batch: answer([str(batch.num_rows > 30)] * batch.num_rows),
    ],
)
def test_a_model_that_looks_at_other_rows_is_found(
    predict: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> None:
    measured = measure(predict, ROWS)
    assert measured is not None
    assert measured.max_ulps > 100


def test_metadata_of_one_call_is_no_difference() -> None:
    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        return answer(column(batch)).replace_schema_metadata({"n": str(batch.num_rows)})

    measured = measure(predict, ROWS)
    assert measured is not None
    assert measured.max_ulps == 0


def test_a_model_that_refuses_made_up_rows_is_not_measured() -> None:
    model = FailingModel(on=ROWS.column(0).to_pylist())
    assert measure(model.predict, ROWS) is None
    with pytest.raises(ValueError, match="no answer"):
        measure(model.predict, ROWS, source="sample")


BOUNDS: dict[str, st.SearchStrategy[Any]] = {
    "int8": st.integers(-128, 127),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1])),
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "timestamp": st.datetimes(timezones=st.just(dt.UTC)),
    "date": st.dates(),
}


@st.composite
def bounded(draw: st.DrawFn) -> Field:
    kind = draw(st.sampled_from(sorted(TYPES)))
    parts: dict[str, Any] = {}
    if kind in BOUNDS:
        low, high = sorted(draw(st.tuples(BOUNDS[kind], BOUNDS[kind])))
        choices = [{}, {"min": low}, {"max": high}, {"min": low, "max": high}, {"values": (low,)}]
        parts = draw(st.sampled_from(choices))
    elif draw(st.booleans()):
        parts = {"values": ("x",) if kind == "string" else (True,)}
    return Field(name="a", type=kind, nullable=draw(st.booleans()), **parts)


@settings(max_examples=150, deadline=None)
@given(bounded())
def test_rows_made_up_are_rows_that_the_schema_allows(field: Field) -> None:
    schema = Schema([field])
    batch = synthetic(schema, 30)
    assert batch.schema == schema.arrow
    assert batch.num_rows == 30
    assert validate(Decoded(batch, no_problems()), schema).num_rows == 0
    assert batch.equals(synthetic(schema, 40).slice(0, 30))
    batch.to_pylist()


def test_rows_made_up_have_nulls_where_they_are_allowed() -> None:
    schema = Schema([Field(name="a", type="string", nullable=True), Field(name="b", type="int8")])
    batch = synthetic(schema)
    assert 0 < batch.column("a").null_count < batch.num_rows
    assert batch.column("b").null_count == 0

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.contract import Model
from trivet.errors import PredictionError
from trivet.schema import Field, Schema
from trivet.scoring import MAX_MODEL_ERRORS, Scored, score
from trivet.testing import FailingModel, LinearModel
from trivet.validation import (
    MODEL_ERROR,
    NULL,
    RANGE,
    Decoded,
    conform,
    merge,
    no_problems,
    problems,
)


@dataclass(frozen=True, kw_only=True)
class AnsweringModel(LinearModel):
    """Answers with what a function makes of its rows, whatever that is."""

    answer: Callable[[pa.RecordBatch], Any]
    declared: Sequence[Field] = (Field(name="prediction", type="float64"),)
    on: Sequence[int] = ()
    asked: list[int] = field(default_factory=list)

    @property
    def inputs(self) -> Schema:
        return Schema([Field(name="x0", type="int64", min=0)])

    @property
    def outputs(self) -> Schema:
        return Schema(self.declared)

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        self.asked.append(batch.num_rows)
        if not set(self.on).isdisjoint(batch.column(0).to_pylist()):
            raise ValueError("no answer")
        return self.answer(batch)


def rows_of(values: Sequence[Any], model: Model) -> Decoded:
    batch = pa.record_batch([pa.array(values, model.inputs.arrow.field(0).type)], names=["x0"])
    return conform(batch, model.inputs)


def codes(scored: Scored) -> list[tuple[int, str, str]]:
    return [(p["row"], p["field"], p["code"]) for p in scored.problems.to_pylist()]


def test_the_doubles_are_models() -> None:
    assert isinstance(LinearModel(), Model)
    assert isinstance(FailingModel(on={1.0}), Model)


def test_all_good_rows_pass_without_a_copy() -> None:
    model = LinearModel(weights=(2.0,), intercept=1.0)
    decoded = rows_of([1.0, 2.0], model)
    scored = score(model, decoded)
    assert scored.rows is None
    assert scored.inputs is decoded.batch
    assert scored.predictions.to_pydict() == {"prediction": [3.0, 5.0]}
    assert scored.predictions.schema == model.outputs.arrow
    assert scored.problems.num_rows == 0


def test_bad_rows_never_reach_the_model() -> None:
    model = AnsweringModel(answer=lambda batch: pa.record_batch({"prediction": [1.5] * len(batch)}))
    scored = score(model, rows_of([3, -1, None, 4], model))
    assert scored.rows is not None
    assert scored.rows.tolist() == [0, 3]
    assert scored.inputs.to_pydict() == {"x0": [3, 4]}
    assert codes(scored) == [(1, "x0", RANGE), (2, "x0", NULL)]
    assert model.asked == [2]


@pytest.mark.parametrize("values", [[], [-1, None]])
def test_without_a_good_row_the_model_is_not_asked(values: list[int | None]) -> None:
    model = AnsweringModel(answer=lambda batch: pa.record_batch({"prediction": [1.5] * len(batch)}))
    scored = score(model, rows_of(values, model))
    assert model.asked == []
    assert scored.predictions.num_rows == scored.inputs.num_rows == 0
    assert scored.predictions.schema == model.outputs.arrow
    assert scored.problems.num_rows == len(values)
    assert (scored.rows is None) == (not values)


def test_rows_on_which_the_model_raises_are_found_and_the_others_go_on() -> None:
    bad = {3.0, 4.0, 99.0}
    model = FailingModel(on=bad)
    scored = score(model, rows_of([float(i) for i in range(100)], model))
    good = [i for i in range(100) if float(i) not in bad]
    assert scored.rows is not None
    assert scored.rows.tolist() == good
    assert scored.predictions.column(0).to_pylist() == [float(i) for i in good]
    assert codes(scored) == [(int(i), "", MODEL_ERROR) for i in sorted(bad)]
    assert scored.problems.to_pylist()[0]["reason"] == "ValueError: no answer for 3.0"


def test_one_row_on_which_the_model_raises() -> None:
    model = FailingModel(on={3.0})
    scored = score(model, rows_of([3.0], model))
    assert codes(scored) == [(0, "", MODEL_ERROR)]
    assert scored.predictions.num_rows == 0


def test_as_many_raising_rows_as_allowed_are_rejects() -> None:
    model = FailingModel(on=[float(i) for i in range(MAX_MODEL_ERRORS)])
    scored = score(model, rows_of([float(i) for i in range(MAX_MODEL_ERRORS)], model))
    assert scored.problems.num_rows == MAX_MODEL_ERRORS
    assert scored.predictions.num_rows == 0


def test_one_more_and_the_model_is_blamed() -> None:
    model = FailingModel(on=[float(i) for i in range(1000)])
    with pytest.raises(
        PredictionError, match=r"linear 1 raised on more than 20 rows.*broken"
    ) as caught:
        score(model, rows_of([float(i) for i in range(1000)], model))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_long_error_is_cut() -> None:
    model = FailingModel(on={1.0}, error=lambda text: ValueError(text * 1000))
    reason = score(model, rows_of([1.0], model)).problems.column("reason")[0].as_py()
    assert len(reason) == 500


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0]])
def test_a_model_that_says_its_answer_is_none_of_its_outputs_is_believed(
    values: list[float],
) -> None:
    model = FailingModel(on={values[-1]}, error=PredictionError)
    with pytest.raises(PredictionError, match="no answer for"):
        score(model, rows_of(values, model))


def test_found_while_halving_it_is_believed_too() -> None:
    def error(text: str) -> Exception:
        return PredictionError(text) if "2.0" in text else ValueError(text)

    model = FailingModel(on={1.0, 2.0}, error=error)
    with pytest.raises(PredictionError, match=r"no answer for 2\.0"):
        score(model, rows_of([1.0, 2.0], model))


def test_an_interrupt_is_not_an_answer() -> None:
    def interrupted(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise KeyboardInterrupt

    model = AnsweringModel(answer=interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(model, rows_of([1], model))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda batch: [1.0] * len(batch), "returned a list, not a pyarrow.RecordBatch"),
        (lambda batch: None, "returned a NoneType"),
        (lambda batch: pa.table({"prediction": [1.0] * len(batch)}), "returned a Table"),
        (
            lambda batch: pa.record_batch({"score": [1.0] * len(batch)}),
            "returned score double; its outputs are prediction double",
        ),
        (
            lambda batch: pa.record_batch({"prediction": [1] * len(batch)}),
            "returned prediction int64; its outputs are prediction double",
        ),
        (
            lambda batch: pa.record_batch(
                {"prediction": [1.0] * len(batch), "b": [1] * len(batch)}
            ),
            "returned prediction double, b int64",
        ),
        (lambda batch: pa.record_batch({"prediction": [1.0]}), "returned 1 rows for 3"),
    ],
)
def test_an_answer_that_is_none_of_the_outputs_is_the_models_fault(
    answer: Callable[[pa.RecordBatch], Any], words: str
) -> None:
    model = AnsweringModel(answer=answer)
    with pytest.raises(PredictionError, match=f"model linear 1 {words}"):
        score(model, rows_of([1, 2, 3], model))


def test_what_the_outputs_forbid_is_rejected() -> None:
    given = [0.5, None, math.nan, math.inf, 1.5, 0.0]
    share = Field(name="prediction", type="float64", min=0, max=1)
    model = AnsweringModel(
        answer=lambda batch: pa.record_batch({"prediction": given}), declared=[share]
    )
    scored = score(model, rows_of(range(6), model))
    assert scored.predictions.to_pydict() == {"prediction": [0.5, 0.0]}
    assert codes(scored) == [(row, "prediction", MODEL_ERROR) for row in (1, 2, 3, 4)]
    assert scored.problems.column("reason").to_pylist() == [
        "the model's answer: null is not allowed",
        "the model's answer: nan is not a finite number",
        "the model's answer: inf is not a finite number",
        "the model's answer: 1.5 is above the maximum 1",
    ]


def test_null_is_an_answer_where_the_outputs_have_room_for_it() -> None:
    maybe = Field(name="prediction", type="float64", nullable=True)
    model = AnsweringModel(
        answer=lambda batch: pa.record_batch({"prediction": [None, 1.0, math.nan]}),
        declared=[maybe],
    )
    scored = score(model, rows_of(range(3), model))
    assert scored.predictions.to_pydict() == {"prediction": [None, 1.0]}
    assert codes(scored) == [(2, "prediction", MODEL_ERROR)]


def test_metadata_that_differs_from_call_to_call_does_no_harm() -> None:
    def answer(batch: pa.RecordBatch) -> pa.RecordBatch:
        told = pa.record_batch({"prediction": [1.0] * len(batch)})
        return told.replace_schema_metadata({"rows": str(len(batch))})

    model = AnsweringModel(answer=answer, on=[4])
    scored = score(model, rows_of(range(7), model))
    assert scored.predictions.num_rows == 6
    assert scored.predictions.schema == model.outputs.arrow


FATES = ("good", "undecoded", "null", "range", "duplicate", "raises", "no answer", "nan", "twice")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(FATES), max_size=40))
def test_every_row_meets_its_fate(fates: list[str]) -> None:
    """Validation rejects, the model raises and answers what is of no use, all in one batch."""
    fates = [
        "good" if fate == "raises" and fates[:row].count("raises") >= MAX_MODEL_ERRORS else fate
        for row, fate in enumerate(fates)
    ]

    def answer(batch: pa.RecordBatch) -> pa.RecordBatch:
        a, b = [], []
        for x in batch.column(0).to_pylist():
            fate = fates[x]
            a.append(None if fate in ("no answer", "twice") else float(x))
            b.append(math.nan if fate in ("nan", "twice") else -float(x))
        types = [pa.float64(), pa.float64()]
        arrays = [pa.array(v, t) for v, t in zip((a, b), types, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=["a", "b"])

    model = AnsweringModel(
        answer=answer,
        on=[row for row, fate in enumerate(fates) if fate == "raises"],
        declared=[Field(name="a", type="float64"), Field(name="b", type="float64")],
    )
    shown = {"undecoded": None, "null": None, "range": -1}
    column = pa.array([shown.get(fate, row) for row, fate in enumerate(fates)], pa.int64())
    places = {fate: [row for row, f in enumerate(fates) if f == fate] for fate in FATES}
    told = [
        problems(places["undecoded"], "x0", "type", "no number"),
        problems(places["duplicate"], "", "duplicate_key", "twice"),
    ]
    batch = pa.record_batch([column], names=["x0"])
    before = batch.serialize().to_pybytes()
    scored = score(model, Decoded(batch, merge(told)))

    good = places["good"]
    assert (list(range(len(fates))) if scored.rows is None else scored.rows.tolist()) == good
    assert scored.inputs.to_pydict() == {"x0": good}
    assert scored.predictions.to_pydict() == {
        "a": [float(x) for x in good],
        "b": [-float(x) for x in good],
    }
    means = {
        "undecoded": [("x0", "type")],
        "null": [("x0", "null")],
        "range": [("x0", "range")],
        "duplicate": [("", "duplicate_key")],
        "raises": [("", MODEL_ERROR)],
        "no answer": [("a", MODEL_ERROR)],
        "nan": [("b", MODEL_ERROR)],
        "twice": [("a", MODEL_ERROR), ("b", MODEL_ERROR)],
    }
    assert codes(scored) == [
        (row, name, code) for row, fate in enumerate(fates) for name, code in means.get(fate, [])
    ]
    assert batch.serialize().to_pybytes() == before


def test_rows_of_a_slice_are_counted_from_its_start() -> None:
    model = FailingModel(on={5.0})
    whole = pa.record_batch({"x0": [float(i) for i in range(10)]})
    scored = score(model, Decoded(whole.slice(4, 3), no_problems()))
    assert scored.rows is not None
    assert scored.rows.tolist() == [0, 2]
    assert scored.predictions.column(0).to_pylist() == [4.0, 6.0]

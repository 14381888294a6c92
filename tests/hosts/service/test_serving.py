"""The loaded models: versions, their default, and how they are warmed up."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from support.service_models import HeldModel
from trivet.errors import PredictionError
from trivet.hosts.service.batcher import QUICK_SECONDS
from trivet.hosts.service.faults import Refused
from trivet.hosts.service.serving import BUSY_FACTOR, Models, warm_up
from trivet.testing import FailingModel, LinearModel
from trivet.validation import Decoded, no_problems


@pytest.fixture
def models() -> Models:
    return Models(("ride",), 256, 1000)


def test_the_newest_version_answers_and_older_ones_by_name(models: Models) -> None:
    first = models.add("fare", LinearModel(version="1"))
    changes = models.changes
    second = models.add("fare", LinearModel(version="2"))
    assert models.changes > changes
    assert models.find("fare") is second
    assert models.find("fare", "1") is first
    third = models.add("fare", LinearModel(version="3"), default=False)
    assert models.find("fare") is second
    assert models.find("fare", "3") is third
    assert list(models.families["fare"].versions) == ["1", "2", "3"]


def test_the_first_version_is_the_default_even_if_it_is_named(models: Models) -> None:
    models.add("fare", LinearModel(version="7"), default=False)
    assert models.find("fare").model.version == "7"


def test_a_version_is_loaded_again(models: Models) -> None:
    models.add("fare", LinearModel(version="1"))
    again = models.add("fare", LinearModel(version="1", intercept=1))
    assert models.find("fare") is again


def test_a_version_that_hangs_on_its_first_call_is_left_behind() -> None:
    held = HeldModel(version="2", go=threading.Event())
    models = Models((), 256, 1000, hang_after=3.0)
    models.add("held", LinearModel(version="1"))
    with pytest.raises(PredictionError, match=r"held 2 does not come back.*timeout"):
        models.add("held", held, example={"x0": -1.0})
    assert (models.find("held").model.version, models.lost) == ("1", 1)
    held.go.set()
    models.add("held", LinearModel(version="3"))
    assert models.find("held").model.version == "3"


def test_a_version_that_was_let_go_is_freed_without_the_collector() -> None:
    models = Models((), 256, 1000)
    models.observe(lambda version, batch, result, seconds: None)
    first = weakref.ref(models.add("fare", LinearModel(version="1")).model)
    gc.disable()  # it does not look at what was there when the service began
    try:
        models.add("fare", LinearModel(version="2"))
        assert first() is not None
        models.drop("fare", "1")
        assert first() is None
    finally:
        gc.enable()


def test_a_version_is_let_go(models: Models) -> None:
    for version in "12":
        models.add("fare", LinearModel(version=version))
    with pytest.raises(ValueError, match="fare 2 is in use"):
        models.drop("fare", "2")
    models.drop("fare", "1")
    models.drop("fare", "1")
    with pytest.raises(Refused, match="model 'fare' has no version '1' here; it has 2"):
        models.find("fare", "1")


def test_what_is_not_there_is_named(models: Models) -> None:
    models.add("fare", LinearModel())
    with pytest.raises(Refused, match="there is no model 'fair'; there are fare"):
        models.find("fair")


def test_a_model_that_fails_on_its_own_example_is_refused(models: Models) -> None:
    model = FailingModel(on=[13.0])
    with pytest.raises(PredictionError, match="fails on its own example: ValueError: no answer"):
        models.add("fare", model, example={"x0": 13.0})
    models.add("fare", model, example={"x0": 12.0})
    models.add("fare", model, example={"y": "of another model"})


def test_a_model_that_returns_something_else_is_refused(models: Models) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong(LinearModel):
        def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
            return batch

    with pytest.raises(PredictionError, match="its outputs are prediction double"):
        models.add("fare", Wrong())


@pytest.mark.parametrize(
    ("clock", "work", "live", "quick"),
    [
        (0.4, 0.4, False, True),
        (1.5, 0.4, False, False),
        (1.5, 0.4, True, True),
        (1.5, 1.5, True, False),
        (BUSY_FACTOR + 1, 0.4, True, False),
        (900, 900, False, False),
    ],
)
def test_quick_is_what_takes_no_longer(clock: float, work: float, live: bool, quick: bool) -> None:
    rows = Decoded(pa.record_batch({"x0": [1.0]}), no_problems())
    found = warm_up(LinearModel(), rows, live=live, clock=ticks(clock), work=ticks(work))
    assert found is quick


def ticks(step: float) -> Any:
    def numbers() -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += step * QUICK_SECONDS

    return numbers().__next__


def test_a_slow_model_is_known(models: Models) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Slow(LinearModel):
        def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
            time.sleep(0.002)
            return super().predict(batch)

    assert models.add("quick", LinearModel()).batcher.quick
    assert not models.add("slow", Slow()).batcher.quick


def test_observers_see_every_batch(models: Models) -> None:
    first, second = (lambda *_: None), (lambda *_: None)
    assert models.add("alone", LinearModel()).batcher.watch is None
    models.observe(first)
    models.observe(second)
    served = models.add("fare", LinearModel())
    assert served.batcher.watch is not None
    served.batcher.watch([], PredictionError("x"), 0.0)

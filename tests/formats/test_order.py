"""Rows sorted for the trees give the answers of rows as they came, bit for bit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import trivet
from trivet.formats import _order


@pytest.fixture
def model(tmp_path: Path) -> trivet.LoadedModel:
    lightgbm = pytest.importorskip("lightgbm")
    random = np.random.default_rng(1)
    x = random.normal(size=(2_000, 3))
    data = lightgbm.Dataset(x, x[:, 0] + x[:, 1] * x[:, 2], feature_name=["a", "b", "c"])
    booster = lightgbm.train({"verbose": -1, "num_threads": 1, "seed": 1}, data, 20)
    trivet.save(booster, tmp_path, name="m", version="1")
    return trivet.load("m", root=tmp_path)


def test_the_order_changes_no_answer(model: trivet.LoadedModel) -> None:
    random = np.random.default_rng(2)
    columns = random.normal(size=(3, 5_000))
    columns[0, ::7] = np.nan
    columns[1, ::11] = np.inf
    columns[2] = 1.0
    batch = pa.RecordBatch.from_arrays(list(map(pa.array, columns)), schema=model.inputs.arrow)
    small = [model.predict(batch.slice(at, 1_000)).column(0) for at in range(0, 5_000, 1_000)]
    assert model.predict(batch).column(0).equals(pa.concat_arrays(small))


def test_a_large_batch_is_sorted_and_a_small_one_is_not() -> None:
    order = _order.Order(np.array([1.0, 5.0]))
    matrix = np.random.default_rng(3).normal(size=(5_000, 2))
    places = order(matrix)
    assert places is not None
    assert sorted(places) == list(range(5_000))
    assert order(matrix[:100]) is None


def test_features_that_decide_alike_are_not_worth_a_sort() -> None:
    assert _order.Order(np.ones(100))(np.zeros((5_000, 100))) is None


def test_a_model_of_one_leaf_is_left_alone() -> None:
    assert _order.Order(np.zeros(3))(np.zeros((5_000, 3))) is None

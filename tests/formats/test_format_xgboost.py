"""XGBoost's library called directly answers as the Python package does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from formats.format_cases import (
    MIXED,
    NUMERIC,
    Case,
    columns,
    frame,
    matrix,
    mixed,
    numeric,
    target,
)
from trivet.errors import InvalidModel, ModelError
from trivet.formats import Spec
from trivet.formats import xgboost as format_
from trivet.schema import Field, Schema

ONE = Schema([Field(name="prediction", type="float64")])
LABEL = Schema([Field(name="label", type="int64")])


def test_reading_does_not_import_the_package(
    trained: Callable[[str], Case], tmp_path: Path
) -> None:
    artifact = tmp_path / format_.write(trained("xgboost_classifier").model, tmp_path)
    code = f"""
import sys
from pathlib import Path
from trivet.formats import Spec, xgboost
from trivet.schema import Field, Schema
inputs = Schema(Field(name=n, type="float64") for n in "anb")
outputs = Schema([Field(name="label", type="int64")])
xgboost.read(Path({str(artifact)!r}), Spec(inputs, outputs))
assert not {{"xgboost", "sklearn", "scipy"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_signature_tells_features_and_categories(trained: Callable[[str], Case]) -> None:
    found = format_.signature(trained("xgboost_regressor").model).inputs
    assert found is not None
    assert [(f.name, f.type) for f in found][2:] == [("b", "float64"), ("city", "string")]
    assert format_.signature(trained("xgboost_multiclass").model).inputs is None


def test_an_unseen_category_is_a_null(trained: Callable[[str], Case], tmp_path: Path) -> None:
    artifact = tmp_path / format_.write(trained("xgboost_regressor").model, tmp_path)
    predictor = format_.read(artifact, Spec(MIXED, ONE))
    batch = mixed(2)
    for cities in (["oslo", None], [None, "oslo"]):
        changed = batch.set_column(3, "city", pa.array(cities))
        unknown = batch.set_column(3, "city", pa.nulls(2, pa.string()))
        assert predictor.predict(changed).equals(predictor.predict(unknown))


def test_early_stopping_is_respected(tmp_path: Path) -> None:
    x, y = matrix(numeric()), target(numeric())
    model = xgboost.XGBRegressor(n_estimators=60, learning_rate=1.0, early_stopping_rounds=2)
    model.fit(x[:100], y[:100], eval_set=[(x[100:], y[100:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(NUMERIC, ONE)).predict(numeric())
    np.testing.assert_array_equal(columns(got)[:, 0], model.predict(x))


def test_another_missing_value(tmp_path: Path) -> None:
    x = np.nan_to_num(matrix(numeric()), nan=-1.0)
    model = xgboost.XGBRegressor(n_estimators=5, missing=-1.0).fit(x, target(numeric()))
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(NUMERIC, ONE)).predict(numeric())
    np.testing.assert_array_equal(columns(got)[:, 0], model.predict(x))


@pytest.mark.parametrize("objective", ["multi:softmax", "binary:hinge"])
def test_objectives_that_give_a_label_only(objective: str, tmp_path: Path) -> None:
    x = matrix(numeric())
    y = (target(numeric()) > 2).astype(int)
    settings: dict[str, Any] = {"objective": objective, "verbosity": 0}
    if objective.startswith("multi"):
        settings["num_class"] = 2
    model = xgboost.train(settings, xgboost.DMatrix(x, y), 5)
    assert format_.signature(model).outputs == LABEL
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(NUMERIC, LABEL)).predict(numeric())
    np.testing.assert_array_equal(got[0].to_numpy(), model.predict(xgboost.DMatrix(x)).astype(int))
    with pytest.raises(InvalidModel, match="probability_1"):
        format_.read(artifact, Spec(NUMERIC, Schema([Field(name="probability_1", type="float64")])))


def test_several_targets(tmp_path: Path) -> None:
    x = matrix(numeric())
    y = np.stack([target(numeric()), -target(numeric())], axis=1)
    model = xgboost.XGBRegressor(n_estimators=3).fit(x, y)
    outputs = format_.signature(model).outputs
    assert outputs is not None
    assert outputs.names == ("prediction_0", "prediction_1")
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(NUMERIC, outputs)).predict(numeric())
    np.testing.assert_array_equal(columns(got), model.predict(x))


def test_errors(tmp_path: Path, trained: Callable[[str], Case]) -> None:
    with pytest.raises(ModelError, match="not trained"):
        format_.write(xgboost.XGBRegressor(), tmp_path)
    artifact = tmp_path / format_.write(trained("xgboost_classifier").model, tmp_path)
    booster = format_._Native(artifact, 1, float("nan"))
    with pytest.raises(RuntimeError, match="XGBoost: "):
        booster.predict(np.zeros((2, 9)))
    assert frame(numeric()).shape == (200, 3)

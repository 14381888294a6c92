"""Reasons beside the prediction: they add up to the score, and are the library's own."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
import xgboost

import trivet
from formats.format_cases import NUMERIC, frame, matrix, mixed, numeric
from trivet.errors import InvalidModel
from trivet.schema import Field, Schema

BATCH = numeric()
FEATURES = ("a", "n", "b")


def answer(batch: pa.RecordBatch) -> Any:
    values = np.nan_to_num(matrix(batch))
    return (values @ [1.0, 0.05, -0.7] > 1.0).astype(int)


@functools.cache
def trained(kind: str) -> Any:
    x, y = matrix(BATCH), answer(BATCH)
    if kind == "lightgbm":
        model = lightgbm.LGBMClassifier(
            n_estimators=10, min_child_samples=5, verbosity=-1, n_jobs=1
        )
        return model.fit(frame(BATCH), y)
    if kind == "lightgbm regression":
        data = lightgbm.Dataset(x, x[:, 2] * 2, feature_name=list(FEATURES))
        return lightgbm.train({"verbosity": -1, "min_data_in_leaf": 5, "num_threads": 1}, data, 10)
    if kind == "xgboost":
        return xgboost.XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1).fit(frame(BATCH), y)
    rows = xgboost.DMatrix(x, x[:, 2] * 2, feature_names=list(FEATURES))
    booster = "gblinear" if kind == "xgboost linear" else "gbtree"
    return xgboost.train({"booster": booster, "verbosity": 0, "nthread": 1}, rows, 10)


def own(kind: str, model: Any) -> Any:
    """The library's own contributions, one column a feature and the base."""
    if kind == "lightgbm":
        return model.predict(frame(BATCH), pred_contrib=True)
    if kind.startswith("lightgbm"):
        return model.predict(matrix(BATCH), pred_contrib=True)
    booster = model.get_booster() if kind == "xgboost" else model
    data = xgboost.DMatrix(matrix(BATCH), feature_names=list(FEATURES))
    return booster.predict(data, pred_contribs=True)


def saved(model: Any, store: Path, **more: Any) -> trivet.LoadedModel:
    trivet.save(model, store, name="m", version="1", inputs=NUMERIC, **more)
    return trivet.load("m", root=store)


KINDS = ("lightgbm", "lightgbm regression", "xgboost", "xgboost regression", "xgboost linear")


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_contributions_add_up_to_the_score(kind: str, count: int, tmp_path: Path) -> None:
    model = trained(kind)
    loaded = saved(model, tmp_path, contributions=count)
    reasons = [f"{what}_{i + 1}" for i in range(count) for what in ("reason", "contribution")]
    assert loaded.outputs.names[-len(reasons) - 2 :] == (
        *reasons,
        "contribution_rest",
        "contribution_base",
    )
    out = loaded.predict(BATCH).to_pandas()
    total = sum(out[name] for name in out.columns if name.startswith("contribution_"))
    score = out["prediction"] if "prediction" in out else out["probability_1"]
    told = total if "prediction" in out else 1 / (1 + np.exp(-total))
    np.testing.assert_allclose(told, score, rtol=2e-5, atol=2e-6)

    expected = own(kind, model)
    np.testing.assert_allclose(out["contribution_base"], expected[:, -1], rtol=1e-6)
    place = {name: i for i, name in enumerate(FEATURES)}
    for rank in range(1, count + 1):
        chosen = [place[name] for name in out[f"reason_{rank}"]]
        values = expected[np.arange(len(out)), chosen]
        np.testing.assert_allclose(out[f"contribution_{rank}"], values, rtol=1e-6)
        size = np.sort(np.abs(expected[:, :-1]), axis=1)[:, -rank]
        np.testing.assert_allclose(np.abs(values), size, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_reasons_alone_and_in_a_batch(kind: str, tmp_path: Path) -> None:
    loaded = saved(trained(kind), tmp_path, contributions=2)
    whole = loaded.predict(BATCH)
    for row in range(40):
        assert loaded.predict(BATCH.slice(row, 1)).to_pylist() == whole.slice(row, 1).to_pylist()


def test_categories_and_inputs_in_another_order(tmp_path: Path) -> None:
    rows = mixed()
    data = frame(rows)
    model = lightgbm.LGBMRegressor(n_estimators=10, min_child_samples=5, verbosity=-1, n_jobs=1)
    model.fit(data, (data["city"] == "nice") * 5.0)
    inputs = Schema(
        [
            Field(name="city", type="string", nullable=True),
            Field(name="b", type="float32"),
            Field(name="a", type="float64", nullable=True),
            Field(name="n", type="int64", nullable=True),
        ]
    )
    trivet.save(model, tmp_path, name="m", version="1", inputs=inputs, contributions=1)
    loaded = trivet.load("m", root=tmp_path)
    out = loaded.predict(rows.select(list(inputs.names)))
    assert set(out.column("reason_1").to_pylist()) == {"city"}


def test_the_columns_may_be_declared_by_hand(tmp_path: Path) -> None:
    outputs = [
        Field(name="contribution_base", type="float64"),
        Field(name="probability_1", type="float64"),
        Field(name="reason_2", type="string"),
    ]
    loaded = saved(trained("lightgbm"), tmp_path, outputs=outputs)
    assert loaded.predict(BATCH.slice(0, 3)).schema.names == [field.name for field in outputs]


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("lightgbm", {"contributions": 4}, "4 reasons are asked for, and the model has 3 features"),
        ("xgboost", {"contributions": 4}, "4 reasons are asked for"),
        (
            "lightgbm",
            {
                "outputs": [
                    Field(name="probability_1", type="float64"),
                    Field(name="reason_1", type="int64"),
                ]
            },
            "'reason_1' .int64. cannot be served",
        ),
        (
            "lightgbm",
            {
                "outputs": [
                    Field(name="probability_1", type="float64"),
                    Field(name="reason_rest", type="string"),
                ]
            },
            "'reason_rest' .string. cannot be served",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(
    kind: str, more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel, match=words):
        saved(trained(kind), tmp_path, **more)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_several_classes_have_no_one_score(library: str, tmp_path: Path) -> None:
    y = np.arange(len(BATCH)) % 3
    model: Any = (
        lightgbm.LGBMClassifier(n_estimators=3, verbosity=-1, n_jobs=1)
        if library == "lightgbm"
        else xgboost.XGBClassifier(n_estimators=3, n_jobs=1)
    )
    with pytest.raises(InvalidModel, match="reasons are told of one score a row"):
        saved(model.fit(frame(BATCH), y), tmp_path, contributions=1)

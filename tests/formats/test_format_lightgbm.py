"""LightGBM's library called directly answers as the Python package does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.format_cases import (
    CITIES,
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
from trivet.formats import Spec, _native
from trivet.formats import lightgbm as format_
from trivet.schema import Field, Schema

ONE = Schema([Field(name="prediction", type="float64")])
rows = st.lists(
    st.tuples(
        st.none() | st.floats(allow_nan=True, allow_infinity=False),
        st.none() | st.integers(-(2**53), 2**53),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.none() | st.sampled_from(CITIES) | st.text(max_size=3),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows)
def test_categories_and_nulls_are_coded_as_pandas_does(
    trained: Callable[[str], Case], tmp_path: Path, drawn: list[tuple[Any, ...]]
) -> None:
    case: Case = trained("lightgbm_regressor")
    if not (tmp_path / "model.txt").exists():
        format_.write(case.model, tmp_path)
    predictor = format_.read(tmp_path / "model.txt", Spec(MIXED, ONE))
    batch = pa.RecordBatch.from_arrays(
        [pa.array(c, f.arrow.type) for c, f in zip(zip(*drawn, strict=True), MIXED, strict=True)],
        names=list(MIXED.names),
    )
    expected = case.model.predict(frame(batch))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(columns(predictor.predict(batch))[:, 0], expected)
    for i, answer in enumerate(expected):
        assert predictor.predict(batch.slice(i, 1)).column(0)[0].as_py() == answer


def test_reading_does_not_import_the_package(
    trained: Callable[[str], Case], tmp_path: Path
) -> None:
    format_.write(trained("lightgbm_classifier").model, tmp_path)
    code = f"""
import sys
from pathlib import Path
from trivet.formats import Spec, lightgbm
from trivet.schema import Field, Schema
inputs = Schema(Field(name=n, type="float64") for n in "anb")
outputs = Schema([Field(name="label", type="string")])
lightgbm.read(Path({str(tmp_path / "model")!r}), Spec(inputs, outputs))
assert not {{"lightgbm", "sklearn", "scipy"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_signature_tells_features_and_categories(trained: Callable[[str], Case]) -> None:
    found = format_.signature(trained("lightgbm_regressor").model).inputs
    assert found is not None
    assert [(f.name, f.type) for f in found] == [
        ("a", "float64"), ("n", "float64"), ("b", "float64"), ("city", "string"),
    ]  # fmt: skip


def test_classes_that_are_text_are_kept(trained: Callable[[str], Case], tmp_path: Path) -> None:
    case = trained("lightgbm_classifier")
    artifact = tmp_path / format_.write(case.model, tmp_path)
    outputs = Schema([Field(name="churns", type="float64"), Field(name="label", type="string")])
    got = format_.read(artifact, Spec(NUMERIC, outputs)).predict(numeric())
    model: Any = case.model
    np.testing.assert_array_equal(
        got["label"].to_numpy(zero_copy_only=False), model.predict(frame(numeric()))
    )
    np.testing.assert_array_equal(
        got["churns"].to_numpy(), model.predict_proba(frame(numeric()))[:, 1]
    )
    (artifact / "extra.json").unlink()
    with pytest.raises(InvalidModel, match=r"extra\.json"):
        format_.read(artifact, Spec(NUMERIC, outputs))


def test_whole_and_boolean_categories_and_names_with_spaces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"zone id": rng.integers(5, 9, 200), "night": rng.random(200) < 0.5})
    model = lightgbm.LGBMRegressor(n_estimators=5, min_child_samples=2, verbose=-1)
    model.fit(table.astype("category"), rng.random(200))
    inputs = Schema(
        [Field(name="night", type="bool", nullable=True), Field(name="zone id", type="int64")]
    )
    artifact = tmp_path / format_.write(model, tmp_path)
    batch = pa.RecordBatch.from_pandas(table[["night", "zone id"]])
    got = format_.read(artifact, Spec(inputs, ONE)).predict(batch)
    np.testing.assert_array_equal(got[0].to_numpy(), model.predict(table.astype("category")))


@pytest.mark.parametrize("learnt", [0.0, -0.0])
def test_the_two_zeros_are_one_category(tmp_path: Path, learnt: float) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.choice([-2.0, learnt, 1.5], 200)}).astype("category")
    model = lightgbm.LGBMRegressor(n_estimators=5, min_child_samples=2, verbose=-1)
    model.fit(table, (table["x"] == 0.0) + rng.random(200))
    artifact = tmp_path / format_.write(model, tmp_path)
    inputs = Schema([Field(name="x", type="float64", nullable=True)])
    predict = format_.read(artifact, Spec(inputs, ONE)).predict
    seen = predict(pa.record_batch({"x": [learnt, 1.5, 9.0]}))[0].to_pylist()
    assert seen[0] not in seen[1:]
    for zero in (0.0, -0.0):
        for more in ([], [1.5, 9.0]):
            found = predict(pa.record_batch({"x": [zero, *more]}))[0].to_pylist()
            assert found == seen[: len(found)]


def test_ordered_categories(tmp_path: Path) -> None:
    city = pd.Categorical(mixed()["city"].to_pylist(), categories=list(CITIES), ordered=True)
    table = frame(mixed()).assign(city=city)
    model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(table, target(mixed()))
    assert format_.signature(model).inputs is None
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(MIXED, ONE)).predict(mixed())
    np.testing.assert_array_equal(got[0].to_numpy(), model.predict(table))
    floats = Schema(Field(name=name, type="float64") for name in MIXED.names)
    with pytest.raises(InvalidModel, match="1 columns of categories"):
        format_.read(artifact, Spec(floats, ONE))


def test_nullable_booleans_are_numbers(tmp_path: Path) -> None:
    flags = np.random.default_rng(1).random((200, 1)) < 0.5
    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(
        flags.astype(float), flags.ravel()
    )
    artifact = tmp_path / format_.write(model, tmp_path)
    inputs = Schema([Field(name="flag", type="bool", nullable=True)])
    batch = pa.record_batch({"flag": [True, None, False]})
    got = format_.read(artifact, Spec(inputs, ONE)).predict(batch)
    np.testing.assert_array_equal(
        got[0].to_numpy(), model.predict(np.array([[1.0], [np.nan], [0.0]]))
    )


def test_the_best_iteration_answers(tmp_path: Path) -> None:
    data = lightgbm.Dataset(matrix(numeric()), target(numeric()))
    model = lightgbm.train({"verbose": -1}, data, 20)
    model.best_iteration = 3
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(NUMERIC, ONE)).predict(numeric())
    np.testing.assert_array_equal(
        got[0].to_numpy(), model.predict(matrix(numeric()), num_iteration=3)
    )


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (Schema([Field(name="a", type="float64")]), "reads 4 features, the inputs are 1"),
        (Schema([*NUMERIC, Field(name="city", type="int64")]), "'city' is int64"),
        (
            Schema([*list(MIXED)[:2], Field(name="b", type="string"), *list(MIXED)[3:]]),
            "no categories",
        ),
        (
            Schema([*list(MIXED)[:2], Field(name="b", type="timestamp"), *list(MIXED)[3:]]),
            "numbers only",
        ),
    ],
)
def test_inputs_that_do_not_fit(
    inputs: Schema, words: str, trained: Callable[[str], Case], tmp_path: Path
) -> None:
    artifact = tmp_path / format_.write(trained("lightgbm_regressor").model, tmp_path)
    with pytest.raises(InvalidModel, match=words):
        format_.read(artifact, Spec(inputs, ONE))


def test_a_file_cut_short(trained: Callable[[str], Case], tmp_path: Path) -> None:
    artifact = tmp_path / format_.write(trained("lightgbm_regressor").model, tmp_path)
    text = artifact.read_text()
    head, tail = text[: text.index("Tree=1")], text[text.index("\nend of trees") :]
    for cut in (head, head + tail, text[: len(text) // 2]):
        artifact.write_text(cut)
        with pytest.raises(InvalidModel, match=r"lists 20 trees and has .* cut short"):
            format_.read(artifact, Spec(MIXED, ONE))
    artifact.write_text(text.replace("num_class=1\n", "", 1))
    with pytest.raises(InvalidModel, match="LightGBM cannot read it"):
        format_.read(artifact, Spec(MIXED, ONE))


def test_an_untrained_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not trained; call fit"):
        format_.write(lightgbm.LGBMRegressor(), tmp_path)


def test_an_error_while_predicting_names_lightgbm(
    trained: Callable[[str], Case], tmp_path: Path
) -> None:
    artifact = tmp_path / format_.write(trained("lightgbm_regressor").model, tmp_path)
    booster = format_._Native(artifact, 4, 1, 1)
    with pytest.raises(RuntimeError, match=r"LightGBM: .*number of features"):
        booster.predict(np.zeros((2, 1)))


def test_a_package_without_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no nowhere\.so"):
        _native.library("lightgbm", {"": "nowhere.so"}, ("lib",))
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").touch()
    (tmp_path / "broken_package" / "broken.so").write_text("no library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="cannot be opened"):
        _native.library("broken_package", {"": "broken.so"}, ("",))

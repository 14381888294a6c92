"""What every format promises, held against every one of them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.pipeline import Pipeline

from formats.format_cases import Case, columns, conforming, saved
from trivet import formats
from trivet.errors import InvalidModel, MissingExtra, ModelError
from trivet.formats import Spec
from trivet.schema import Field, Schema


def test_it_answers_as_the_library_does(case: Case, tmp_path: Path) -> None:
    batch = conforming(case)
    got = saved(case, tmp_path)[2].predict(batch)
    if case.expected is not None:
        expected = np.asarray(case.expected(batch))
        found = columns(got)
        np.testing.assert_array_equal(found, expected.reshape(found.shape).astype(np.float64))


def test_rows_alone_and_in_a_crowd(case: Case, tmp_path: Path) -> None:
    predictor = saved(case, tmp_path)[2]
    batch = conforming(case)
    whole = predictor.predict(batch)
    alone = pa.Table.from_batches([predictor.predict(batch.slice(i, 1)) for i in range(60)])
    if case.exact:
        assert alone.combine_chunks().to_batches()[0].equals(whole.slice(0, 60))
    else:
        few = alone.combine_chunks().to_batches()[0]
        np.testing.assert_allclose(columns(few), columns(whole.slice(0, 60)), rtol=1e-5)


def test_the_declared_columns_come_out(case: Case, tmp_path: Path) -> None:
    batch = conforming(case)
    got = saved(case, tmp_path)[2].predict(batch)
    assert got.schema.names == case.outputs.arrow.names
    assert got.schema.types == case.outputs.arrow.types
    assert got.num_rows == batch.num_rows
    assert not any(column.null_count for column in got.columns)


def test_float32_is_served(case: Case, tmp_path: Path) -> None:
    module, artifact, predictor = saved(case, tmp_path)
    outputs = Schema(
        Field(name=f.name, type="float32" if f.type == "float64" else f.type) for f in case.outputs
    )
    narrow = module.read(artifact, Spec(case.inputs, outputs)).predict(conforming(case))
    wide = columns(predictor.predict(conforming(case)))
    np.testing.assert_array_equal(columns(narrow), wide.astype(np.float32))


def test_the_batch_is_not_changed(case: Case, tmp_path: Path) -> None:
    batch = conforming(case)
    before = pa.RecordBatch.from_pylist(batch.to_pylist(), schema=batch.schema)
    predictor = saved(case, tmp_path)[2]
    predictor.predict(batch)
    predictor.predict(batch.slice(3, 1))
    assert batch.equals(before)


def test_threads_get_the_same_answers(case: Case, tmp_path: Path) -> None:
    predictor = saved(case, tmp_path)[2]
    batch = conforming(case)
    parts = [batch.slice(i, 1 + i % 3) for i in range(100)]
    with ThreadPoolExecutor(2 if predictor.parallel else 1) as pool:
        together = list(pool.map(predictor.predict, parts))
    for got, part in zip(together, parts, strict=True):
        for a, b in zip(got.columns, predictor.predict(part).columns, strict=True):
            np.testing.assert_array_equal(
                a.to_numpy(zero_copy_only=False), b.to_numpy(zero_copy_only=False)
            )


def test_the_signature_names_the_outputs(case: Case) -> None:
    _, module = formats.of(case.model)
    found = module.signature(case.model).outputs
    assert found is not None
    assert len(found) == len(case.outputs)
    assert [f.type.rstrip("2346") for f in found] == [f.type.rstrip("2346") for f in case.outputs]


@pytest.mark.parametrize(
    "outputs",
    [
        Schema([Field(name="nonsense", type="bool")]),
        Schema([Field(name=f"x{i}", type="float64") for i in range(9)]),
    ],
)
def test_an_output_that_cannot_be_served(case: Case, tmp_path: Path, outputs: Schema) -> None:
    module, artifact, _ = saved(case, tmp_path)
    with pytest.raises(InvalidModel, match=r"nonsense|x0"):
        module.read(artifact, Spec(case.inputs, outputs))


def test_a_broken_artifact(case: Case, tmp_path: Path) -> None:
    module, artifact, _ = saved(case, tmp_path)
    for path in [artifact] if artifact.is_file() else artifact.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x00 nothing of use" + path.read_bytes()[:40])
    with pytest.raises(InvalidModel, match=r"model|broken"):
        module.read(artifact, Spec(case.inputs, case.outputs))


def test_only_code_and_compiled_trees_need_trust(case: Case, tmp_path: Path) -> None:
    module, artifact, _ = saved(case, tmp_path)
    trees = isinstance(case.model, HistGradientBoostingRegressor) or (
        isinstance(case.model, Pipeline) and isinstance(case.model[-1], RandomForestClassifier)
    )
    assert module.runs_code(artifact) is (trees or module.EXTRA == "python")


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("lightgbm_regressor", "lightgbm"),
        ("xgboost_regressor", "xgboost"),
        ("sklearn_linear", "skops.io"),
        ("sklearn_frame", "pandas"),
        ("onnx_classifier", "onnxruntime"),
    ],
)
def test_a_missing_library(
    name: str, library: str, trained: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case: Case = trained(name)  # type: ignore[operator]
    module, artifact, _ = saved(case, tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=module.EXTRA):
        module.read(artifact, Spec(case.inputs, case.outputs))


def test_no_format_knows_it() -> None:
    with pytest.raises(ModelError, match=r"no format can save a builtins\.dict"):
        formats.of({})

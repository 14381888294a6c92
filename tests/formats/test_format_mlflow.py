"""MLflow directories and the registry."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from formats.format_cases import NUMERIC, Case, columns, frame, matrix, numeric, save_mlflow, target
from trivet import formats
from trivet.errors import InvalidModel, MissingExtra, ModelNotFound
from trivet.formats import Spec
from trivet.formats import mlflow as format_
from trivet.schema import Field, Schema

ONE = Schema([Field(name="prediction", type="float64")])


OPEN = '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, -1]}}]'


@pytest.fixture
def quiet() -> Iterator[None]:
    """MLflow warns of its own dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def described(directory: Path, document: dict[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "MLmodel").write_text(yaml.safe_dump(document))
    return directory


def signed(directory: Path, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> Path:
    told = {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)}
    return described(directory, {"signature": told})


def test_the_signature_is_read_without_mlflow(tmp_path: Path) -> None:
    kinds = ["double", "float", "long", "integer", "string", "boolean", "datetime"]
    directory = signed(
        tmp_path / "m",
        [{"type": kind, "name": kind, "required": kind != "string"} for kind in kinds],
        [{"type": "double"}],
    )
    assert formats.of(directory)[0] == "mlflow"
    found = format_.signature(directory)
    assert found.inputs is not None
    assert [f.type for f in found.inputs] == [
        *("float64", "float32", "int64", "int32", "string", "bool", "timestamp")
    ]
    assert [f.name for f in found.inputs if f.nullable] == ["string"]
    assert found.outputs == ONE
    assert format_.signature(described(tmp_path / "n", {"flavors": {}})) == formats.Signature()


def test_tensors_get_names(tmp_path: Path) -> None:
    inputs = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]
    found = format_.signature(signed(tmp_path / "m", inputs, outputs))
    assert found.inputs == Schema(Field(name=f"x_{i}", type="float32") for i in range(2))
    assert found.outputs == ONE


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"inputs": "{"}, "inputs of its signature"),
        ({"inputs": "[1]"}, "no list of columns"),
        ({"inputs": '[{"type": "binary", "name": "b"}]'}, "has the type 'binary'"),
        ({"inputs": OPEN}, r"\[-1, columns\]"),
    ],
)  # fmt: skip
def test_signatures_that_cannot_be_used(told: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=words):
        format_.signature(described(tmp_path / "m", {"signature": told}))


def test_a_file_that_is_no_mlmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, words in (("a: [", "cannot be read"), ("just text", "has no keys")):
        (tmp_path / "MLmodel").write_text(text)
        with pytest.raises(InvalidModel, match=words):
            format_.signature(tmp_path)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtra, match="mlflow"):
        format_.signature(tmp_path)


PICKLED = {"loader_module": "mlflow.sklearn", "model_path": "m"}
PYFUNC = {"loader_module": "mlflow.lightgbm", "data": "model.lgb"}
BOOSTER = {"model_class": "lightgbm.basic.Booster"}
XGB = {"loader_module": "mlflow.xgboost", "data": "model.ubj"}


@pytest.mark.parametrize(
    ("pyfunc", "flavor", "runs"),
    [
        ({"loader_module": "mlflow.onnx", "data": "model.onnx"}, {}, False),
        (PYFUNC, BOOSTER, False),
        (PYFUNC, BOOSTER | {"data": "../model.lgb"}, True),
        (PYFUNC | {"data": "sub"}, BOOSTER | {"data": "sub/m"}, True),
        (PYFUNC | {"code": "code"}, BOOSTER, True),
        (PYFUNC, BOOSTER | {"code": "code"}, True),
        (PYFUNC, {"model_class": "lightgbm.sklearn.LGBMRegressor"}, True),
        (XGB, {"model_class": "xgboost.sklearn.XGBRegressor"}, False),
        (XGB, {"model_class": "subprocess.Popen"}, True),
        (PICKLED, {"serialization_format": "pickle"}, True),
        ({"loader_module": "mlflow.pyfunc.model"}, {}, True),
        ({}, {}, True),
    ],
)  # fmt: skip
def test_what_runs_code(
    pyfunc: dict[str, str], flavor: dict[str, str], runs: bool, tmp_path: Path
) -> None:
    name = pyfunc.get("loader_module", "").removeprefix("mlflow.")
    described(tmp_path / "m", {"flavors": {"python_function": pyfunc, name: flavor}})
    assert format_.runs_code(tmp_path / "m") is runs


def test_a_pickle_or_a_second_mlmodel_runs_code(tmp_path: Path) -> None:
    directory = described(
        tmp_path / "m", {"flavors": {"python_function": PYFUNC, "lightgbm": BOOSTER}}
    )
    assert not format_.runs_code(directory)
    described(directory / "inner", {})
    assert format_.runs_code(directory)
    shutil.rmtree(directory / "inner")
    (directory / "helper.pkl").touch()
    assert format_.runs_code(directory)


@pytest.mark.usefixtures("quiet")
def test_a_forest_kept_by_skops_needs_trust(trained: Callable[[str], Case], tmp_path: Path) -> None:
    types = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
    model = trained("sklearn_matrix").model
    directory = save_mlflow(
        model, tmp_path / "m", serialization_format="skops", skops_trusted_types=types
    )
    assert format_.runs_code(directory)


@pytest.mark.usefixtures("quiet")
def test_a_tensor_is_fed_as_an_array(trained: Callable[[str], Case], tmp_path: Path) -> None:
    import mlflow.lightgbm
    from mlflow.models import infer_signature

    case = trained("lightgbm_multiclass")
    x = matrix(numeric())
    told = infer_signature(x, case.expected(numeric()))  # type: ignore[misc]
    mlflow.lightgbm.save_model(case.model, tmp_path / "m", signature=told, pip_requirements=[])
    found = format_.signature(tmp_path / "m")
    assert found.inputs is not None
    assert found.outputs is not None
    predictor = format_.read(tmp_path / "m", Spec(found.inputs, found.outputs))
    batch = pa.RecordBatch.from_arrays([pa.array(c) for c in x.T], names=list(found.inputs.names))
    np.testing.assert_array_equal(columns(predictor.predict(batch)), case.expected(numeric()))  # type: ignore[misc]


@pytest.mark.usefixtures("quiet")
def test_a_frame_may_come_back(tmp_path: Path) -> None:
    import mlflow.pyfunc

    class Frames(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined, unused-ignore]
        # MLflow makes a schema of type hints, if there are any.
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return model_input[["n", "a"]]

    mlflow.pyfunc.save_model(tmp_path / "m", python_model=Frames(), pip_requirements=[])
    outputs = Schema(
        [Field(name="a", type="float64", nullable=True), Field(name="n", type="float64")]
    )
    predictor = format_.read(tmp_path / "m", Spec(NUMERIC, outputs))
    got = predictor.predict(numeric(nulls=False))
    np.testing.assert_array_equal(columns(got), frame(numeric(nulls=False))[["a", "n"]].to_numpy())
    assert format_.runs_code(tmp_path / "m")


@pytest.mark.usefixtures("quiet")
def test_the_registry(
    tmp_path: Path, trained: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    url = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    mlflow.set_tracking_uri(url)
    try:
        mlflow.set_experiment(
            experiment_id=mlflow.create_experiment("e", (tmp_path / "runs").as_uri())
        )
        logged = mlflow.sklearn.log_model(
            trained("sklearn_linear").model,
            name="m",
            registered_model_name="rides",
            serialization_format="skops",
            skops_trusted_types=["numpy.dtype"],
            pip_requirements=[],
        )
        assert logged is not None
        mlflow.MlflowClient().set_registered_model_alias("rides", "champion", "1")
        for uri in ("models:/rides@champion", "models:/rides/1"):
            place, name, version = format_.resolve(uri)
            assert (place / "MLmodel").is_file()
            assert (name, version) == ("rides", "1")
        for uri in ("models:/rides@nobody", "models:/rides/9", "models:/none/1"):
            with pytest.raises(ModelNotFound, match="set MLFLOW_TRACKING_URI"):
                format_.resolve(uri)
    finally:
        mlflow.end_run()
        mlflow.set_tracking_uri("")
    assert target(numeric()).shape == (200,)


def test_a_uri_that_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound, match="write models:/NAME@ALIAS"):
        format_.resolve("models:/rides")
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", None)
    with pytest.raises(MissingExtra, match="mlflow"):
        format_.resolve("models:/rides/1")

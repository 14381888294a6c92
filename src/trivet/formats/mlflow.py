"""Directories of MLflow models, and the registry that they are found by.

Everything but loading reads the ``MLmodel`` file itself: importing MLflow takes seconds.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trivet.errors import InvalidModel, MissingExtra, ModelNotFound
from trivet.formats import Predictor, Signature, Spec, sklearn
from trivet.formats._arrays import Matrix
from trivet.formats._frames import framer
from trivet.formats._loose import Loose
from trivet.schema import Field, Schema

EXTRA = "mlflow"
LIBRARIES = ("mlflow",)

_FOLDER = "model"
_MLMODEL = "MLmodel"
_TYPES = {
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "string": "string",
    "boolean": "bool",
    "datetime": "timestamp",
}
_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill", ".pt", ".pth"})
_FILES = ("data", "model_path", "pickled_model")
_XGBOOST = re.compile(r"xgboost\.(core\.Booster|sklearn\.XGB(RF)?(Classifier|Regressor|Ranker))")
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")


def recognises(model: object) -> bool:
    """Say whether it is the path of a directory with an ``MLmodel`` file."""
    return isinstance(model, Path) and (model / _MLMODEL).is_file()


def signature(model: object) -> Signature:
    """Read the schemas of an MLflow directory."""
    assert isinstance(model, Path)
    told = _document(model).get("signature") or {}
    return Signature(
        _schema(told, "inputs", "x", model), _schema(told, "outputs", "prediction", model)
    )


def write(model: object, directory: Path) -> str:
    """Copy the directory."""
    assert isinstance(model, Path)
    shutil.copytree(model, directory / _FOLDER)
    return _FOLDER


def read(artifact: Path, spec: Spec) -> Predictor:
    """Load the directory with MLflow.

    Raises:
        InvalidModel: MLflow cannot load it, or it does not fit the outputs.
        MissingExtra: MLflow, or the library of the model in it, is not installed.
    """
    own = signature(artifact).outputs or spec.outputs
    answers = Loose(spec.outputs, own.names, str(artifact))
    feed = _feed(artifact, spec.inputs)
    pyfunc = _pyfunc()
    try:
        model = pyfunc.load_model(str(artifact))
    except Exception as error:  # the flavour's own
        raise InvalidModel(
            f"{artifact}: MLflow cannot load it: {type(error).__name__}: {error}"
        ) from error

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        return answers.batch(model.predict(feed(batch)), batch.num_rows)

    # MLflow checks every frame under the GIL, and promises nothing of its flavours.
    return Predictor(predict, parallel=False)


def runs_code(artifact: Path) -> bool:
    """Say whether loading may run code: no for flavours that read data only, yes for all others."""
    flavors = _document(artifact).get("flavors") or {}
    pyfunc = flavors.get("python_function") or {}
    loader = str(pyfunc.get("loader_module", ""))
    flavor = flavors.get(loader.removeprefix("mlflow.")) or {}
    if pyfunc.get("code") or flavor.get("code"):
        return True
    if any(path.suffix in _PICKLES for path in artifact.rglob("*")):
        return True
    return not _reads_data_only(artifact, loader, pyfunc, flavor)


def _reads_data_only(
    artifact: Path, loader: str, pyfunc: Mapping[str, Any], flavor: Mapping[str, Any]
) -> bool:
    named = [conf[key] for conf in (pyfunc, flavor) for key in _FILES if conf.get(key)]
    # MLflow asks the MLmodel beside the data how to read it: in a folder, that is another one.
    plain = all(Path(str(name)).name == name for name in named)
    if not plain or len(list(artifact.rglob(_MLMODEL))) > 1:
        return False
    kind = str(flavor.get("model_class", ""))
    if loader == "mlflow.onnx":
        return True
    if loader == "mlflow.lightgbm" and kind == "lightgbm.basic.Booster":
        return True
    if loader == "mlflow.xgboost":  # the class is imported and made by its name
        return _XGBOOST.fullmatch(kind) is not None
    if loader not in ("mlflow.sklearn", "mlflow.lightgbm"):
        return False
    skops = flavor.get("serialization_format") == "skops"
    return skops and not any(sklearn.runs_code(artifact / name) for name in named)


def resolve(uri: str) -> tuple[Path, str, str]:
    """Find a model of an MLflow registry, the one that MLflow itself is configured for.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Returns:
        Its local directory (downloaded if it lies elsewhere), name and version.

    Raises:
        ModelNotFound: The registry cannot be asked, or does not have it.
        MissingExtra: MLflow is not installed.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise ModelNotFound(
            f"{uri} names no model; write models:/NAME@ALIAS or models:/NAME/VERSION"
        )
    name, alias, version = parts["name"], parts["alias"], parts["version"]
    mlflow = _mlflow()
    try:
        if alias is not None:
            version = str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
        place = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}")
    except Exception as error:  # of MLflow, its stores and their clients
        raise ModelNotFound(
            f"{uri}: the registry at {mlflow.get_registry_uri()} does not give it: {error}; "
            "register it, or set MLFLOW_TRACKING_URI to the registry that has it"
        ) from error
    return Path(place), name, version


def client() -> Any:
    """Return a client of the registry that MLflow itself is configured for.

    Raises:
        MissingExtra: MLflow is not installed.
    """
    return _mlflow().MlflowClient()


def _mlflow() -> Any:
    _pyfunc()
    import mlflow  # noqa: PLC0415 - seconds

    return mlflow


def _pyfunc() -> Any:
    try:
        with warnings.catch_warnings():
            # MLflow warns of its own type hints while it is imported.
            warnings.filterwarnings("ignore", ".*type hint", UserWarning)
            import mlflow.pyfunc  # noqa: PLC0415 - seconds
    except ImportError as error:
        raise MissingExtra("a model of MLflow", EXTRA) from error
    return mlflow.pyfunc


def _document(directory: Path) -> Mapping[str, Any]:
    """Return what an ``MLmodel`` file says.

    Raises:
        InvalidModel: It cannot be read.
        MissingExtra: PyYAML, which MLflow brings, is not installed.
    """
    try:
        import yaml  # noqa: PLC0415 - comes with MLflow
    except ImportError as error:
        raise MissingExtra("a model of MLflow", EXTRA) from error
    path = directory / _MLMODEL
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidModel(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise InvalidModel(f"{path}: is no MLflow model: it has no keys")
    return document


def _columns(told: Mapping[str, Any], part: str, directory: Path) -> list[dict[str, Any]]:
    text = told.get(part)
    try:
        columns = json.loads(text) if text else []
    except (TypeError, ValueError) as error:
        raise InvalidModel(f"{directory / _MLMODEL}: {part} of its signature: {error}") from error
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        raise InvalidModel(f"{directory / _MLMODEL}: {part} of its signature is no list of columns")
    return columns


def _schema(told: Mapping[str, Any], part: str, unnamed: str, directory: Path) -> Schema | None:
    """Return one half of a signature; columns without a name get one made up."""
    columns = _columns(told, part, directory)
    if not columns:
        return None
    if columns[0].get("type") == "tensor":
        return _tensor(columns, unnamed, directory)
    fields = []
    for i, column in enumerate(columns):
        kind = _TYPES.get(str(column.get("type")))
        if kind is None:
            raise InvalidModel(
                f"{directory / _MLMODEL}: {part} of its signature has the type "
                f"{column.get('type')!r}; Trivet reads {', '.join(_TYPES)}"
            )
        name = column.get("name") or (unnamed if len(columns) == 1 else f"{unnamed}_{i}")
        fields.append(Field(name=name, type=kind, nullable=not column.get("required", True)))
    return Schema(fields)


def _tensor(columns: list[dict[str, Any]], unnamed: str, directory: Path) -> Schema:
    spec = columns[0].get("tensor-spec", {})
    kind = {"object": "string", "str": "string"}.get(spec.get("dtype"), spec.get("dtype"))
    shape = spec.get("shape", [])
    if len(columns) > 1 or not 1 <= len(shape) <= 2 or shape[-1] < (1 if len(shape) == 2 else -1):
        raise InvalidModel(
            f"{directory / _MLMODEL}: Trivet reads a signature with one tensor of the shape "
            "[-1] or [-1, columns]; log the model with a signature of columns"
        )
    width = 1 if len(shape) == 1 else shape[1]
    names = [unnamed] if width == 1 else [f"{unnamed}_{i}" for i in range(width)]
    return Schema(Field(name=name, type=kind) for name in names)


def _feed(artifact: Path, inputs: Schema) -> Callable[[pa.RecordBatch], Any]:
    columns = _columns(_document(artifact).get("signature") or {}, "inputs", artifact)
    if not columns or columns[0].get("type") != "tensor":
        return framer(inputs, inputs.names, EXTRA, checked=True)
    matrix = Matrix(inputs, range(len(inputs)), {}, str(artifact))
    spec = columns[0]["tensor-spec"]
    dtype = np.dtype(spec["dtype"])
    shape = (-1, *spec["shape"][1:])
    return lambda batch: matrix(batch).astype(dtype, copy=False).reshape(shape)

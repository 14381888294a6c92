"""A saved model file of any library, and what it says of its columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivet import formats
from trivet.errors import MissingExtra, ModelError, ModelNotFound
from trivet.schema import Field, Schema

_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill"})


@dataclass(frozen=True, slots=True)
class Given:
    """A model that `trivet.save` takes.

    Attributes:
        model: The model.
        inputs: Its input schema, if it tells.
        names: Otherwise the names of its inputs, whose types it does not tell.
    """

    model: Any
    inputs: Schema | None
    names: Sequence[str] = ()

    def schema(self, kind_of: Callable[[str], str]) -> Schema:
        """Return the input schema; what the model does not tell is asked for, by name."""
        if self.inputs is not None:
            return self.inputs
        return Schema(Field(name=name, type=kind_of(name)) for name in self.names)


def read(path: Path) -> Given:
    """Read a saved model.

    Raises:
        ModelNotFound: There is no such file.
        ModelError: It is of no kind that is read here.
        MissingExtra: Its library is not installed.
    """
    if not path.exists():
        raise ModelNotFound(f"there is no {path}; give the file or directory of a saved model")
    if (path / "MLmodel").exists():
        told = formats.by_name("mlflow").signature(path)
        if told.inputs is None or told.outputs is None:
            raise ModelError(
                f"{path}: it has no whole signature; log the model again with signature="
                "mlflow.models.infer_signature(rows, predictions)"
            )
        return Given(path, told.inputs)
    readers: dict[str, Callable[[Path], Given]] = {
        ".onnx": _onnx,
        ".txt": _lightgbm,
        ".lgb": _lightgbm,
        ".json": _xgboost,
        ".ubj": _xgboost,
        ".skops": _skops,
    }
    if path.suffix == ".py":
        raise ModelError(
            f"{path}: a class is saved first: trivet.save(CLASS(), 'models', name=..., "
            "version='1'); then give models/NAME"
        )
    if path.suffix in _PICKLES:
        raise ModelError(
            f"{path}: reading a pickle runs whatever code is in it; save the model with "
            "trivet.save where it is trained, or as .skops or .onnx"
        )
    if path.suffix not in readers or path.is_dir():
        raise ModelError(
            f"{path}: no model that is known; give a directory of MLflow or of trivet.save, or a "
            f"file that ends in {', '.join(readers)} (LightGBM: .txt, XGBoost: .json or .ubj)"
        )
    try:
        return readers[path.suffix](path)
    except ModelError:
        raise
    except ModuleNotFoundError as error:
        if error.name == "onnx":  # the extra brings what runs a graph, not what reads it
            raise ModelError(f"{path}: reading it needs the package onnx: pip install onnx") from error
        extra = {".onnx": "onnx", ".skops": "sklearn"}.get(
            path.suffix, "xgboost" if path.suffix in (".json", ".ubj") else "lightgbm"
        )
        raise MissingExtra(f"{path} (module {error.name})", extra) from error
    except Exception as error:  # of the library that reads the file
        first = str(error).strip().partition("\n")[0]  # XGBoost adds its stack
        raise ModelError(f"{path}: cannot be read: {type(error).__name__}: {first}") from error


def _onnx(path: Path) -> Given:
    import onnx  # noqa: PLC0415 - reading the graph, not running it

    told = formats.by_name("onnx").signature(path)
    if told.inputs is not None:
        return Given(path, told.inputs)
    [tensor] = onnx.load(path).graph.input
    width = tensor.type.tensor_type.shape.dim[-1].dim_value
    return Given(path, None, [f"x{i}" for i in range(width)])


def _lightgbm(path: Path) -> Given:
    import lightgbm  # noqa: PLC0415 - its library, only for its file

    booster = lightgbm.Booster(model_file=str(path))
    inputs = formats.by_name("lightgbm").signature(booster).inputs
    return Given(booster, inputs, booster.feature_name())


def _xgboost(path: Path) -> Given:
    import xgboost  # noqa: PLC0415 - its library, only for its file

    booster = xgboost.Booster(model_file=str(path))
    if booster.feature_names is None:
        booster.feature_names = [f"x{i}" for i in range(booster.num_features())]
    inputs = formats.by_name("xgboost").signature(booster).inputs
    return Given(booster, inputs, booster.feature_names)


def _skops(path: Path) -> Given:
    import skops.io  # noqa: PLC0415 - its library, only for its file

    module = formats.by_name("sklearn")
    if module.runs_code(path):
        raise ModelError(
            f"{path}: it has types in it that are not known to be safe; save the model with "
            "trivet.save where it is trained"
        )
    estimator = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        names = [f"x{i}" for i in range(getattr(estimator, "n_features_in_", 0))]
    return Given(estimator, module.signature(estimator).inputs, [str(name) for name in names])

"""XGBoost boosters, kept as XGBoost's own JSON and asked through its C interface.

If training stopped early, the trees up to the best iteration answer, as XGBoost's scikit-learn
estimators do. The shared library of the installed package is called directly: see
`trivet.formats._native`.
"""

from __future__ import annotations

import ctypes
import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trivet.errors import InvalidModel, ModelError
from trivet.formats import Predictor, Signature, Spec, _contributions, _native, _sidecar
from trivet.formats._arrays import Codes, Floats, Matrix, arrange
from trivet.formats._kinds import is_a
from trivet.formats._outputs import (
    Classification,
    Regression,
    both,
    classifier_schema,
    regression_schema,
)
from trivet.schema import Field, Schema, type_name

if TYPE_CHECKING:
    import xgboost

EXTRA = "xgboost"
LIBRARIES = ("xgboost",)

_FILE = "model.json"
Answers = npt.NDArray[np.float32]


def recognises(model: object) -> bool:
    """Say whether it is a Booster or one of XGBoost's scikit-learn estimators."""
    return is_a(model, "xgboost.core.Booster", "xgboost.sklearn.XGBModel")


def signature(model: object) -> Signature:
    """Read the features, their categories and the outputs off a trained model."""
    booster = _booster(model)
    facts = _Facts.of(booster.save_config())
    probabilities = facts.objective not in _LABELS
    outputs = (
        classifier_schema(facts.classes, probabilities=probabilities)
        if facts.classes
        else regression_schema(facts.targets)
    )
    if booster.feature_names is None:
        return Signature(None, outputs)
    kinds = dict.fromkeys(booster.feature_names, "float64")
    for name, values in _categories(booster).items():
        kinds[name] = type_name(pa.array(values).type) or "string"
    inputs = Schema(Field(name=name, type=kind, nullable=True) for name, kind in kinds.items())
    return Signature(inputs, outputs)


def write(model: object, directory: Path) -> str:
    """Write the trees as JSON, and what the C interface does not tell of them."""
    booster = _booster(model)
    extra: dict[str, Any] = {}
    if categories := _categories(booster):
        extra["categories"] = categories
    missing = getattr(model, "missing", math.nan)
    if missing is not None and not math.isnan(missing):
        extra["missing"] = float(missing)
    path, artifact = _sidecar.write(directory, _FILE, extra)
    booster.save_model(path)
    return artifact


def read(artifact: Path, spec: Spec) -> Predictor:
    """Load the trees into XGBoost's library and lay out how a batch becomes its matrix.

    Raises:
        InvalidModel: It is no XGBoost model, or does not fit the inputs or outputs.
    """
    path, extra = _sidecar.read(artifact, _FILE)
    who = str(artifact)
    booster = _Native(path, spec.threads, extra.get("missing", math.nan))
    matrix = _matrix(booster, spec.inputs, extra.get("categories", {}), who)
    plain, why = _contributions.split(spec.outputs)
    answer = _answer(booster.facts, plain, who)
    columns = booster.facts.targets if len(booster.facts.classes) <= 2 else 0
    names = [spec.inputs.names[i] for i in arrange(_names(booster), spec.inputs, who)]
    reasons = _contributions.Contributions(why, names, columns, who) if why else None

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        asked = matrix(batch)
        given = answer(booster.predict(asked), batch.num_rows)
        if reasons is None:
            return given
        told = reasons.arrays(booster.contributions(asked))
        return _contributions.joined(spec.outputs, given, told)

    return Predictor(predict, parallel=booster.facts.trees)


def runs_code(artifact: Path) -> bool:
    """Say no: the artifact is numbers."""
    return False


_LABELS = ("multi:softmax", "binary:hinge")
"""Objectives that give the place of the class and no probability."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a booster's configuration says of it."""

    objective: str
    classes: tuple[int, ...]
    targets: int
    features: int
    trees: bool

    @classmethod
    def of(cls, config: str) -> _Facts:
        learner = json.loads(config)["learner"]
        parameters = learner["learner_model_param"]
        objective = learner["objective"]["name"]
        targets = int(parameters.get("num_target", "1"))
        several = int(parameters["num_class"])
        if objective in ("binary:logistic", "binary:hinge") and targets == 1:
            several = 2
        else:
            several = several if objective.startswith("multi:") else 0
        return cls(
            objective=objective,
            classes=tuple(range(several)),
            targets=targets,
            features=int(parameters["num_feature"]),
            trees=learner["gradient_booster"]["name"] != "gblinear",
        )


def _matrix(booster: _Native, inputs: Schema, categories: dict[str, list[Any]], who: str) -> Matrix:
    names = _names(booster)
    order = arrange(names, inputs, who)
    places = dict(zip(names, order, strict=True))
    codes = {
        places[name]: Codes(values, inputs.fields[places[name]], who)
        for name, values in categories.items()
    }
    return Matrix(inputs, order, codes, who)


def _names(booster: _Native) -> list[str]:
    return booster.feature_names() or [f"f{i}" for i in range(booster.facts.features)]


def _answer(facts: _Facts, outputs: Schema, who: str) -> Callable[[Answers, int], pa.RecordBatch]:
    if not facts.classes:
        return Regression(outputs, facts.targets, who).batch
    served = Classification(
        outputs, facts.classes, who, probabilities=facts.objective not in _LABELS
    )
    if facts.objective in _LABELS:
        return lambda values, rows: served.batch(rows, None, values[:, 0].astype(np.int64))
    if facts.objective == "binary:logistic":
        return lambda values, rows: served.batch(rows, both(values[:, 0]))
    return lambda values, rows: served.batch(rows, values)


def _booster(model: object) -> xgboost.Booster:
    try:
        estimator = cast(Any, model)
        booster: xgboost.Booster = (
            estimator.get_booster() if hasattr(model, "get_booster") else estimator
        )
        booster.num_boosted_rounds()
    except Exception as error:
        raise ModelError(
            f"the {type(model).__name__} is not trained: {error}; call fit first"
        ) from error
    return booster


def _categories(booster: xgboost.Booster) -> dict[str, list[Any]]:
    """Return the categories that the booster learnt, by feature; XGBoost 3.0 does not keep them."""
    if "c" not in (booster.feature_types or ()) or not hasattr(booster, "get_categories"):
        return {}
    known = booster.get_categories(export_to_arrow=True).to_arrow()
    return {name: values.to_pylist() for name, values in known if values is not None}


class _Native:
    """A booster in XGBoost's library; several threads may ask it at once (a linear one waits)."""

    def __init__(self, path: Path, threads: int, missing: float) -> None:
        self._library = _library()
        pointer = ctypes.c_void_p()
        self._check(self._library.XGBoosterCreate(None, 0, ctypes.byref(pointer)))
        self._handle = _native.Handle(pointer, self._library.XGBoosterFree)
        if self._library.XGBoosterLoadModel(pointer, str(path).encode()):
            raise InvalidModel(f"{path}: XGBoost cannot read it: {self._error()}")
        self._set("nthread", str(threads))
        self._set("device", "cpu")
        self.facts = _Facts.of(self._config())
        self._missing = missing
        self._lock = threading.Lock()
        how = {
            "type": 0,
            "training": False,
            "iteration_begin": 0,
            "iteration_end": self._best_iteration(),
            "missing": missing,
            "strict_shape": True,
            "cache_id": 0,
        }
        self._how = json.dumps(how).encode()
        self._why = json.dumps(how | {"type": 2}).encode()
        # XGBoost sets a booster up when it first predicts; threads must not do so together.
        self.predict(np.zeros((1, self.facts.features)))

    def predict(self, matrix: Floats) -> Answers:
        """Return the answers, shape (rows, columns)."""
        if not self.facts.trees:
            with self._lock:
                return self._ask_copy(matrix, self._how)
        return self._ask(
            self._library.XGBoosterPredictFromDense, _interface(matrix), self._how, None
        )

    def contributions(self, matrix: Floats) -> Floats:
        """Return what each feature adds to the score, and the base, shape (rows, features + 1)."""
        with self._lock:
            return self._ask_copy(matrix, self._why).astype(np.float64)

    def feature_names(self) -> list[str]:
        """Return the names it was trained with; none if it was trained on bare arrays."""
        length, names = ctypes.c_uint64(), ctypes.POINTER(ctypes.c_char_p)()
        self._check(
            self._library.XGBoosterGetStrFeatureInfo(
                self._handle.pointer, b"feature_name", ctypes.byref(length), ctypes.byref(names)
            )
        )
        return [(names[i] or b"").decode() for i in range(length.value)]

    def _ask_copy(self, matrix: Floats, how: bytes) -> Answers:
        """Go through XGBoost's own copy of the matrix, as linear boosters and reasons need."""
        pointer = ctypes.c_void_p()
        settings = json.dumps({"missing": self._missing, "nthread": 1}).encode()
        self._check(
            self._library.XGDMatrixCreateFromDense(
                _interface(matrix), settings, ctypes.byref(pointer)
            )
        )
        copied = _native.Handle(pointer, self._library.XGDMatrixFree)
        return self._ask(self._library.XGBoosterPredictFromDMatrix, copied.pointer, how)

    def _ask(self, function: Callable[..., int], *arguments: Any) -> Answers:
        shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        result = ctypes.POINTER(ctypes.c_float)()
        into = (ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(result))
        self._check(function(self._handle.pointer, *arguments, *into))
        rows, *rest = (shape[i] for i in range(dimensions.value))
        # XGBoost uses the memory again for this thread's next call.
        return np.ctypeslib.as_array(result, shape=(rows, math.prod(rest))).copy()

    def _set(self, name: str, value: str) -> None:
        self._check(
            self._library.XGBoosterSetParam(self._handle.pointer, name.encode(), value.encode())
        )

    def _config(self) -> str:
        length, text = ctypes.c_uint64(), ctypes.c_char_p()
        self._check(
            self._library.XGBoosterSaveJsonConfig(
                self._handle.pointer, ctypes.byref(length), ctypes.byref(text)
            )
        )
        return (text.value or b"").decode()

    def _best_iteration(self) -> int:
        """Return how many iterations answer; 0 means all."""
        text, found = ctypes.c_char_p(), ctypes.c_int()
        self._check(
            self._library.XGBoosterGetAttr(
                self._handle.pointer, b"best_iteration", ctypes.byref(text), ctypes.byref(found)
            )
        )
        return int(text.value or 0) + 1 if found.value and self.facts.trees else 0

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"XGBoost: {self._error()}")

    def _error(self) -> str:
        message: bytes = self._library.XGBGetLastError()
        return message.decode(errors="replace").partition("\nStack trace")[0]


def _interface(matrix: Floats) -> bytes:
    """Describe a matrix by the array interface that XGBoost reads."""
    rows, columns = matrix.shape
    place = matrix.ctypes.data
    return (
        f'{{"data":[{place},true],"shape":[{rows},{columns}],"typestr":"<f8","version":3}}'.encode()
    )


def _library() -> ctypes.CDLL:
    """Open the library as `xgboost.libpath` finds it, and declare the functions used."""
    names = {"win32": "xgboost.dll", "darwin": "libxgboost.dylib", "": "libxgboost.so"}
    library = _native.library("xgboost", names, ("lib", "../../lib"))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.XGBGetLastError.restype = text
    library.XGBGetLastError.argtypes = []
    library.XGBoosterCreate.argtypes = [pointer, ctypes.c_uint64, pointer]
    library.XGBoosterFree.argtypes = [pointer]
    library.XGBoosterLoadModel.argtypes = [pointer, text]
    library.XGBoosterSetParam.argtypes = [pointer, text, text]
    library.XGBoosterSaveJsonConfig.argtypes = [pointer, pointer, pointer]
    library.XGBoosterGetAttr.argtypes = [pointer, text, pointer, pointer]
    library.XGBoosterGetStrFeatureInfo.argtypes = [pointer, text, pointer, pointer]
    library.XGBoosterPredictFromDense.argtypes = [
        pointer,
        text,
        text,
        pointer,
        pointer,
        pointer,
        pointer,
    ]
    library.XGDMatrixCreateFromDense.argtypes = [text, text, pointer]
    library.XGDMatrixFree.argtypes = [pointer]
    library.XGBoosterPredictFromDMatrix.argtypes = [
        pointer,
        pointer,
        text,
        pointer,
        pointer,
        pointer,
    ]
    return library

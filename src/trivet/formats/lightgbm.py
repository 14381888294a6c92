"""LightGBM boosters, kept as LightGBM's own text and asked through its C interface.

Ranking objectives, and cross entropy on shares, are served as regressions. The shared library of
the installed package is called directly: see `trivet.formats._native`.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from trivet.errors import InvalidModel, ModelError
from trivet.formats import Predictor, Signature, Spec, _contributions, _native, _sidecar
from trivet.formats._arrays import Codes, Floats, Matrix, arrange
from trivet.formats._kinds import is_a
from trivet.formats._order import Order
from trivet.formats._outputs import (
    Classification,
    Regression,
    both,
    classifier_schema,
    plain_classes,
    regression_schema,
)
from trivet.schema import Field, Schema, type_name

if TYPE_CHECKING:
    import lightgbm

EXTRA = "lightgbm"
LIBRARIES = ("lightgbm",)

_FILE = "model.txt"
_FLOAT64, _NORMAL, _CONTRIBUTIONS, _ALL_TREES = 1, 0, 3, -1  # of LightGBM's c_api.h


def recognises(model: object) -> bool:
    """Say whether it is a Booster or one of LightGBM's scikit-learn estimators."""
    return is_a(model, "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMModel")


def signature(model: object) -> Signature:
    """Read the features, their categories and the outputs off a trained model."""
    booster = _booster(model)
    facts = _Facts.of(booster.model_to_string(num_iteration=1).splitlines())
    classes = facts.classes(_classes(model))
    outputs = classifier_schema(classes) if classes else regression_schema(facts.columns)
    kinds = dict.fromkeys(facts.features, "float64")
    if len(facts.categories) == len(facts.categorical):
        for place, values in zip(facts.categorical, facts.categories, strict=True):
            kinds[facts.features[place]] = type_name(pa.array(values).type) or "string"
    elif facts.categories:  # ordered ones: the text does not tell which columns they are
        return Signature(None, outputs)
    inputs = Schema(Field(name=name, type=kind, nullable=True) for name, kind in kinds.items())
    return Signature(inputs, outputs)


def write(model: object, directory: Path) -> str:
    """Write the text of the trees, up to the best iteration, and classes that need telling."""
    booster = _booster(model)
    classes = _classes(model)
    given = classes is not None and classes != tuple(range(len(classes)))
    path, artifact = _sidecar.write(directory, _FILE, {"classes": classes} if given else {})
    booster.save_model(path)
    return artifact


def read(artifact: Path, spec: Spec) -> Predictor:
    """Load the trees into LightGBM's library and lay out how a batch becomes its matrix.

    Raises:
        InvalidModel: It is no LightGBM model, or does not fit the inputs or outputs.
    """
    path, extra = _sidecar.read(artifact, _FILE)
    who = str(artifact)
    try:
        with path.open(encoding="utf-8") as lines:
            facts = _Facts.of(lines)
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{who}: no text of a LightGBM model: {error}") from error
    matrix = _matrix(facts, spec.inputs, who)
    plain, why = _contributions.split(spec.outputs)
    answer = _answer(facts, extra.get("classes"), plain, who)
    names = [spec.inputs.names[i] for i in arrange(facts.features, spec.inputs, who)]
    reasons = _contributions.Contributions(why, names, facts.columns, who) if why else None
    booster = _Native(path, len(facts.features), facts.columns, spec.threads)
    order = Order(facts.visits)

    def answered(asked: Floats) -> pa.RecordBatch:
        places = order(asked)
        if places is None:
            return answer(booster.predict(asked), len(asked))
        values = np.empty((len(asked), facts.columns))
        values[places] = booster.predict(asked.take(places, axis=0))
        return answer(values, len(asked))

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        asked = matrix(batch)
        given = answered(asked)
        if reasons is None:
            return given
        told = reasons.arrays(booster.contributions(asked))
        return _contributions.joined(spec.outputs, given, told)

    return Predictor(predict, parallel=True)


def runs_code(artifact: Path) -> bool:
    """Say no: the artifact is numbers."""
    return False


_PREFIXES = (
    "objective=",
    "feature_names=",
    "num_class=",
    "tree_sizes=",
    "[categorical_feature: ",
    "pandas_categorical:",
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the text of a model says around its trees."""

    objective: str
    features: list[str]
    columns: int
    categorical: list[int]
    categories: list[list[Any]]
    visits: Floats  # how many rows of the training came to nodes that a feature decides

    @classmethod
    def of(cls, lines: Iterable[str]) -> _Facts:
        found: dict[str, str] = {}
        visits: dict[int, float] = defaultdict(float)
        splits: list[int] = []
        trees, complete = 0, False
        for line in lines:
            trees += line.startswith("Tree=")
            complete = complete or line.startswith("end of trees")
            if line.startswith("split_feature="):
                splits = [int(place) for place in line.partition("=")[2].split()]
            elif line.startswith("internal_count="):
                counts = [float(count) for count in line.partition("=")[2].split()]
                for place, count in zip(splits, counts, strict=False):
                    visits[place] += count
            for prefix in _PREFIXES:
                if line.startswith(prefix):
                    found[prefix] = line.removeprefix(prefix).strip()
        if "feature_names=" not in found:
            raise ValueError("it names no features")
        # LightGBM reads the trees on several threads, and an error there ends the whole process.
        listed = len(found.get("tree_sizes=", "").split())
        if not complete or trees != listed:
            raise ValueError(f"it lists {listed} trees and has {trees}: it was cut short")
        features = found["feature_names="].split()
        places = found.get("[categorical_feature: ", "").rstrip("]")
        return cls(
            objective=(found.get("objective=", "").split() or [""])[0],
            features=features,
            columns=int(found.get("num_class=", "1")),
            categorical=[int(place) for place in places.split(",") if place.isdigit()],
            categories=json.loads(found.get("pandas_categorical:", "null")) or [],
            visits=np.array([visits[place] for place in range(len(features))]),
        )

    def classes(self, given: Iterable[Any] | None) -> tuple[Any, ...] | None:
        """Return the classes, or None if the model gives numbers."""
        if self.objective == "binary":
            return (0, 1) if given is None else tuple(given)
        if self.objective in ("multiclass", "multiclassova"):
            return tuple(range(self.columns)) if given is None else tuple(given)
        return None


def _matrix(facts: _Facts, inputs: Schema, who: str) -> Matrix:
    order = arrange(facts.features, inputs, who)
    places = _categorical(facts, [inputs.fields[i].type for i in order])
    if places is None:
        raise InvalidModel(
            f"{who}: the model learnt {len(facts.categories)} columns of categories, and the "
            f"inputs have {sum(field.type == 'string' for field in inputs)} of strings; "
            "declare the categories' types"
        )
    codes = {
        order[place]: Codes(values, inputs.fields[order[place]], who)
        for place, values in zip(places, facts.categories, strict=True)
    }
    return Matrix(inputs, order, codes, who)


def _categorical(facts: _Facts, kinds: list[str]) -> list[int] | None:
    """Say which features the lists of categories belong to; the text gives only their order.

    Its parameters name the unordered ones; ordered ones are known by being text.
    """
    texts = [i for i, kind in enumerate(kinds) if kind == "string"]
    for places in (facts.categorical, texts, sorted({*facts.categorical, *texts})):
        if len(places) == len(facts.categories):
            return places
    return None if facts.categories else []


def _answer(
    facts: _Facts, given: list[Any] | None, outputs: Schema, who: str
) -> Callable[[Floats, int], pa.RecordBatch]:
    classes = facts.classes(given)
    if classes is None:
        return Regression(outputs, facts.columns, who).batch
    served = Classification(outputs, classes, who)
    if facts.objective == "binary":
        return lambda values, rows: served.batch(rows, both(values[:, 0]))
    return lambda values, rows: served.batch(rows, values)


def _booster(model: object) -> lightgbm.Booster:
    try:
        booster: lightgbm.Booster = getattr(model, "booster_", cast(Any, model))
        booster.num_trees()
    except AttributeError as error:
        raise ModelError(
            f"the {type(model).__name__} is not trained; call fit before saving it"
        ) from error
    return booster


def _classes(model: object) -> tuple[Any, ...] | None:
    return plain_classes(model.classes_) if is_a(model, "lightgbm.sklearn.LGBMClassifier") else None  # type: ignore[attr-defined]


class _Native:
    """A booster in LightGBM's library; several threads may ask it at once."""

    def __init__(self, path: Path, features: int, columns: int, threads: int) -> None:
        self._library = _library()
        self._features = features
        self._columns = columns
        self._settings = f"num_threads={threads} verbosity=-1".encode()
        self._rows = threading.local()
        pointer = ctypes.c_void_p()
        status = self._library.LGBM_BoosterCreateFromModelfile(
            str(path).encode(), ctypes.byref(ctypes.c_int()), ctypes.byref(pointer)
        )
        if status:
            raise InvalidModel(f"{path}: LightGBM cannot read it: {self._error()}")
        self._handle = _native.Handle(pointer, self._library.LGBM_BoosterFree)

    def predict(self, matrix: Floats) -> Floats:
        """Return the answers, shape (rows, columns)."""
        answers = np.empty((len(matrix), self._columns))
        if len(matrix) == 1:
            length = ctypes.byref(ctypes.c_int64())
            status = self._library.LGBM_BoosterPredictForMatSingleRowFast(
                self._row().pointer, matrix.ctypes.data, length, answers.ctypes.data
            )
        else:
            status = self._ask(matrix, _NORMAL, answers)
        self._check(status)
        return answers

    def contributions(self, matrix: Floats) -> Floats:
        """Return what each feature adds to the score, and the base, shape (rows, features + 1)."""
        answers = np.empty((len(matrix), self._features + 1))
        self._check(self._ask(matrix, _CONTRIBUTIONS, answers))
        return answers

    def _ask(self, matrix: Floats, kind: int, answers: Floats) -> int:
        length = ctypes.byref(ctypes.c_int64())
        how = (kind, 0, _ALL_TREES, self._settings, length, answers.ctypes.data)
        status: int = self._library.LGBM_BoosterPredictForMat(
            self._handle.pointer, matrix.ctypes.data, _FLOAT64, *matrix.shape, 1, *how
        )
        return status

    def _row(self) -> _native.Handle:
        """Return LightGBM's prepared state for single rows; it holds buffers: one a thread."""
        row: _native.Handle | None = getattr(self._rows, "row", None)
        if row is None:
            pointer = ctypes.c_void_p()
            how = (_NORMAL, 0, _ALL_TREES, _FLOAT64, self._features, self._settings)
            self._check(
                self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
                    self._handle.pointer, *how, ctypes.byref(pointer)
                )
            )
            row = _native.Handle(pointer, self._library.LGBM_FastConfigFree, keep=self._handle)
            self._rows.row = row
        return row

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"LightGBM: {self._error()}")

    def _error(self) -> str:
        message: bytes = self._library.LGBM_GetLastError()
        return message.decode(errors="replace")


def _library() -> ctypes.CDLL:
    """Open the library as `lightgbm.libpath` finds it, and declare the functions used."""
    names = {"win32": "lib_lightgbm.dll", "darwin": "lib_lightgbm.dylib", "": "lib_lightgbm.so"}
    library = _native.library("lightgbm", names, ("..", "bin", "lib"))
    pointer, text, number, long = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int32
    library.LGBM_GetLastError.restype = text
    library.LGBM_GetLastError.argtypes = []
    library.LGBM_BoosterFree.argtypes = [pointer]
    library.LGBM_FastConfigFree.argtypes = [pointer]
    library.LGBM_BoosterCreateFromModelfile.argtypes = [text, pointer, pointer]
    library.LGBM_BoosterPredictForMat.argtypes = [
        *(pointer, pointer, number, long, long, number),
        *(number, number, number, text, pointer, pointer),
    ]
    library.LGBM_BoosterPredictForMatSingleRowFastInit.argtypes = [
        *(pointer, number, number, number, number, long, text, pointer)
    ]
    library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = [pointer, pointer, pointer, pointer]
    return library

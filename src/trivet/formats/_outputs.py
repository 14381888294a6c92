"""What a model answered, as a record batch of its declared outputs.

Everything that can be known before the first row (which output gets what, and whether it can)
is settled when the object is made, so that `batch` is cheap for one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trivet.errors import InvalidModel, PredictionError
from trivet.schema import TYPES, Field, Schema, type_name

Array = npt.NDArray[Any]

_FLOATS = {"float32": np.float32, "float64": np.float64}
_PREFIX = "probability_"


def plain_classes(classes: npt.ArrayLike) -> tuple[Any, ...]:
    """Return a classifier's classes as Python values; whole floats become integers."""
    values = np.asarray(classes).tolist()
    if all(isinstance(value, float) and value.is_integer() for value in values):
        values = [int(value) for value in values]
    return tuple(values)


def class_names(classes: Sequence[Any]) -> list[str]:
    """Return the classes as text, as Arrow would write them."""
    return [str(name) for name in pa.array(classes).cast(pa.string()).to_pylist()]


def classifier_schema(classes: Sequence[Any], *, probabilities: bool = True) -> Schema:
    """Return what a classifier gives unless told otherwise."""
    label = Field(name="label", type=type_name(pa.array(classes).type) or "string")
    names = class_names(classes) if probabilities else []
    return Schema([label, *(Field(name=_PREFIX + name, type="float64") for name in names)])


def regression_schema(columns: int = 1, kind: str = "float64") -> Schema:
    """Return what a regression of so many targets gives unless told otherwise."""
    names = ["prediction"] if columns == 1 else [f"prediction_{i}" for i in range(columns)]
    return Schema(Field(name=name, type=kind) for name in names)


class Regression:
    """Serves numbers, one column a target.

    Args:
        outputs: The declared outputs.
        columns: How many numbers the model gives for a row.
        who: The artifact, for messages.
        whole: Whether the numbers are whole (clusters, say).

    Raises:
        InvalidModel: The declared outputs cannot be served.
    """

    def __init__(self, outputs: Schema, columns: int, who: str, *, whole: bool = False) -> None:
        numbers = "one number" if columns == 1 else f"{columns} numbers"
        if len(outputs) != columns:
            raise InvalidModel(
                f"{who}: the outputs are {', '.join(outputs.names) or 'none'}; the model offers "
                f"{numbers} a row, so declare {columns} of a float type"
            )
        for field in outputs:
            if field.type not in _FLOATS and not (whole and "int" in field.type):
                raise InvalidModel(
                    f"{who}: output {field.name!r} is {field.type}; the model offers {numbers} a "
                    "row, so declare it float64"
                )
        self._arrow = outputs.arrow
        self._who = who
        self._columns = columns

    def batch(self, values: Array, rows: int) -> pa.RecordBatch:
        """Return the outputs of so many rows.

        Raises:
            PredictionError: The values are of another shape.
        """
        expected = (rows, self._columns)
        if values.shape != expected and not (self._columns == 1 and values.shape == (rows,)):
            raise _wrong_shape(self._who, expected, values)
        table = values.reshape(expected)
        arrays = [_column(table[:, i], field.type) for i, field in enumerate(self._arrow)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)


class Classification:
    """Serves a label and probabilities.

    Args:
        outputs: The declared outputs.
        classes: The model's classes, in the order of its probabilities.
        who: The artifact, for messages.
        probabilities: Whether the model gives them.

    Raises:
        InvalidModel: The declared outputs cannot be served.
    """

    def __init__(
        self, outputs: Schema, classes: Sequence[Any], who: str, *, probabilities: bool = True
    ) -> None:
        self._who = who
        self._arrow = outputs.arrow
        self._names = [_PREFIX + name for name in class_names(classes)] if probabilities else []
        self._classes = pa.array(classes)
        free = [f for f in outputs if f.name != "label" and f.name not in self._names]
        #: Place of each output's probability; None is the label.
        self._sources = [self._source(field, len(free)) for field in outputs]
        self.wants_label = None in self._sources
        self.wants_probabilities = any(source is not None for source in self._sources)
        if self.wants_label:
            self._classes = self._labels(next(f for f in outputs if f.name == "label"))

    def batch(
        self, rows: int, probabilities: Array | None, codes: Array | None = None
    ) -> pa.RecordBatch:
        """Return the outputs of so many rows.

        Args:
            rows: How many.
            probabilities: Shape (rows, classes); None if none is wanted and `codes` is given.
            codes: The labels' places in the classes; by default those of the largest probabilities.

        Raises:
            PredictionError: The values are of another shape.
        """
        expected = (rows, len(self._classes))
        if probabilities is not None and probabilities.shape != expected:
            raise _wrong_shape(self._who, expected, probabilities)
        if self.wants_label and codes is None and probabilities is not None:
            codes = probabilities.argmax(axis=1)
        if codes is not None and codes.shape != (rows,):
            raise _wrong_shape(self._who, (rows,), codes)
        arrays = []
        for source, field in zip(self._sources, self._arrow, strict=True):
            if source is None:
                arrays.append(self._classes.take(pa.array(codes)))
            elif probabilities is not None:
                arrays.append(_column(probabilities[:, source], field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _source(self, field: Field, free: int) -> int | None:
        if field.name == "label":
            return None
        if field.type in _FLOATS and field.name in self._names:
            return self._names.index(field.name)
        if field.type in _FLOATS and free == 1 and len(self._names) == 2:
            return 1
        raise InvalidModel(
            f"{self._who}: output {field.name!r} ({field.type}) cannot be served; the model offers "
            f"{', '.join(['label', *self._names])}" + (" as floats" if self._names else "")
        )

    def _labels(self, field: Field) -> pa.Array:
        try:
            if field.type in ("timestamp", "date"):  # Arrow would count days from 1970
                raise pa.ArrowInvalid("no class is a time")
            return self._classes.cast(TYPES[field.type])
        except pa.ArrowException as error:
            raise InvalidModel(
                f"{self._who}: output 'label' is {field.type}; the model offers the classes "
                f"{', '.join(class_names(self._classes.to_pylist()))}, "
                f"so declare it {self._classes.type}"
            ) from error


def both(positive: Array) -> Array:
    """Return the two columns of a binary classifier from the probability of its last class."""
    return np.stack((1 - positive, positive), axis=1)


def _column(values: Array, kind: pa.DataType | str) -> pa.Array:
    if kind == pa.float64():
        return pa.array(values.astype(np.float64, copy=False))
    if kind == pa.float32():
        return pa.array(values.astype(np.float32, copy=False))
    return pa.array(values).cast(kind)


def _wrong_shape(who: str, expected: tuple[int, ...], values: Array) -> PredictionError:
    return PredictionError(f"{who}: expected answers of shape {expected}, got {values.shape}")

"""Record batches as the matrices that libraries read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import InvalidModel
from trivet.schema import TYPES, Field, Schema

Floats = npt.NDArray[np.float64]

_NUMBERS = frozenset(TYPES) - {"bool", "string", "timestamp", "date"}


class Codes:
    """The codes of a categorical column; a value that is null or was never seen is NaN."""

    def __init__(self, values: Sequence[Any], field: Field, who: str) -> None:
        try:
            self._values = pa.array(values, TYPES[field.type])
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidModel(
                f"{who}: input {field.name!r} is {field.type}, which cannot hold the categories "
                f"that the model learnt, such as {values[0]!r}; declare it with their type"
            ) from error
        self._zero = pa.scalar(0.0, self._values.type) if field.type.startswith("float") else None
        if self._zero is not None:
            self._values = pc.add(self._values, self._zero)
        self._codes = {value: float(i) for i, value in enumerate(self._values.to_pylist())}

    def __call__(self, column: pa.Array) -> Floats:
        """Return the code of every value."""
        if len(column) == 1:  # a hash table of all categories costs more than the rest of a row
            return np.array([self._codes.get(column[0].as_py(), math.nan)])
        if self._zero is not None:  # the two zeros are one number, which index_in does not know
            column = pc.add(column, self._zero)
        codes = pc.index_in(column, value_set=self._values, skip_nulls=True)
        return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.float64)


class Matrix:
    """Turns batches into row-major float64 matrices, null as NaN.

    Args:
        inputs: The columns of the batches.
        order: Places in `inputs` of the matrix's columns.
        codes: Place in `inputs` to the categories of that column.
        who: The artifact, for messages.

    Raises:
        InvalidModel: A column is neither a number nor has categories.
    """

    def __init__(
        self, inputs: Schema, order: Sequence[int], codes: Mapping[int, Codes], who: str
    ) -> None:
        for place in order:
            field = inputs.fields[place]
            if place not in codes and field.type not in _NUMBERS | {"bool"}:
                known = (
                    "has no categories for it" if field.type == "string" else "reads numbers only"
                )
                raise InvalidModel(
                    f"{who}: input {field.name!r} is {field.type}, and the model {known}; turn it "
                    "into a number or train on it as a category"
                )
        self._order = list(order)
        self._codes = dict(codes)
        self._select = self._order != list(range(len(inputs)))
        self._numeric = not codes and all(inputs.fields[i].type in _NUMBERS for i in order)

    def __call__(self, batch: pa.RecordBatch) -> Floats:
        """Return the matrix of a batch."""
        if self._numeric:
            chosen = batch.select(self._order) if self._select else batch
            tensor = chosen.to_tensor(null_to_nan=True, row_major=True)
            return np.ascontiguousarray(tensor.to_numpy(), dtype=np.float64)
        matrix = np.empty((batch.num_rows, len(self._order)))
        for place, source in enumerate(self._order):
            column = batch.column(source)
            codes = self._codes.get(source)
            matrix[:, place] = numbers(column) if codes is None else codes(column)
        return matrix


def numbers(column: pa.Array) -> npt.NDArray[Any]:
    """Return a column of numbers or booleans as an array, null as NaN."""
    if column.null_count and pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())  # else it comes as Python objects
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def arrange(features: Sequence[str], inputs: Schema, who: str) -> list[int]:
    """Return the place in `inputs` of each feature: by name if all are there, else by position.

    Raises:
        InvalidModel: Neither the names nor the count fit.
    """
    places = {name: i for i, name in enumerate(inputs.names)}
    # LightGBM writes the names of its features without spaces.
    places = {name.replace(" ", "_"): i for name, i in places.items()} | places
    if features and all(name in places for name in features):
        return [places[name] for name in features]
    if len(features) == len(inputs):
        return list(range(len(inputs)))
    lacking = [name for name in features if name not in places]
    raise InvalidModel(
        f"{who}: the model reads {len(features)} features, the inputs are {len(inputs)}; "
        f"not among the inputs: {', '.join(lacking[:10])}"
    )

"""Answers of any shape that Python code likes to return, as a batch of the declared outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from trivet.errors import InvalidModel, PredictionError
from trivet.schema import Schema


class Loose:
    """Makes batches of Arrow data, mappings, frames and arrays.

    Args:
        outputs: The declared outputs.
        own: The columns that the model returns, in its order.
        who: The model, for messages.

    Raises:
        InvalidModel: A declared output is not among the model's own.
    """

    def __init__(self, outputs: Schema, own: Sequence[str], who: str) -> None:
        extra = [repr(name) for name in outputs.names if name not in own]
        if extra:
            raise InvalidModel(
                f"{who}: output {', '.join(extra)} cannot be served; "
                f"the model offers {', '.join(own)}"
            )
        self._arrow = outputs.arrow
        self._own = list(own)
        self._who = who

    def batch(self, given: Any, rows: int) -> pa.RecordBatch:
        """Return the outputs of so many rows.

        Raises:
            PredictionError: Columns or rows are lacking, or values do not fit their type.
        """
        columns = self._named(given)
        arrays = []
        for field in self._arrow:
            array = self._array(columns[field.name], field)
            if len(array) != rows:
                raise PredictionError(f"{self._who}: expected {rows} rows, got {len(array)}")
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _named(self, given: Any) -> Mapping[str, Any]:
        columns: Mapping[str, Any]
        if isinstance(given, pa.RecordBatch | pa.Table):
            columns = dict(zip(given.schema.names, given.columns, strict=True))
        elif isinstance(given, Mapping):
            columns = given
        elif set(self._own) <= set(getattr(given, "columns", ())):
            columns = {name: given[name].to_numpy() for name in self._own}
        else:
            columns = self._by_position(given)
        if not columns.keys() >= set(self._own):
            got = ", ".join(map(str, columns)) or "none"
            raise PredictionError(
                f"{self._who}: expected the columns {', '.join(self._own)}, got {got}"
            )
        return columns

    def _by_position(self, given: Any) -> dict[str, Any]:
        if len(self._own) == 1 and isinstance(given, pa.Array | pa.ChunkedArray):
            return {self._own[0]: given}
        array = np.asarray(given)
        if array.ndim == 1 and len(self._own) == 1:
            return {self._own[0]: array}
        if array.ndim == 2 and array.shape[1] == len(self._own):
            return {name: array[:, i] for i, name in enumerate(self._own)}
        raise PredictionError(
            f"{self._who}: expected {len(self._own)} columns ({', '.join(self._own)}), "
            f"got a {type(given).__name__} of shape {array.shape}"
        )

    def _array(self, values: Any, field: pa.Field) -> pa.Array:
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        try:
            array = values if isinstance(values, pa.Array) else pa.array(values)
            return array if array.type == field.type else array.cast(field.type)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise PredictionError(
                f"{self._who}: output {field.name!r}: expected {field.type}: {error}"
            ) from error

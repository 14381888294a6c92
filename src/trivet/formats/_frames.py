"""Record batches as pandas frames whose types do not depend on which rows are in the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from trivet.errors import MissingExtra
from trivet.formats._arrays import numbers
from trivet.schema import Schema

if TYPE_CHECKING:
    import pandas as pd


def framer(
    inputs: Schema, names: Sequence[str], extra: str, *, checked: bool = False
) -> Callable[[pa.RecordBatch], pd.DataFrame]:
    """Return a function that makes the frame of a batch.

    pandas turns whole numbers into floats, and booleans into objects, in a batch that has a null.
    A row must not see that of its neighbours: nullable ones are always floats here, unless the
    reader checks types itself.

    Args:
        inputs: The columns of the batches.
        names: The frame's columns, all of them inputs.
        extra: The extra of Trivet that brings pandas.
        checked: Whether the reader checks types, as MLflow does: then whole numbers and booleans
            stay what they are where no null forbids it, and timestamps lose their time zone, UTC.

    Raises:
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - heavy, and few formats need it
    except ImportError as error:
        raise MissingExtra("this model reads pandas frames, which", extra) from error
    fields = [inputs.fields[inputs.names.index(name)] for name in names]
    places = [inputs.names.index(name) for name in names]
    columns = pd.Index(list(names))
    if all(field.type == "float64" for field in fields):

        def matrix(batch: pa.RecordBatch) -> pd.DataFrame:
            tensor = batch.select(places).to_tensor(null_to_nan=True, row_major=True)
            return pd.DataFrame(tensor.to_numpy(), columns=columns, copy=True)

        return matrix

    def frame(batch: pa.RecordBatch) -> pd.DataFrame:
        arrays = {}
        for place, field in zip(places, fields, strict=True):
            column = batch.column(place)
            if field.type in ("string", "timestamp", "date"):
                if checked and field.type == "timestamp":
                    column = column.cast(pa.timestamp("us"))
                arrays[field.name] = column.to_pandas(date_as_object=False)
            elif field.nullable and not checked and not field.type.startswith("float"):
                arrays[field.name] = numbers(column).astype(np.float64)
            else:
                arrays[field.name] = numbers(column)
        return pd.DataFrame(arrays, copy=False)

    return frame

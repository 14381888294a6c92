"""The one path on which every host sends rows through a model: validate, predict, check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.contract import Model
from trivet.errors import PredictionError
from trivet.validation import (
    MODEL_ERROR,
    Decoded,
    Rows,
    clean_rows,
    merge,
    no_problems,
    problems,
    take,
    validate,
)

MAX_MODEL_ERRORS = 20
"""So many rows of one batch may make the model raise, unless a host says otherwise."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of the rows of one batch.

    Attributes:
        rows: Places of the rows that have a prediction; None for all of them.
        inputs: Those rows, as the model saw them.
        predictions: Their predictions, in the same order.
        problems: Why the other rows have none; schema `trivet.validation.PROBLEMS`.
    """

    rows: Rows | None
    inputs: pa.RecordBatch
    predictions: pa.RecordBatch
    problems: pa.RecordBatch


def score(model: Model, decoded: Decoded, most: int = MAX_MODEL_ERRORS) -> Scored:
    """Validate rows, predict for the good ones and check what the model returned.

    A row on which the model raises, or for which it returns what its output schema forbids (null,
    a number that is not finite, a value out of range), is rejected as ``model_error``; the others
    go on.

    Args:
        model: The model.
        decoded: The rows.
        most: So many rows may make the model raise before the model, not the rows, is blamed.

    Raises:
        PredictionError: The model fails on more rows of the batch than that, or returns something
            else than its declared outputs.
    """
    count = decoded.batch.num_rows
    found = [validate(decoded, model.inputs)]
    rows = clean_rows(count, found[0])
    inputs = take(decoded.batch, rows)
    predictions, raised = _predict(model, inputs, most)
    answered = clean_rows(inputs.num_rows, merge(raised))
    failed = merge([*raised, _unusable(model, predictions, answered)])
    if not failed.num_rows:
        return Scored(rows, inputs, predictions, found[0])

    survivors = clean_rows(inputs.num_rows, failed)
    assert survivors is not None  # something failed
    places = survivors if answered is None else np.searchsorted(answered, survivors)
    original = np.arange(count) if rows is None else rows
    return Scored(
        original[survivors],
        take(inputs, survivors),
        take(predictions, places),
        merge([*found, _moved(failed, original)]),
    )


def _predict(
    model: Model, inputs: pa.RecordBatch, most: int
) -> tuple[pa.RecordBatch, list[pa.RecordBatch]]:
    """Predict for all rows, halving the batch around those that make the model raise."""
    if not inputs.num_rows:
        return _empty(model), []
    try:
        return _checked(model, inputs), []
    except PredictionError:
        raise
    except Exception as error:  # noqa: BLE001 - a model is foreign code: anything may come
        if inputs.num_rows == 1:
            return _empty(model), [problems([0], "", MODEL_ERROR, _say(error))]
    done, failed = [], []
    pending = [(0, inputs.num_rows)]
    while pending:
        start, stop = pending.pop()
        try:
            done.append((start, _checked(model, inputs.slice(start, stop - start))))
        except PredictionError:
            raise
        except Exception as error:
            if stop - start > 1:
                middle = (start + stop) // 2
                pending += [(middle, stop), (start, middle)]
                continue
            failed.append(problems([start], "", MODEL_ERROR, _say(error)))
            if len(failed) > most:
                raise PredictionError(
                    f"model {model.name} {model.version} raised on more than {most} "
                    f"rows of one batch, last: {_say(error)}; the model itself looks broken"
                ) from error
    if not done:
        return _empty(model), failed
    parts = [batch for _, batch in sorted(done, key=lambda part: part[0])]
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0], failed


def _checked(model: Model, inputs: pa.RecordBatch) -> pa.RecordBatch:
    out = model.predict(inputs)
    who = f"model {model.name} {model.version}"
    if not isinstance(out, pa.RecordBatch):
        raise PredictionError(f"{who} returned a {type(out).__name__}, not a pyarrow.RecordBatch")
    expected = model.outputs.arrow
    if out.schema.names != expected.names or out.schema.types != expected.types:
        raise PredictionError(
            f"{who} returned {_columns(out.schema)}; its outputs are {_columns(expected)}"
        )
    if out.num_rows != inputs.num_rows:
        raise PredictionError(f"{who} returned {out.num_rows} rows for {inputs.num_rows}")
    # Metadata and null flags may differ from call to call; the batches are put together later.
    return pa.RecordBatch.from_arrays(out.columns, schema=expected)


def _unusable(model: Model, predictions: pa.RecordBatch, answered: Rows | None) -> pa.RecordBatch:
    """Name the rows whose prediction the output schema forbids."""
    found = validate(Decoded(predictions, no_problems()), model.outputs)
    if not found.num_rows:
        return found
    _, fields, _, reasons = found.columns
    codes = pa.repeat(MODEL_ERROR, found.num_rows)
    reasons = pc.binary_join_element_wise("the model's answer:", reasons, " ")
    columns = [found.column("row"), fields, codes, reasons]
    told = pa.RecordBatch.from_arrays(columns, schema=found.schema)
    return told if answered is None else _moved(told, answered)


def _moved(found: pa.RecordBatch, places: Rows) -> pa.RecordBatch:
    """Say of each problem where its row lies in the batch that these rows were taken from."""
    rows = pa.array(places[found.column("row").to_numpy()])
    return found.set_column(0, found.schema.field(0), rows)


def _empty(model: Model) -> pa.RecordBatch:
    arrow = model.outputs.arrow
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in arrow], schema=arrow)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]

"""What a sample of rows tells of a model: measured when it is saved, kept in its manifest."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from trivet import parity
from trivet.contract import Model
from trivet.errors import ModelError, PredictionError, SchemaError
from trivet.manifest import BatchDependence, Manifest
from trivet.monitoring import Reference, regression_metrics, roc_auc
from trivet.schema import Field, Schema
from trivet.scoring import score
from trivet.validation import MODEL_ERROR, conform

if TYPE_CHECKING:
    import numpy.typing as npt

_MADE_UP = 256
"""So many rows at least are made up beside those of a sample."""


def as_batch(sample: Any) -> pa.RecordBatch:
    """Return a frame, an Arrow table or a dict of columns as one batch.

    Raises:
        ModelError: It is none of these, or has no row.
    """
    try:
        if isinstance(sample, pa.RecordBatch):
            table = pa.Table.from_batches([sample])
        elif type(sample).__module__.partition(".")[0] == "pandas":
            table = pa.Table.from_pandas(sample, preserve_index=False)
        else:
            table = pa.table(sample)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"the sample, a {type(sample).__name__}, cannot be read: {error}; "
            "pass a frame, an Arrow table or a dict of columns"
        ) from error
    if not table.num_rows:
        raise ModelError("the sample has no row; give at least one, some hundreds are better")
    return table.combine_chunks().to_batches()[0].replace_schema_metadata(None)


def settle(
    known: tuple[Schema | None, Schema | None],
    inputs: Schema | Iterable[Field] | None,
    outputs: Schema | Iterable[Field] | None,
    rows: pa.RecordBatch | None,
    name: str,
) -> tuple[Schema, Schema]:
    """Settle a model's inputs and outputs: as told, else as the model or its sample knows them.

    Raises:
        ModelError: Nobody knows them.
    """
    own, told = known
    taken: Schema | None
    if inputs is not None:
        taken = Schema(inputs)
    elif rows is not None:
        every = own is not None and set(own.names) <= set(rows.schema.names)
        taken = Schema.of(rows.select(list(own.names)) if own is not None and every else rows)
    else:
        taken = own
    given = told if outputs is None else Schema(outputs)
    if not taken or not given:
        what = "outputs" if taken else "inputs"
        raise ModelError(
            f"model {name!r} does not tell its {what}; pass {what}=trivet.Schema([...])"
            + ("" if taken else " or sample=<a frame of input rows>")
        )
    return taken, given


def learn(
    model: Model, manifest: Manifest, rows: pa.RecordBatch | None, target: npt.ArrayLike | None
) -> Manifest:
    """Complete a manifest: measure on the sample if there is one, and on rows made up.

    Raises:
        SchemaError: A row of the sample does not fit the inputs.
        PredictionError: The model does not give its declared outputs for the sample.
        ModelError: The target cannot be held against the predictions.
    """
    if rows is None:
        made_up = parity.synthetic(model.inputs)
        return replace(manifest, batch_dependence=parity.measure(model.predict, made_up))
    scored = score(model, conform(rows, model.inputs))
    if scored.problems.num_rows:
        raise _unfit(scored.problems)
    measured = _measured(model, scored.inputs)
    first = scored.inputs.slice(0, 1).to_pylist()[0]
    return replace(
        manifest,
        batch_dependence=measured,
        metrics={} if target is None else _metrics(scored.predictions, model.outputs, target),
        example={name: value for name, value in first.items() if value is not None},
        input_references=_references(scored.inputs),
        output_references=_references(scored.predictions),
    )


def _measured(model: Model, rows: pa.RecordBatch) -> BatchDependence | None:
    """Measure on a sample, and on rows as a check makes them up if the model takes them."""
    begin = rows.slice(0, parity.MAX_ROWS - _MADE_UP)
    made_up = parity.synthetic(model.inputs, parity.MAX_ROWS - begin.num_rows)
    begin = pa.RecordBatch.from_arrays(begin.columns, schema=made_up.schema)
    both = pa.concat_batches([begin, made_up])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody asked for these rows
        found = parity.measure(model.predict, both)
    if found is None:
        return parity.measure(model.predict, rows, source="sample")
    return replace(found, source="sample")


def _unfit(problems: pa.RecordBatch) -> ModelError | SchemaError:
    """Say what is wrong with the first bad row of a sample."""
    first = problems.slice(0, 1).to_pylist()[0]
    place = f"sample, row {first['row']}" + (f", {first['field']}" if first["field"] else "")
    more = f" ({problems.num_rows} such problems)" if problems.num_rows > 1 else ""
    if first["code"] == MODEL_ERROR:
        return PredictionError(
            f"{place}: {first['reason']}{more}; correct the model or its outputs"
        )
    return SchemaError(f"{place}: {first['reason']}{more}; leave such rows out or widen the inputs")


def _references(batch: pa.RecordBatch) -> dict[str, Reference]:
    return {
        n: Reference.of(column) for n, column in zip(batch.schema.names, batch.columns, strict=True)
    }


def _metrics(predicted: pa.RecordBatch, outputs: Schema, target: npt.ArrayLike) -> dict[str, float]:
    try:
        truth = pa.array(target, from_pandas=True)  # NaN is no true value
        if "label" in outputs.names:
            truth = truth.cast(predicted.column("label").type)
        else:
            truth = pc.cast(truth, pa.float64(), safe=False)
            numbers = pc.cast(predicted.column(0), pa.float64(), safe=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ModelError(
            f"the target cannot be held against the predictions: {error}; pass one value a row"
        ) from error
    if len(truth) != predicted.num_rows or truth.null_count:
        raise ModelError(
            f"the target has {len(truth) - truth.null_count} values, the sample "
            f"{predicted.num_rows} rows; pass one value a row"
        )
    if "label" not in outputs.names:
        told = numbers.is_valid()
        return regression_metrics(truth.filter(told), numbers.filter(told))
    right = pc.equal(predicted.column("label"), truth).fill_null(False)
    figures = {"accuracy": float(pc.mean(right).as_py())}
    classes = [
        n.removeprefix("probability_") for n in outputs.names if n.startswith("probability_")
    ]
    if len(classes) == 2:
        positive = pc.equal(truth.cast(pa.string()), classes[1])
        probability = predicted.column(f"probability_{classes[1]}")
        figures["roc_auc"] = roc_auc(
            positive.to_numpy(zero_copy_only=False), probability.to_numpy(zero_copy_only=False)
        )
    return figures

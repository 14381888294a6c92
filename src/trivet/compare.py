"""Two versions of a model over one interval of a batch deployment, side by side.

What would change, and which one is better where the true values are known. Nothing is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trivet.artifacts import LoadedModel
from trivet.databases import connect
from trivet.errors import QueryError
from trivet.hosts.batch.pipeline import pipelined
from trivet.hosts.batch.reading import Chunk, chunks
from trivet.hosts.batch.settings import BatchSettings
from trivet.hosts.schedule import Interval
from trivet.monitoring.quality import Errors, Scores
from trivet.results.actuals import ANY_INTERVAL, Registered
from trivet.results.actuals_settings import ActualsSettings
from trivet.results.keys import key_texts
from trivet.results.layout import check_layout
from trivet.results.measuring import Target, target_of
from trivet.results.statements import named
from trivet.scoring import score
from trivet.validation import Decoded, conform, merge

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)

_SURE = 1.96
"""So many standard errors away from nothing, a mean difference is told from chance (95 %)."""

_SWITCHES = 10

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True, slots=True)
class Side:
    """What one version made of the interval.

    Attributes:
        version: The version.
        digest: See `trivet.manifest.Manifest.digest`.
        read: Rows of the interval.
        scored: Rows with a prediction.
        rejects: Rejected rows by code; a row with several problems counts for each.
    """

    version: str
    digest: str
    read: int
    scored: int
    rejects: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """How one output differs, second minus first, over the rows that both scored.

    Attributes:
        output: The column.
        rows: Rows.
        changed: Rows with another value.
        quantiles: Of the differences of numbers, by quantile.
        mean: Their mean.
        mean_size: The mean of their sizes.
        switches: Of other values, the most frequent changes: from, to, rows.
    """

    output: str
    rows: int
    changed: int
    quantiles: Mapping[str, float]
    mean: float | None
    mean_size: float | None
    switches: Sequence[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class Truth:
    """How both did where the true value is known.

    Attributes:
        output: What was measured.
        kind: ``regression``, ``binary`` or ``classes``.
        rows: Rows with a true value that both scored.
        first: Measures of the first version.
        second: Measures of the second one.
        loss: The mean loss of a row, second minus first: the size of the error, the log loss, or
            the share of wrong classes.
        error: Its standard error, from the rows' differences.
        second_is: What that says of the second version.
    """

    output: str
    kind: str
    rows: int
    first: Mapping[str, float]
    second: Mapping[str, float]
    loss: float
    error: float
    second_is: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions side by side.

    Attributes:
        sides: The first version and the second.
        both: Rows that both scored.
        only_first: Rows that only the first one scored.
        only_second: Rows that only the second one scored.
        changes: By output that both have.
        lacking: Outputs that only one of them has.
        truth: None where no true value is known.
    """

    sides: tuple[Side, Side]
    both: int
    only_first: int
    only_second: int
    changes: Sequence[Change]
    lacking: Sequence[str]
    truth: Truth | None


@dataclass(frozen=True, slots=True)
class _Scored:
    """The predictions of one version, and the texts of their keys."""

    side: Side
    keys: pa.Array
    predictions: pa.Table


def compare(
    settings: BatchSettings,
    models: tuple[LoadedModel, LoadedModel],
    interval: Interval,
    root: Path,
    truths: pa.Table | None = None,
    actuals: ActualsSettings | None = None,
) -> Comparison:
    """Score an interval with both models and hold the answers against each other.

    Args:
        settings: The deployment; its query is run once for each model.
        models: Two versions.
        interval: What to score.
        root: The folder that relative paths start from.
        truths: True values, of `known_truths`.
        actuals: What they are.

    Raises:
        QueryError: The source refuses the query.
        SchemaError: It does not give what a model reads.
        PredictionError: A model fails.
    """
    first, second = (_score(settings, model, interval, root) for model in models)
    places = pc.index_in(second.keys, value_set=first.keys)
    mine = np.flatnonzero(pc.is_valid(places).to_numpy(zero_copy_only=False))
    old = first.predictions.take(places.drop_null())
    new = second.predictions.take(pa.array(mine))
    keys = second.keys.take(pa.array(mine))
    names = [name for name in old.column_names if name in new.column_names]
    truth = None
    if truths is not None and truths.num_rows and actuals is not None:
        known = Registered(
            settings.name,
            "batch",
            settings.key,
            settings.keep,
            {field.name: field.type for field in models[0].outputs},
        )
        truth = _truth(target_of(actuals, known), actuals.threshold, truths, keys, old, new)
    return Comparison(
        sides=(first.side, second.side),
        both=len(mine),
        only_first=first.side.scored - len(mine),
        only_second=second.side.scored - len(mine),
        changes=[_change(name, old[name], new[name]) for name in names],
        lacking=sorted(set(old.column_names) ^ set(new.column_names)),
        truth=truth,
    )


def known_truths(
    results: str, root: Path, settings: ActualsSettings, interval: Interval
) -> pa.Table | None:
    """Return the true values that the results have for an interval: row_key, number, label.

    Raises:
        ResultsError: The results have another layout.
        TransientError: They cannot be reached.
    """
    if not check_layout(results, root=root):
        return None
    start = interval.start if settings.by_interval else ANY_INTERVAL
    with connect(results, root=root) as db:
        return db.rows(
            named("actuals", db.dialect.name), deployment=settings.of, interval_start=start
        )


def _score(settings: BatchSettings, model: LoadedModel, interval: Interval, root: Path) -> _Scored:
    """Score the interval as a run would, without a place to put it."""
    bounds = {"interval_start": interval.start, "interval_end": interval.end}
    read, codes = 0, Counter[str]()
    keys: list[pa.Array] = []
    parts: list[pa.RecordBatch] = []

    def work(chunk: Chunk) -> tuple[int, pa.Array, pa.RecordBatch, pa.RecordBatch]:
        decoded = conform(chunk.batch, model.inputs)
        found = merge([decoded.problems, chunk.problems])
        scored = score(model, Decoded(decoded.batch, found))
        rows = scored.rows if scored.rows is None else pa.array(scored.rows)
        named_rows = chunk.batch.select(list(settings.key))
        kept = named_rows if rows is None else named_rows.take(rows)
        return (
            chunk.batch.num_rows,
            key_texts(kept, settings.key),
            scored.predictions,
            (scored.problems),
        )

    try:
        with connect(settings.source, root=root) as source:
            stream = source.stream(settings.query, bounds, model.inputs)
            with closing(stream):
                items = chunks(stream, settings.key)
                workers = settings.workers if model.parallel else 1
                with closing(pipelined(items, work, workers, source.cancel)) as scored:
                    for rows, texts, predictions, problems in scored:
                        read += rows
                        keys.append(texts)
                        parts.append(predictions)
                        codes.update(problems.column("code").to_pylist())
    except QueryError as error:
        raise QueryError(f"[batch.{settings.name}] query: {error}") from error
    table = pa.Table.from_batches(parts, schema=model.outputs.arrow)
    side = Side(model.version, model.digest, read, table.num_rows, dict(sorted(codes.items())))
    texts = pa.chunked_array(keys, pa.string()).combine_chunks()
    return _Scored(side, texts, table)


def _change(name: str, old: pa.ChunkedArray, new: pa.ChunkedArray) -> Change:
    rows = len(old)
    if not _is_number(old.type) or not _is_number(new.type):
        before, after = old.cast(pa.string()), new.cast(pa.string())
        pairs = Counter(
            (a, b) for a, b in zip(before.to_pylist(), after.to_pylist(), strict=True) if a != b
        )
        top = [(str(a), str(b), n) for (a, b), n in pairs.most_common(_SWITCHES)]
        return Change(name, rows, pairs.total(), {}, None, None, top)
    difference = _floats(new) - _floats(old)
    changed = rows - int(pc.sum(pc.equal(old, new)).as_py() or 0)
    if not rows:
        return Change(name, 0, 0, {}, None, None, [])
    quantiles = np.quantile(difference, QUANTILES)
    return Change(
        name,
        rows,
        changed,
        {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        float(difference.mean()),
        float(np.abs(difference).mean()),
        [],
    )


def _truth(
    target: Target,
    threshold: float,
    truths: pa.Table,
    keys: pa.Array,
    old: pa.Table,
    new: pa.Table,
) -> Truth | None:
    if target.output not in old.column_names or target.output not in new.column_names:
        return None
    column = "number" if target.kind == "regression" else "label"
    truths = truths.filter(pc.is_valid(truths[column]))
    places = pc.index_in(keys, value_set=truths["row_key"].combine_chunks())
    rows = pa.array(np.flatnonzero(pc.is_valid(places).to_numpy(zero_copy_only=False)))
    if not len(rows):
        return None
    actual = truths[column].take(places.drop_null())
    sides = [table[target.output].take(rows) for table in (old, new)]
    measured, losses = zip(
        *(_measured(target, threshold, actual, side) for side in sides), strict=True
    )
    loss = losses[1] - losses[0]
    error = float(loss.std(ddof=1) / np.sqrt(len(loss))) if len(loss) > 1 else float("inf")
    return Truth(
        target.output,
        target.kind,
        len(rows),
        measured[0],
        measured[1],
        float(loss.mean()),
        error,
        _verdict(float(loss.mean()), error),
    )


def _measured(
    target: Target, threshold: float, actual: pa.ChunkedArray, predicted: pa.ChunkedArray
) -> tuple[dict[str, float], npt.NDArray[np.float64]]:
    """Return the measures of one version, and its loss on each row."""
    if target.kind == "regression":
        truth, said = _floats(actual), _floats(predicted)
        return Errors.of(truth, said).metrics(), np.abs(said - truth)
    if target.kind == "binary":
        positive = pc.equal(actual, target.positive).to_numpy()
        score_ = _floats(predicted)
        tiny = np.finfo(np.float64).eps
        sure = np.clip(np.where(positive, score_, 1 - score_), tiny, 1 - tiny)
        return Scores.of(positive, score_, threshold).metrics(), -np.log(sure)
    wrong = pc.not_equal(actual, predicted.cast(pa.string())).to_numpy().astype(np.float64)
    return {"accuracy": 1 - float(wrong.mean())}, wrong


def _verdict(loss: float, error: float) -> Verdict:
    if abs(loss) <= _SURE * error:
        return "undecided"
    return "worse" if loss > 0 else "better"


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    floats: Any = column.cast(pa.float64()).to_numpy()
    return np.asarray(floats, np.float64)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

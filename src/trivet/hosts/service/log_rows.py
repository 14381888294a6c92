"""What the prediction log writes of answers: rows of predictions and of rejects."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from trivet.hosts.service.batcher import Result, Waiting, places_of
from trivet.hosts.service.serving import Served
from trivet.records import plain_text, text_of
from trivet.results import rows as results
from trivet.validation import Decoded


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch as it was scored."""

    served: Served
    requests: Sequence[tuple[int, Waiting]]
    total: int
    result: Result
    ended: float
    at: float

    @property
    def rows(self) -> int:
        """Rows of it that are to be written."""
        return sum(waiting.count for _, waiting in self.requests)


def columns_of(served: Served) -> pa.Schema:
    """Return the columns of a model's rows beside the fixed ones."""
    keys = [pa.field(name, pa.string()) for name in served.reader.beside]
    return pa.schema(keys + [pa.field(f.name, f.arrow.type) for f in served.model.outputs])


def predictions_of(
    served: Served, number: int, entries: Sequence[Entry]
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Put the good rows of some batches into the columns of their table, beside their inputs."""
    ids: list[str] = []
    keys: list[Sequence[str | None]] = []
    seconds: list[float] = []
    at: list[float] = []
    inputs, outputs = [], []
    picked: list[int] = []
    before = 0
    for entry in entries:
        result = entry.result
        assert not isinstance(result, Exception)  # such a batch is not taken
        places = places_of(result, entry.total)
        known = len(picked)
        for start, waiting in entry.requests:
            beside = _beside(served, waiting)
            for row in range(waiting.count):
                if places[start + row] >= 0:
                    picked.append(before + places[start + row])
                    ids.append(_id(waiting, row))
                    keys.append(next(beside))
                    seconds.append(entry.ended - waiting.began)
                else:
                    next(beside)
        at += [entry.at] * (len(picked) - known)
        inputs.append(result.inputs)
        outputs.append(result.predictions)
        before += result.predictions.num_rows
    asked_for, told = pa.Table.from_batches(inputs), pa.Table.from_batches(outputs)
    if len(picked) < before:  # one look for all batches: most are small
        chosen = pa.array(picked, pa.int64())
        asked_for, told = (table.combine_chunks().take(chosen) for table in (asked_for, told))
    names = served.reader.beside
    whole_inputs = pa.RecordBatch.from_arrays(
        [column.combine_chunks() for column in asked_for.columns], schema=asked_for.schema
    )
    table = whole_inputs.to_pydict()
    encode = msgspec.json.Encoder().encode
    asked = [
        encode(dict(zip(table, row, strict=True))).decode()
        for row in zip(*table.values(), strict=True)
    ]
    sources = [encode(dict(zip(names, key, strict=True))).decode() for key in keys]
    moments = (np.asarray(at) * 1e6).astype(np.int64)
    columns = {
        "lineage": pa.array(np.full(len(ids), number, np.int64)),
        "source": pa.array(sources, pa.string()),
        "id": pa.array(ids, pa.string()),
        "scored_at": pa.array(moments).cast(pa.timestamp("us", "UTC")),
        "seconds": pa.array(seconds, pa.float64()),
        "inputs": pa.array(asked, pa.string()),
    }
    for place, name in enumerate(names):
        columns[name] = pa.array([key[place] for key in keys], pa.string())
    for name, column in zip(told.schema.names, told.columns, strict=True):
        columns[name] = results.without_nul(column.combine_chunks())
    return pa.RecordBatch.from_pydict(columns), whole_inputs


def rejects_of(served: Served, deployment: str, entries: Sequence[Entry]) -> pa.RecordBatch:
    """Return the rows of ``trivet_rejects``, one for each problem."""
    found: list[tuple[Any, ...]] = []
    names = served.reader.beside
    for entry in entries:
        result = entry.result
        assert not isinstance(result, Exception)  # such a batch is not taken
        if not result.problems.num_rows:
            continue
        at = dt.datetime.fromtimestamp(entry.at, dt.UTC)
        told: dict[int, list[dict[str, Any]]] = {}
        for problem in result.problems.to_pylist():
            told.setdefault(problem["row"], []).append(problem)
        for start, waiting in entry.requests:
            for row, key in enumerate(_beside(served, waiting)):
                for p in told.get(start + row, ()):
                    source = msgspec.json.encode(dict(zip(names, key, strict=True))).decode()
                    reason = plain_text(p["reason"])
                    field = plain_text(p["field"])
                    about = (field, p["code"], reason, _id(waiting, row), at)
                    found.append((deployment, 0, source, *about))
    columns = list(zip(*found, strict=True)) or [()] * len(results.REJECTS)
    return pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, results.REJECTS, strict=True)],
        schema=results.REJECTS,
    )


def _id(waiting: Waiting, row: int) -> str:
    """Return a row's id as its answer told it."""
    return waiting.name if waiting.count == 1 else f"{waiting.name}-{row}"


def _beside(served: Served, waiting: Waiting) -> Iterator[Sequence[str | None]]:
    """Give each row's key, as text."""
    names = served.reader.beside
    if not isinstance(waiting.rows, Decoded):
        for record in waiting.rows:
            yield [text_of(value) for value in record.beside]
        return
    carried = waiting.beside
    columns: list[list[Any]] = []
    for name in names:
        for batch in (carried, waiting.rows.batch):
            if batch is not None and name in batch.schema.names:
                columns.append(batch.column(name).to_pylist())
                break
        else:
            columns.append([None] * waiting.count)
    for row in range(waiting.count):
        yield [text_of(column[row]) for column in columns]

"""What the prediction log writes of answers: rows of predictions and of rejects."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from trivet import scoring
from trivet.hosts.service.answers import Waiting, places_of
from trivet.hosts.service.serving import Version
from trivet.records import text_of
from trivet.results import rows as results
from trivet.validation import Decoded, no_problems

Asked = tuple[int, int, str, float, tuple[Sequence[Any], ...], tuple[pa.RecordBatch, ...]]
"""Of one request the place of its first row in the batch, its rows, its id, when it came, and what
they carry beside their inputs: row by row, or as columns of some batches.

Nothing in it leads back to the request: thousands of answered ones, with all that hangs on them,
would be looked at by the garbage collector again and again. A plain tuple of plain values is not.
"""


ROW_BYTES = 1024
"""What is kept of a row counts as one row for each so many bytes."""

NESTED = 16
"""So many bytes, about, a list or an object takes for each byte of its text."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch as it was scored.

    Attributes:
        served: What scored it.
        requests: Those of its requests that are logged.
        rows: Theirs.
        total: Rows of the batch.
        result: What came of it.
        ended: When, by `time.monotonic`.
        at: When, as seconds since 1970.
        weight: As how many rows it counts while it waits.
    """

    served: Version
    requests: Sequence[Asked]
    rows: int
    total: int
    result: scoring.Scored
    ended: float
    at: float
    weight: int = 0


def asked(start: int, waiting: Waiting) -> Asked:
    """Keep of a request what its rows in the log tell."""
    values: tuple[Sequence[Any], ...] = ()
    batches: tuple[pa.RecordBatch, ...] = ()
    if not isinstance(waiting.rows, Decoded):
        values = tuple([record.beside for record in waiting.rows])
    elif waiting.beside is None:
        batches = (waiting.rows.batch,)
    else:
        batches = (waiting.rows.batch, waiting.beside)
    return start, waiting.count, waiting.name, waiting.began, values, batches


def weight_of(rows: int, requests: Sequence[Asked], result: scoring.Scored) -> int:
    """Return as how many rows counts what is kept of a batch: more, where it is large.

    A batch of which one request is logged is kept as a whole, and a key may be as long as a body.
    """
    size: int = result.inputs.get_total_buffer_size() + result.predictions.get_total_buffer_size()
    if result.problems.num_rows:
        size += result.problems.get_total_buffer_size()
    for *_, values, batches in requests:
        for batch in batches:
            size += batch.get_total_buffer_size()
        for row in values:
            for value in row:
                if isinstance(value, str):
                    size += len(value)
                elif isinstance(value, (list, dict)):
                    size += NESTED * len(text_of(value) or "")
    return max(rows, size // ROW_BYTES)


def columns_of(served: Version) -> pa.Schema:
    """Return the columns of a model's rows beside the fixed ones."""
    keys = [pa.field(name, pa.string()) for name in served.reader.beside]
    return pa.schema(keys + [pa.field(f.name, f.arrow.type) for f in served.model.outputs])


def predictions_of(
    served: Version, number: int, entries: Sequence[Entry]
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
        places = places_of(result, entry.total)
        known = len(picked)
        for start, count, name, began, *beside in entry.requests:
            for row, key in enumerate(_keys(served, count, *beside)):
                if places[start + row] >= 0:
                    picked.append(before + places[start + row])
                    ids.append(_id(name, count, row))
                    keys.append(key)
                    seconds.append(entry.ended - began)
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


def rejects_of(served: Version, deployment: str, entries: Sequence[Entry]) -> pa.RecordBatch:
    """Return the rows of ``trivet_rejects``, one for each problem."""
    names, encode = served.reader.beside, msgspec.json.Encoder().encode
    sources: list[str] = []
    ids: list[str] = []
    at: list[float] = []
    told = [no_problems()]
    for entry in entries:
        problems = entry.result.problems
        if not problems.num_rows:
            continue
        places = problems.column("row").to_numpy()
        for start, count, name, _, values, batches in entry.requests:
            first, last = np.searchsorted(places, (start, start + count))
            if first == last:
                continue
            rows = (places[first:last] - start).tolist()
            keys = _keys(served, count, values, batches, set(rows))
            about = {
                row: (encode(dict(zip(names, key, strict=True))).decode(), _id(name, count, row))
                for row, key in zip(dict.fromkeys(rows), keys, strict=True)
            }
            sources += [about[row][0] for row in rows]
            ids += [about[row][1] for row in rows]
            at += [entry.at] * len(rows)
            told.append(problems.slice(first, last - first))
    problems = pa.Table.from_batches(told).combine_chunks()
    fields, codes, reasons = (c.combine_chunks() for c in problems.columns[1:])
    moments = (np.asarray(at) * 1e6).astype(np.int64)
    return pa.RecordBatch.from_arrays(
        [
            pa.repeat(deployment, len(ids)),
            pa.repeat(pa.scalar(0, pa.int64()), len(ids)),
            pa.array(sources, pa.string()),
            results.without_nul(fields),
            codes,
            results.without_nul(reasons),
            pa.array(ids, pa.string()),
            pa.array(moments).cast(pa.timestamp("us", "UTC")),
        ],
        schema=results.REJECTS,
    )


def _id(name: str, count: int, row: int) -> str:
    """Return a row's id as its answer told it."""
    return name if count == 1 else f"{name}-{row}"


def _keys(
    served: Version,
    count: int,
    values: Sequence[Sequence[Any]],
    batches: Sequence[pa.RecordBatch],
    only: Container[int] | None = None,
) -> Iterator[Sequence[str | None]]:
    """Give the key of each row, or only of some, as text."""
    if batches:
        columns: list[list[Any]] = []
        for name in served.reader.beside:
            found = [b.column(name).to_pylist() for b in batches if name in b.schema.names]
            columns.append(list(map(_first, *found)) if found else [None] * count)
        values = [[column[row] for column in columns] for row in range(count)]
    for place, row in enumerate(values):
        if only is None or place in only:
            yield [text_of(value) for value in row]


def _first(value: Any, sent: Any = None) -> Any:
    """Return a key's value as it was read; as it was sent where it could not be."""
    return sent if value is None else value

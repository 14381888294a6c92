"""The rows of one interval, in chunks, each told whether its key counts."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import RunError
from trivet.hosts.keys import KeyTracker
from trivet.validation import DUPLICATE_KEY, NULL, Rows, merge, no_problems, problems

Stream = Iterable[tuple[pa.RecordBatch, pa.RecordBatch]]
"""Batches of all columns of the query, and the values the database found to be of a wrong type."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows to score together.

    Attributes:
        batch: All columns of the query.
        problems: What is wrong with them so far; schema `trivet.validation.PROBLEMS`.
    """

    batch: pa.RecordBatch
    problems: pa.RecordBatch


def chunks(stream: Stream, key: Sequence[str]) -> Generator[Chunk, None, None]:
    """Yield every row once; of the rows that share a key, all but the first have a problem.

    Rows that may repeat an earlier key are held back, on disk, until all keys are known.

    Raises:
        RunError: There is no place for them on disk.
    """
    try:
        yield from _chunks(stream, key)
    except OSError as error:
        raise RunError(
            f"temporary files: no place for the rows that may be duplicates ({error}): "
            "make room, or set TMPDIR to a folder that has it"
        ) from error


def _chunks(stream: Stream, key: Sequence[str]) -> Iterator[Chunk]:
    with KeyTracker() as tracker, _Aside() as aside:
        for batch, wrong in stream:
            found = [wrong] if wrong.num_rows else []
            named = np.arange(batch.num_rows)
            for name in key:
                column = batch.column(name)
                if column.null_count:
                    lost = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
                    named = np.setdiff1d(named, lost)
                    told_already = wrong.filter(pc.equal(wrong.column("field"), name))
                    lost = np.setdiff1d(lost, told_already.column("row").to_numpy())
                    found.append(problems(lost, name, NULL, "a key must not be null"))
            columns = [batch.column(name) for name in key]
            if len(named) < batch.num_rows:
                columns = [column.take(pa.array(named)) for column in columns]
            split = tracker.split(columns)
            if len(split.repeat):
                found.append(_duplicates(named[split.repeat], key))
            told = merge(found)
            if not len(split.suspect):
                yield Chunk(batch, told)
                continue
            suspects = named[split.suspect]
            aside.put(_subset(batch, told, suspects))
            rest = np.setdiff1d(np.arange(batch.num_rows), suspects)
            if len(rest):
                yield _subset(batch, told, rest)
        if aside.rows:
            repeats = tracker.settle()
            start = 0
            for chunk in aside.take():
                stop = start + chunk.batch.num_rows
                rows = np.flatnonzero(repeats[start:stop])
                yield Chunk(chunk.batch, merge([chunk.problems, _duplicates(rows, key)]))
                start = stop


def _duplicates(rows: Rows, key: Sequence[str]) -> pa.RecordBatch:
    return problems(rows, key[0], DUPLICATE_KEY, "an earlier row of the interval has the same key")


def _subset(batch: pa.RecordBatch, told: pa.RecordBatch, rows: Rows) -> Chunk:
    """Return some rows, ascending, and what is wrong with them under their new places."""
    part = batch.take(pa.array(rows))
    if not told.num_rows:
        return Chunk(part, no_problems())
    old = told.column("row").to_numpy()
    mine = np.flatnonzero(np.isin(old, rows))
    moved = pa.array(np.searchsorted(rows, old[mine]).astype(np.int64))
    kept = told.take(pa.array(mine))
    return Chunk(part, kept.set_column(0, kept.schema.field(0), moved))


class _Aside:
    """Chunks put aside in a temporary file."""

    def __init__(self) -> None:
        self.rows = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._problems: list[pa.RecordBatch] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, chunk: Chunk) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, "w"), chunk.batch.schema)
        self._writer.write_batch(chunk.batch)
        self._problems.append(chunk.problems)
        self.rows += chunk.batch.num_rows

    def take(self) -> Iterator[Chunk]:
        assert self._writer is not None
        self._writer.close()
        self._file.seek(0)
        with pa.ipc.open_stream(pa.PythonFile(self._file, "r")) as reader:
            for batch, told in zip(reader, self._problems, strict=True):
                yield Chunk(batch, told)

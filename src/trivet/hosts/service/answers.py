"""Rows that wait for their batch, and the answers that they get."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from trivet import scoring
from trivet.contract import Model
from trivet.errors import PredictionError, TrivetError
from trivet.records import Record, RecordReader
from trivet.validation import Decoded, merge

Result = scoring.Scored | TrivetError


class Awaited(Protocol):
    """Takes an answer; a future, or what writes it at once."""

    def done(self) -> bool:
        """Whether there is one already, or nobody waits any more."""
        ...

    def set_result(self, result: Answer, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


@dataclass(slots=True, eq=False)
class Waiting:
    """Rows of one request, waiting for their batch.

    Attributes:
        rows: What they are: records, or decoded columns.
        count: How many.
        deadline: When nobody wants the answer any more, by `time.monotonic`.
        answer: Set to the answer, or to an exception.
        name: The request's id.
        began: When the request came, by `time.monotonic`.
        beside: Columns carried beside rows that are decoded already, if there are any.
        timer: Ends the wait at the deadline, where the event loop is free to do so.
        queued: Whether it still counts as waiting.
    """

    rows: Sequence[Record] | Decoded
    count: int
    deadline: float
    answer: Awaited
    name: str = ""
    began: float = 0.0
    beside: pa.RecordBatch | None = None
    timer: asyncio.TimerHandle | None = None
    queued: bool = True


@dataclass(slots=True)
class Answer:
    """What became of the rows of one request.

    Attributes:
        batch: The predictions of all good rows of the batch it was scored in.
        places: For each row of the request its place in `batch`, -1 for a rejected one.
        problems: Field, code and reason by row of the request.
    """

    batch: Predictions
    places: Sequence[int]
    problems: dict[int, list[tuple[str, str, str]]]


@dataclass(slots=True)
class Predictions:
    """A batch's predictions, turned into Python values only for those who want them."""

    model: Model
    columns: pa.RecordBatch
    _lists: list[list[Any]] | None = None

    def values(self) -> list[list[Any]]:
        """Return the columns as lists."""
        if self._lists is None:
            self._lists = [column.to_pylist() for column in self.columns.columns]
        return self._lists


def scored(model: Model, reader: RecordReader, batch: list[Waiting]) -> Result:
    """Score the rows of several requests in one call."""
    try:
        return scoring.score(model, _together(reader, batch))
    except TrivetError as error:
        return error
    except BaseException as error:  # noqa: BLE001 - whatever it was, the requests must be answered
        return PredictionError(
            f"model {model.name} {model.version}: {type(error).__name__}: {error}"[:500]
        )


def _together(reader: RecordReader, batch: list[Waiting]) -> Decoded:
    """Put the rows of several requests together, in their order."""
    if all(not isinstance(w.rows, Decoded) for w in batch):
        return reader.columns([record for w in batch for record in w.rows])  # type: ignore[union-attr]
    parts = [w.rows if isinstance(w.rows, Decoded) else reader.columns(w.rows) for w in batch]
    if len(parts) == 1:
        return parts[0]
    moved = []
    start = 0
    for part in parts:
        rows = pa.compute.add(part.problems.column("row"), start)
        moved.append(part.problems.set_column(0, part.problems.schema.field(0), rows))
        start += part.batch.num_rows
    columns = [
        pa.concat_arrays(pieces) for pieces in zip(*(p.batch.columns for p in parts), strict=True)
    ]
    return Decoded(pa.RecordBatch.from_arrays(columns, schema=reader.arrow), merge(moved))


def share(batch: Sequence[Waiting], predictions: Predictions, result: scoring.Scored) -> None:
    """Give each request of a batch its part, where some rows were rejected."""
    places = places_of(result, sum(waiting.count for waiting in batch))
    told: dict[int, list[tuple[str, str, str]]] = {}
    columns = [
        result.problems.column(name).to_pylist() for name in ("row", "field", "code", "reason")
    ]
    for row, *problem in zip(*columns, strict=True):
        told.setdefault(row, []).append((problem[0], problem[1], problem[2]))
    start = 0
    for waiting in batch:
        stop = start + waiting.count
        mine = {row - start: told[row] for row in range(start, stop) if row in told}
        if not waiting.answer.done():
            waiting.answer.set_result(Answer(predictions, places[start:stop], mine))
        start = stop


def places_of(result: scoring.Scored, total: int) -> Sequence[int]:
    """Return for each row of a batch its place among the predictions, -1 for a rejected one."""
    if result.rows is None:
        return range(total)
    places = [-1] * total
    for place, row in enumerate(result.rows.tolist()):
        places[row] = place
    return places

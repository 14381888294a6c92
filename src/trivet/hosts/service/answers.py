"""Rows that wait for their batch, and the answers that they get."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from trivet import scoring
from trivet.contract import Model
from trivet.records import Record
from trivet.validation import Decoded


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


@dataclass(frozen=True, slots=True)
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

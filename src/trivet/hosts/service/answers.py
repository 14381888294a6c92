"""Rows that wait for their batch, and the answers that they get."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from trivet import scoring
from trivet.contract import Model
from trivet.errors import PredictionError, TrivetError
from trivet.hosts.service.faults import NO_PROBLEMS, Problems
from trivet.records import Record, RecordReader
from trivet.validation import Decoded, together

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
        problems: What is wrong with the others.
    """

    batch: Predictions
    places: Sequence[int]
    problems: Problems = NO_PROBLEMS


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


def scored(
    model: Model, reader: RecordReader, batch: list[Waiting]
) -> list[tuple[list[Waiting], Result]]:
    """Score the rows of several requests in one call; say what came of which of them.

    Where the model fails on all of them together, each is scored alone: one caller's rows are no
    other's fault.
    """
    result = _scored(model, reader, batch)
    if isinstance(result, TrivetError) and len(batch) > 1:
        return [([waiting], _scored(model, reader, [waiting])) for waiting in batch]
    return [(batch, result)]


def _scored(model: Model, reader: RecordReader, batch: list[Waiting]) -> Result:
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
    return together(parts)


def share(batch: Sequence[Waiting], predictions: Predictions, result: scoring.Scored) -> None:
    """Give each request of a batch its part, where some rows were rejected."""
    ends = list(accumulate([waiting.count for waiting in batch], initial=0))
    places = places_of(result, ends[-1])
    found = result.problems
    bounds = np.searchsorted(found.column("row").to_numpy(), ends).tolist()
    for turn, waiting in enumerate(batch):
        if waiting.answer.done():
            continue
        start, stop = ends[turn : turn + 2]
        first, last = bounds[turn : turn + 2]
        mine = NO_PROBLEMS if first == last else Problems(found.slice(first, last - first), start)
        waiting.answer.set_result(Answer(predictions, places[start:stop], mine))


def places_of(result: scoring.Scored, total: int) -> Sequence[int]:
    """Return for each row of a batch its place among the predictions, -1 for a rejected one."""
    if result.rows is None:
        return range(total)
    places = np.full(total, -1)
    places[result.rows] = np.arange(len(result.rows))
    return places.tolist()

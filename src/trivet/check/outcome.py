"""What became of sample rows on one way through a model, and how two ways differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from trivet import parity
from trivet.contract import Model
from trivet.schema import TYPES, Schema
from trivet.scoring import score
from trivet.validation import CODES, conform

Told = frozenset[tuple[str, str]]
"""Field (empty: the whole row) and code of every problem of a row."""

_PROBLEM = re.compile(rf"row (\d+): (?:([^:;]*): )?({'|'.join(CODES)}): ")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some rows.

    Attributes:
        places: Which of the sample's rows these are.
        answers: The predictions in their order, null for rows without one.
        problems: By place, why a row has none.
        digests: Every digest that was told.
        unsigned_zero: Whether the way keeps no sign of a zero (SQLite does not).
    """

    places: Sequence[int]
    answers: pa.RecordBatch
    problems: Mapping[int, Told]
    digests: frozenset[str]
    unsigned_zero: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """How one way differs from the direct call of the model.

    Attributes:
        rows: Rows that were held against each other.
        ulps: The largest difference of two predictions, in units in the last place.
        worst: The place of the row in which it was met.
        rejects: Places of rows that are rejected here and not there, or with other codes.
        digests: Digests other than the model's.
    """

    rows: int
    ulps: int = 0
    worst: int | None = None
    rejects: tuple[int, ...] = ()
    digests: tuple[str, ...] = ()

    def breaks(self, tolerance: int) -> bool:
        """Say whether this is more than what the model's own arithmetic explains."""
        return bool(self.ulps > tolerance or self.rejects or self.digests)


def expected(model: Model, rows: pa.RecordBatch) -> Outcome:
    """Score rows by a direct call, all in one batch."""
    scored = score(model, conform(rows, model.inputs))
    places = range(rows.num_rows) if scored.rows is None else [int(row) for row in scored.rows]
    found: dict[int, set[tuple[str, str]]] = {}
    for problem in scored.problems.to_pylist():
        found.setdefault(problem["row"], set()).add((problem["field"], problem["code"]))
    return Outcome(
        range(rows.num_rows),
        spread(scored.predictions, places, rows.num_rows),
        {row: frozenset(told) for row, told in found.items()},
        frozenset([model.digest]),
    )


def difference(right: Outcome, other: Outcome) -> Difference:
    """Hold an outcome of some or all rows against the one of the direct call."""
    rejects = tuple(
        place
        for place in other.places
        if right.problems.get(place, frozenset()) != other.problems.get(place, frozenset())
    )
    both = [
        (row, place)
        for row, place in enumerate(other.places)
        if place not in right.problems and place not in other.problems
    ]
    mine = other.answers.take(pa.array([row for row, _ in both], pa.int64()))
    theirs = right.answers.take(pa.array([place for _, place in both], pa.int64()))
    if other.unsigned_zero:
        mine, theirs = _without_sign(mine), _without_sign(theirs)
    ulps = parity.difference(theirs, mine)
    worst = None
    if ulps:
        by_row = [parity.difference(theirs.slice(i, 1), mine.slice(i, 1)) for i in range(len(both))]
        worst = both[by_row.index(max(by_row))][1]
    digests = tuple(sorted(other.digests - right.digests))
    return Difference(len(other.places), ulps, worst, rejects, digests)


def _without_sign(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        pc.add(column, pa.scalar(0.0, column.type)) if pa.types.is_floating(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def spread(predictions: pa.RecordBatch, places: Sequence[int], rows: int) -> pa.RecordBatch:
    """Put predictions in their rows' places, null in the others."""
    index: list[int | None] = [None] * rows
    for row, place in enumerate(places):
        index[place] = row
    return predictions.take(pa.array(index, pa.int64()))


def answers_of(outputs: Schema, rows: Sequence[Mapping[str, object] | None]) -> pa.RecordBatch:
    """Turn predictions as JSON gave them into columns, null where there is none."""
    columns = []
    for field in outputs:
        values = [None if row is None else row[field.name] for row in rows]
        if field.type in ("timestamp", "date"):
            columns.append(pa.array(values, pa.string()).cast(TYPES[field.type]))
        else:
            columns.append(pa.array(values, TYPES[field.type]))
    return pa.RecordBatch.from_arrays(columns, names=list(outputs.names))


def told_in(text: str) -> dict[int, Told]:
    """Read the problems that a protocol tells in one line of text, by row."""
    found: dict[int, set[tuple[str, str]]] = {}
    for row, field, code in _PROBLEM.findall(text):
        found.setdefault(int(row), set()).add((field, code))
    return {row: frozenset(problems) for row, problems in found.items()}

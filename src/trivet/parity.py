"""Whether a row's prediction depends on the rows around it, measured.

Trees and sparse linear models give a row the same bits alone and in a crowd; dense linear
algebra may add in another order for another batch size. The difference is counted in units in
the last place (ulps) and recorded, never hidden by rounding.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trivet.manifest import BatchDependence
from trivet.schema import TYPES, Field, Schema

SIZES = (*range(1, 18), 31, 32, 33, 64, 65, 128, 129, 256, 512)
"""Batch sizes held against the whole: a kernel of its own for one row, the tails of vectorised
loops, the blocks of a matrix product."""

MAX_ROWS = 1024
"""Each of these rows is asked for alone too: another order of adding shows in one row of a hundred,
and most libraries have it for one row."""

ROWS_OF_SIZE = 128
"""So many rows are asked for in batches of a small size other than one."""

CROWD = 8
"""So many times the whole is one more batch."""

LEAST = 8
"""So many batches of each size are held against the whole, however slow the model is."""

SECONDS = 0.5
"""How long more of them are, until each size has had its rows."""

_WAITING = 0.1
"""How much of the time in which nothing is computed counts: a busy machine measures as well."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_YEAR = 365 * 24 * 3600 * 10**6
_SPANS: Mapping[str, tuple[int, int, int, int]] = {
    "int8": (0, 100, -(2**7), 2**7 - 1),
    "int16": (0, 1000, -(2**15), 2**15 - 1),
    "int32": (0, 1000, -(2**31), 2**31 - 1),
    "int64": (0, 1000, -(2**63), 2**63 - 1),
    "timestamp": (1_500_000_000_000_000, _YEAR, -62_135_596_800_000_000, 253_402_300_799_999_999),
    "date": (18_000, 365, -719_162, 2_932_896),
}
"""By type: where made-up values start, how far they reach, the least and the most there is."""

Numbers = npt.NDArray[np.int64]

ANOTHER_ANSWER = 2**63 - 1
"""Difference between values that cannot be counted in ulps: two labels, null and a number."""


def measure(
    predict: Callable[[pa.RecordBatch], pa.RecordBatch],
    batch: pa.RecordBatch,
    *,
    source: str = "synthetic",
    clock: Callable[[], float] = lambda: time.process_time() + _WAITING * time.monotonic(),
) -> BatchDependence | None:
    """Predict the same rows in one batch and in many sizes, and compare all answers of a row.

    A model that takes its time is not asked for all of them; what was compared is recorded.

    Returns:
        The largest difference met, or None if the model refuses the rows.
    """
    rows = batch.slice(0, MAX_ROWS)
    try:
        begun = clock()
        answers = _Answers(predict(rows))
        taken, compared = clock() - begun, 0
        until = clock() + SECONDS
        for turn, starts in enumerate(zip_longest(*(_starts(rows.num_rows, n) for n in SIZES))):
            if turn >= LEAST and clock() > until:
                break
            for size, start in zip(SIZES, starts, strict=True):
                if start is None:
                    continue
                answers.add(start, size, predict(rows.slice(start, size)))
                compared += size
        if rows.num_rows == MAX_ROWS and taken * CROWD < SECONDS / 2:
            crowd = predict(pa.Table.from_batches([rows] * CROWD).combine_chunks().to_batches()[0])
            for start in range(0, crowd.num_rows, MAX_ROWS):
                answers.add(0, MAX_ROWS, crowd.slice(start, MAX_ROWS))
            compared += crowd.num_rows
    except Exception:
        if source == "sample":
            raise
        return None
    return BatchDependence(
        max_ulps=answers.spread, rows=rows.num_rows, source=source, compared=compared
    )


class _Answers:
    """The answers that rows got in one batch and in others.

    Args:
        whole: Those of all rows in one batch.

    Attributes:
        spread: How far apart two answers of one row are at most, in ulps.
    """

    def __init__(self, whole: pa.RecordBatch) -> None:
        self._whole = whole
        self._ends: dict[int, tuple[Numbers, Numbers]] = {}  # by column, of each row
        self.spread = 0

    def add(self, start: int, count: int, part: pa.RecordBatch) -> None:
        """Hold the answers of so many rows from one on against all that they got before."""
        whole = self._whole.slice(start, count).columns
        for place, (first, again) in enumerate(zip(whole, part.columns, strict=True)):
            found = ulps(first, again)
            self.spread = max(self.spread, found)
            if not 0 < found < ANOTHER_ANSWER:
                continue
            # Two batches may err to two sides of the whole.
            if place not in self._ends:
                told = _counted(self._whole.column(place))
                self._ends[place] = (told, told.copy())
            low, high = (ends[start : start + count] for ends in self._ends[place])
            counted = _counted(again)
            np.minimum(low, counted, out=low)
            np.maximum(high, counted, out=high)
            self.spread = max(self.spread, _largest(low, high))


def difference(a: pa.RecordBatch | pa.Table, b: pa.RecordBatch | pa.Table) -> int:
    """Return the largest difference between two tables of predictions, in ulps."""
    return _worst(*([_whole(column) for column in table.columns] for table in (a, b)))


def ulps(a: pa.Array, b: pa.Array) -> int:
    """Return the largest difference between two columns in units in the last place.

    0 means the same answer in every row, to the bit; 1 the neighbouring float, or the other zero.
    Integers count by value.
    """
    if a.equals(b) and not pa.types.is_floating(a.type):
        return 0
    countable = pa.types.is_floating(a.type) or pa.types.is_integer(a.type)
    if not countable or a.type != b.type or not a.is_null().equals(b.is_null()):
        return ANOTHER_ANSWER
    x = a.drop_null().to_numpy(zero_copy_only=False)
    y = b.drop_null().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(a.type):
        if not np.array_equal(np.isnan(x), np.isnan(y)):
            return ANOTHER_ANSWER
        x, y = x[~np.isnan(x)], y[~np.isnan(y)]
        if np.array_equal(x, y):
            return int(np.any(np.signbit(x) != np.signbit(y)))
        x, y = _ordered(x), _ordered(y)
    return _largest(np.minimum(x, y), np.maximum(x, y))


def synthetic(schema: Schema, rows: int = MAX_ROWS) -> pa.RecordBatch:
    """Make rows that a schema allows: the same ones at every call, more of them behind fewer."""
    columns = [_column(field, rows, place) for place, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow)


def _starts(rows: int, size: int) -> list[int]:
    """Return where batches of a size begin: the last one, then any, at even rows and odd ones."""
    if size >= rows:
        return []
    rng = np.random.default_rng(size)
    lattice = np.arange(0, rows - size, size)
    starts = lattice + rng.integers(0, min(2, size), len(lattice))
    most = MAX_ROWS if size == 1 else max(LEAST, ROWS_OF_SIZE // size)
    return [rows - size, *(int(start) for start in rng.permutation(starts)[: most - 1])]


def _largest(low: Numbers, high: Numbers) -> int:
    # The span of two 64-bit integers needs 64 bits without a sign.
    spans = high.astype(np.uint64) - low.astype(np.uint64)
    return min(int(spans.max(initial=0)), ANOTHER_ANSWER)


def _counted(column: pa.Array) -> Numbers:
    """Return a column as whole numbers that are as far apart as its values, 0 for null and NaN."""
    values: npt.NDArray[Any] = column.fill_null(0).to_numpy(zero_copy_only=False)
    if not pa.types.is_floating(column.type):
        return values.astype(np.int64)
    return _ordered(np.where(np.isnan(values), values.dtype.type(0), values))


def _worst(a: Iterable[pa.Array], b: Iterable[pa.Array]) -> int:
    return max((ulps(x, y) for x, y in zip(a, b, strict=True)), default=0)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _ordered(floats: npt.NDArray[np.floating]) -> Numbers:
    """Map floats to integers in the same order, neighbours to neighbours."""
    width = np.int32 if floats.dtype == np.float32 else np.int64
    bits = floats.view(width).astype(np.int64)
    lowest = np.int64(np.iinfo(width).min)
    return np.where(bits < 0, lowest - bits, bits)


def _column(field: Field, rows: int, place: int) -> pa.Array:
    arrow = TYPES[field.type]
    masking, rng = np.random.default_rng([20_190_701, place]).spawn(2)
    nulls = masking.random(rows) < (0.1 if field.nullable else 0)
    if field.values is not None:
        places = rng.integers(0, len(field.values), rows)
        return pa.array([field.values[i] for i in places], arrow, mask=nulls)
    if field.type == "bool":
        return pa.array(rng.random(rows) < 0.5, mask=nulls)
    if field.type == "string":
        return pa.array([f"text {i}" for i in rng.integers(0, 40, rows)], mask=nulls)
    low, high = _bounds(field)
    if field.type in ("float32", "float64"):
        share = rng.random(rows)
        between = np.clip((1 - share) * low + share * high, low, high)
        return pa.array(between, mask=nulls).cast(arrow)
    width = {"timestamp": "int64", "date": "int32"}.get(field.type, field.type)
    numbers = rng.integers(low, high, rows, dtype=np.int64, endpoint=True).astype(width)
    return pa.array(numbers, mask=nulls).cast(arrow)


def _bounds(field: Field) -> tuple[Any, Any]:
    """Return the ends of a field's range as numbers; open ends lie near the other one."""
    low, high = (_number(bound) for bound in (field.min, field.max))
    start, span, least, most = _SPANS.get(field.type, (0, 1000, -math.inf, math.inf))
    if low is None:
        low = start if high is None or high > start else max(high - span, least)
    return low, min(low + span, most) if high is None else high


def _number(bound: object) -> Any:
    if isinstance(bound, dt.datetime):
        return (bound - _EPOCH) // dt.timedelta(microseconds=1)
    if isinstance(bound, dt.date):
        return bound.toordinal() - _EPOCH.toordinal()
    return bound

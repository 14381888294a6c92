"""Summaries of columns on the bins of a training sample.

A `Reference` is what a column looked like when the model was trained: its bins and how many rows
fell into each. A `Profile` counts later rows on the same bins, so that two profiles can be added
and any of them compared with the reference without the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]

NUMERIC_BINS = 10
"""Bins of a numeric column: the deciles of the training sample, as PSI is usually computed;
a column of no more distinct values has a bin for each."""

MAX_CATEGORIES = 50
"""Categories kept by name, the most frequent first; the rest share one bin."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a column looked like in the training sample.

    Attributes:
        edges: Inner edges of a numeric column's bins, ascending: a value v falls into the bin
            counted by the edges at or below v. Timestamps count as seconds since 1970.
        values: Names of a categorical column's bins; one more bin takes all other values.
        counts: Rows of the sample by bin.
        nulls: Rows of the sample that were null.
    """

    edges: tuple[float, ...] | None
    values: tuple[str, ...] | None
    counts: tuple[int, ...]
    nulls: int

    @classmethod
    def of(cls, column: pa.Array) -> Self:
        """Choose the bins of a column and count it on them."""
        if _is_numeric(column.type):
            numbers = _numbers(column)
            edges = _edges(numbers)
            bins = cls(tuple(float(e) for e in edges), None, (), 0)
        else:
            counted = pc.value_counts(column.drop_null().cast(pa.string()))
            pairs = zip(
                counted.field("values").to_pylist(),
                counted.field("counts").to_pylist(),
                strict=True,
            )
            ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
            bins = cls(None, tuple(name for name, _ in ranked[:MAX_CATEGORIES]), (), 0)
        profile = Profile.of(column, bins)
        return cls(bins.edges, bins.values, profile.counts, profile.nulls)

    def to_dict(self) -> dict[str, Any]:
        """Return the parts as a manifest writes them."""
        bins: dict[str, Any] = (
            {"edges": list(self.edges)}
            if self.edges is not None
            else {"values": list(self.values or ())}
        )
        return bins | {"counts": list(self.counts), "nulls": self.nulls}

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> Self:
        """Build a reference from what `to_dict` gave."""
        edges, values = parts.get("edges"), parts.get("values")
        return cls(
            None if edges is None else tuple(float(edge) for edge in edges),
            None if values is None else tuple(values),
            tuple(parts["counts"]),
            parts["nulls"],
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """How a column's rows fell into the bins of a reference.

    Attributes:
        counts: Rows by bin; empty when the column has no reference.
        nulls: Rows that were null.
        rows: All rows, nulls included.
        total: Sum of the values, of a numeric column.
        low: Smallest value, of a numeric column with any.
        high: Largest value, of a numeric column with any.
    """

    counts: tuple[int, ...]
    nulls: int
    rows: int
    total: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, column: pa.Array, reference: Reference | None) -> Self:
        """Count a column on the bins of a reference."""
        nulls, rows = column.null_count, len(column)
        if not _is_numeric(column.type):
            return cls(_count_values(column, reference), nulls, rows)
        numbers = _numbers(column)
        if not len(numbers):
            width = 0 if reference is None or reference.edges is None else len(reference.edges) + 1
            return cls((0,) * width, nulls, rows, 0.0)
        counts: tuple[int, ...] = ()
        if reference is not None and reference.edges is not None:
            counts = _count_numbers(numbers, reference.edges)
        return cls(
            counts, nulls, rows, float(numbers.sum()), float(numbers.min()), float(numbers.max())
        )

    def __add__(self, other: Profile) -> Profile:
        if len(self.counts) != len(other.counts):
            raise ValueError("profiles on different bins cannot be added")
        lows = [p.low for p in (self, other) if p.low is not None]
        highs = [p.high for p in (self, other) if p.high is not None]
        totals = [p.total for p in (self, other) if p.total is not None]
        return Profile(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            self.nulls + other.nulls,
            self.rows + other.rows,
            sum(totals) if totals else None,
            min(lows, default=None),
            max(highs, default=None),
        )


def _edges(numbers: Floats) -> Floats:
    """Return the inner edges: a bin for each value where there are few, the deciles otherwise."""
    distinct = np.unique(numbers)
    if len(distinct) <= NUMERIC_BINS:
        return distinct
    inner = np.linspace(0, 1, NUMERIC_BINS + 1)[1:-1]
    return np.unique(np.quantile(numbers, inner))


def _is_numeric(arrow: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_integer(arrow) or t.is_floating(arrow) or t.is_temporal(arrow))


def _numbers(column: pa.Array) -> Floats:
    """Return the values that are not null as floats; timestamps in seconds, dates in days."""
    if column.null_count:
        column = column.drop_null()
    if pa.types.is_timestamp(column.type):
        seconds: Floats = column.cast(pa.int64()).to_numpy(zero_copy_only=False) / 1e6
        return seconds
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    numbers: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return numbers


def _count_numbers(numbers: Floats, edges: tuple[float, ...]) -> tuple[int, ...]:
    # Counting what lies at or above each edge is a few passes without a branch: several times
    # faster than a search for each value.
    at_or_above = [len(numbers)] + [int(np.count_nonzero(numbers >= edge)) for edge in edges] + [0]
    return tuple(a - b for a, b in pairwise(at_or_above))


def _count_values(column: pa.Array, reference: Reference | None) -> tuple[int, ...]:
    if reference is None or reference.values is None:
        return ()
    width = len(reference.values)
    names = pa.array(reference.values, pa.string())
    places = pc.index_in(column.drop_null().cast(pa.string()), value_set=names)
    found = places.fill_null(width).to_numpy(zero_copy_only=False)
    return tuple(int(n) for n in np.bincount(found, minlength=width + 1))

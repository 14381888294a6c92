"""What goes wrong with a request, before any protocol has words for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from trivet.errors import TrivetError
from trivet.validation import PROBLEMS, Rows, no_problems

Problem = tuple[str, str, str]
"""Field (empty: the whole row), code and reason."""


class Refused(TrivetError):
    """A request that is not served.

    Attributes:
        kind: One of the keys of `HTTP`.
        detail: What is wrong with this request.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class BadRows(TrivetError):
    """Rows that break the input schema, where the protocol has no place for single ones."""

    def __init__(self, problems: Problems) -> None:
        super().__init__("rows that break the model's input schema")
        self.problems = problems


class Problems:
    """What is wrong with the rows of a request, in the order of the rows.

    It stays in columns: many bad rows are as cheap as many good ones only while nothing makes an
    object of each of their problems.

    Args:
        columns: A batch of the schema `trivet.validation.PROBLEMS`.
        start: The row that the request's first one is there.
    """

    __slots__ = ("columns", "start")

    def __init__(self, columns: pa.RecordBatch, start: int = 0) -> None:
        self.columns = columns
        self.start = start

    @classmethod
    def of(cls, found: Iterable[tuple[int, Problem]]) -> Problems:
        """Put rows and their problems together."""
        lines = [(row, *problem) for row, problem in found]
        if not lines:
            return NO_PROBLEMS
        rows, *texts = zip(*lines, strict=True)
        columns = [pa.array(np.asarray(rows, np.int64)), *(pa.array(t, pa.string()) for t in texts)]
        return cls(pa.RecordBatch.from_arrays(columns, schema=PROBLEMS))

    def __len__(self) -> int:
        return self.columns.num_rows  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[tuple[int, Problem]]:
        rows, *texts = (column.to_pylist() for column in self.columns.columns)
        for row, *problem in zip(rows, *texts, strict=True):
            yield row - self.start, (problem[0], problem[1], problem[2])

    def first(self, count: int) -> Problems:
        """Return the first ones of many."""
        return Problems(self.columns.slice(0, count), self.start)

    def rows(self) -> Rows:
        """Return the row of each problem, counted within the request."""
        rows: Rows = self.columns.column("row").to_numpy() - self.start
        return rows


NO_PROBLEMS = Problems(no_problems())


HTTP: Mapping[str, tuple[int, str]] = {
    "bad_request": (400, "The request cannot be understood"),
    "unauthorized": (401, "An API key is needed"),
    "not_found": (404, "There is nothing of that name"),
    "method": (405, "That method is not for this address"),
    "slow": (408, "The request came too slowly"),
    "too_large": (413, "The request is too large"),
    "media_type": (415, "That content type is not read here"),
    "bad_rows": (422, "Rows break the model's input schema"),
    "model": (500, "The model failed"),
    "busy": (503, "Too many rows are waiting"),
    "crowded": (503, "Too many connections are open"),
    "not_ready": (503, "The model is not ready"),
    "late": (504, "The deadline has passed"),
}
"""Kind of fault to HTTP status and title; other protocols map the kinds to their own."""

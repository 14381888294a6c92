"""Doubles for tests of what is built on Trivet: tiny models and a clock moved by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from trivet.schema import Field, Schema


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Weighs its inputs ``x0``, ``x1``, … and adds them to one ``prediction``.

    Attributes:
        weights: One a column.
        intercept: What is added.
        name: The model's name.
        version: The version of this one.
    """

    weights: tuple[float, ...] = (1.0,)
    intercept: float = 0.0
    name: str = "linear"
    version: str = "1"
    parallel: bool = False

    @property
    def digest(self) -> str:
        """Equal for equal weights."""
        return f"{self.weights} {self.intercept}"

    @property
    def inputs(self) -> Schema:
        """One number a weight."""
        return Schema(Field(name=f"x{i}", type="float64") for i in range(len(self.weights)))

    @property
    def outputs(self) -> Schema:
        """One number."""
        return Schema([Field(name="prediction", type="float64")])

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        """Add column by column: the same bits in any batch."""
        total = np.full(batch.num_rows, self.intercept)
        for weight, column in zip(self.weights, batch.columns, strict=True):
            total += weight * column.to_numpy()
        return pa.record_batch([pa.array(total)], schema=self.outputs.arrow)


@dataclass(frozen=True, kw_only=True)
class FailingModel(LinearModel):
    """Raises when a row of the batch has one of some values in its first column.

    Attributes:
        on: Those values.
        error: Makes what is raised.
    """

    on: Collection[float] = ()
    error: Callable[[str], Exception] = ValueError

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        """Predict, or raise."""
        for value in batch.column(0).to_pylist():
            if value in self.on:
                raise self.error(f"no answer for {value}")
        return super().predict(batch)


class Clock:
    """Tells the time that it was told, until it is moved."""

    def __init__(self, now: dt.datetime) -> None:
        if now.tzinfo is None:
            raise ValueError(f"{now} has no time zone; a clock tells UTC")
        self._now = now.astimezone(dt.UTC)

    def __call__(self) -> dt.datetime:
        return self._now

    def advance(self, by: dt.timedelta) -> dt.datetime:
        """Move the clock forward; return the new time."""
        if by < dt.timedelta():
            raise ValueError(f"time does not go back by {-by}")
        self._now += by
        return self._now

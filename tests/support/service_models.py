"""Models for tests of the service's protocols."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from trivet.schema import Field, Schema
from trivet.testing import FailingModel, LinearModel

TYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "string",
    "timestamp",
    "date",
)


@dataclass(frozen=True, kw_only=True)
class EchoModel:
    """Gives back what it gets: a column of each type, named ``in_TYPE``, as ``out_TYPE``."""

    name: str = "echo"
    version: str = "1"
    digest: str = "echo"
    parallel: bool = False
    nullable: bool = False
    types: tuple[str, ...] = TYPES

    @property
    def inputs(self) -> Schema:
        return Schema(Field(name=f"in_{t}", type=t, nullable=self.nullable) for t in self.types)

    @property
    def outputs(self) -> Schema:
        return Schema(Field(name=f"out_{t}", type=t, nullable=self.nullable) for t in self.types)

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(batch.columns, schema=self.outputs.arrow)


class Echo:
    """The same, as a class that a uri may name."""

    inputs = Schema(Field(name=f"in_{t}", type=t, nullable=t in ("int32", "string")) for t in TYPES)
    outputs = Schema(
        Field(name=f"out_{t}", type=t, nullable=t in ("int32", "string")) for t in TYPES
    )

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(batch.columns, schema=self.outputs.arrow)


@dataclass(frozen=True, kw_only=True)
class HeldModel(LinearModel):
    """Waits, for any row with x0 = -1, until it is let go."""

    name: str = "held"
    go: threading.Event
    arrived: Callable[[], None] = lambda: None

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        if -1.0 in batch.column(0).to_pylist():
            self.arrived()
            self.go.wait(60)
        return super().predict(batch)


@dataclass(frozen=True, kw_only=True)
class BoundedModel(FailingModel):
    """Takes x0 from 0 to 1000 and any text as zone; a mean and a label as outputs."""

    name: str = "bounded"
    weights: tuple[float, ...] = (1.0, 1.0)

    @property
    def inputs(self) -> Schema:
        return Schema(
            [
                Field(name="x0", type="float64", min=0, max=1000),
                Field(name="n", type="int32"),
                Field(name="x1", type="float64", nullable=True),
                Field(name="zone", type="string"),
            ]
        )

    @property
    def outputs(self) -> Schema:
        return Schema([Field(name="mean", type="float64"), Field(name="label", type="string")])

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        x0, n, x1, zone = (column.to_pylist() for column in batch.columns)
        for value in x0:
            if value in self.on:
                raise self.error(f"no answer for {value}")
        mean = [a + b + (0.5 if c is None else c) for a, b, c in zip(x0, n, x1, strict=True)]
        return pa.record_batch([pa.array(mean), pa.array(zone)], schema=self.outputs.arrow)


@dataclass(frozen=True)
class EchoOf:
    """Gives back what it gets, of any schema, each column with ``_out`` behind its name."""

    inputs: Schema
    name: str = "echo"
    version: str = "1"
    digest: str = "echo"
    parallel: bool = False

    @property
    def outputs(self) -> Schema:
        return Schema(
            Field(name=f"{f.name}_out", type=f.type, nullable=f.nullable) for f in self.inputs
        )

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(batch.columns, schema=self.outputs.arrow)


class EchoAny(EchoOf):
    """The same, in a model store: the schema lies beside it."""

    def save(self, directory: Path) -> None:
        told = [(f.name, f.type, f.nullable) for f in self.inputs]
        (directory / "schema.json").write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> EchoAny:
        told = json.loads((directory / "schema.json").read_text(encoding="utf-8"))
        return cls(Schema(Field(name=n, type=t, nullable=null) for n, t, null in told))

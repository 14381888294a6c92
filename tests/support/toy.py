"""A model of ten lines, saved with its source, whose answers and failures are known."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trivet.schema import Field, Schema


class Toy:
    """Doubles `a` and adds `n`; raises at a = 913, and has no answer at a = 914."""

    inputs = Schema(
        [
            Field(name="a", type="float64", min=0, max=1000),
            Field(name="n", type="int64", nullable=True),
            Field(name="city", type="string", values=("lyon", "nice", "paris")),
        ]
    )
    outputs = Schema([Field(name="score", type="float64")])
    parallel = True

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        a = batch["a"]
        if pc.any(pc.equal(a, 913.0)).as_py():
            raise ValueError("913 brings bad luck")
        score = pc.add(pc.multiply(a, 2.0), pc.cast(batch["n"], pa.float64()).fill_null(0.0))
        return pa.record_batch({"score": pc.if_else(pc.equal(a, 914.0), float("nan"), score)})


class Tripled(Toy):
    """A later version: three times `a`."""

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"score": pc.multiply(batch["a"], 3.0)})


class Gated(Toy):
    """Says that it was asked, and waits until it may go on, at pipes in the folder ``$GATE``."""

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if "GATE" in os.environ:
            gate = Path(os.environ["GATE"])
            (gate / "asked").write_text(str(batch["n"][0]))
            (gate / "go").read_text()
        return super().predict(batch)


class Broken(Toy):
    """Raises whatever it is asked."""

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch["city"][0].as_py() == "synthetic":
            return batch
        raise RuntimeError("out of order")

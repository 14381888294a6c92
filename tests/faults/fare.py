"""The model of the fault tests: arithmetic on each row alone, so any chunk gives the same bits."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from trivet import Field, Schema


class Fare:
    inputs = Schema(
        [
            Field(name="distance", type="float64", min=0.0, max=100.0),
            Field(name="passengers", type="int64", nullable=True, min=0, max=8),
            Field(name="zone", type="string", values=("north", "south", "east", "west")),
        ]
    )
    outputs = Schema([Field(name="fare", type="float64"), Field(name="long", type="bool")])
    parallel = True

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        people = pc.fill_null(batch["passengers"], 1).cast(pa.float64())
        fare = pc.add(pc.multiply(batch["distance"], 2.25), pc.sqrt(pc.add(people, 1.0)))
        return pa.record_batch({"fare": fare, "long": pc.greater(batch["distance"], 12.0)})

"""Models for real servers, named by ``support.service_toys:Class``: what they do depends on x."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trivet.schema import Field, Schema

HANG, RAISE, SHAPE, DIE, DAWDLE = 901.0, 902.0, 903.0, 904.0, 905.0


class Doubling:
    """Doubles x; some values of x have it misbehave."""

    inputs = Schema(
        [
            Field(name="x", type="float64", min=0, max=1000),
            Field(name="note", type="string", nullable=True),
        ]
    )
    outputs = Schema([Field(name="y", type="float64")])
    factor = 2.0

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        found = set(batch["x"].to_pylist())
        if HANG in found:
            time.sleep(3600)
        if DAWDLE in found:
            time.sleep(0.3)
        if RAISE in found:
            raise ValueError("902 brings bad luck")
        if DIE in found:
            os.kill(os.getpid(), signal.SIGKILL)
        y = pc.multiply(batch["x"], self.factor)
        return pa.record_batch({"y": y.slice(1) if SHAPE in found else y})


class Tripling(Doubling):
    """A later version."""

    factor = 3.0


class Hanging(Doubling):
    """Never comes back, where it is told so."""

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if "TOYS_HANG" in os.environ:
            time.sleep(3600)
        return super().predict(batch)


class Thoughtful(Doubling):
    """Too slow for the event loop."""

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        time.sleep(0.003)
        return super().predict(batch)


class Broken(Doubling):
    """Can be saved, and from then on not be loaded."""

    def save(self, folder: Path) -> None:
        (folder / "data").write_text("x")

    @classmethod
    def load(cls, folder: Path) -> Broken:
        if (folder.parent.parent / "broken").exists():
            raise ValueError("this file is broken")
        return cls()

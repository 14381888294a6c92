"""What a model is to every host: a name, a version, two schemas and one function."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pyarrow as pa

from trivet.schema import Schema


@runtime_checkable
class Model(Protocol):
    """A trained model, ready to be asked.

    Attributes:
        name: The model's name, the same over all its versions.
        version: The version of this one.
        digest: SHA-256, in hexadecimal, over the artifact and both schemas: equal digests, equal
            answers.
        inputs: The columns that `predict` reads, in order.
        outputs: The columns that `predict` returns, in order.
        parallel: Whether `predict` may be called by several threads at once and gains from it.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def inputs(self) -> Schema: ...
    @property
    def outputs(self) -> Schema: ...
    @property
    def parallel(self) -> bool: ...

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        """Predict for every row of a batch.

        Args:
            batch: One or more rows, exactly the columns and types of `inputs`, already validated.
                It is never changed.

        Returns:
            As many rows, in the same order, with the columns of `outputs`.
        """
        ...

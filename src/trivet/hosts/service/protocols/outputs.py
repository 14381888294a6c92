"""Answers as tensors of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from trivet.hosts.service.answers import Answer
from trivet.hosts.service.protocols.columns import answered
from trivet.hosts.service.protocols.tensors import BYTES, DATATYPES, OF_FIELD, refused
from trivet.schema import Schema


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of an answer."""

    name: str
    datatype: str
    column: pa.Array

    def values(self) -> list[Any]:
        """Return its values for JSON."""
        values: list[Any] = self.column.to_pylist()
        if self.datatype == BYTES:
            return msgspec.to_builtins(values)  # type: ignore[no-any-return]
        return values

    def binary(self) -> bytes:
        """Return its values as bytes; null is NaN or an empty text.

        Raises:
            Refused: There is a null that bytes cannot say.
        """
        if self.datatype == BYTES:
            texts = [b"" if text is None else text.encode() for text in self.values()]
            return b"".join(part for t in texts for part in (len(t).to_bytes(4, "little"), t))
        return self.numbers().tobytes()  # type: ignore[no-any-return]

    def numbers(self) -> Any:
        """Return its values as an array; null is NaN.

        Raises:
            Refused: There is a null that numbers cannot say.
        """
        if self.column.null_count and not self.datatype.startswith("FP"):
            raise refused(
                self.name, f"has null in it, which no {self.datatype} is; ask for it as JSON"
            )
        values = self.column.to_numpy(zero_copy_only=False)
        return values.astype(DATATYPES[self.datatype].binary, copy=False)


def outputs_of(answer: Answer, schema: Schema, requested: Sequence[str]) -> list[Output]:
    """Return the predictions of a request's rows as tensors."""
    batch = answered(answer)
    fields = {field.name: field for field in schema}
    names = requested or schema.names
    return [Output(name, OF_FIELD[fields[name].type], batch.column(name)) for name in names]


def check_requested(names: Sequence[str], schema: Schema) -> None:
    """Make sure that an answer can be given before it is computed.

    Raises:
        Refused: An output is asked for that the model does not have, or is asked for twice.
    """
    for place, name in enumerate(names):
        if name not in schema.names:
            raise refused(
                name, f"is not one of the model's outputs, which are {', '.join(schema.names)}"
            )
        if name in names[:place]:
            raise refused(name, "is asked for twice")

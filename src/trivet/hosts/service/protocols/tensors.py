"""Tensors of requests in the Open Inference Protocol, as its REST and its gRPC form share them.

Each input is a tensor of one column, of shape [n] or [n, 1]; a single tensor [n, k] may stand for
all k inputs of a model of numbers. Numbers of any datatype are brought to the model's types by
the rules of `trivet.validation.conform`; times and dates are BYTES in ISO 8601. A tensor of floats
cannot say null: NaN stands for it where the field may be null.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from trivet.hosts.service.faults import BadRows, Problem, Problems, Refused
from trivet.hosts.service.protocols.columns import MAX_BAD, read_column
from trivet.records import FLOAT32_END
from trivet.schema import TYPES, Field, Schema
from trivet.validation import TYPE, Decoded, conform, merge, no_problems

BYTES = "BYTES"


class Datatype(NamedTuple):
    """What a datatype's name means: its values in bytes, as a column, and in JSON."""

    binary: np.dtype[Any]
    arrow: pa.DataType
    listed: Any


def _whole(binary: str, arrow: pa.DataType, low: int, high: int | None) -> Datatype:
    within = msgspec.Meta(ge=low) if high is None else msgspec.Meta(ge=low, le=high)
    return Datatype(np.dtype(binary), arrow, list[Annotated[int, within] | None])


_Single = Annotated[float, msgspec.Meta(gt=-FLOAT32_END, lt=FLOAT32_END)]


def _integers() -> Iterator[tuple[str, Datatype]]:
    for size in (1, 2, 4, 8):
        bits = 8 * size
        end = 2 ** (bits - 1)
        signed = pa.from_numpy_dtype(f"int{bits}")
        unsigned = pa.from_numpy_dtype(f"uint{bits}")
        yield f"INT{bits}", _whole(f"<i{size}", signed, -end, end - 1)
        top = 2 * end - 1 if size < 8 else None  # msgspec has no bound beyond 64 bits; Arrow checks
        yield f"UINT{bits}", _whole(f"<u{size}", unsigned, 0, top)


NUMBERS = {
    **dict(_integers()),
    "FP16": Datatype(np.dtype("<f2"), pa.float16(), None),
    "FP32": Datatype(np.dtype("<f4"), pa.float32(), list[_Single | None]),
    "FP64": Datatype(np.dtype("<f8"), pa.float64(), list[float | None]),
}
DATATYPES = {"BOOL": Datatype(np.dtype("?"), pa.bool_(), list[bool | None]), **NUMBERS}

OF_FIELD = {
    "bool": "BOOL",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    "float32": "FP32",
    "float64": "FP64",
    "string": BYTES,
    "timestamp": BYTES,
    "date": BYTES,
}
"""Field type to the datatype that metadata and answers give it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a request.

    Attributes:
        name: Its name.
        datatype: What the caller says that it is.
        shape: As the caller wrote it.
        data: Its values, or their bytes.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[object] | memoryview


class Rows(NamedTuple):
    """What a request's tensors say."""

    decoded: Decoded
    beside: pa.RecordBatch | None


def refused(name: str, what: str) -> Refused:
    """Return the fault of one tensor."""
    return Refused("bad_request", f"tensor {name!r} {what}")


def rows_of(tensors: Sequence[Tensor], schema: Schema, key: Sequence[str], max_rows: int) -> Rows:
    """Turn tensors into the columns of a model, and those of its key into columns beside them.

    Raises:
        Refused: The tensors do not fit the model or themselves, or there are too many rows.
    """
    whole = _is_matrix(tensors, schema)
    if not whole:
        _check_shapes(tensors, schema)
    count = _count(tensors, max_rows)
    if whole:
        tensors = _columns_of(tensors[0], schema, count)
    by_name = _by_name(tensors, schema, key)
    columns: dict[str, pa.Array] = {}
    found = []
    for field in schema:
        if field.name in by_name:
            columns[field.name], problems = _column(by_name[field.name], field, count)
            found.append(problems)
        else:
            columns[field.name] = pa.nulls(count, TYPES[field.type])
    conformed = conform(pa.record_batch(columns), schema)
    decoded = Decoded(conformed.batch, merge([conformed.problems, *found]))
    return Rows(decoded, _beside(by_name, schema, key, count))


def _is_matrix(tensors: Sequence[Tensor], schema: Schema) -> bool:
    """Say whether one tensor stands for all inputs: those of a model of numbers, side by side."""
    if len(tensors) != 1 or len(schema) < 2:
        return False
    tensor = tensors[0]
    return (
        tensor.name not in schema.names
        and len(tensor.shape) == 2
        and tensor.shape[0] >= 0
        and tensor.shape[1] == len(schema)
        and tensor.datatype in NUMBERS
        and _all_numbers(schema)
    )


def _all_numbers(schema: Schema) -> bool:
    return all(OF_FIELD[field.type] in NUMBERS for field in schema)


def _check_shapes(tensors: Sequence[Tensor], schema: Schema) -> None:
    """Make sure that each tensor is one column."""
    for tensor in tensors:
        shape = tensor.shape
        if not shape or shape[0] < 0 or list(shape[1:]) not in ([], [1]):
            told = f"has the shape {_shown(shape)}; it must be [n] or [n, 1], n rows"
            if len(schema) > 1 and _all_numbers(schema):
                told += (
                    f", or [n, {len(schema)}] where one tensor of numbers, with a name that no "
                    "input has, is there for all inputs"
                )
            raise refused(tensor.name, told)


def _count(tensors: Sequence[Tensor], max_rows: int) -> int:
    if not tensors:
        raise Refused("bad_request", "the request has no input tensors")
    counts = Counter(tensor.shape[0] for tensor in tensors)
    count, _ = counts.most_common(1)[0]
    if len(counts) > 1:
        for tensor in tensors:
            _check_own(tensor)
        one = next(tensor for tensor in tensors if tensor.shape[0] == count)
        other = next(tensor for tensor in tensors if tensor.shape[0] != count)
        raise Refused(
            "bad_request",
            f"tensors {one.name!r} of shape {_shown(one.shape)} and {other.name!r} of shape "
            f"{_shown(other.shape)} differ in rows",
        )
    if count > max_rows:
        raise Refused(
            "too_large",
            f"tensor {tensors[0].name!r} has {count} rows; a request may have {max_rows}",
        )
    return count


def _check_own(tensor: Tensor) -> None:
    """Make sure that a column has as many values as its own shape says."""
    count = tensor.shape[0]
    if not isinstance(tensor.data, memoryview):
        _flat(tensor, count)
    elif tensor.datatype in DATATYPES:
        _check_size(tensor, count * DATATYPES[tensor.datatype].binary.itemsize)
    elif tensor.datatype == BYTES:
        _texts(tensor, count)


def _shown(shape: Sequence[int]) -> str:
    return f"[{', '.join(str(side) for side in shape[:8])}{', …' if len(shape) > 8 else ''}]"


def _columns_of(tensor: Tensor, schema: Schema, count: int) -> list[Tensor]:
    """Take a tensor of all inputs apart."""
    width = len(schema)
    parts: list[Sequence[object] | memoryview]
    if isinstance(tensor.data, memoryview):
        binary = DATATYPES[tensor.datatype].binary
        _check_size(tensor, count * width * binary.itemsize)
        values = np.frombuffer(tensor.data, binary).reshape(count, width)
        parts = [memoryview(values[:, place].tobytes()) for place in range(width)]
    else:
        flat = _flat(tensor, count * width)
        parts = [flat[place::width] for place in range(width)]
    return [
        Tensor(name, tensor.datatype, (count,), part)
        for name, part in zip(schema.names, parts, strict=True)
    ]


def _by_name(tensors: Sequence[Tensor], schema: Schema, key: Sequence[str]) -> dict[str, Tensor]:
    by_name: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name in by_name:
            raise refused(tensor.name, "is there twice")
        if tensor.name not in schema.names and tensor.name not in key:
            raise refused(
                tensor.name,
                f"is not one of the model's inputs, which are {', '.join(schema.names)}",
            )
        by_name[tensor.name] = tensor
    for field in schema:
        if field.name not in by_name and not field.nullable:
            raise refused(field.name, f"is missing; the model wants it as {OF_FIELD[field.type]}")
    return by_name


def _column(tensor: Tensor, field: Field, count: int) -> tuple[pa.Array, pa.RecordBatch]:
    """Read a tensor for a field, without narrowing its numbers to the field's type."""
    wanted = OF_FIELD[field.type]
    numbers = wanted in NUMBERS and tensor.datatype in NUMBERS
    if tensor.datatype != wanted and not numbers:
        raise refused(tensor.name, f"is {tensor.datatype[:20]}; the model wants {wanted}")
    if tensor.datatype == BYTES:
        return read_column(field, _texts(tensor, count))
    if isinstance(tensor.data, memoryview):
        values = _from_bytes(tensor, count)
        return pa.array(values, from_pandas=field.nullable), no_problems()
    column, problems = _from_list(tensor, field.name, count)
    if field.nullable and pa.types.is_floating(column.type):
        column = pa.array(column.to_numpy(zero_copy_only=False), from_pandas=True)
    return column, problems


def _beside(
    by_name: dict[str, Tensor], schema: Schema, key: Sequence[str], count: int
) -> pa.RecordBatch | None:
    """Read the key's tensors, whatever they are."""
    columns: dict[str, pa.Array] = {}
    for name in key:
        tensor = by_name.get(name)
        if tensor is None:
            continue
        if tensor.datatype == BYTES:
            text = Field(name=name, type="string", nullable=True)
            columns[name], problems = read_column(text, _texts(tensor, count))
        elif tensor.datatype not in DATATYPES:
            raise refused(name, f"is {tensor.datatype[:20]}, which is no datatype known here")
        elif isinstance(tensor.data, memoryview):
            columns[name], problems = pa.array(_from_bytes(tensor, count)), no_problems()
        else:
            columns[name], problems = _from_list(tensor, name, count)
        if problems.num_rows and name not in schema.names:
            row, reason = problems.column("row")[0], problems.column("reason")[0]
            raise refused(name, f"row {row}: {reason}")
    return pa.record_batch(columns) if columns else None


def _check_size(tensor: Tensor, size: int) -> None:
    assert isinstance(tensor.data, memoryview)
    if tensor.data.nbytes != size:
        raise refused(
            tensor.name,
            f"has {tensor.data.nbytes} bytes; {tensor.datatype} of shape "
            f"{_shown(tensor.shape)} takes {size}",
        )


def _from_bytes(tensor: Tensor, count: int) -> Any:
    binary = DATATYPES[tensor.datatype].binary
    _check_size(tensor, count * binary.itemsize)
    assert isinstance(tensor.data, memoryview)
    if tensor.datatype == "BOOL":
        return np.frombuffer(tensor.data, np.uint8) != 0
    return np.frombuffer(tensor.data, binary)


def _flat(tensor: Tensor, count: int) -> Sequence[object]:
    """Return the values of a list, or of a list a row."""
    values = tensor.data
    assert not isinstance(values, memoryview)
    if len(tensor.shape) == 2 and values and isinstance(values[0], list):
        width = tensor.shape[1]
        lists: list[list[object]] = []
        for row, part in enumerate(values):
            if not isinstance(part, list) or len(part) != width:
                raise refused(tensor.name, f"row {row}: not a list of {width}, as its shape says")
            lists.append(part)
        values = list(itertools.chain.from_iterable(lists))
    if len(values) != count:
        raise refused(
            tensor.name,
            f"has {len(values)} values; its shape {_shown(tensor.shape)} says {count}",
        )
    return values


def _from_list(tensor: Tensor, field: str, count: int) -> tuple[pa.Array, pa.RecordBatch]:
    datatype = DATATYPES[tensor.datatype]
    if datatype.listed is None:
        raise refused(tensor.name, f"is {tensor.datatype}, which only binary data can carry")
    values = _flat(tensor, count)
    try:
        return pa.array(msgspec.convert(values, datatype.listed), datatype.arrow), no_problems()
    except (msgspec.ValidationError, ValueError, OverflowError):
        pass  # one of them is wrong; which, takes longer to say
    integers = pa.types.is_integer(datatype.arrow)
    floats = pa.types.is_floating(datatype.arrow)
    clean: list[object] = []
    found: list[tuple[int, Problem]] = []
    for row, value in enumerate(values):
        if floats and isinstance(value, float) and not math.isfinite(value):
            clean.append(value)  # it has a code of its own, or stands for null
            continue
        whole = isinstance(value, float) and value.is_integer() and integers
        try:
            (converted,) = msgspec.convert([int(value) if whole else value], datatype.listed)  # type: ignore[call-overload]
            pa.scalar(converted, datatype.arrow)
            clean.append(converted)
        except (msgspec.ValidationError, ValueError, OverflowError):
            clean.append(None)
            shown = json.dumps(value, default=str, ensure_ascii=False)[:60]
            found.append((row, (field, TYPE, f"{shown} is not {tensor.datatype}")))
            if len(found) >= MAX_BAD:
                raise BadRows(Problems.of(found)) from None
    return pa.array(clean, datatype.arrow), Problems.of(found).columns


def _texts(tensor: Tensor, count: int) -> Sequence[object]:
    if not isinstance(tensor.data, memoryview):
        return _flat(tensor, count)
    texts: list[str] = []
    data, place = tensor.data, 0
    try:
        for _ in range(count):
            start = place + 4
            place = start + int.from_bytes(data[place:start], "little")
            if place > len(data) or start > len(data):
                raise refused(
                    tensor.name,
                    f"row {len(texts)}: its text would end at byte {place}, and there are "
                    f"{len(data)}; each text comes after its length in 4 bytes",
                )
            texts.append(str(data[start:place], "utf-8"))
    except UnicodeDecodeError:
        raise refused(tensor.name, f"row {len(texts)}: not a text in UTF-8") from None
    if place != len(data):
        raise refused(tensor.name, f"has {len(data)} bytes; its {count} texts take {place}")
    return texts

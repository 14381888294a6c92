"""The columns of a model: their types and what values they may take."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trivet.errors import SchemaError

TYPES: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}
"""Name of a field's type, as written in a manifest, to its Arrow type."""

_ORDERED = frozenset(TYPES) - {"bool", "string"}

Bound = int | float | dt.datetime | dt.date
Limits = npt.NDArray[np.float64]


def type_name(arrow: pa.DataType) -> str | None:
    """Return the field type that holds any value of an Arrow type, or None if there is none."""
    t = pa.types
    if t.is_dictionary(arrow):
        return type_name(arrow.value_type)
    for name, exact in TYPES.items():
        if arrow == exact:
            return name
    if t.is_uint8(arrow):
        return "int16"
    if t.is_uint16(arrow):
        return "int32"
    if t.is_integer(arrow):
        return "int64"
    if t.is_floating(arrow):
        return "float32" if arrow.bit_width < 64 else "float64"
    if t.is_decimal(arrow):
        return "float64"
    if t.is_large_string(arrow) or t.is_string_view(arrow) or t.is_null(arrow):
        return "string"
    if t.is_timestamp(arrow):
        return "timestamp"
    if t.is_date(arrow):
        return "date"
    return None


def _integer(value: Any) -> int:
    if isinstance(value, bool) or value != int(value):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _float32(value: Any) -> float:
    number = _float(value)
    if math.isinf(pa.scalar(number, pa.float32()).as_py()):
        raise OverflowError
    return number


def _exactly(kind: type) -> Callable[[Any], Any]:
    def literal(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return literal


def _timestamp(value: Any) -> dt.datetime:
    if not isinstance(value, dt.datetime):
        raise TypeError
    return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


def _date(value: Any) -> dt.date:
    if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
        raise TypeError
    return value


_LITERALS: Mapping[str, Callable[[Any], Any]] = {
    "bool": _exactly(bool),
    "float32": _float32,
    "float64": _float,
    "string": _exactly(str),
    "timestamp": _timestamp,
    "date": _date,
}
"""By type, what makes a bound or an allowed value one of it, or raises; the others are whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column: its name, type and the values it may take.

    Attributes:
        name: The column's name.
        type: A key of `TYPES`.
        nullable: Whether null is a value that the model understands.
        min: Smallest value allowed, itself included.
        max: Largest value allowed, itself included.
        values: The only values allowed.

    Raises:
        SchemaError: The parts contradict each other.
    """

    name: str
    type: str
    nullable: bool = False
    min: Bound | None = None
    max: Bound | None = None
    values: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SchemaError(f"a field has the name {self.name!r}; name every field with a text")
        if self.type not in TYPES:
            raise SchemaError(
                f"field {self.name!r} has the unknown type {self.type!r}; "
                f"use one of {', '.join(TYPES)}"
            )
        if not isinstance(self.nullable, bool):
            raise SchemaError(
                f"field {self.name!r} has nullable {self.nullable!r}; write true or false"
            )
        ranged = self.min is not None or self.max is not None
        if ranged and self.type not in _ORDERED:
            raise SchemaError(
                f"field {self.name!r} is {self.type}, which has no min or max; use values"
            )
        for key in ("min", "max"):
            bound = getattr(self, key)
            if bound is not None:
                object.__setattr__(self, key, self._literal(bound, key))
        if self.values is not None:
            if isinstance(self.values, str | bytes) or not isinstance(self.values, Iterable):
                raise SchemaError(
                    f"field {self.name!r} has values {self.values!r}; write a list of them"
                )
            values = tuple(self._literal(value, "values") for value in self.values)
            if not values:
                raise SchemaError(f"field {self.name!r} allows no value at all; leave values out")
            object.__setattr__(self, "values", values)
        if self.min is not None and self.max is not None and self.min > self.max:  # type: ignore[operator]
            raise SchemaError(f"field {self.name!r} has min {self.min} above max {self.max}")

    @property
    def arrow(self) -> pa.Field:
        """The Arrow field of this column."""
        return pa.field(self.name, TYPES[self.type], nullable=self.nullable)

    def _literal(self, value: Any, key: str) -> Any:
        """Return a bound or an allowed value in the one way that a manifest writes it."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            raise SchemaError(
                f"field {self.name!r}: {key} has {value}, which is not a finite number"
            )
        try:
            literal_of: Callable[[Any], Any] = _LITERALS.get(self.type, _integer)
            literal = literal_of(value)
            pa.scalar(literal, TYPES[self.type])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            raise SchemaError(
                f"field {self.name!r} is {self.type}, and {key} has {value!r}, which is not"
            ) from None
        return literal

    def to_dict(self) -> dict[str, Any]:
        """Return the parts that differ from the defaults, as a manifest writes them."""
        out: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.nullable:
            out["nullable"] = True
        for key in ("min", "max"):
            if getattr(self, key) is not None:
                out[key] = getattr(self, key)
        if self.values is not None:
            out["values"] = list(self.values)
        return out

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> Self:
        """Build a field from what `to_dict` gave; a key of no meaning is an error."""
        unknown = parts.keys() - {"name", "type", "nullable", "min", "max", "values"}
        if unknown:
            raise SchemaError(
                f"field {parts.get('name', '?')!r} has unknown keys: {', '.join(sorted(unknown))}"
            )
        missing = {"name", "type"} - parts.keys()
        if missing:
            raise SchemaError(
                f"field {parts.get('name', '?')!r} lacks {', '.join(sorted(missing))}"
            )
        return cls(**parts)


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a model's input or output, in order.

    Attributes:
        fields: The columns.
        names: Their names.
        arrow: The Arrow schema of a batch that fits.
        limits: The least and the largest value of every column, if all are numbers and nothing
            else is asked of them; None otherwise.
    """

    fields: tuple[Field, ...]
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    arrow: pa.Schema = field(init=False, repr=False, compare=False)
    limits: tuple[Limits, Limits] | None = field(init=False, repr=False, compare=False)

    def __init__(self, fields: Iterable[Field]) -> None:
        # Derived once: every batch, also one of a single row, is held against them.
        object.__setattr__(self, "fields", tuple(fields))
        object.__setattr__(self, "names", tuple(f.name for f in self.fields))
        object.__setattr__(self, "arrow", pa.schema([f.arrow for f in self.fields]))
        object.__setattr__(self, "limits", _limits(self.fields))
        twice = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if twice:
            raise SchemaError(f"a schema names {', '.join(twice)} twice; names must differ")

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the fields as a manifest writes them."""
        return [field.to_dict() for field in self.fields]

    @classmethod
    def from_list(cls, fields: Iterable[Mapping[str, Any]]) -> Self:
        """Build a schema from what `to_list` gave."""
        return cls(Field.from_dict(parts) for parts in fields)

    @classmethod
    def of(cls, sample: pa.Table | pa.RecordBatch) -> Self:
        """Infer a schema from a sample: its types, and null allowed where null was seen.

        Ranges and allowed values are a decision, not an observation: they are left open.

        Raises:
            SchemaError: A column's type has no counterpart.
        """
        fields = []
        for arrow, column in zip(sample.schema, sample.columns, strict=True):
            name = type_name(arrow.type)
            if name is None:
                raise SchemaError(
                    f"column {arrow.name!r} is {arrow.type}, which no model field can hold; "
                    f"turn it into one of {', '.join(TYPES)}"
                )
            fields.append(Field(name=arrow.name, type=name, nullable=column.null_count > 0))
        return cls(fields)


def _limits(fields: Iterable[Field]) -> tuple[Limits, Limits] | None:
    """Return the bounds of columns as floats, if every value can be held against those alone."""
    end = float(np.finfo(np.float64).max)
    low: list[float] = []
    high: list[float] = []
    for f in fields:
        if f.values is not None or f.type in ("bool", "string", "timestamp", "date"):
            return None
        for bound, kept, default in ((f.min, low, -end), (f.max, high, end)):
            if isinstance(bound, int) and abs(bound) >= 2**53:  # as a float it would be another
                return None
            kept.append(default if bound is None else float(bound))  # type: ignore[arg-type]
    return np.array(low), np.array(high)

"""JSON objects turned into columns, for the hosts that get their rows as text.

A decoder compiled from the schema reads a good object in about a microsecond. Only an object that
it refuses is looked at field by field, so that everything wrong with it can be named. The rules
are those of `trivet.validation.conform`: whole numbers may stand for floats and whole floats for
integers, a time without an offset is UTC and is cut to microseconds, and no text becomes a number.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.schema import TYPES, Field, Schema
from trivet.validation import (
    MISSING,
    NOT_FINITE,
    NULL,
    PROBLEMS,
    TYPE,
    UNDECODABLE,
    Decoded,
    no_problems,
)

Problem = tuple[str, str, str]
"""Field (empty: the whole row), code and reason."""

Columns = list[list[Any]]
"""Values by column, then by row."""

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError)
"""What a compiled decoder raises on a text that it refuses."""

FLOAT32_END = 2.0**128 - 2.0**103
"""The smallest number that no longer rounds to a finite float32."""

_LONGEST = len("2024-01-01T00:00:00.123456")
"""A longer text of a time may have more than six digits after the point."""

_BEYOND = re.compile(r"(\.[0-9]{6})[0-9]+")

_INTEGER_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_PLAIN = {kind: np.dtype(kind) for kind in (*_INTEGER_BITS, "float64")}
"""What numpy makes a column of as Arrow would, if no value is null."""

_Moments = list[dt.datetime | None]
_convert = msgspec.convert
_any = msgspec.json.Decoder().decode
_dumps = json.JSONEncoder(default=str, ensure_ascii=False).encode

_NAMES = {bool: "a boolean", int: "an integer", float: "a number", str: "text", dict: "an object"}


class Record(NamedTuple):
    """One object as it was read.

    Attributes:
        values: By field of the schema; None where the value is null or could not be read.
        beside: By name of the columns carried beside the inputs; None where there is none.
        problems: Why values could not be read.
    """

    values: Sequence[Any]
    beside: Sequence[Any]
    problems: tuple[Problem, ...] = ()


class RecordReader:
    """Reads JSON objects against a schema.

    Args:
        schema: The model's inputs; other members of an object are ignored.
        beside: Members that are carried along as they are (a key, kept columns).

    Attributes:
        beside: Their names.
        arrow: The schema of the batches that it makes.
        shape: The compiled type of an object, to be decoded as a part of something larger.
    """

    def __init__(self, schema: Schema, beside: Sequence[str] = ()) -> None:
        self._schema = schema
        self._width = len(schema)
        self._beside = self.beside = tuple(beside)
        self.arrow = pa.schema([pa.field(f.name, TYPES[f.type]) for f in schema])
        self._types = self.arrow.types  # each read of a schema makes them again
        self._plain = [None if f.nullable else _PLAIN.get(f.type) for f in schema]
        # Members are called f0, f1, ... inside: a field's name need not be one of Python's.
        members: list[Any] = []
        names: dict[str, str] = {}
        for place, field in enumerate(schema):
            names[f"f{place}"] = field.name
            members.append(
                (f"f{place}", hint(field), None) if field.nullable else (f"f{place}", hint(field))
            )
        for place, name in enumerate(self._beside):
            if name in schema.names:
                continue
            names[f"b{place}"] = name
            members.append((f"b{place}", Any, None))
        self._own = [schema.names.index(n) if n in schema.names else None for n in self._beside]
        self.shape = msgspec.defstruct("Row", members, rename=names, kw_only=True, gc=False)
        self._decoder = msgspec.json.Decoder(self.shape)
        self._inputs = [attrgetter(f"f{place}") for place in range(len(schema))]
        self._others = [attrgetter(f"b{place}") for place in range(len(self._beside))]
        self._moments = [i for i, field in enumerate(schema) if field.type == "timestamp"]
        self._singles = [i for i, field in enumerate(schema) if field.type == "float32"]

    def read(self, text: bytes | memoryview) -> Record:
        """Read one JSON object."""
        try:
            return self.record(self._decoder.decode(text))
        except UNREADABLE:
            return self._examine(text)

    def record(self, row: msgspec.Struct) -> Record:
        """Return an object that was decoded as `shape`.

        Raises:
            ValidationError: A time in it is none.
            OverflowError: A time in it lies outside the years that have a number.
        """
        members = msgspec.structs.astuple(row)
        width = self._width
        values: Sequence[Any] = members[:width]
        if self._moments:
            values = self._in_utc(values)
        rest = iter(members[width:])
        beside = tuple([next(rest) if own is None else values[own] for own in self._own])
        return Record(values, beside)

    def together(self, rows: Sequence[msgspec.Struct]) -> tuple[pa.RecordBatch, Columns] | None:
        """Put objects that were decoded as `shape` together, and what they carry beside.

        The same as `columns` of each one's `record`, in a fraction of the time; None where a value
        has to be looked at one by one.
        """
        inputs = [list(map(get, rows)) for get in self._inputs]
        try:
            for place in self._moments:
                inputs[place] = moments(inputs[place])
            arrays = list(map(_array, inputs, self._types, self._plain))
        except (msgspec.ValidationError, UnicodeEncodeError, OverflowError):
            return None
        beside = [
            list(map(get, rows)) if own is None else inputs[own]
            for get, own in zip(self._others, self._own, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow), beside

    def unread(self, reason: str, field: str = "", code: str = UNDECODABLE) -> Record:
        """Return what stands for an object that was not read."""
        empty = (None,) * len(self._schema)
        return Record(empty, (None,) * len(self._beside), ((field, code, reason),))

    def read_object(self, found: object) -> Record:
        """Read what a JSON parser, or Python code, made of one object."""
        if not isinstance(found, Mapping):
            return self.unread(f"the row is {_kind(found)}, not an object")
        values: list[Any] = []
        problems: list[Problem] = []
        for field in self._schema:
            if field.name not in found and not field.nullable:
                problems.append((field.name, MISSING, "the field is missing"))
                values.append(None)
                continue
            value, problem = _value(field, found.get(field.name))
            values.append(value)
            if problem is not None:
                problems.append(problem)
        beside = [found.get(name) for name in self._beside]
        for place, own in enumerate(self._own):
            if own is not None and values[own] is not None:
                beside[place] = values[own]
        return Record(values, tuple(beside), tuple(problems))

    def columns(self, records: Sequence[Record]) -> Decoded:
        """Put records together as columns."""
        if len(records) == 1:
            columns = [[value] for value in records[0].values]
        else:
            columns = [list(column) for column in zip(*(r.values for r in records), strict=True)]
        found = [(row, *p) for row, r in enumerate(records) for p in r.problems]
        plain = self._plain if not found else [None] * self._width
        try:
            arrays = list(map(_array, columns, self._types, plain))
        except UnicodeEncodeError:
            return self.columns([self._cleared(record) for record in records])
        if self._singles and not all(_is_finite(arrays[i]) for i in self._singles):
            return self.columns([self._cleared(record) for record in records])
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.arrow)
        if not found:
            return Decoded(batch, no_problems())
        rows, fields, codes, reasons = zip(*found, strict=True)
        told = [
            pa.array(np.asarray(rows, np.int64)),
            *(pa.array(c, pa.string()) for c in (fields, codes, reasons)),
        ]
        return Decoded(batch, pa.RecordBatch.from_arrays(told, schema=PROBLEMS))

    def _in_utc(self, values: Sequence[Any]) -> Sequence[Any]:
        moved = list(values)
        for place in self._moments:
            if (text := moved[place]) is not None:
                moment = _convert(text if len(text) <= _LONGEST else _cut(text), dt.datetime)
                moved[place] = moment if moment.tzinfo is dt.UTC else _utc(moment)
        return moved

    def _cleared(self, record: Record) -> Record:
        """Name values that no column of their type can hold: half a character, a huge number."""
        values, problems = list(record.values), list(record.problems)
        for place, field in enumerate(self._schema):
            value = values[place]
            if isinstance(value, str) and not _is_text(value):
                problems.append((field.name, TYPE, "the text has half of a surrogate pair"))
                values[place] = None
            elif field.type == "float32" and value is not None and abs(value) >= FLOAT32_END:
                problems.append((field.name, TYPE, f"{value} does not fit float32"))
                values[place] = None
        return Record(values, record.beside, tuple(problems))

    def _examine(self, text: bytes | memoryview) -> Record:
        """Read an object that the compiled decoder refuses, to say what is wrong with it."""
        try:
            found = _any(text)
        except UNREADABLE:
            try:
                # The standard parser lets NaN, Infinity and 1e999 through, which can be named then.
                found = json.loads(bytes(text).decode())
            except (ValueError, RecursionError) as error:
                return self.unread(why_unread(error))
        return self.read_object(found)


def why_unread(error: ValueError | RecursionError) -> str:
    """Say why the standard parser did not read a text; its advice is for who runs Python."""
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if isinstance(error, json.JSONDecodeError | UnicodeError):
        return f"not valid JSON: {error}"[:200]
    return "a number in the JSON has too many digits"


def text_of(value: Any) -> str | None:
    """Return a value carried beside the inputs as the text that it is kept as."""
    if value is None:
        return None
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, dt.datetime):
        value = _utc(value)
    try:
        return plain_text(msgspec.json.encode(value).decode().strip('"'))
    except (UnicodeEncodeError, RecursionError):
        return plain_text(repr(value))


def plain_text(value: str) -> str:
    """Return a text that any database keeps: without NUL and without halves of characters."""
    if "\0" in value or not value.isascii():
        return value.replace("\0", "\\0").encode("utf-8", "replace").decode()
    return value


def hint(field: Field) -> Any:
    """Return the type that msgspec reads a field's values as, a timestamp's as text: `moments`."""
    kind: Any
    if field.type in _INTEGER_BITS:
        bound = 2 ** (_INTEGER_BITS[field.type] - 1)
        kind = Annotated[int, msgspec.Meta(ge=-bound, le=bound - 1)]
    else:
        kind = {
            "bool": bool,
            "float32": Annotated[float, msgspec.Meta(gt=-FLOAT32_END, lt=FLOAT32_END)],
            "float64": float,
            "string": str,
            "timestamp": str,
            "date": dt.date,
        }[field.type]
    return kind | None if field.nullable else kind


def _array(values: list[Any], kind: pa.DataType, plain: np.dtype[Any] | None) -> pa.Array:
    """Make a column; by way of numpy it takes half the time, and the GIL is not let go of."""
    if plain is None:
        return pa.array(values, kind)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.array(values, plain))])


def _value(field: Field, value: object) -> tuple[Any, Problem | None]:
    """Read one value; what the schema's ranges say is not decided here."""
    if value is None:
        return None, None if field.nullable else (field.name, NULL, "null is not allowed")
    if field.type in _INTEGER_BITS or field.type.startswith("float"):
        return _number(field, value)
    if field.type in ("timestamp", "date"):
        return _moment(field, value)
    if isinstance(value, bool if field.type == "bool" else str):
        return value, None
    return _refused(field, value)


def _number(field: Field, value: object) -> tuple[Any, Problem | None]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _refused(field, value)
    if isinstance(value, float) and not math.isfinite(value):
        return None, (field.name, NOT_FINITE, f"{value} is not a finite number")
    if field.type.startswith("float"):
        try:
            return float(value), None
        except OverflowError:
            return _unfit(field, value)
    if value != math.floor(value):
        return _refused(field, value)
    bound = 2 ** (_INTEGER_BITS[field.type] - 1)
    return (int(value), None) if -bound <= value < bound else _unfit(field, value)


def _moment(field: Field, value: object) -> tuple[Any, Problem | None]:
    kind = dt.datetime if field.type == "timestamp" else dt.date
    if isinstance(value, kind):
        moment: Any = value
    elif isinstance(value, str):
        try:
            moment = _convert(_cut(value), kind)
        except (msgspec.ValidationError, UnicodeEncodeError):
            return _refused(field, value)
    else:
        return _refused(field, value)
    if kind is dt.datetime:
        try:
            moment = _utc(moment)
        except OverflowError:
            return _refused(field, value)
    return moment, None


def moments(texts: Sequence[str | None]) -> list[dt.datetime | None]:
    """Read timestamps, in UTC and cut to microseconds; msgspec alone would round them.

    Raises:
        ValidationError, UnicodeEncodeError: One is no timestamp.
        OverflowError: One lies outside the years that have a number.
    """
    cut = [t if t is None or len(t) <= _LONGEST else _cut(t) for t in texts]
    return [v if not v or v.tzinfo is dt.UTC else _utc(v) for v in _convert(cut, _Moments)]


def _cut(text: str) -> str:
    return _BEYOND.sub(r"\1", text, count=1)


def _utc(moment: dt.datetime) -> dt.datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    return moment if moment.tzinfo is dt.UTC else moment.astimezone(dt.UTC)


def _is_text(value: str) -> bool:
    """Say whether a text can be written as UTF-8; JSON can escape what cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(column: pa.Array) -> bool:
    return bool(pc.all(pc.is_finite(column), min_count=0).as_py())


def _refused(field: Field, value: object) -> tuple[None, Problem]:
    return None, (field.name, TYPE, f"{_shown(value)} is {_kind(value)}, not {field.type}")


def _unfit(field: Field, value: object) -> tuple[None, Problem]:
    return None, (field.name, TYPE, f"{_shown(value)} does not fit {field.type}")


def _shown(value: object) -> str:
    cut = value[:60] if type(value) is str else value
    shown = _dumps(cut)[:60]
    return shown if shown.isascii() else shown.encode("utf-8", "replace").decode()


def _kind(value: object) -> str:
    return "null" if value is None else _NAMES.get(type(value), "a list")

"""Rows held against a schema: the same checks and the same codes in every host, in columns.

A border (a database, a request, an event) turns its values into a `Decoded`: a record batch
with null where a value could not be read, and the problems met on the way. `validate` adds what
the schema forbids. Nothing here knows which host asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import SchemaError
from trivet.schema import TYPES, Field, Schema

MISSING = "missing"
NULL = "null"
TYPE = "type"
RANGE = "range"
NOT_ALLOWED = "not_allowed"
NOT_FINITE = "not_finite"
DUPLICATE_KEY = "duplicate_key"
UNDECODABLE = "undecodable"
MODEL_ERROR = "model_error"

CODES = (
    MISSING,
    NULL,
    TYPE,
    RANGE,
    NOT_ALLOWED,
    NOT_FINITE,
    DUPLICATE_KEY,
    UNDECODABLE,
    MODEL_ERROR,
)
"""Every reject code, the same in all hosts."""

PROBLEMS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("field", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""One line a problem: the row's place in its batch, field (empty: the whole row), code, reason."""

Rows = npt.NDArray[np.int64]

_YEARS = {
    "timestamp": (-62_135_596_800_000_000, 253_402_300_799_999_999),
    "date": (-719_162, 2_932_896),
}
"""The first and the last moment of the years 1 to 9999, as their types count."""

_SMALL_ROWS = 256
"""Up to so many rows, one look at all columns is cheaper than one at each."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows as a border read them.

    Attributes:
        batch: The columns of an input schema, in its types; null where `problems` has the reason.
        problems: A batch of the schema `PROBLEMS`.
    """

    batch: pa.RecordBatch
    problems: pa.RecordBatch


def no_problems() -> pa.RecordBatch:
    """Return an empty batch of problems."""
    return _NONE


def problems(rows: npt.ArrayLike, field: str, code: str, reasons: str | pa.Array) -> pa.RecordBatch:
    """Build problems of one field and code; `reasons` is one text for all or one a row."""
    index = pa.array(np.asarray(rows, dtype=np.int64))
    n = len(index)
    if isinstance(reasons, str):
        reasons = pa.repeat(reasons, n)
    columns = [index, pa.repeat(field, n), pa.repeat(code, n), reasons.cast(pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=PROBLEMS)


def merge(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Put batches of problems together, ordered by row, each row's in the order given."""
    some = [batch for batch in batches if batch.num_rows]
    if not some:
        return _NONE
    together = some[0] if len(some) == 1 else pa.concat_batches(some)
    rows = together.column("row").to_numpy()
    if np.all(rows[:-1] <= rows[1:]):
        return together
    return together.take(pa.array(np.argsort(rows, kind="stable")))


def together(parts: Sequence[Decoded]) -> Decoded:
    """Put rows behind one another that were read apart."""
    if len(parts) == 1:
        return parts[0]
    moved, start = [], 0
    for part in parts:
        if part.problems.num_rows:
            rows = pc.add(part.problems.column("row"), start)
            moved.append(part.problems.set_column(0, PROBLEMS.field(0), rows))
        start += part.batch.num_rows
    pieces = zip(*(part.batch.columns for part in parts), strict=True)
    columns = [pa.concat_arrays(column) for column in pieces]
    return Decoded(pa.RecordBatch.from_arrays(columns, schema=parts[0].batch.schema), merge(moved))


def clean_rows(count: int, found: pa.RecordBatch) -> Rows | None:
    """Return the rows that have no problem, or None if that is all of them."""
    if not found.num_rows:
        return None
    keep = np.ones(count, dtype=bool)
    keep[found.column("row").to_numpy()] = False
    return np.flatnonzero(keep)


def conform(batch: pa.RecordBatch, schema: Schema) -> Decoded:
    """Bring the columns of a batch to the types of a schema, where no value is changed by it.

    Integers widen or narrow where they fit, whole floats and decimals become integers, integers,
    decimals and wider floats become floats (rounded to the nearest), a naive timestamp counts as
    UTC and is cut to microseconds, and its year must be one from 1 to 9999. No text becomes a
    number, in any host. A value that does not fit becomes null and a problem of its row.

    Raises:
        SchemaError: A column is missing or there twice, or no value of its type could ever fit.
    """
    lacking = [name for name in schema.names if name not in batch.schema.names]
    if lacking:
        raise SchemaError(
            f"missing column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}; "
            f"there are {', '.join(batch.schema.names) or 'none'}"
        )
    times = Counter(batch.schema.names)
    for name in schema.names:
        if times[name] > 1:
            raise SchemaError(f"column {name} is there twice; rename one where the rows come from")
    columns, found = [], []
    for field in schema:
        column, bad = _conform(batch.column(field.name), field)
        columns.append(column)
        if bad is not None:
            found.append(bad)
    arrow = pa.schema([pa.field(f.name, TYPES[f.type]) for f in schema])
    return Decoded(pa.RecordBatch.from_arrays(columns, schema=arrow), merge(found))


def validate(rows: Decoded, schema: Schema) -> pa.RecordBatch:
    """Return every problem of the rows: those of their decoding, and what the schema forbids."""
    decoded = rows.problems
    if not decoded.num_rows and _are_plain(rows.batch, schema):
        return _NONE
    found: list[pa.RecordBatch] = [decoded] if decoded.num_rows else []
    known = _by_field(decoded) if decoded.num_rows else {}
    for field, column in zip(schema, rows.batch.columns, strict=True):
        found += _check(field, column, known)
    return merge(found)


def _by_field(found: pa.RecordBatch) -> dict[str, Rows]:
    """Return the rows of each field that has problems."""
    fields = found.column("field").dictionary_encode()
    order = np.argsort(fields.indices.to_numpy(), kind="stable")
    ends = np.cumsum(np.bincount(fields.indices.to_numpy()))[:-1]
    rows = np.split(found.column("row").to_numpy()[order], ends)
    return dict(zip(fields.dictionary.to_pylist(), rows, strict=True))


def _nulls(field: Field, column: pa.Array, known: Mapping[str, Rows]) -> Rows:
    """Return the rows that have null, and no problem yet of the whole row or of this field."""
    lacks = column.is_null().to_numpy(zero_copy_only=False)
    if known:
        lacks = lacks.copy()
        for own in ("", field.name):
            if own in known:
                lacks[known[own]] = False
    return np.flatnonzero(lacks)


def _check(field: Field, column: pa.Array, known: Mapping[str, Rows]) -> list[pa.RecordBatch]:
    if _is_plain(field, column):
        return []
    found = []
    if not field.nullable and column.null_count:
        nulls = _nulls(field, column, known)
        if len(nulls):
            found.append(problems(nulls, field.name, NULL, "null is not allowed"))
    floating = pa.types.is_floating(column.type)
    if floating:
        finite = pc.is_finite(column)
        found += _breaches(column, finite, field, NOT_FINITE, "is not a finite number")
        named = pc.invert(finite)  # already, so neither range nor list is held against it
    bounds = (
        (field.min, pc.greater_equal, "is below the minimum"),
        (field.max, pc.less_equal, "is above the maximum"),
    )
    for bound, within, words in bounds:
        if bound is not None:
            limit = pa.scalar(bound, column.type)
            allowed = within(column, limit)
            if floating:
                allowed = pc.or_(allowed, named)
            text = limit.cast(pa.string()).as_py()
            found += _breaches(column, allowed, field, RANGE, f"{words} {text}")
    if field.values is not None:
        listed = pa.array(field.values, column.type)
        if floating:  # the two zeros are one number, which is_in does not know
            zero = pa.scalar(0.0, column.type)
            allowed = pc.is_in(pc.add(column, zero), value_set=pc.add(listed, zero))
            allowed = pc.or_kleene(allowed, named)
        else:
            allowed = pc.is_in(column, value_set=listed)
        if column.null_count:
            allowed = pc.or_kleene(allowed, column.is_null())
        found += _breaches(column, allowed, field, NOT_ALLOWED, "is not one of the allowed values")
    return found


def _are_plain(batch: pa.RecordBatch, schema: Schema) -> bool:
    """Say whether a small batch of numbers is beyond doubt as a whole, null being a NaN here."""
    if schema.limits is None or not 0 < batch.num_rows <= _SMALL_ROWS or not batch.num_columns:
        return False
    low, high = schema.limits
    values = batch.to_tensor(null_to_nan=True).to_numpy()
    return bool(((low <= values) & (values <= high)).all())


def _is_plain(field: Field, column: pa.Array) -> bool:
    """Say whether a column of numbers is beyond doubt, by its smallest and largest value alone.

    Good columns are the rule, and for a batch of one this is many times cheaper than kernels.
    """
    if column.null_count or field.values is not None or not len(column):
        return False
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return field.min is None and field.max is None
    values = column.to_numpy()
    low, high = values.min(), values.max()
    # With a NaN among the values, both are NaN and no comparison holds.
    least = -np.inf if field.min is None else field.min
    most = np.inf if field.max is None else field.max
    return bool(least <= low and high <= most and -np.inf < low and high < np.inf)


def _breaches(
    column: pa.Array, allowed: pa.Array, field: Field, code: str, words: str
) -> list[pa.RecordBatch]:
    """Name the rows where `allowed` is false (null is not a breach)."""
    if pc.all(allowed, min_count=0).as_py():
        return []
    rows = np.flatnonzero(~allowed.fill_null(True).to_numpy(zero_copy_only=False))
    return [problems(rows, field.name, code, _reasons(column, rows, words))]


def _reasons(column: pa.Array, rows: Rows, words: str) -> pa.Array:
    """Say of each row its value (cut to 60 characters) and what is wrong with it."""
    values = column.take(pa.array(rows)).cast(pa.string())
    values = pc.utf8_slice_codeunits(values.fill_null("null"), 0, 60)
    return pc.binary_join_element_wise(values, words, " ")


def _conform(column: pa.Array, field: Field) -> tuple[pa.Array, pa.RecordBatch | None]:
    target, source, t = TYPES[field.type], column.type, pa.types
    if source == target:
        return _of_our_years(column, field) if t.is_temporal(source) else (column, None)
    if t.is_dictionary(source):
        return _conform(column.dictionary_decode(), field)
    if t.is_null(source):
        return pa.nulls(len(column), target), None
    if t.is_integer(target) and t.is_integer(source):
        return _narrow(column, field, pc.cast(column, target, safe=False))
    if t.is_integer(target) and t.is_floating(source):
        return _whole(column.cast(pa.float64()), field)
    if t.is_integer(target) and t.is_decimal(source):
        return _whole_decimal(column, field)
    if t.is_floating(target) and t.is_integer(source):
        return pc.cast(column, target, safe=False), None
    if t.is_floating(target) and t.is_floating(source):
        return _rounded(column, field)
    if t.is_floating(target) and t.is_decimal(source):
        # By way of its digits: Arrow's own cast is off by an ulp now and then.
        return _rounded(column.cast(pa.string()).cast(pa.float64()), field)
    if t.is_string(target) and (t.is_large_string(source) or t.is_string_view(source)):
        return column.cast(target), None
    if t.is_timestamp(target) and t.is_timestamp(source):
        return _in_microseconds(column.cast(pa.timestamp(source.unit, "UTC")), field)
    if t.is_date(target) and t.is_date(source):
        return _moments(column, field, pc.cast(column, target, safe=False))
    raise SchemaError(
        f"column {field.name!r} is {source}, the model wants {field.type}; "
        f"cast it where the rows come from"
    )


def _narrow(
    column: pa.Array, field: Field, narrowed: pa.Array
) -> tuple[pa.Array, pa.RecordBatch | None]:
    # Back and forth must give the value again, and a huge unsigned one must not turn negative.
    fits = pc.equal(column, pc.cast(narrowed, column.type, safe=False))
    if pa.types.is_unsigned_integer(column.type):
        fits = pc.and_(fits, pc.greater_equal(narrowed, 0))
    return _cleared(column, narrowed, fits, field, f"does not fit {field.type}")


def _in_microseconds(column: pa.Array, field: Field) -> tuple[pa.Array, pa.RecordBatch | None]:
    cut = pc.cast(column, TYPES[field.type], safe=False)
    if column.type.unit != "ns":
        return _moments(column, field, cut)
    later = pc.greater(pc.cast(cut, column.type, safe=False), column)  # as before 1970
    return pc.subtract(cut.view(pa.int64()), later.cast(pa.int64())).view(cut.type), None


def _moments(
    column: pa.Array, field: Field, narrowed: pa.Array
) -> tuple[pa.Array, pa.RecordBatch | None]:
    fitting, bad = _narrow(column, field, narrowed)
    dated, worse = _of_our_years(fitting, field)
    return dated, merge(found for found in (bad, worse) if found is not None)


def _of_our_years(column: pa.Array, field: Field) -> tuple[pa.Array, pa.RecordBatch | None]:
    """Refuse what lies outside the years 1 to 9999, which have a number in no JSON and no log."""
    low, high = _YEARS[field.type]
    numbers = column.view(pa.int32() if field.type == "date" else pa.int64())
    ends = pc.min_max(numbers).as_py()
    if ends["min"] is None or (low <= ends["min"] and ends["max"] <= high):
        return column, None
    fits = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
    return _cleared(column, column, fits, field, f"does not fit {field.type}")


def _cleared(
    column: pa.Array, converted: pa.Array, fits: pa.Array, field: Field, words: str
) -> tuple[pa.Array, pa.RecordBatch | None]:
    """Return the converted values that fit, null for the others, and the problems of those."""
    bad = _breaches(column, fits, field, TYPE, words)
    return (pc.if_else(fits, converted, None), bad[0]) if bad else (converted, None)


def _whole(column: pa.Array, field: Field) -> tuple[pa.Array, pa.RecordBatch | None]:
    """Turn whole floats into integers; NaN and infinity keep their own code."""
    target = TYPES[field.type]
    end = 2.0 ** (target.bit_width - 1)
    finite = pc.is_finite(column)
    inside = pc.and_(pc.greater_equal(column, -end), pc.less(column, end))
    whole = pc.and_(pc.equal(column, pc.floor(column)), inside)
    bad = _breaches(column, finite, field, NOT_FINITE, "is not a finite number")
    fits_or_named = pc.or_(whole, pc.invert(finite))
    bad += _breaches(
        column, fits_or_named, field, TYPE, f"is not a whole number that fits {field.type}"
    )
    clean = pc.if_else(pc.and_(whole, finite), column, None)
    return pc.cast(clean, target, safe=False), merge(bad) if bad else None


def _whole_decimal(column: pa.Array, field: Field) -> tuple[pa.Array, pa.RecordBatch | None]:
    """Turn whole decimals into integers digit by digit: a float would lose the last ones."""
    target, whole = TYPES[field.type], pa.decimal256(76, 0)
    end = 2 ** (target.bit_width - 1)
    exact = column.cast(pa.decimal256(76, column.type.scale))
    cut = pc.cast(exact, whole, safe=False)
    inside = pc.and_(
        pc.greater_equal(cut, pa.scalar(Decimal(-end), whole)),
        pc.less(cut, pa.scalar(Decimal(end), whole)),
    )
    fits = pc.and_(pc.equal(exact, pc.cast(cut, exact.type)), inside)
    words = f"is not a whole number that fits {field.type}"
    clean, bad = _cleared(column, cut, fits, field, words)
    return clean.cast(target), bad


def _rounded(column: pa.Array, field: Field) -> tuple[pa.Array, pa.RecordBatch | None]:
    """Round floats to a float type; one that is too large for it must not turn infinite."""
    rounded = pc.cast(column, TYPES[field.type], safe=False)
    kept = pc.or_(pc.is_finite(rounded), pc.invert(pc.is_finite(column)))
    return _cleared(column, rounded, kept, field, f"does not fit {field.type}")


def take(batch: pa.RecordBatch, rows: Sequence[int] | Rows | None) -> pa.RecordBatch:
    """Return some rows of a batch, or the batch itself for None."""
    return batch if rows is None else batch.take(pa.array(rows, pa.int64()))


_NONE = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in PROBLEMS], schema=PROBLEMS)

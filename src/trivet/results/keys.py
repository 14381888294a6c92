"""A row's key as one text, the same for every database: how true values find their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import ResultsError
from trivet.results.statements import identifier
from trivet.schema import TYPES, type_name

_ZERO_FRACTION = r"\.0+$"


def key_texts(batch: pa.RecordBatch, key: Sequence[str]) -> pa.Array:
    """Return each row's key as a text, null where a part of it is null.

    A whole number is its digits, a moment ``YYYY-MM-DD HH:MM:SS`` in UTC. Several parts are
    joined by commas; commas and backslashes in them have a backslash before.

    Raises:
        ResultsError: A column is missing, or has a type that is no key.
    """
    parts = [_text(batch, name) for name in key]
    if len(parts) > 1:
        parts = [
            pc.replace_substring(pc.replace_substring(part, "\\", "\\\\"), ",", "\\,")
            for part in parts
        ]
        return pc.binary_join_element_wise(*parts, ",", null_handling="emit_null")
    return parts[0]


def key_sql(columns: Mapping[str, str], key: Sequence[str], dialect: str) -> str:
    """Return the expression that gives the same text for a row ``p`` of a predictions table.

    Args:
        columns: The table's columns and their types.
        key: The deployment's key.
        dialect: ``sqlite`` or ``postgresql``.
    """
    parts = []
    for name in key:
        column, kind = f"p.{identifier(name)}", columns[name]
        text = f"CAST({column} AS TEXT)"
        if dialect == "sqlite" and kind == "boolean":
            text = f"CASE {column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
        elif kind == "timestamp with time zone":
            clock = f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
            text = f"replace({clock}, '.000000', '')"
        if len(key) > 1:
            text = f"replace(replace({text}, '\\', '\\\\'), ',', '\\,')"
        parts.append(text)
    return " || ',' || ".join(parts)


def _text(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        raise ResultsError(
            f"there is no column {name!r}; there are {', '.join(batch.schema.names)}"
        )
    column = batch.column(name)
    kind = type_name(column.type)
    if kind is None or kind.startswith("float"):
        raise ResultsError(
            f"column {name!r} is {column.type}, which is no key; cast it to an integer or to text"
        )
    column = column.cast(TYPES[kind])
    if kind == "timestamp":
        return pc.replace_substring_regex(
            pc.strftime(column, "%Y-%m-%d %H:%M:%S"), _ZERO_FRACTION, ""
        )
    if kind == "date":
        return pc.strftime(column, "%Y-%m-%d")
    return column.cast(pa.string())

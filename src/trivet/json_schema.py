"""A model's columns as JSON Schema, for documents that describe an interface."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from trivet.schema import Field, Schema

_JSON_TYPES: Mapping[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    **{
        f"int{bits}": {
            "type": "integer",
            "format": f"int{bits}",
            "minimum": -(2 ** (bits - 1)),
            "maximum": 2 ** (bits - 1) - 1,
        }
        for bits in (8, 16, 32, 64)
    },
    "float32": {
        "type": "number",
        "format": "float",
        "exclusiveMinimum": -3.4028235677973366e38,  # what is nearer to 0 is rounded to a float
        "exclusiveMaximum": 3.4028235677973366e38,
    },
    "float64": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
}


def row_schema(schema: Schema, beside: Sequence[str] = (), *, closed: bool = False) -> Any:
    """Return the JSON schema of one row."""
    properties: dict[str, Any] = {name: {"description": "carried along"} for name in beside}
    properties |= {field.name: field_schema(field) for field in schema}
    described: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in schema if closed or not field.nullable],
    }
    if closed:
        described["additionalProperties"] = False
    return described


def field_schema(field: Field) -> dict[str, Any]:
    """Return the JSON schema of one field's values."""
    described = dict(_JSON_TYPES[field.type])
    for key, name, pick in (("min", "minimum", max), ("max", "maximum", min)):
        bound = getattr(field, key)
        if isinstance(bound, int | float):
            described[name] = pick(bound, described.get(name, bound))
        elif bound is not None:
            described[f"x-{name}"] = plain(bound)
    if field.values is not None:
        described["enum"] = [plain(value) for value in field.values]
    if field.nullable:
        described["type"] = [described["type"], "null"]
        if "enum" in described:
            described["enum"].append(None)
    return described


def plain(value: Any) -> Any:
    """Return a value as JSON writes it."""
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value

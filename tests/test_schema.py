from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trivet.errors import SchemaError
from trivet.schema import TYPES, Field, Schema, type_name

UTC = dt.UTC
BERLIN_SUMMER = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("arrow", "expected"),
    [
        *((arrow, name) for name, arrow in TYPES.items()),
        (pa.uint8(), "int16"),
        (pa.uint16(), "int32"),
        (pa.uint32(), "int64"),
        (pa.uint64(), "int64"),
        (pa.float16(), "float32"),
        (pa.decimal128(9, 2), "float64"),
        (pa.decimal256(50, 2), "float64"),
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.null(), "string"),
        (pa.timestamp("ns"), "timestamp"),
        (pa.timestamp("s", "Europe/Berlin"), "timestamp"),
        (pa.date64(), "date"),
        (pa.dictionary(pa.int8(), pa.large_string()), "string"),
        (pa.dictionary(pa.int8(), pa.uint16()), "int32"),
        (pa.binary(), None),
        (pa.list_(pa.int8()), None),
        (pa.struct([("a", pa.int8())]), None),
        (pa.time32("s"), None),
        (pa.duration("s"), None),
    ],
)
def test_the_field_type_of_an_arrow_type(arrow: pa.DataType, expected: str | None) -> None:
    assert type_name(arrow) == expected


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"name": "", "type": "int8"}, "''"),
        ({"name": 5, "type": "int8"}, "name 5"),
        ({"type": "text"}, "'text'; use one of bool"),
        ({"type": "int8", "nullable": "no"}, "nullable 'no'; write true or false"),
        ({"type": "string", "min": "a"}, "string, which has no min or max; use values"),
        ({"type": "bool", "max": True}, "bool, which has no min or max"),
        ({"type": "int8", "min": 2, "max": 1}, "min 2 above max 1"),
        ({"type": "int8", "values": ()}, "allows no value at all"),
        ({"type": "string", "values": "abc"}, "'abc'; write a list"),
        ({"type": "int8", "values": 5}, "values 5; write a list"),
        ({"type": "int8", "min": 128}, "min has 128"),
        ({"type": "int8", "min": 1.5}, "min has 1.5"),
        ({"type": "int64", "min": True}, "min has True"),
        ({"type": "float64", "min": True}, "min has True"),
        ({"type": "float64", "min": "1"}, "min has '1'"),
        ({"type": "float64", "min": float("nan")}, "nan, which is not a finite"),
        ({"type": "float64", "values": [1, float("inf")]}, "inf, which is not a finite"),
        ({"type": "float64", "max": 10**400}, "max has 1000"),
        ({"type": "float32", "max": 1e300}, "max has 1e[+]300"),
        ({"type": "string", "values": [1]}, "values has 1"),
        ({"type": "string", "values": [b"a"]}, "values has b'a'"),
        ({"type": "string", "values": [None]}, "values has None"),
        ({"type": "int8", "values": [None]}, "values has None"),
        ({"type": "int8", "values": ["1"]}, "values has '1'"),
        ({"type": "bool", "values": [1]}, "values has 1"),
        ({"type": "date", "min": dt.datetime(2020, 1, 1, tzinfo=UTC)}, "min has datetime"),
        ({"type": "date", "min": 5}, "min has 5"),
        ({"type": "timestamp", "min": dt.date(2020, 1, 1)}, "min has datetime.date"),
        ({"type": "timestamp", "min": 5}, "min has 5"),
        (
            {"type": "timestamp", "min": dt.datetime.min.replace(tzinfo=BERLIN_SUMMER)},
            "min has datetime",
        ),
        ({"type": "string", "values": ["\ud800"]}, "values has"),
    ],
)
def test_a_field_that_contradicts_itself_is_refused(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(SchemaError, match=words) as caught:
        Field(**{"name": "age"} | parts)
    if parts.get("name") is None:
        assert "'age'" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("int8", 5.0, 5),
        ("int64", np.int64(2**63 - 1), 2**63 - 1),
        ("float64", 3, 3.0),
        ("float64", 2**60, float(2**60)),
        ("float32", np.float32(0.5), 0.5),
        ("timestamp", dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=UTC)),  # noqa: DTZ001
        (
            "timestamp",
            dt.datetime(2020, 1, 1, 2, tzinfo=BERLIN_SUMMER),
            dt.datetime(2020, 1, 1, tzinfo=UTC),
        ),
        ("date", dt.date(2020, 1, 1), dt.date(2020, 1, 1)),
    ],
)
def test_bounds_and_values_are_kept_in_one_way(kind: str, given: Any, kept: Any) -> None:
    field = Field(name="a", type=kind, min=given, values=[given])  # type: ignore[arg-type]
    for value in (field.min, *(field.values or ())):
        assert value == kept
        assert type(value) is type(kept)
        assert str(value) == str(kept)


def test_a_field_writes_what_differs_from_the_defaults() -> None:
    assert Field(name="a", type="int8").to_dict() == {"name": "a", "type": "int8"}
    full = Field(name="a", type="int8", nullable=True, min=1, max=9, values=(1, 9))
    assert full.to_dict() == {
        "name": "a",
        "type": "int8",
        "nullable": True,
        "min": 1,
        "max": 9,
        "values": [1, 9],
    }
    assert Field.from_dict(full.to_dict()) == full
    assert full.arrow == pa.field("a", pa.int8(), nullable=True)


def test_unknown_and_missing_keys_are_named() -> None:
    with pytest.raises(SchemaError, match="'a' has unknown keys: maximum, mnin"):
        Field.from_dict({"name": "a", "type": "int8", "mnin": 1, "maximum": 2})
    with pytest.raises(SchemaError, match="'a' lacks type"):
        Field.from_dict({"name": "a"})
    with pytest.raises(SchemaError, match=r"'\?' lacks name"):
        Field.from_dict({"type": "int8"})


def test_a_schema_keeps_its_order() -> None:
    fields = [Field(name="b", type="int8"), Field(name="a", type="string", nullable=True)]
    schema = Schema(iter(fields))
    assert list(schema) == fields
    assert len(schema) == 2
    assert schema.names == ("b", "a")
    assert schema == Schema.from_list(schema.to_list())
    assert schema.arrow == pa.schema(
        [pa.field("b", pa.int8(), nullable=False), pa.field("a", pa.string())]
    )


def test_names_must_differ() -> None:
    with pytest.raises(SchemaError, match="names a, c twice"):
        Schema(Field(name=name, type="int8") for name in "abcac")


def test_a_sample_gives_types_and_nulls_seen() -> None:
    table = pa.table({"a": pa.array([1, None], pa.uint8()), "b": ["x", "y"]})
    expected = Schema(
        [Field(name="a", type="int16", nullable=True), Field(name="b", type="string")]
    )
    assert Schema.of(table) == expected
    assert Schema.of(table.to_batches()[0]) == expected


def test_a_sample_of_no_field_type_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match=r"'raw' is binary.*turn it into one of bool"):
        Schema.of(pa.table({"raw": [b"x"]}))

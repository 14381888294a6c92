"""Values of every type, on their way into a database and out of it."""

from __future__ import annotations

import datetime as dt
import struct
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from support.places import JANUARY, NO_FIELDS, SQL_TYPES, UTC, Place, fields, read
from trivet.databases import BATCH_ROWS, connect
from trivet.errors import QueryError
from trivet.schema import TYPES


class TestTypes:
    VALUES: dict[str, tuple[Any, ...]] = {  # noqa: RUF012
        "bool": (True, False, None),
        "int8": (-128, 127, 0, None),
        "int16": (-(2**15), 2**15 - 1, None),
        "int32": (-(2**31), 2**31 - 1, None),
        "int64": (-(2**63), 2**63 - 1, 2**53 + 1, None),
        "float32": (0.5, 3.4028234663852886e38, 1.401298464324817e-45, float("inf"), None),
        "float64": (5e-324, 1.7976931348623157e308, 0.1, float("-inf"), None),
        "string": ("", "né 漢字 🚲", "'\";--$x", "a\nb\tc", None),
        "timestamp": (
            JANUARY,
            JANUARY + dt.timedelta(microseconds=1),
            dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            None,
        ),
        "date": (dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1970, 1, 1), None),
    }

    @pytest.mark.parametrize("kind", VALUES)
    def test_what_was_appended_is_read_back(self, home: Place, kind: str) -> None:
        home.fill("t", {"x": SQL_TYPES[kind], "n": "INTEGER"})
        column = pa.array(self.VALUES[kind], TYPES[kind])
        order = pa.array(range(len(column)), pa.int32())
        with home.open(write=True) as db:
            db.append("t", pa.record_batch({"x": column, "n": order}))
            db.append("t", pa.record_batch({"x": column[:0], "n": order[:0]}))
        with home.open() as db:
            got = read(db, "SELECT x FROM t ORDER BY n", fields(x=kind))["x"]
        assert got.cast(TYPES[kind]).to_pylist() == column.to_pylist()

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_any_rows_come_back_bit_for_bit(self, home: Place, data: st.DataObject) -> None:
        # SQLite has neither NaN (it stores null) nor a negative zero (it stores zero).
        floats = st.floats(allow_nan=home.kind != "sqlite")
        if home.kind == "sqlite":
            floats = floats.map(lambda x: x or 0.0)
        text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
        moments = st.datetimes(timezones=st.just(UTC))
        row = st.tuples(
            *(
                st.none() | value
                for value in (st.integers(-(2**63), 2**63 - 1), floats, text, st.booleans())
            ),
            st.none() | moments,
            st.none() | st.dates(),
        )
        rows = data.draw(st.lists(row, min_size=1, max_size=20))
        kinds = dict(
            zip("ifsbtd", ("int64", "float64", "string", "bool", "timestamp", "date"), strict=True)
        )
        batch = pa.record_batch(
            [
                pa.array(column, TYPES[kind])
                for column, kind in zip(zip(*rows, strict=True), kinds.values(), strict=True)
            ],
            names=list(kinds),
        ).append_column("n", pa.array(range(len(rows)), pa.int64()))
        with home.open(write=True) as db:
            db.execute("DROP TABLE IF EXISTS t")
            columns = ", ".join(f"{name} {SQL_TYPES[kind]}" for name, kind in kinds.items())
            db.execute(f"CREATE TABLE t ({columns}, n BIGINT)")
            db.append("t", batch)
            got = read(db, "SELECT i, f, s, b, t, d FROM t ORDER BY n", fields(**kinds))
        for name, kind in kinds.items():
            back = got[name].cast(TYPES[kind]).to_pylist()
            sent = batch[name].to_pylist()
            if name == "f":
                assert list(map(_bits, back)) == list(map(_bits, sent))
            else:
                assert back == sent

    def test_typed_columns_of_servers_become_plain_arrow(self, place: Place) -> None:
        if place.kind == "sqlite":
            return
        query = """SELECT CAST('12.50' AS numeric(10, 2)) AS amount,
            CAST('0b5cf5d9-6c1c-4d2f-b3bb-0d2f2f1f9f3a' AS uuid) AS id,
            CAST(NULL AS uuid) AS no_id, CAST(NULL AS numeric(5, 1)) AS no_amount,
            TIMESTAMP '2026-01-01 00:00:00' AS naive,
            CAST('2026-01-01 02:00:00+02' AS timestamptz) AS zoned"""
        with place.open() as db:
            streamed = read(db, query)
            assert streamed.equals(db.rows(query).cast(streamed.schema))
        row = streamed.to_pylist()[0]
        assert float(row["amount"]) == 12.5
        assert str(row["id"]) == "0b5cf5d9-6c1c-4d2f-b3bb-0d2f2f1f9f3a"
        assert row["no_id"] is None
        assert row["no_amount"] is None
        assert row["naive"] == JANUARY.replace(tzinfo=None)
        assert row["zoned"] == JANUARY

    def test_many_uuids_in_slices(self, postgres_url: str) -> None:
        query = (
            "SELECT CASE WHEN i % 3 > 0 THEN gen_random_uuid() END AS id "
            "FROM generate_series(1, 70000) AS g(i)"
        )
        with connect(postgres_url) as db:
            ids = read(db, query)["id"]
            whole = db.rows(query)["id"]
        assert ids.null_count == whole.null_count == 23_333
        assert len(set(ids.to_pylist())) == 70_000 - 23_333 + 1
        assert {len(text) for text in ids.drop_null().to_pylist()} == {36}

    def test_numerics_that_are_no_numbers(self, postgres_url: str) -> None:
        query = (
            "SELECT CAST(x AS numeric) AS x FROM "
            "(VALUES ('NaN'), ('Infinity'), ('-Infinity'), (NULL), ('1e-5')) AS v(x)"
        )
        with connect(postgres_url) as db:
            nan, up, down, null, small = read(db, query)["x"].to_pylist()
        assert nan != nan
        assert (up, down, null, small) == (float("inf"), float("-inf"), None, 1e-5)

    def test_a_parquet_file_is_a_source(self, tmp_path: Path) -> None:
        n = BATCH_ROWS + 5
        table = pa.table(
            {
                "i": pa.array(range(n), pa.int64()),
                "seen": pa.array([JANUARY] * n, pa.timestamp("us", "UTC")),
                "s": pa.array(["é" if i == n - 1 else None for i in range(n)]),
            }
        )
        pq.write_table(table, tmp_path / "rows.parquet")
        query = "SELECT * FROM 'rows.parquet' WHERE seen >= $interval_start ORDER BY i"
        with connect("duckdb://", root=tmp_path) as db:
            got = read(db, query, interval_start=JANUARY)
            none = db.stream(query, {"interval_start": JANUARY + dt.timedelta(1)}, NO_FIELDS)
            assert list(none) == []
            with pytest.raises(QueryError, match=r"nowhere\.parquet"):
                read(db, "SELECT * FROM 'nowhere.parquet'")
        assert got["i"].to_pylist() == list(range(n))
        assert got["s"].to_pylist()[-1] == "é"


def _bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("<d", value)

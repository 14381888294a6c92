"""What every database must do alike when it is read, over real ones."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest

from support.places import JANUARY, NO_FIELDS, UTC, Place, fields, read
from trivet.databases import BATCH_ROWS, connect
from trivet.errors import QueryError


class TestParameters:
    def test_named_and_repeated_ones_are_bound(self, place: Place) -> None:
        query = "SELECT $a + $b AS x, $a * 1 AS y WHERE $a < $b"
        with place.open() as db:
            if place.kind == "postgresql":
                query = query.replace("$a", "CAST($a AS int)").replace("$b", "CAST($b AS int)")
            assert db.rows(query, a=2, b=3).to_pylist() == [{"x": 5, "y": 2}]
            assert read(db, query, a=2, b=3).to_pylist() == [{"x": 5, "y": 2}]

    def test_names_in_literals_and_comments_are_text(self, place: Place) -> None:
        query = """SELECT 'a $x ''$x' AS a, -- $x '
            $a /* $x " */ AS "b $x" """
        with place.open() as db:
            names = db.columns(query, {"a": "v"})
            assert names == ["a", "b $x"]
            assert read(db, query, a="v").to_pylist() == [{"a": "a $x '$x", "b $x": "v"}]

    def test_a_dollar_quoted_literal_is_text(self, postgres_url: str) -> None:
        query = "SELECT $$ $x $$ AS a, $q$ $y $q$ AS b, E'it\\'s $x' AS c, $a AS d"
        with connect(postgres_url) as db:
            assert read(db, query, a="v").to_pylist() == [
                {"a": " $x ", "b": " $y ", "c": "it's $x", "d": "v"}
            ]

    def test_an_unknown_one_is_refused_with_those_there_are(self, place: Place) -> None:
        with place.open() as db:
            for ask in (
                lambda: db.rows("SELECT $b", a=1),
                lambda: db.columns("SELECT $b", {"a": 1}),
                lambda: list(db.stream("SELECT $a, $b", {"a": 1}, NO_FIELDS)),
            ):
                with pytest.raises(QueryError, match=r"unknown parameter \$b; there are \$a$"):
                    ask()
            with pytest.raises(QueryError, match="there are none here"):
                db.rows("SELECT $b")

    @pytest.mark.parametrize(
        "value", [True, 7, -(2**63), 0.1, "it's $x; \"", None, dt.date(2026, 2, 3), JANUARY]
    )
    def test_values_of_every_kind(self, place: Place, value: Any) -> None:
        with place.open() as db:
            got = read(db, "SELECT count(*) AS n WHERE $v IS NULL", v=value)["n"].to_pylist()
            assert got == [int(value is None)]
            if value is not None and not (place.kind == "postgresql" and value is True):
                found = read(db, "SELECT count(*) AS n WHERE $v = $v", v=value)
                assert found["n"].to_pylist() == [1]

    def test_a_value_of_no_kind_is_refused(self, place: Place) -> None:
        with place.open() as db, pytest.raises(QueryError, match="value of a parameter"):
            read(db, "SELECT $v AS v", v=object())

    def test_a_value_cannot_become_sql(self, place: Place) -> None:
        evil = "'); DROP TABLE t; --"
        with place.open() as db:
            assert read(db, "SELECT CAST($v AS TEXT) AS v", v=evil)["v"].to_pylist() == [evil]


class TestInterval:
    START = dt.datetime(2026, 1, 2, tzinfo=UTC)
    END = dt.datetime(2026, 1, 3, tzinfo=UTC)
    QUERY = "SELECT n FROM t WHERE seen >= $interval_start AND seen < $interval_end ORDER BY n"

    def select(self, place: Place, kind: str, moments: list[str], **shift: Any) -> list[int]:
        rows = [f"{n}, '{moment}'" for n, moment in enumerate(moments)]
        place.fill("t", {"n": "INTEGER", "seen": kind}, *rows)
        bounds = {"interval_start": self.START, "interval_end": self.END} | shift
        with place.open() as db:
            assert db.columns(self.QUERY, bounds) == ["n"]
            batches = [batch for batch, _ in db.stream(self.QUERY, bounds, fields(n="int64"))]
        return [n for batch in batches for n in batch["n"].to_pylist()]

    @pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TEXT", "T"])
    def test_half_open_on_moments(self, place: Place, kind: str) -> None:
        separator = " "
        if kind in ("TEXT", "T"):
            if place.kind != "sqlite":
                return
            separator = {"TEXT": " ", "T": "T"}[kind]
            kind = "TEXT"
        zone = "+00" if "ZONE" in kind and place.kind != "sqlite" else ""
        moments = [
            f"{day}{separator}{time}{zone}"
            for day, time in (
                ("2026-01-01", "23:59:59"),
                ("2026-01-02", "00:00:00"),
                ("2026-01-02", "23:59:59.999999"),
                ("2026-01-03", "00:00:00"),
            )
        ]
        assert self.select(place, kind, moments) == [1, 2]

    def test_half_open_on_days(self, place: Place) -> None:
        days = ["2026-01-01", "2026-01-02", "2026-01-03"]
        assert self.select(place, "DATE", days) == [1]

    def test_bounds_in_any_zone_are_the_same_moments(self, place: Place) -> None:
        zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
        moments = ["2026-01-02 09:59:59", "2026-01-02 10:00:00", "2026-01-02 11:00:00"]
        start = dt.datetime(2026, 1, 2, 15, 30, tzinfo=zone)
        bounds = {"interval_start": start, "interval_end": start + dt.timedelta(hours=1)}
        assert self.select(place, "TIMESTAMP", moments, **bounds) == [1]

    def test_naive_bounds_are_utc(self, place: Place) -> None:
        moments = ["2026-01-02 00:00:00", "2026-01-03 00:00:00"]
        bounds = {
            "interval_start": self.START.replace(tzinfo=None),
            "interval_end": self.END.replace(tzinfo=None),
        }
        assert self.select(place, "TIMESTAMP", moments, **bounds) == [0]


class TestStream:
    N = 2 * BATCH_ROWS + 17

    def test_batches_have_their_size_and_order(self, place: Place) -> None:
        query = f"SELECT {self.N} - i AS i FROM {place.series(self.N)} AS s ORDER BY 1"
        with place.open() as db:
            sizes, values = [], []
            for batch, problems in db.stream(query, {}, fields(i="int64")):
                sizes.append(batch.num_rows)
                values += batch["i"].to_pylist()
                assert not problems.num_rows
        assert sizes == [BATCH_ROWS, BATCH_ROWS, 17]
        assert values == list(range(1, self.N + 1))

    def test_memory_stays_flat(self, place: Place) -> None:
        wide = "'" + "x" * 100 + "'"
        query = f"SELECT i, {wide} AS x FROM {place.series(1_000_000)} AS s"
        rows = 0
        with place.open() as db:
            before = pa.total_allocated_bytes()
            peak = 0
            for batch, _ in db.stream(query, {}, fields(i="int64", x="string")):
                rows += batch.num_rows
                peak = max(peak, pa.total_allocated_bytes() - before)
        assert rows == 1_000_000
        assert peak < 60 * 2**20

    def test_late_values_after_many_nulls(self, place: Place) -> None:
        n, late = 100_100, 100_050
        picks = {
            "i": "i", "f": "i + 0.5", "s": "CAST(i AS TEXT)", "t": "'2026-01-01 00:00:00'",
            "d": "'2026-01-01'", "b": "1 = 1",
        }  # fmt: skip
        kinds = {"i": "int64", "f": "float64", "s": "string", "t": "timestamp", "d": "date"}
        kinds["b"] = "bool"
        if place.kind != "sqlite":
            picks["f"] = "CAST(i + 0.5 AS DOUBLE PRECISION)"
            picks["t"] = "TIMESTAMP '2026-01-01 00:00:00'"
            picks["d"] = "DATE '2026-01-01'"
        cases = [f"CASE WHEN i >= {late} THEN {sql} END AS {name}" for name, sql in picks.items()]
        query = f"SELECT {', '.join(cases)} FROM {place.series(n)} AS s ORDER BY s.i"
        with place.open() as db:
            table = read(db, query, fields(**kinds))
        assert [column.null_count for column in table.columns] == [late] * 6
        last = table.slice(n - 1).to_pylist()[0]
        assert (last["i"], last["f"], last["s"]) == (n - 1, n - 0.5, str(n - 1))
        assert last["b"] is True
        assert last["d"] == dt.date(2026, 1, 1)
        assert last["t"].replace(tzinfo=UTC) == JANUARY

    def test_columns_outside_the_schema_start_with_nulls_too(self, place: Place) -> None:
        columns = {"k": "TEXT", "i": "BIGINT", "r": "DOUBLE PRECISION"}
        place.fill("t", columns)
        with place.open(write=True) as db:
            db.execute(
                "INSERT INTO t SELECT CASE WHEN i = 99999 THEN 'k' END, "
                "CASE WHEN i = 99999 THEN 7 END, CASE WHEN i = 99999 THEN 0.5 END "
                f"FROM {place.series(100_000)} AS s"
            )
        with place.open() as db:
            table = read(db, "SELECT k, i, r FROM t")
        assert table.num_rows == 100_000
        assert sorted(map(str, table.schema.types)) == ["double", "int64", "string"]
        assert [c.drop_null().to_pylist() for c in table.columns] == [["k"], [7], [0.5]]

    def test_no_rows_give_no_batch(self, place: Place) -> None:
        with place.open() as db:
            query = "SELECT 1 AS x WHERE 1 = 0"
            assert list(db.stream(query, {}, fields(x="int64"))) == []
            assert db.columns(query, {}) == ["x"]

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT 1 AS x;",
            "SELECT 1 AS x ; ;\n ",
            "SELECT 1 AS x -- the end",
            "SELECT 1 AS x; -- the end;",
            "SELECT 1 AS x /* the; */ ; /* end */ -- $x",
            "-- first\nWITH w AS (SELECT 1 AS x) SELECT x FROM w\n",
            "SELECT 1 AS x UNION ALL SELECT 2 LIMIT 1",
        ],
    )
    def test_a_query_may_end_and_begin_as_people_write_them(self, place: Place, query: str) -> None:
        with place.open() as db:
            assert db.columns(query, {}) == ["x"]
            assert read(db, query, fields(x="int64"))["x"].to_pylist() == [1]

    def test_a_stream_may_be_left_in_the_middle(self, place: Place) -> None:
        with place.open() as db:
            query = f"SELECT i FROM {place.series(self.N)} AS s"
            with closing(db.stream(query, {}, NO_FIELDS)) as stream:
                next(stream)
            assert db.rows("SELECT 1 AS x")["x"].to_pylist() == [1]

    def test_an_error_in_the_middle_is_a_query_error(self, place: Place) -> None:
        bad = "json(CASE WHEN i = 90000 THEN '{' ELSE '1' END)"
        if place.kind != "sqlite":
            bad = "CAST(CASE WHEN i = 90000 THEN 'x' ELSE '1' END AS int)"
        with place.open() as db, pytest.raises(QueryError):
            read(db, f"SELECT {bad} AS x FROM {place.series(100_000)} AS s")

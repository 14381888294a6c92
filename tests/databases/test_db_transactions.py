"""Transactions, cancelling, and what a source must refuse, over real databases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from support.places import JANUARY, Place, fields, read
from trivet.databases import Connection, connect
from trivet.errors import QueryError, TransientError
from trivet.schema import TYPES


class TestTransactions:
    @pytest.fixture
    def db(self, home: Place) -> Iterator[Connection]:
        home.fill("t", {"x": "BIGINT"})
        with home.open(write=True) as db:
            yield db

    def seen(self, home: Place) -> list[int]:
        with home.open() as other:
            found: list[int] = other.rows("SELECT x FROM t ORDER BY x")["x"].to_pylist()
            return found

    def test_commit_keeps_all_and_nothing_before(self, home: Place, db: Connection) -> None:
        with db.transaction():
            db.execute("INSERT INTO t VALUES (1)")
            db.append("t", pa.record_batch({"x": pa.array([2, 3], pa.int64())}))
            assert self.seen(home) == []
        assert self.seen(home) == [1, 2, 3]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_exception_undoes_all(
        self, home: Place, db: Connection, error: type[BaseException]
    ) -> None:
        def fail() -> None:
            with db.transaction():
                db.execute("INSERT INTO t VALUES (1)")
                db.append("t", pa.record_batch({"x": pa.array([2], pa.int64())}))
                raise error

        with pytest.raises(error):
            fail()
        assert self.seen(home) == []
        with db.transaction():
            db.execute("INSERT INTO t VALUES (4)")
        assert self.seen(home) == [4]

    def test_a_failed_statement_undoes_all(self, home: Place, db: Connection) -> None:
        def fail() -> None:
            with db.transaction():
                db.execute("INSERT INTO t VALUES (1)")
                db.execute("INSERT INTO nowhere VALUES (1)")

        with pytest.raises(QueryError, match="nowhere"):
            fail()
        assert self.seen(home) == []

    def test_a_refused_commit_leaves_no_transaction_open(self, home: Place, db: Connection) -> None:
        if home.kind == "sqlite":
            db.execute("PRAGMA foreign_keys = ON")
        db.execute("CREATE TABLE p (x BIGINT PRIMARY KEY)")
        db.execute("CREATE TABLE c (x BIGINT REFERENCES p (x) DEFERRABLE INITIALLY DEFERRED)")

        def fail() -> None:
            with db.transaction():
                db.execute("INSERT INTO c VALUES (1)")

        for _ in range(2):
            with pytest.raises(QueryError, match=r"(?i)foreign key"):
                fail()
        assert db.rows("SELECT count(*) AS n FROM c")["n"].to_pylist() == [0]

    def test_two_writers_wait_for_each_other(self, home: Place, db: Connection) -> None:
        inside, begun = threading.Event(), threading.Event()
        failures: list[BaseException] = []

        def second() -> None:
            try:
                with home.open(write=True) as other:
                    inside.wait(30)
                    begun.set()
                    for x in range(20):
                        with other.transaction():
                            n = other.rows("SELECT count(*) AS n FROM t")["n"][0].as_py()
                            other.execute("INSERT INTO t VALUES ($x)", x=100 + x + 0 * n)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        with db.transaction():
            inside.set()
            begun.wait(30)
            db.execute("INSERT INTO t VALUES (0)")
        for x in range(1, 20):
            with db.transaction():
                db.rows("SELECT count(*) AS n FROM t")
                db.execute("INSERT INTO t VALUES ($x)", x=x)
        thread.join(60)
        assert not failures
        assert self.seen(home) == [*range(20), *range(100, 120)]

    def test_a_lock_that_never_goes_away_is_transient(self, home: Place, db: Connection) -> None:
        impatient = {
            "sqlite": "PRAGMA busy_timeout = 1",
            "postgresql": "SET lock_timeout = 1",
        }
        with home.open(write=True) as other:
            other.rows(impatient[home.kind]) if home.kind == "sqlite" else other.execute(
                impatient[home.kind]
            )
            with db.transaction():
                db.execute("DROP TABLE t")
                with pytest.raises(TransientError):
                    other.execute("INSERT INTO t VALUES (1)")

    def test_appending_to_no_table_or_column_is_refused(self, db: Connection) -> None:
        for table, column in (("nowhere", "x"), ("t", "y")):
            with pytest.raises(QueryError, match=f"append 1 rows to {table}"):
                db.append(table, pa.record_batch({column: pa.array([1], pa.int64())}))


class TestReadOnly:
    def test_a_source_cannot_be_written(self, place: Place) -> None:
        place.fill("t", {"x": "BIGINT"})
        with place.open() as db:
            for statement in ("INSERT INTO t VALUES (1)", "DROP TABLE t", "CREATE TABLE u (x INT)"):
                with pytest.raises(QueryError, match=r"(?i)read-?only"):
                    db.execute(statement)
            with pytest.raises(QueryError):
                read(db, "DELETE FROM t")
            assert db.rows("SELECT count(*) AS n FROM t")["n"].to_pylist() == [0]


class TestCancel:
    def test_a_slow_query_ends(self, place: Place) -> None:
        endless = {
            "sqlite": "WITH RECURSIVE g(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM g) "
            "SELECT i FROM g",
            "postgresql": "SELECT generate_series(1, 1000000000000) AS i",
            "duckdb": "SELECT i FROM range(1000000000000) AS g(i)",
        }[place.kind]
        started = threading.Event()
        ended: list[BaseException] = []
        with place.open() as db:

            def run() -> None:
                try:
                    for _ in db.stream(endless, {}, fields(i="int64")):
                        started.set()
                except QueryError as error:
                    ended.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            assert started.wait(60)
            db.cancel()
            thread.join(60)
            assert not thread.is_alive()
            assert len(ended) == 1
            assert db.rows("SELECT 1 AS x")["x"].to_pylist() == [1]

    def test_nothing_to_cancel_is_fine(self, place: Place) -> None:
        with place.open() as db:
            db.cancel()
            assert db.rows("SELECT 1 AS x")["x"].to_pylist() == [1]

    def test_a_statement_that_gives_nothing_yet_ends(
        self, postgres_url: str, until: Callable[[Callable[[], bool]], None]
    ) -> None:
        ended: list[BaseException] = []
        with connect(postgres_url) as db, connect(postgres_url) as watch:

            def run() -> None:
                try:
                    db.rows("SELECT 'mark' AS x FROM pg_sleep(600)")
                except QueryError as error:
                    ended.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            running = (
                "SELECT 1 FROM pg_stat_activity "
                "WHERE query LIKE '%mark%' AND wait_event = 'PgSleep'"
            )
            until(lambda: watch.rows(running).num_rows > 0)
            db.cancel()
            thread.join(60)
        assert len(ended) == 1
        assert "cancel" in str(ended[0])


def test_a_bound_moment_does_not_end_a_transaction(home: Place) -> None:
    # PostgreSQL's driver commits around such a statement if it does not know of the transaction.
    home.fill("t", {"x": "BIGINT", "seen": "TIMESTAMP WITH TIME ZONE"})

    def fail() -> None:
        with home.open(write=True) as db, db.transaction():
            db.execute("INSERT INTO t VALUES (1, $now)", now=JANUARY)
            db.rows("INSERT INTO t VALUES (2, $now) RETURNING x", now=JANUARY)
            seen = pa.array([JANUARY], TYPES["timestamp"])
            db.append("t", pa.record_batch({"x": pa.array([3], pa.int64()), "seen": seen}))
            with home.open() as other:
                assert other.rows("SELECT x FROM t").num_rows == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with home.open() as db:
        assert db.rows("SELECT x FROM t").num_rows == 0

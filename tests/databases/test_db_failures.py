"""Whatever goes wrong, the caller sees our own error, with a place and without a password."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.postgres import PASSWORD, PostgresServer
from trivet.databases import Connection, connect, dialects, redact
from trivet.errors import (
    DatabaseError,
    MissingExtra,
    QueryError,
    TransientError,
    UnsupportedDatabase,
)
from trivet.schema import Schema

NO_FIELDS = Schema([])
SECRETS = (PASSWORD, "s3cret", "hunter2")


def failure(act: Callable[[], Any], kind: type[Exception], words: str) -> str:
    with pytest.raises(kind, match=words) as caught:
        act()
    assert type(caught.value) is kind
    text = str(caught.value)
    for secret in SECRETS:
        assert secret not in text
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert "\n" not in text
    assert len(text) < 1000
    return text


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://u:hunter2@h/d", "postgresql://u:***@h/d"),
            ("postgresql://u:hunter2@evil@h/d", "postgresql://u:***@h/d"),
            ("postgresql://u:hun/hunter2@h/d", "postgresql://u:***@h/d"),
            ("postgresql://:hunter2@h/d", "postgresql://:***@h/d"),
            ("postgresql://u@h/d?password=hunter2&x=1", "postgresql://u@h/d?password=***&x=1"),
            ("postgresql://h/d?sslpassword=hunter2", "postgresql://h/d?sslpassword=***"),
            ("foo://u@h/d?api_key=hunter2", "foo://u@h/d?api_key=***"),
            ("foo://h?access_token=hunter2", "foo://h?access_token=***"),
            ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
            ("sqlite:////home/a@b/c.db", "sqlite:////home/a@b/c.db"),
            ("duckdb://", "duckdb://"),
        ],
    )
    def test_a_password_is_not_shown(self, url: str, shown: str) -> None:
        assert redact(url) == shown

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("churn.db", "is no database url; write sqlite:///"),
            ("://x", "no driver for"),
            ("mysql://u:hunter2@h/d", "pip install adbc-driver-mysql"),
            ("my-db://h", "no driver for my-db"),
            ("postgresql+psycopg2://u:hunter2@h/d", "write postgresql://"),
        ],
    )
    def test_an_unknown_scheme(self, url: str, words: str) -> None:
        failure(lambda: connect(url), UnsupportedDatabase, words)

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("sqlite://", "sqlite:///file.db"),
            ("sqlite://churn.db", "stands where a host would"),
            ("sqlite://u:hunter2@host/churn.db", "stands where a host would"),
            ("duckdb://file.duckdb", "stands where a host would"),
            ("sqlite:///a.db?mode=ro", "%3F"),
            ("sqlite:///a#b.db", "%23"),
            ("sqlite:///missing.db", "there is no file .*missing.db"),
            ("duckdb:///missing.duckdb", "there is no file .*missing.duckdb"),
        ],
    )
    def test_a_url_of_no_file(self, tmp_path: Path, url: str, words: str) -> None:
        failure(lambda: connect(url, root=tmp_path), QueryError, words)

    def test_relative_paths_start_at_the_root_and_any_name_will_do(self, tmp_path: Path) -> None:
        url = "sqlite:///new%20folder/%23a%3Fb%25.db"
        with connect(url, root=tmp_path, write=True) as db:
            db.execute("CREATE TABLE t (x)")
        assert (tmp_path / "new folder" / "#a?b%.db").exists()
        with connect("sqlite3:///new folder/%23a%3Fb%25.db", root=tmp_path) as db:
            assert db.columns("SELECT x FROM t", {}) == ["x"]
        with connect("duckdb:///other folder/x.duckdb", root=tmp_path, write=True) as db:
            db.execute("CREATE TABLE t (x INT)")

    @pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
    @pytest.mark.parametrize("write", [True, False])
    def test_a_file_that_is_no_database(self, tmp_path: Path, scheme: str, write: bool) -> None:
        (tmp_path / "notes.db").write_text("not a database, just " * 200)
        url = f"{scheme}:///notes.db"
        failure(lambda: connect(url, root=tmp_path, write=write), QueryError, "not a.*database")

    @pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
    def test_a_folder_is_no_database(self, tmp_path: Path, scheme: str) -> None:
        (tmp_path / "folder").mkdir()
        failure(lambda: connect(f"{scheme}:///folder", root=tmp_path), QueryError, "folder")

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for scheme in ("sqlite", "duckdb"):
            url = f"{scheme}:///file/sub/x.db"
            failure(partial(connect, url, root=tmp_path, write=True), QueryError, "file/sub")


class TestServers:
    def test_wrong_password_role_or_database(self, postgres: PostgresServer) -> None:
        name = "postgres"
        for url, words in (
            (postgres.url(name, password="hunter2"), "password authentication failed"),
            (postgres.url(name, role="nobody_known"), "password authentication failed"),
            (postgres.url("no_such_database"), "no_such_database.* does not exist"),
            (postgres.url(name).replace(":s3cret-Pa%24s", ""), "no password supplied"),
            (postgres.url(name) + "?nonsense=1", "nonsense"),
        ):
            failure(partial(connect, url), QueryError, words)

    @pytest.mark.parametrize(
        "password", ["hunter2@x", "hunter2/x", "/hunter2", "hunter2#", "hunter2?", "%zhunter2"]
    )
    def test_a_password_that_is_not_encoded(self, password: str) -> None:
        url = f"postgresql://u:{password}@127.0.0.1:1/d"
        failure(lambda: connect(url), QueryError, "percent-encoded")

    def test_a_url_that_the_driver_quotes(self) -> None:
        failure(lambda: connect("postgresql://u:hunter2@[::1/d"), QueryError, "IPv6")

    def test_a_server_that_is_not_there(self) -> None:
        url = "postgresql://u:hunter2@127.0.0.1:1/d"
        failure(lambda: connect(url), TransientError, "(?i)refused")
        failure(
            lambda: connect("postgresql:///d?host=/nowhere"), TransientError, "/nowhere.*running"
        )
        failure(lambda: connect("postgresql://u@nowhere.invalid/d"), QueryError, "nowhere.invalid")

    def test_too_many_connections_pass(self, own_postgres: Callable[[], PostgresServer]) -> None:
        server = own_postgres()
        server.sql("ALTER SYSTEM SET superuser_reserved_connections = 0")
        server.sql("ALTER ROLE trivet CONNECTION LIMIT 2")
        server.sql("CREATE ROLE reader LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
        url = server.url("postgres", role="reader", password="x")
        failure(lambda: connect(url), TransientError, "too many connections")

    def test_a_server_that_is_stopping(self, own_postgres: Callable[[], PostgresServer]) -> None:
        server = own_postgres()
        url = server.new_database()
        with connect(url) as db:
            server.stop()
            failure(lambda: db.rows("SELECT 1"), TransientError, ".")
        failure(lambda: connect(url), TransientError, "(?i)refused")

    def test_a_disk_that_is_full(self, tmp_path: Path) -> None:
        with connect(f"sqlite:///{tmp_path}/full.db", write=True) as db:
            db.execute("CREATE TABLE t (x BLOB)")
            db.execute("PRAGMA max_page_count = 3")
            act = partial(db.execute, "INSERT INTO t VALUES (zeroblob(100000))")
            failure(act, TransientError, "disk is full")

    QUERY = "SELECT generate_series(1, 100000000) AS i, repeat('x', 100) AS x"

    def test_a_stream_whose_connection_is_ended(
        self, postgres: PostgresServer, postgres_url: str
    ) -> None:
        with connect(postgres_url) as db:
            pid = db.rows("SELECT pg_backend_pid() AS pid")["pid"][0].as_py()
            stream = db.stream(self.QUERY, {}, NO_FIELDS)
            next(stream)
            postgres.sql(f"SELECT pg_terminate_backend({pid})")
            failure(lambda: list(stream), TransientError, "(?i)terminating|closed")
            failure(lambda: db.rows("SELECT 1"), TransientError, ".")
            failure(lambda: db.append("t", _one()), TransientError, ".")

    @pytest.mark.parametrize("immediate", [True, False])
    def test_a_stream_whose_server_restarts(
        self, own_postgres: Callable[[], PostgresServer], immediate: bool
    ) -> None:
        server = own_postgres()
        url = server.new_database()
        with connect(url) as db:
            stream = db.stream(self.QUERY, {}, NO_FIELDS)
            next(stream)
            server.restart(immediate=immediate)
            failure(lambda: list(stream), TransientError, ".")
        with connect(url) as db:
            assert db.rows("SELECT 1 AS x")["x"].to_pylist() == [1]

    def test_a_text_with_nul_is_refused_by_name(self, postgres_url: str) -> None:
        import pyarrow as pa

        with connect(postgres_url, write=True) as db:
            db.execute("CREATE TABLE t (i BIGINT, x TEXT)")
            batch = pa.record_batch({"i": pa.array([1, 2, 3]), "x": ["a", None, "b\0c"]})
            failure(lambda: db.append("t", batch), QueryError, r"column 'x'.*NUL.*row 2")
            failure(lambda: db.append("u", batch.select(["i"])), QueryError, "u")
            assert db.rows("SELECT count(*) AS n FROM t")["n"].to_pylist() == [0]


def _drain(db: Connection, sql: str) -> None:
    list(db.stream(sql, {}, NO_FIELDS))


def _one() -> Any:
    import pyarrow as pa

    return pa.record_batch({"x": pa.array([1], pa.int64())})


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url", "duckdb"])
def test_a_refused_query_says_where_and_what(kind: str, request: pytest.FixtureRequest) -> None:
    url = "duckdb://" if kind == "duckdb" else request.getfixturevalue(kind)
    if kind == "sqlite_url":
        connect(url, write=True).close()
    with connect(url) as db:
        for sql, words in (
            ("SELEC 1", "SELEC"),
            ("SELECT * FROM no_such_table", "no_such_table"),
            ("SELECT no_such_column FROM (SELECT 1 AS x) AS q", "no_such_column"),
            ("", "."),
        ):
            text = failure(partial(_drain, db, sql), QueryError, words)
            assert text.startswith(redact(url))
            failure(partial(db.columns, sql, {}), QueryError, words)
        failure(lambda: db.execute("SELEC 1 " + "x " * 500), QueryError, "…")


def test_an_error_of_ours_is_not_translated(sqlite_url: str) -> None:
    from trivet.databases.failures import translated

    def fail(error: Exception) -> None:
        with translated("it", sqlite_url):
            raise error

    for error in (DatabaseError("as it is"), ZeroDivisionError()):
        with pytest.raises(type(error)) as caught:
            fail(error)
        assert caught.value is error


class TestDrivers:
    @pytest.mark.parametrize(
        ("module", "url", "extra"),
        [
            ("adbc_driver_postgresql", "postgresql://h/d", "postgresql"),
            ("adbc_driver_postgresql", "postgres://h/d", "postgresql"),
            ("duckdb", "duckdb://", "duckdb"),
        ],
    )
    def test_one_that_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, module: str, url: str, extra: str
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtra, match=rf"pip install 'trivet\[{extra}\]'"):
            connect(url)

    def test_any_installed_one_is_a_source(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "adbc_driver_foo.py").write_text(
            "import adbc_driver_sqlite\n"
            "def connect(uri):\n"
            "    assert uri == 'foo://somewhere'\n"
            "    return adbc_driver_sqlite.connect()\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        with connect("foo://somewhere") as db:
            assert not db.dialect.writable
            assert db.columns("SELECT 1 AS x;", {}) == ["x"]
            ((batch, problems),) = db.stream("SELECT $a AS x -- end", {"a": 7}, NO_FIELDS)
            assert batch.to_pylist() == [{"x": 7}]
            assert not problems.num_rows
            failure(lambda: db.rows("SELEC"), QueryError, "SELEC")
        monkeypatch.delitem(sys.modules, "adbc_driver_foo")

    def test_a_failed_opening_leaves_nothing_open(self, tmp_path: Path) -> None:
        (tmp_path / "x.db").write_text("not a database, just " * 200)
        for _ in range(3):
            with pytest.raises(QueryError):
                connect("sqlite:///x.db", root=tmp_path)
        assert dialects.of("sqlite:///x.db").writable

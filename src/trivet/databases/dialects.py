"""What differs between databases: how to open one, and how it wants its values."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from trivet.databases import values
from trivet.databases.failures import redact, translated
from trivet.errors import MissingExtra, QueryError, UnsupportedDatabase

_STREAM_BYTES = 4 * 2**20
_WHOLE = 10_000_000
"""Rows from which SQLite's driver guesses the type of a column: all of them."""

_UNESCAPED = re.compile(r"://[^/@:]*:(?:[^@]*[/?#\[\]@]|[^@]*%(?![0-9A-Fa-f]{2})).*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One kind of database.

    Attributes:
        name: ``sqlite``, ``postgresql``, ``duckdb`` or the scheme of another driver.
        open: Opens the driver's database handle from url, root folder and whether to write.
        on_connect: Statements for a new connection, from root folder and whether to write.
        begin: The statement that begins a transaction that will write; empty where the driver
            must know of it, since it would begin and commit around statements of ours otherwise
            (PostgreSQL's does for each that binds a timestamp).
        encode: Turns a batch into types that the driver stores as they are meant.
        bound: Turns the value of a parameter of a user's query into what its columns hold.
        literal: Writes a moment or a day as a literal, where a query with bound parameters
            cannot be streamed; None for all other values, which are bound all the same.
        row_options: Options of the driver for a query whose result is read whole.
        stream_options: Options of the driver for a streamed query.
        writable: Whether Trivet can keep its results there.
        relaxed: A statement after which a connection's commits are not waited for on disk.
        strict: A statement after which they are again; the next one makes all earlier ones
            durable too.
        keeps: Whether the driver's handle of a database is dear to open (PostgreSQL's reads the
            catalogue of types, some 50 ms) and is kept for all connections that write.
        turn_rows: Where there is one writer at a time, how many rows it may append before the
            others get their turn.
    """

    name: str
    open: Callable[[str, Path, bool], Any]
    on_connect: Callable[[Path, bool], list[str]]
    begin: str = "BEGIN"
    encode: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch
    bound: Callable[[Any], Any] = lambda value: value
    literal: Callable[[object], str | None] = lambda _: None
    row_options: Mapping[str, Any] = field(default_factory=dict)
    stream_options: Mapping[str, Any] = field(default_factory=dict)
    writable: bool = False
    relaxed: str = ""
    strict: str = ""
    keeps: bool = False
    turn_rows: int | None = None

    def column(self, values: Sequence[Any]) -> pa.Array:
        """Return a parameter's values as a column, in the driver's types."""
        try:
            column = pa.array(values)
        except pa.ArrowException as error:
            shown = ", ".join(map(repr, values))
            raise QueryError(f"{shown} cannot be the value of a parameter: {error}") from None
        return self.encode(pa.record_batch({"value": column})).column(0)


def of(url: str) -> Dialect:
    """Return the dialect of a url.

    Raises:
        UnsupportedDatabase: No driver is known or installed for its scheme.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise UnsupportedDatabase(
            f"{redact(url)!r} is no database url; write sqlite:///file.db, postgresql://host/name, "
            "duckdb:///file.duckdb or duckdb:// for Parquet files"
        )
    scheme = {"postgres": "postgresql", "sqlite3": "sqlite"}.get(scheme, scheme)
    if scheme in _KNOWN:
        return _KNOWN[scheme]
    scheme, _, flavour = scheme.partition("+")
    if flavour:
        raise UnsupportedDatabase(
            f"{scheme}+{flavour}:// names a driver of SQLAlchemy; write {scheme}://"
        )
    module = f"adbc_driver_{scheme}"
    if not scheme.isidentifier() or importlib.util.find_spec(module) is None:
        raise UnsupportedDatabase(
            f"no driver for {scheme}://; Trivet has sqlite, postgresql and duckdb, and reads from "
            f"any database whose ADBC driver is installed: pip install adbc-driver-{scheme}"
        )
    return Dialect(name=scheme, open=_open_other, on_connect=_nothing)


def path_of(url: str, root: Path) -> Path | None:
    """Return the file of a sqlite or duckdb url, or None for one in memory."""
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise QueryError(f"{url}: write %3F for a ? and %23 for a # in the name of a file")
    if parts.netloc:
        raise QueryError(
            f"{redact(url)}: {redact('://' + parts.netloc)[3:]!r} stands where a host would; "
            f"write {parts.scheme}:///folder/file.db for a file"
        )
    path = unquote(parts.path).removeprefix("/")
    return root / path if path else None


def _open_sqlite(url: str, root: Path, write: bool) -> Any:
    driver = _driver("adbc_driver_sqlite", "sqlite", "")
    path = path_of(url, root)
    if path is None:
        raise QueryError(
            "sqlite:// without a file is gone with the process; write sqlite:///file.db"
        )
    path = path.resolve()
    if not write and not path.exists():
        raise QueryError(f"{url}: there is no file {path}")
    with translated("opening", url):
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
        return driver.connect(f"{path.as_uri()}?mode={'rwc' if write else 'ro'}")


def _on_sqlite(_: Path, write: bool) -> list[str]:
    # The file is opened lazily: reading its version tells whether it is a database at all.
    waiting = ["PRAGMA busy_timeout = 20000", "PRAGMA schema_version"]
    # FULL: what was acknowledged is on disk. WAL: a reader never waits for the writer.
    durable = ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"]
    return waiting + durable if write else waiting


def _open_postgresql(url: str, root: Path, write: bool) -> Any:
    driver = _driver("adbc_driver_postgresql", "postgresql", "postgresql")
    if _UNESCAPED.search(url):  # libpq would split it elsewhere, and print parts of the password
        raise QueryError(
            f"{redact(url)}: the password must be percent-encoded: %40 for @, %2F for /, %25 for %"
        )
    with translated("connecting", url):
        return driver.connect(url)


def _on_postgresql(_: Path, write: bool) -> list[str]:
    # Naive timestamps mean UTC here; a literal and a column must agree on it.
    return (
        ["SET TIME ZONE 'UTC'"]
        if write
        else ["SET TIME ZONE 'UTC'", "SET default_transaction_read_only = on"]
    )


def _open_duckdb(url: str, root: Path, write: bool) -> Any:
    _driver("duckdb", "duckdb", "duckdb")
    driver = _driver("adbc_driver_duckdb", "duckdb", "duckdb")
    path = path_of(url, root)
    if path is not None and not write and not path.exists():
        raise QueryError(f"{url}: there is no file {path}")
    options = {"driver": driver.driver_path(), "entrypoint": "duckdb_adbc_init"}
    if path is not None:
        options["path"] = str(path)
        if not write:
            options["access_mode"] = "READ_ONLY"
    import adbc_driver_manager  # noqa: PLC0415 - a driver is loaded with the first connection

    with translated("opening", url):
        if path is not None and write:
            path.parent.mkdir(parents=True, exist_ok=True)
        return adbc_driver_manager.AdbcDatabase(**options)


def _on_duckdb(root: Path, write: bool) -> list[str]:
    folder = str(root.resolve()).replace("'", "''")
    return [f"SET file_search_path = '{folder}'", "SET TimeZone = 'UTC'"]


def _open_other(url: str, root: Path, write: bool) -> Any:
    scheme = url.partition("://")[0]
    with translated("connecting", url):
        return _driver(f"adbc_driver_{scheme}", scheme, scheme).connect(url)


def _nothing(root: Path, write: bool) -> list[str]:
    return []


def _driver(module: str, what: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"a {what} database", extra) from error


_KNOWN = {
    "sqlite": Dialect(
        name="sqlite",
        open=_open_sqlite,
        on_connect=_on_sqlite,
        begin="BEGIN IMMEDIATE",
        encode=values.for_sqlite,
        row_options={"adbc.sqlite.query.batch_rows": _WHOLE},
        bound=values.sqlite_bound,
        stream_options={"adbc.sqlite.query.batch_rows": 16_384},
        writable=True,
        relaxed="PRAGMA synchronous = NORMAL",
        strict="PRAGMA synchronous = FULL",
        turn_rows=16_384,
    ),
    "postgresql": Dialect(
        name="postgresql",
        open=_open_postgresql,
        on_connect=_on_postgresql,
        begin="",
        literal=values.moment_literal,
        stream_options={"adbc.postgresql.batch_size_hint_bytes": _STREAM_BYTES},
        writable=True,
        relaxed="SET synchronous_commit = off",
        strict="SET synchronous_commit = on",
        keeps=True,
    ),
    "duckdb": Dialect(name="duckdb", open=_open_duckdb, on_connect=_on_duckdb),
}

"""The results as those see them who only read: a page asks, and gets an answer or a reason."""

from __future__ import annotations

from pathlib import Path

from trivet.databases import redact
from trivet.databases.dialects import of, path_of
from trivet.databases.parameters import names_in
from trivet.databases.reading import Reader, Row, only_select, open_reader
from trivet.databases.values import sqlite_bound
from trivet.errors import ResultsEmpty, ResultsError
from trivet.results.layout import compare_layouts
from trivet.results.statements import migrations, named


def open_results_reader(url: str, *, root: Path = Path(), seconds: float = 10.0) -> Reader:
    """Connect to the results database for reading; change nothing.

    Raises:
        ResultsEmpty: There are no results yet.
        ResultsOutdated: It has an older layout.
        ResultsTooNew: It has a newer one.
        ResultsError: That kind of database cannot hold results.
        TransientError: It cannot be reached.
    """
    if not of(url).writable:
        raise ResultsError(
            f"[results] url {redact(url)!r}: results are kept in sqlite:/// or postgresql://"
        )
    if of(url).name == "sqlite":
        path = path_of(url, root)
        if path is None or not path.exists():
            raise _empty(url)
    reader = open_reader(url, root=root, seconds=seconds)
    try:
        _check(reader, url)
    except BaseException:
        reader.close()
        raise
    return reader


def _check(reader: Reader, url: str) -> None:
    if not reader.rows(named("has_layout", reader.dialect))[0]["n"]:
        raise _empty(url)
    version = int(reader.rows(named("layout_version", reader.dialect))[0]["version"] or 0)
    latest = len(migrations(reader.dialect))
    if version == 0:
        raise _empty(url)
    compare_layouts(url, version, latest)


def _empty(url: str) -> ResultsEmpty:
    return ResultsEmpty(f"{redact(url)} has no results yet; fill it with: trivet score NAME")


__all__ = ["Reader", "Row", "names_in", "only_select", "open_results_reader", "sqlite_bound"]

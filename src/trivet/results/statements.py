"""The named statements of the files in ``sql``; a name is used once in all of them."""

from __future__ import annotations

import functools
import re
from importlib import resources

import pyarrow as pa

from trivet.databases.values import from_text
from trivet.errors import ResultsError
from trivet.statements import statements_of

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_ .-]{0,62}")


def named(name: str, dialect: str, package: str = "trivet.results") -> str:
    """Return a statement of a package, in a dialect's own form where there is one."""
    statements = statements_of(package)
    return statements.get(f"{name}.{dialect}") or statements[name]


def with_names(name: str, dialect: str, **names: str) -> str:
    """Return a statement with names of tables, columns and types put in for its braces.

    Each must come from `identifier` or be a fixed text of this package.
    """
    return named(name, dialect).format(**names)


def identifier(name: str) -> str:
    """Quote the name of a table or column.

    Raises:
        ResultsError: It is no name that both databases take.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ResultsError(
            f"{name!r} cannot be the name of a column in the results; "
            "rename it in the query (letters, digits and underscores, 63 at most)"
        )
    return f'"{name}"'


@functools.cache
def migrations(dialect: str) -> list[list[str]]:
    """Return the statements of each layout version, the first version first."""
    folder = resources.files("trivet.results").joinpath(f"sql/{dialect}")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [split(file.read_text(encoding="utf-8")) for file in files]


def split(text: str) -> list[str]:
    """Split a migration into statements; each ends with a semicolon at the end of a line."""
    bare = re.sub(r"--[^\n]*", "", text)
    return [part.strip() for part in re.split(r";\s*\n", bare + "\n") if part.strip()]


def with_moments(table: pa.Table, *names: str) -> pa.Table:
    """Return a result with the columns named as moments, whatever the database keeps them as."""
    for name in names:
        table = table.set_column(table.schema.get_field_index(name), name, from_text(table[name]))
    return table

"""Named statements asked of whatever reads the results: a connection, or a dashboard's source."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trivet.databases import Connection
from trivet.results.statements import identifier, named

Rows = Sequence[Mapping[str, Any]]

EVER = (dt.datetime(1, 1, 2, tzinfo=dt.UTC), dt.datetime(9999, 12, 30, tzinfo=dt.UTC))

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")


class Asking(Protocol):
    """Gives the rows of a named statement of this package; moments are aware, in UTC."""

    def __call__(self, name: str, /, *, table: str = "", **parameters: Any) -> Rows:
        """Return the rows.

        Args:
            name: The statement.
            table: What its ``{table}`` stands for, if it has one.
            parameters: Values to bind.
        """
        ...


def asking(db: Connection) -> Asking:
    """Return how to ask a connection."""

    def ask(name: str, /, *, table: str = "", **parameters: Any) -> Rows:
        sql = named(name, db.dialect.name)
        if table:
            sql = sql.format(table=identifier(table))
        found = db.rows(sql, **parameters).to_pylist()
        return [{key: _plain(cell) for key, cell in row.items()} for row in found]

    return ask


def _plain(cell: Any) -> Any:
    if isinstance(cell, dt.datetime):
        return cell.astimezone(dt.UTC)
    if isinstance(cell, str) and _MOMENT.fullmatch(cell):
        return dt.datetime.fromisoformat(cell).replace(tzinfo=dt.UTC)
    return cell

"""Who a key is: contacts and suppressions, read from the source when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trivet.actions.selection import key_text
from trivet.databases import Connection
from trivet.databases.parameters import bare
from trivet.errors import ActionError, QueryError
from trivet.results.statements import identifier

Row = Mapping[str, Any]


class People:
    """The two queries of an action over its source.

    Args:
        source: The database; None if there is no query.
        action: The action's name, for messages.
        key: Its key columns.
        contacts: A SELECT with the key and whatever a message needs; empty for none.
        suppress: A SELECT of the keys to leave out; empty for none.
        frank: Whether an error may quote the database, which may quote somebody's data.
    """

    def __init__(
        self,
        source: Connection | None,
        action: str,
        key: Sequence[str],
        contacts: str,
        suppress: str,
        *,
        frank: bool = False,
    ) -> None:
        self._source = source
        self._action = action
        self._key = key
        self._contacts = contacts
        self._suppress = suppress
        self._frank = frank

    def contacts(self, keys: Sequence[Row]) -> dict[str, dict[str, Any]]:
        """Return the contact of each of some keys that has one."""
        return self._by_key("contacts", self._contacts, keys)

    def suppressed(self, keys: Sequence[Row] | None = None) -> frozenset[str]:
        """Return the keys to leave out, of some or of all."""
        return frozenset(self._by_key("suppress", self._suppress, keys))

    def _by_key(
        self, name: str, query: str, keys: Sequence[Row] | None
    ) -> dict[str, dict[str, Any]]:
        if self._source is None or not query or (keys is not None and not keys):
            return {}
        text, values = f"SELECT * FROM (\n{bare(query)}\n) AS q", {}  # noqa: S608 - the user's own
        if keys is not None:
            values = {
                f"key_{row}_{place}": key[column]
                for row, key in enumerate(keys)
                for place, column in enumerate(self._key)
            }
            text += " WHERE " + " OR ".join(self._equals(row) for row in range(len(keys)))
        try:
            rows = self._source.rows(text, **values).to_pylist()
        except QueryError as error:
            if self._frank:
                raise QueryError(f"[action.{self._action}] {name}: {error}") from error
            raise QueryError(
                f"[action.{self._action}] {name}: the source refuses the query; "
                f"see why: trivet act {self._action} --dry-run"
            ) from None
        lacking = [column for column in self._key if rows and column not in rows[0]]
        if lacking:
            raise ActionError(
                f"[action.{self._action}] {name}: it has no column {', '.join(lacking)}, "
                "which key names"
            )
        return {key_text(self._key, row): row for row in reversed(rows)}

    def _equals(self, row: int) -> str:
        parts = (
            f"q.{identifier(column)} = $key_{row}_{place}" for place, column in enumerate(self._key)
        )
        return f"({' AND '.join(parts)})"

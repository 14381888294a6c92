"""SQL text as a user writes it: its parameters (``$name``), its comments, its end."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

_TOKENS = re.compile(
    r"""
      (?<!\w)[eE]'(?:[^'\\]|\\.|'')*'     # literal of PostgreSQL with escapes
    | '(?:[^']|'')*'                    # literal
    | "(?:[^"]|"")*"                    # quoted name
    | `[^`]*`                           # quoted name, as SQLite takes it too
    | --[^\n]*                          # comment to the end of the line
    | /\*.*?\*/                         # comment
    | (?<![\w$])\$(?P<tag>\w*)\$.*?\$(?P=tag)\$   # dollar-quoted literal of PostgreSQL
    | (?<![\w$])\$(?P<name>[A-Za-z_]\w*)   # a parameter
    """,
    re.VERBOSE | re.DOTALL,
)


@functools.lru_cache(maxsize=512)
def names_in(sql: str) -> tuple[str, ...]:
    """Return the names of a text's parameters, each once, in order of appearance."""
    found = (match["name"] for match in _TOKENS.finditer(sql))
    return tuple(dict.fromkeys(name for name in found if name))


def replaced(sql: str, by: Callable[[str], str]) -> str:
    """Return the text with every parameter replaced by what `by` gives for its name."""

    def one(match: re.Match[str]) -> str:
        return by(match["name"]) if match["name"] else match[0]

    return _TOKENS.sub(one, sql)


@functools.lru_cache(maxsize=256)
def numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """Return the text with ``$1``, ``$2``, … in place of names, and the names in that order.

    A host runs the same few statements all day long: each is read once.
    """
    names = tuple(names_in(sql))
    return replaced(sql, lambda name: f"${names.index(name) + 1}"), names


def bare(sql: str) -> str:
    """Return a query fit to stand in parentheses: no semicolon or comment at its end."""
    comments = [match.span() for match in _TOKENS.finditer(sql) if match[0][:2] in ("--", "/*")]
    end = len(sql.rstrip("; \t\r\n\f"))
    while comments:
        start, stop = comments.pop()
        if not start < end <= stop:
            break
        end = len(sql[:start].rstrip("; \t\r\n\f"))
    return sql[:end]

"""Drivers' exceptions turned into ours, in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from trivet.errors import DatabaseError, QueryError, TransientError

_TRANSIENT_STATES = re.compile(r"08...|40001|40P01|53[13]00|55P03|57P0[1-5]")
"""SQLSTATE classes of PostgreSQL that pass by themselves: connections, deadlocks, restarts,
a disk that is full."""

_TRANSIENT_WORDS = re.compile(
    r"database( table)? is locked|could not set lock on file|server closed the connection"
    r"|no connection to|terminating connection|the database system is|is the server running"
    r"|connection (refused|reset|timed out|not open)|timeout expired|(host|network) is unreachable"
    r"|no route to host|temporary failure in name|too many (clients|connections)|connection slots"
    r"|could not (send|receive) data|lost synchronization|SSL connection has been closed"
    r"|disk is full|no space left on device|SSL SYSCALL error|broken pipe"
    r"|failed to \w+ query:\s*query was:",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(://[^/@:\s]*):.*@")
_SECRET = re.compile(
    r"(\b[\w.-]*(?:passw|pwd|secret|token)[\w.-]*=|[?&;][\w.-]*key[\w.-]*=)[^&;\s]+", re.IGNORECASE
)
_NOISE = re.compile(r"^(?:\w+: )?\[[\w ]+\]\s*|^[A-Z_]+: |^IO: |^INVALID_ARGUMENT: ")


@contextmanager
def translated(what: str, url: str) -> Iterator[None]:
    """Turn any driver's exception into a `trivet.errors.DatabaseError` that says what failed.

    Args:
        what: The statement or the act, for the message.
        url: The database; its password is left out.
    """
    try:
        yield
    except DatabaseError:
        raise
    except Exception as error:
        if not _is_drivers(error):
            raise
        state = getattr(error, "sqlstate", None) or ""
        text = str(error)
        transient = bool(_TRANSIENT_STATES.fullmatch(state) or _TRANSIENT_WORDS.search(text))
        kind = TransientError if transient else QueryError
        # The driver's own words may quote the url, so nobody gets to see them as they are.
        raise kind(f"{redact(url)}: {_one_line(redact(text))} (in: {_short(what)})") from None


def redact(text: str) -> str:
    """Return a url, or a text that quotes one, without its password, fit to be printed."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def _is_drivers(error: Exception) -> bool:
    # An error in the middle of a stream comes through Arrow's C interface as an OSError or an
    # ArrowException that holds the driver's text.
    foreign = type(error).__module__.startswith("adbc_driver_manager")
    return foreign or isinstance(error, (OSError, pa.ArrowException))


def _one_line(text: str) -> str:
    return " ".join(_NOISE.sub("", _NOISE.sub("", text)).split())[:600]


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= 120 else line[:117] + "…"

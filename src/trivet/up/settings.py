"""``[up.NAME]``: a command of the project's own that ``trivet up`` runs beside Trivet's parts."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "tcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """A command of the project's own.

    Attributes:
        name: Its name beside its lines and in ``trivet status``.
        command: The program and its arguments, as a shell would split them; no shell runs it.
        ready: What is asked until it answers: an http(s) url (any status below 400), or
            ``tcp://HOST:PORT``. Without it, the command is ready when it has lived for a second.
        after: Processes that must be ready before it starts.
        env: Variables added to its environment.
        once: Whether it is done when it ends with 0: what comes after it waits for that.
        stop_timeout: How long it may take to end after SIGTERM.
    """

    name: str
    command: str
    ready: str = ""
    after: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    stop_timeout: dt.timedelta = dt.timedelta(seconds=30)

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"command: {error}; close every quote") from None
        if not words:
            raise ValueError("command: write the program to run and its arguments")
        if self.ready and not _is_address(self.ready):
            raise ValueError(
                "ready: write a url that answers when it is ready, such as "
                '"http://127.0.0.1:8000/health" or "tcp://127.0.0.1:8000"'
            )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # what stands there is none
        return False
    named = parts.scheme in SCHEMES and bool(parts.hostname)
    return named and (parts.scheme != "tcp" or port is not None)

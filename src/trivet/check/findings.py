"""What is told of a project that was looked through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trivet.errors import TrivetError

BROKER = "[broker] url"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        where: The section or key of ``trivet.toml``.
        state: ``ok``, ``warning`` or ``error``.
        what: What was found, and for an error what to do.
    """

    where: str
    state: Literal["ok", "warning", "error"]
    what: str


def failed(where: str, error: Exception) -> Finding:
    """Tell an exception as a finding; one that is not ours with its class."""
    kind = "" if isinstance(error, TrivetError) else f"{type(error).__name__}: "
    return Finding(where, "error", f"{kind}{error}")

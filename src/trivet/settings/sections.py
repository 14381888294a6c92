"""The sections that belong to the project as a whole; a host's is defined beside the host."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """``[project]``.

    Attributes:
        name: The project's name; by default that of its folder.
    """

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsSettings:
    """``[results]``.

    Attributes:
        url: The results database, sqlite or postgresql.
        keep_for: How long intervals are kept by ``trivet results prune``; without it, for ever.
    """

    url: str = "sqlite:///data/results.db"
    keep_for: dt.timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """``[broker]``.

    Attributes:
        url: The broker that streams read from and producers send to.
    """

    url: str = "sqlite:///data/events.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """``[models.NAME]``.

    Attributes:
        name: The name that deployments use.
        uri: Where the model is; see `trivet.load`.
        trust: Whether code that the artifact carries (a pickle, a module) may run.
        threads: Threads that the model's library may use for one call.
    """

    name: str
    uri: str
    trust: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 1024:
            raise ValueError("threads: write a number from 1 to 1024")

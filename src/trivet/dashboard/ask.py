"""What a visitor asks for: a page, its filters and its span of time, all of it in the address."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlencode

from trivet.alerts.facts import Limits
from trivet.alerts.settings import AlertSettings
from trivet.dashboard.charts import Chart
from trivet.dashboard.settings import DashboardSettings
from trivet.dashboard.source import Source
from trivet.results.asking import Rows

State = Literal["good", "note", "warn", "bad", "none"]

EVER = (dt.datetime(1, 1, 2, tzinfo=dt.UTC), dt.datetime(9999, 12, 30, tzinfo=dt.UTC))


class NotThere(Exception):
    """There is no such deployment, run or chart: the page says so, with status 404."""


_DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90, "1y": 366, "all": 0}
"""Spans of time that a page offers; 0 is all there is."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for a page.

    Attributes:
        source: Where the figures come from.
        settings: ``[dashboard]``.
        now: The moment that freshness is judged by.
        address: The page's path.
        path: The parts of the path that name something.
        query: The filters.
        alerts: ``[alerts]``: what is too much.
        limits: Limits of measures by deployment.
    """

    source: Source
    settings: DashboardSettings
    now: dt.datetime
    address: str = "/"
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    limits: Limits = field(default_factory=dict)

    def results(self, name: str, /, *, table: str = "", **parameters: Any) -> Rows:
        """Return the rows of a statement on the results that the command line asks too."""
        names = {"table": table} if table else {}
        return self.source.named_rows(name, names, package="trivet.results", **parameters)

    def get(self, name: str, otherwise: str = "") -> str:
        """Return a filter's value."""
        return self.query.get(name, "").strip() or otherwise

    def whole(self, name: str, otherwise: int, most: int) -> int:
        """Return a filter's value as a number from 0 on."""
        text = self.get(name)
        return min(int(text), most) if text.isascii() and text.isdigit() else otherwise

    def link(self, address: str = "", /, **changes: Any) -> str:
        """Return the address of this page, or of another, with some filters changed.

        Only the filters given go along to another page. None leaves a filter out.
        """
        kept = {} if address else {k: v for k, v in self.query.items() if v}
        found = {k: str(v) for k, v in {**kept, **changes}.items() if v not in (None, "")}
        where = address or self.address
        return f"{where}?{urlencode(found)}" if found else where

    def deployments(self) -> list[dict[str, Any]]:
        """Return every deployment that a host has registered."""
        return self.source.rows("deployments")

    def deployment(self, name: str) -> dict[str, Any]:
        """Return one deployment.

        Raises:
            NotThere: There is none of that name.
        """
        for found in self.deployments():
            if found["name"] == name:
                return found
        raise NotThere(f"there is no deployment {name!r}")

    def span(self, newest: dt.datetime | None = None) -> Span:
        """Return the span of time asked for; a length of it counts back from the newest result."""
        return Span.read(self, newest)


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, half open.

    Attributes:
        since: Its beginning.
        until: Its end.
        choice: The length chosen, such as ``30d``; empty if both ends were given.
    """

    since: dt.datetime
    until: dt.datetime
    choice: str

    @classmethod
    def read(cls, ask: Ask, newest: dt.datetime | None, otherwise: str = "all") -> Span:
        """Read the filters ``range``, ``from`` and ``to``."""
        since, until = _day(ask.get("from")), _day(ask.get("to"), last=True)
        if since or until:
            return cls(since or EVER[0], until or EVER[1], "")
        choice = ask.get("range", otherwise)
        days = _DAYS.get(choice, _DAYS[otherwise])
        if not days:
            return cls(*EVER, "all")
        end = newest or ask.now
        # A little past the newest, so that it is inside.
        return cls(end - dt.timedelta(days=days), end + dt.timedelta(microseconds=1), choice)

    @staticmethod
    def choices(length: dt.timedelta | None) -> list[str]:
        """Return the spans to offer where one period is so long."""
        least = 2 * (length or dt.timedelta())
        return [
            name for name, days in _DAYS.items() if not days or dt.timedelta(days=days) >= least
        ]

    @property
    def is_whole(self) -> bool:
        """Whether it has neither beginning nor end."""
        return (self.since, self.until) == EVER

    def bounds(self) -> dict[str, Any]:
        """Return it as parameters of a statement."""
        return {"since": self.since, "until": self.until}


def _day(text: str, *, last: bool = False) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
    whole_day = last and len(text) == 10
    return found + dt.timedelta(days=1) if whole_day else found


@dataclass(frozen=True, slots=True)
class Glance:
    """One figure of a deployment on the overview.

    Attributes:
        label: What it is, such as ``MAE``.
        value: The figure as it is read.
        note: What it is held against, in a few words.
        state: How it is.
        href: Where to look further.
    """

    label: str
    value: str
    note: str = ""
    state: State = "none"
    href: str = ""


def urgency(state: State) -> int:
    """Return how much a state wants to be looked at: more is more."""
    return {"bad": 2, "warn": 1}.get(state, 0)


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs a look, the most urgent first on the overview.

    Attributes:
        state: ``bad`` or ``warn``.
        title: What is wrong, in a few words.
        detail: What is known of it.
        command: The command that repairs it.
        href: Where to look further.
        deployment: Whose it is.
        since: Since when.
    """

    state: State
    title: str
    detail: str = ""
    command: str = ""
    href: str = ""
    deployment: str = ""
    since: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page: a module of `trivet.dashboard.pages` and the template of the same name.

    Attributes:
        name: Its name, and that of its template.
        title: Its heading and its entry in the menu.
        path: Its address; parts in braces are handed over in `Ask.path`.
        content: Returns what the template shows.
        menu: Whether the menu leads to it.
        glances: Figures for the overview, by deployment.
        attention: What needs a look.
        report: Charts for the report of a deployment over a span.
    """

    name: str
    title: str
    path: str
    content: Callable[[Ask], Mapping[str, Any]]
    menu: bool = True
    glances: Callable[[Ask], Mapping[str, list[Glance]]] | None = None
    attention: Callable[[Ask], list[Attention]] | None = None
    report: Callable[[Ask, Mapping[str, Any], Span], list[Chart]] | None = None


def deployment_path(name: str) -> str:
    """Return the address of a deployment's page."""
    return f"/deployments/{quote(name, safe='')}"

"""``[dashboard]`` and ``[dashboard.charts.NAME]``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Kind = Literal["line", "area", "bar", "point", "number", "table", "spec"]
Format = Literal["number", "count", "money", "percent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartSettings:
    """``[dashboard.charts.NAME]``: a chart of the user's own.

    Attributes:
        name: Its name; part of its address.
        query: One SELECT over the results database, or the path of a ``.sql`` file with it.
        kind: How it is drawn; ``spec`` takes a whole Vega-Lite specification.
        title: Its heading; by default its name.
        x: The column along the page; by default the query's first.
        y: The columns of the values; by default the query's others. Of a number: its column, and
            that of the number before; by default the first two.
        color: The column that tells the series apart.
        spec: With ``spec``: a Vega-Lite specification as JSON, or the path of a ``.json`` file.
        format: How a number is written.
        unit: What stands before or behind a number, such as ``$`` or ``min``.
        better: Of a number: which way is good.
        page: The page it stands on; by default the overview.
        note: A sentence below it.
    """

    name: str
    query: str
    kind: Kind = "line"
    title: str = ""
    x: str = ""
    y: tuple[str, ...] = ()
    color: str = ""
    spec: str = ""
    format: Format = "number"
    unit: str = ""
    better: Literal["", "up", "down"] = ""
    page: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.query.strip():
            raise ValueError("query: write one SELECT, or the path of a .sql file")
        if (self.kind == "spec") != bool(self.spec):
            raise ValueError('spec: write it with kind = "spec", and with no other kind')

    @property
    def heading(self) -> str:
        """What stands above the chart."""
        return self.title or self.name.replace("-", " ").replace("_", " ").capitalize()


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    """``[dashboard]``.

    Attributes:
        host: The address to listen on.
        port: The port; 0 for any that is free.
        token: What a visitor has to know; empty: nothing.
        user_header: The header in which a proxy before the dashboard names the user; without it
            in a request, nothing is shown.
        refresh: How often a page that is being looked at may change.
        query_limit: How long a query may take.
        charts: ``[dashboard.charts.NAME]`` by name.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    token: str = ""
    user_header: str = ""
    refresh: dt.timedelta = dt.timedelta(seconds=2)
    query_limit: dt.timedelta = dt.timedelta(seconds=10)
    charts: Mapping[str, ChartSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError("port: write a number from 0 to 65535")
        if self.token and len(self.token) < 16:
            raise ValueError("token: write 16 characters or more, such as ${DASHBOARD_TOKEN}")
        if not self.is_private and not self.token and not self.user_header:
            raise ValueError(
                f"host: {self.host} can be reached from other machines; set token or user_header"
            )
        for name in ("refresh", "query_limit"):
            if getattr(self, name) < dt.timedelta(seconds=1):
                raise ValueError(f"{name}: write 1s or more")

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK

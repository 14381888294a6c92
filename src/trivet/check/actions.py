"""``[action.NAME]`` looked through: its queries run, its template filled in, nothing sent."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from trivet import brokers
from trivet.actions import outbox
from trivet.actions.action import bounds_of
from trivet.actions.channels import open_channel
from trivet.actions.people import People
from trivet.actions.selection import key_text
from trivet.actions.settings import ActionSettings
from trivet.actions.template import Template
from trivet.brokers.base import Broker
from trivet.check.findings import Finding, failed
from trivet.databases import Connection, connect
from trivet.errors import ActionError, DeliveryDelayed, TrivetError
from trivet.results.layout import check_layout
from trivet.results.tables import columns_of, view_of
from trivet.schema import Schema
from trivet.settings import Project

Row = Mapping[str, Any]

_FEW = 20
_HIDDEN = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_INNER = re.compile(r"\([^()]*\)")
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)


@dataclass(slots=True)
class ActionLook:
    """One look at an action.

    Attributes:
        settings: The action.
        project: The project it is in.
        findings: What was found.
        names: The columns that a message can use; None if that is not known.
        rows: The first rows selected, one a key.
        contacts: The contacts of those that have one, by key.
    """

    settings: ActionSettings
    project: Project
    findings: list[Finding] = field(default_factory=list)
    names: list[str] | None = field(default_factory=list)
    rows: Sequence[Row] = field(default=(), repr=False)
    contacts: Mapping[str, Row] = field(default_factory=dict, repr=False)

    def all(self) -> list[Finding]:
        """Look at everything; nothing is written or sent."""
        settings = self.settings
        with self._finding("select"):
            self._select()
        if settings.contacts or settings.suppress:
            source = settings.source or self.project.batch[settings.after].source
            with self._finding("source"), connect(source, root=self.project.root) as db:
                self._people(db)
        if settings.template:
            with self._finding("template"):
                self._template()
        with self._finding("deliver"):
            self._deliver()
        return self.findings

    def _tell(self, key: str, what: str, *, warning: bool = False) -> None:
        where = f"[action.{self.settings.name}] {key}"
        self.findings.append(Finding(where, "warning" if warning else "ok", what))

    @contextmanager
    def _finding(self, key: str) -> Iterator[None]:
        """Tell what goes wrong inside as a finding."""
        where = f"[action.{self.settings.name}] {key}"
        try:
            yield
        except TrivetError as error:
            found = failed(where, error)
            what = found.what.removeprefix(f"{where}: ").removeprefix(f"{key}: ")
            self.findings.append(Finding(where, found.state, what))
            if key in ("select", "contacts", "source"):
                self.names = None

    def _select(self) -> None:
        """Run the query over the results, on the newest interval that is published."""
        settings, project, after = self.settings, self.project, self.settings.after
        results, root = project.results.url, project.root
        if not check_layout(results, root=root):
            self._tell_unscored()
            return
        with connect(results, root=root) as db:
            interval = outbox.newest_published(db, after)
            if interval is None and not columns_of(db, view_of(after)):
                self._tell_unscored()
                return
            calendar = project.batch[after].calendar
            now = dt.datetime.now(dt.UTC)
            bounds = bounds_of(db, interval or calendar.previous(calendar.interval_at(now)))
            names = db.columns(settings.select, bounds)
            _demand(settings.key, names)
            with closing(db.stream(settings.select, bounds, Schema([]))) as stream:
                rows = [row for batch, _ in islice(stream, 1) for row in batch[:_FEW].to_pylist()]
        for name in settings.key:
            unfit = [row[name] for row in rows if not isinstance(row[name], int | str)]
            if unfit:
                raise ActionError(
                    f"{name} of the key is {type(unfit[0]).__name__} in one of its rows; a key is "
                    "a whole number or a text"
                )
        if settings.limit is not None and not is_ordered(settings.select):
            self._tell(
                "select",
                "no ORDER BY: limit takes whoever comes first; put the best first",
                warning=True,
            )
        self.names = names
        self.rows = list({key_text(settings.key, row): row for row in rows}.values())
        self._tell("select", f"columns {', '.join(names)}")

    def _tell_unscored(self) -> None:
        self.names = None
        after = self.settings.after
        self._tell(
            "select",
            f"{after} has no predictions yet; look again after: trivet score {after}",
            warning=True,
        )

    def _people(self, db: Connection) -> None:
        """Run the queries over the source, for some of those who are selected."""
        settings = self.settings
        key, contacts, suppress = settings.key, settings.contacts, settings.suppress
        people = People(db, settings.name, key, contacts, suppress, frank=True)
        if contacts:
            with self._finding("contacts"):
                names = db.columns(contacts, {})
                mail = settings.target.channel == "smtp"
                _demand((*key, settings.address) if mail else key, names)
                self.contacts = people.contacts(self.rows)
                if self.names is not None:
                    self.names = [*self.names, *names]
                told = f"columns {', '.join(names)}"
                if self.rows:
                    told += (
                        f"; {len(self.contacts)} of the first {len(self.rows)} selected have one"
                    )
                self._tell("contacts", told, warning=bool(self.rows) and not self.contacts)
        if suppress:
            with self._finding("suppress"):
                names = db.columns(suppress, {})
                _demand(key, names)
                people.suppressed(self.rows)
                self._tell("suppress", f"columns {', '.join(names)}")

    def _template(self) -> None:
        settings = self.settings
        template = Template(settings.template, f"[action.{settings.name}] template")
        filled = 0
        for row in self.rows:
            contact = self.contacts.get(key_text(settings.key, row))
            if contact is not None or not settings.contacts:
                template.render({**row, **(contact or {})})
                filled += 1
        named = ", ".join(sorted(template.names)) or "no value"
        unknown = sorted(template.names - set(self.names)) if self.names is not None else []
        if unknown:
            what = f"neither select nor contacts give {', '.join(unknown)}"
            if not filled:
                raise ActionError(f"{what}; they give {', '.join(sorted(set(self.names or ())))}")
            self._tell("template", what, warning=True)
        else:
            told = (
                f"filled in for {filled} of those selected"
                if filled
                else "nobody to fill it in for"
            )
            self._tell("template", f"names {named}; {told}")

    def _deliver(self) -> None:
        settings, project = self.settings, self.project

        def broker() -> Broker:
            return brokers.connect(project.broker.url, project.root)

        try:
            with closing(open_channel(settings, project.root, broker)) as channel:
                self._tell("deliver", channel.look())
        except DeliveryDelayed as error:
            self._tell("deliver", f"{error}; deliveries would wait", warning=True)


def is_ordered(query: str) -> bool:
    """Say whether a query as a whole has an ORDER BY, and not only one inside it."""
    text, before = _HIDDEN.sub(" ", query), ""
    while text != before:
        before, text = text, _INNER.sub(" ", text)
    return bool(_ORDERED.search(text))


def _demand(wanted: Sequence[str], names: Sequence[str]) -> None:
    lacking = [name for name in wanted if name not in names]
    if lacking:
        raise ActionError(
            f"it gives no column {', '.join(lacking)}, which is needed; it gives {', '.join(names)}"
        )

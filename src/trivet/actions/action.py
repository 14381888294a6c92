"""An action at work: what to act on, who is chosen, and what is sent."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trivet.actions import outbox
from trivet.actions.channels import Message, open_channel
from trivet.actions.delivery import Sender, Tally, message
from trivet.actions.outbox import Claimed
from trivet.actions.people import People
from trivet.actions.selection import GROUPS, Assigned, Rules, assign, idempotency_key, key_text
from trivet.actions.settings import ActionSettings
from trivet.actions.template import Template
from trivet.brokers.base import Broker
from trivet.databases import Connection, connect
from trivet.errors import ActionError, QueryError
from trivet.hosts.schedule import Interval, Schedule
from trivet.results import layout
from trivet.schema import Schema

log = logging.getLogger("trivet.actions")

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an action needs of its process, passed in.

    Attributes:
        root: The project's folder: relative paths start here.
        project: The project's name.
        results: Url of the results database.
        source: Url of the database of contacts and suppressions.
        calendar: The intervals of the deployment that is acted on.
        delay: How long after its end one of them is run.
        clock: Tells the time, in UTC.
        stop: Set when the process was asked to end.
        broker: Connects to the project's broker.
    """

    root: Path
    project: str
    results: str
    source: str
    calendar: Schedule
    delay: dt.timedelta
    clock: Callable[[], dt.datetime]
    stop: threading.Event
    broker: Callable[[], Broker]

    def open_results(self) -> Connection:
        """Connect to the results database."""
        return layout.open_results(self.results, root=self.root)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a decision would be, with the first messages.

    Attributes:
        groups: How many would be in each group.
        messages: The first of those that would be sent.
        decided: Whether the interval was decided on before, so that none of this will be done.
    """

    groups: Mapping[str, int]
    messages: Sequence[Message]
    decided: bool


@dataclass(frozen=True, slots=True)
class Action:
    """An action.

    Attributes:
        settings: Its section of ``trivet.toml``.
        around: The process it runs in.
    """

    settings: ActionSettings
    around: Surroundings

    def register(self) -> None:
        """Make the action known in the results database."""
        with self.around.open_results() as db:
            outbox.register(db, self.settings, self.around.clock())

    def label(self, interval: Interval) -> str:
        """Name the action and an interval, for messages."""
        return f"{self.settings.name} {self.around.calendar.label(interval)}"

    def is_past(self, interval: Interval) -> bool:
        """Say whether it is too late to act on an interval without being told to."""
        around, expires = self.around, self.settings.expires
        end = around.calendar.next(interval).end if expires is None else interval.end + expires
        return around.clock() >= end + around.delay

    def due(self) -> list[Interval]:
        """Return the published intervals to act on now, the oldest first.

        Neither past ones nor those that a backfill has published.
        """
        with self.around.open_results() as db:
            found = outbox.undecided(db, self.settings)
        return [
            each.interval
            for each in found
            if each.cause != "backfill" and not self.is_past(each.interval)
        ]

    def latest(self) -> Interval | None:
        """Return the newest interval that is published, or None."""
        now, calendar = self.around.clock(), self.around.calendar
        interval = calendar.previous(calendar.interval_at(now - self.around.delay))
        with self.around.open_results() as db:
            published = outbox.published_attempt(db, self.settings.after, interval) is not None
        return interval if published else None

    def decide(self, interval: Interval, *, cause: str) -> Mapping[str, int] | None:
        """Choose who is acted on, and write the intended deliveries into the outbox.

        Returns:
            How many are in each group, or None if that was decided before.

        Raises:
            ActionError: The interval is not published, or the query does not fit.
        """
        settings, around = self.settings, self.around
        while True:
            with around.open_results() as db:
                attempt = self._attempt(db, interval)
                if outbox.is_decided(db, settings.name, interval):
                    return None
            rows, keys = self._candidates(interval)
            suppressed = self._suppressed(rows)
            with around.open_results() as db, db.transaction():
                outbox.lock(db, settings.name)
                if outbox.is_decided(db, settings.name, interval):
                    return None
                if self._attempt(db, interval) != attempt:
                    continue  # it was scored again while we looked
                now = around.clock()
                assigned = self._assigned(db, interval, keys, suppressed)
                ids = {each.key: self._id(interval, each.key) for each in assigned}
                outbox.decide(
                    db,
                    settings,
                    interval,
                    attempt,
                    assigned,
                    rows=rows,
                    ids=ids,
                    cause=cause,
                    now=now,
                )
            groups = _counted(assigned)
            log.info("%s: %s", self.label(interval), described(groups))
            return groups

    def deliver(self) -> Tally:
        """Send what is due, whatever interval it is of.

        Raises:
            RunStopped: The process was asked to end.
            TrivetError: The settings, the template or a database is in the way.
        """
        settings, around = self.settings, self.around
        with around.open_results() as db:
            outbox.recover(db, settings.name)
            wait = outbox.seconds_until_next(db, settings.name)
        if wait is None or wait > 0:
            return Tally()
        template = self._template()
        with (
            closing(open_channel(settings, around.root, around.broker)) as channel,
            self._people(frank=False) as people,
            around.open_results() as db,
        ):
            sender = Sender(db, settings, channel, people, template, around.clock, around.stop)
            tally = sender.run()
        counts = ", ".join(f"{n} {state}" for state, n in sorted(tally.states.items()))
        down = "; nothing gets through, the rest waits" if tally.down else ""
        log.info("%s: %s%s", settings.name, counts or "nothing to deliver", down)
        return tally

    def seconds_until_next(self) -> float | None:
        """Return how long it is until a delivery is due, or None if none waits."""
        with self.around.open_results() as db:
            return outbox.seconds_until_next(db, self.settings.name)

    def preview(self, interval: Interval, most: int) -> Preview:
        """Return what `decide` would do now and the first messages; nothing is written or sent."""
        settings = self.settings
        with self.around.open_results() as db:
            self._attempt(db, interval)
            decided = outbox.is_decided(db, settings.name, interval)
        rows, keys = self._candidates(interval)
        with self._people(frank=True) as people:
            suppressed = people.suppressed()
            with self.around.open_results() as db:
                assigned = self._assigned(db, interval, keys, suppressed)
            first = [each for each in assigned if each.group == "treated"][:most]
            decoded = [msgspec.json.decode(each.key) for each in first]
            contacts = people.contacts(decoded)
        template = self._template()
        messages = [
            message(
                settings.name,
                Claimed(
                    self._id(interval, each.key), each.key, interval, 1, _plain(rows[each.place])
                ),
                key,
                contacts.get(each.key, {}),
                template,
            )
            for each, key in zip(first, decoded, strict=True)
            if not settings.contacts or each.key in contacts
        ]
        return Preview(_counted(assigned), messages, decided)

    def approve(self, interval: Interval | None) -> int:
        """Let proposed deliveries go; return how many there were."""
        with self.around.open_results() as db:
            return outbox.approve(db, self.settings.name, interval, self.around.clock())

    def history(self, limit: int) -> list[outbox.Decided]:
        """Return the newest decisions, the newest first."""
        with self.around.open_results() as db:
            return outbox.history(db, self.settings.name, limit)

    def _attempt(self, db: Connection, interval: Interval) -> int:
        found = outbox.published_attempt(db, self.settings.after, interval)
        if found is None:
            name = self.around.calendar.label(interval)
            raise ActionError(
                f"{self.settings.after} {name} is not published; run: "
                f"trivet score {self.settings.after} --interval {name}"
            )
        return found

    def _candidates(self, interval: Interval) -> tuple[Rows, list[str]]:
        """Read who could be acted on, the best first, from a connection that cannot write."""
        settings, where = self.settings, f"[action.{self.settings.name}]"
        try:
            with connect(self.around.results, root=self.around.root) as db:
                bounds = bounds_of(db, interval)
                names = db.columns(settings.select, bounds)
                lacking = [name for name in settings.key if name not in names]
                if lacking:
                    raise ActionError(
                        f"{where} select: it has no column {', '.join(lacking)}, which key names; "
                        f"it has {', '.join(names)}"
                    )
                stream = db.stream(settings.select, bounds, Schema([]))
                rows: Rows = [row for batch, _ in stream for row in batch.to_pylist()]
        except QueryError as error:
            raise QueryError(f"{where} select: {error}") from error
        for row in rows:
            for name in settings.key:
                if not isinstance(row[name], int | str):
                    raise ActionError(
                        f"{where} key: {name} is {type(row[name]).__name__} in a row of the "
                        "select; a key is a whole number or a text"
                    )
        return rows, [key_text(settings.key, row) for row in rows]

    def _suppressed(self, rows: Rows) -> frozenset[str]:
        if not rows or not self.settings.suppress:
            return frozenset()
        with self._people(frank=False) as people:
            return people.suppressed()

    def _assigned(
        self,
        db: Connection,
        interval: Interval,
        keys: Sequence[str],
        suppressed: frozenset[str],
    ) -> list[Assigned]:
        settings = self.settings
        rules = Rules(settings.name, settings.limit, settings.control)
        cooling = outbox.cooling(db, settings, interval, self.around.clock())
        return list(assign(keys, rules, cooling=cooling, suppressed=suppressed))

    def _id(self, interval: Interval, key: str) -> str:
        start = interval.start.isoformat()
        return idempotency_key(self.around.project, self.settings.name, start, key)

    def _template(self) -> Template | None:
        settings = self.settings
        if not settings.template:
            return None
        return Template(settings.template, f"[action.{settings.name}] template")

    @contextmanager
    def _people(self, *, frank: bool) -> Iterator[People]:
        settings, around = self.settings, self.around
        with ExitStack() as opened:
            source = None
            if settings.contacts or settings.suppress:
                source = opened.enter_context(connect(around.source, root=around.root))
            yield People(
                source,
                settings.name,
                settings.key,
                settings.contacts,
                settings.suppress,
                frank=frank,
            )


def described(groups: Mapping[str, int]) -> str:
    """Return how many are in each group, in words."""
    words = {"over_limit": "over the limit", "cooldown": "in cooldown", "control": "held out"}
    return ", ".join(f"{groups[group]} {words.get(group, group)}" for group in GROUPS)


def bounds_of(db: Connection, interval: Interval) -> dict[str, Any]:
    """Return an interval's moments as the results keep them, so that they can be equal."""
    bounds = {"interval_start": interval.start, "interval_end": interval.end}
    if db.dialect.name != "sqlite":
        return bounds
    return {name: at.replace(tzinfo=None).isoformat(" ") for name, at in bounds.items()}


def _counted(assigned: Sequence[Assigned]) -> dict[str, int]:
    counts = Counter(each.group for each in assigned)
    return {group: counts[group] for group in GROUPS}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as it comes back out of the outbox."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(row))
    return plain

"""What the outbox holds, sent: claimed, made into messages, tried, written down."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
import tenacity

from trivet import owners
from trivet.actions import outbox
from trivet.actions.channels import Channel, Message
from trivet.actions.outbox import Claimed
from trivet.actions.people import People
from trivet.actions.settings import ActionSettings
from trivet.actions.template import Template
from trivet.databases import Connection
from trivet.errors import DeliveryDelayed, DeliveryRefused, RunStopped, TrivetError

log = logging.getLogger("trivet.actions")

_CLAIM = 20
_MOST_IN_A_ROW = 5
"""So many deliveries one after the other that are given up for now say that the channel is down."""

_SIGN_SECONDS = outbox.LEASE_SECONDS / 4
_LONGEST_REST = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tally:
    """How deliveries ended in one pass.

    Attributes:
        states: How many came into each state; ``pending`` are those given up for now.
        down: Whether the pass ended before its time because nothing gets through.
    """

    states: Counter[str] = field(default_factory=Counter)
    down: bool = False


@dataclass(slots=True)
class Sender:
    """Sends what is due of one action, over one channel, until nothing is.

    Attributes:
        db: The results database.
        settings: The action.
        channel: Where to.
        people: Who the keys are.
        template: The words, if there are any.
        clock: Tells the time to write down.
        stop: Set when the process was asked to end.
    """

    db: Connection
    settings: ActionSettings
    channel: Channel
    people: People
    template: Template | None
    clock: Callable[[], dt.datetime]
    stop: threading.Event
    _owner: str = field(default_factory=lambda: owners.me(uuid.uuid4().hex))
    _states: Counter[str] = field(default_factory=Counter)
    _tries: dict[str, int] = field(default_factory=dict)
    _prolonged: float = 0.0
    _next: float = 0.0
    _in_a_row: int = 0

    def run(self) -> Tally:
        """Send until nothing is due, or nothing gets through.

        Raises:
            RunStopped: The process was asked to end; what was not sent is given back.
            TrivetError: The settings, the template or a database is in the way; the same.
        """
        name, most = self.settings.name, max(self.channel.most, _CLAIM)
        outbox.recover(self.db, name)
        down = False
        try:
            while not down and (claimed := outbox.claim(self.db, name, self._owner, most)):
                self._prolonged = time.monotonic()
                self._tries = {each.id: each.tries for each in claimed}
                for group in _groups(self._messages(claimed), self.channel.most):
                    self._deliver(group)
                    down = self._in_a_row >= _MOST_IN_A_ROW
                    if down:
                        break
        finally:
            rest = self.settings.retry_delay.total_seconds() if down else 0.0
            with suppress(TrivetError):  # the lease will run out all the same
                outbox.release(self.db, name, self._owner, after=rest)
        return Tally(self._states, down)

    def _messages(self, claimed: Sequence[Claimed]) -> Iterator[Message]:
        """Give the messages of those who can still be reached; end the deliveries of the others."""
        keys = [msgspec.json.decode(each.key) for each in claimed]
        suppressed = self.people.suppressed(keys)
        contacts = self.people.contacts(keys)
        for each, key in zip(claimed, keys, strict=True):
            if each.key in suppressed:
                self._end([each.id], "suppressed")
            elif self.settings.contacts and each.key not in contacts:
                self._end([each.id], "failed", "no contact")
            else:
                yield message(
                    self.settings.name, each, key, contacts.get(each.key, {}), self.template
                )

    def _deliver(self, group: Sequence[Message]) -> None:
        ids = [each.id for each in group]
        try:
            if not self._persistently(group):
                return
        except DeliveryRefused as error:
            self._in_a_row = 0
            self._end(ids, "bounced" if error.bounced else "failed", str(error))
        except DeliveryDelayed as error:
            self._in_a_row += 1
            self._later(ids, error)
        else:
            self._in_a_row = 0
            self._end(ids, "sent")

    def _persistently(self, group: Sequence[Message]) -> bool:
        """Try for ``retry_for``; only once after one that did not get through.

        Returns:
            False if another process has taken the deliveries over.
        """
        patience = 0.0 if self._in_a_row else self.settings.retry_for.total_seconds()

        def once() -> bool:
            self._pace(len(group))
            if not outbox.holds(self.db, group[0].id, self._owner):
                return False
            self.channel.send(group)
            return True

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(DeliveryDelayed),
            wait=_wait,
            stop=lambda state: state.idle_for + state.upcoming_sleep > patience,
            sleep=self._pause,
            reraise=True,
        )
        return retrying(once)

    def _later(self, ids: Sequence[str], error: DeliveryDelayed) -> None:
        """Let deliveries rest, twice as long each time, or give them up."""
        rest = self.settings.retry_delay.total_seconds()
        for each in ids:
            tried = self._tries[each]
            if tried > self.settings.retries:
                self._end([each], "failed", f"{error}, {tried} times")
                continue
            after = min(rest * 2 ** min(tried - 1, 30), _LONGEST_REST.total_seconds())
            self._end([each], "pending", str(error), max(after, error.after))

    def _end(self, ids: Sequence[str], state: str, reason: str = "", after: float = 0.0) -> None:
        with self.db.transaction():
            self._states[state] += outbox.end(
                self.db, ids, self._owner, state, self.clock(), reason=reason[:500], after=after
            )
        if reason:  # the key of the delivery, and not a word of whom it is to
            log.warning("%s: delivery %s: %s: %s", self.settings.name, ids[0], state, reason)

    def _pace(self, messages: int) -> None:
        """Wait for this message's turn, and give a sign of life now and then."""
        now = time.monotonic()
        if self._next > now:
            self._pause(self._next - now)
        self._next = max(now, self._next) + messages / self.settings.rate
        self._pause(0)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now - self._prolonged > _SIGN_SECONDS:
                outbox.prolong(self.db, self.settings.name, self._owner)
                self._prolonged = now
            if self.stop.wait(max(0.0, min(until - now, _SIGN_SECONDS))):
                raise RunStopped(f"{self.settings.name}: stopped; what is left is sent later")
            if time.monotonic() >= until:
                return


def message(
    action: str,
    claimed: Claimed,
    key: Mapping[str, Any],
    contact: Mapping[str, Any],
    template: Template | None,
) -> Message:
    """Return a delivery as it goes over a channel.

    Raises:
        ActionError: The template cannot be filled in.
    """
    values = {**claimed.selected, **contact}
    return Message(
        id=claimed.id,
        action=action,
        interval=claimed.interval,
        key=key,
        selected=claimed.selected,
        contact=contact,
        words=None if template is None else template.render(values),
    )


def _groups(messages: Iterable[Message], most: int) -> Iterator[list[Message]]:
    remaining = iter(messages)
    while group := list(islice(remaining, most)):
        yield group


_backoff = tenacity.wait_exponential(multiplier=0.25, max=10) + tenacity.wait_random(0, 0.25)


def _wait(state: tenacity.RetryCallState) -> float:
    """Wait longer each time, and at least as long as the receiver asked."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, DeliveryDelayed) else 0.0
    return max(asked, _backoff(state))

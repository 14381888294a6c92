"""``[action.NAME]``: what is done about the predictions of a batch deployment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from trivet.actions.targets import Target

_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSettings:
    """An action.

    Attributes:
        name: The action's name.
        after: The batch deployment whose published intervals are acted on.
        select: The SELECT over the results database, the best first; binds ``$interval_start``
            and ``$interval_end``.
        key: Columns of `select` that together name who is acted on.
        deliver: ``smtp://…``, ``smtps://…``, ``https://…``, ``topic:NAME`` or ``file:FOLDER``.
        source: Url of the database of `contacts` and `suppress`; by default that of `after`.
        contacts: A SELECT over the source, with the key and whatever a message needs.
        suppress: A SELECT over the source of the keys to leave out.
        template: Subject and text in Markdown.
        sender: Who a mail is from.
        address: The column of `contacts` that a mail is sent to.
        token: Sent to a webhook as its bearer token.
        limit: At most so many are treated in one interval.
        cooldown: Who was chosen is not chosen again for so long.
        control: The share that is held out.
        review: Whether proposals wait for ``trivet actions NAME --approve``.
        expires: How long after its end an interval is acted on without being told to; by default
            until the next one is over.
        rate: Deliveries in a second, by one process.
        retries: How often a delivery that was given up for now is taken up again.
        retry_delay: How long it rests before that; twice as long each time.
        retry_for: How long a delivery is tried at once, in all, before it is given up for now.
        allow_private: Whether a webhook may be on a private network, and plain http.
    """

    name: str
    after: str
    select: str
    key: tuple[str, ...]
    deliver: str
    source: str = ""
    contacts: str = ""
    suppress: str = ""
    template: str = ""
    sender: str = ""
    address: str = "email"
    token: str = ""
    limit: int | None = None
    cooldown: dt.timedelta = dt.timedelta()
    control: float = 0.0
    review: bool = False
    expires: dt.timedelta | None = None
    rate: float = 10.0
    retries: int = 10
    retry_delay: dt.timedelta = dt.timedelta(minutes=5)
    retry_for: dt.timedelta = dt.timedelta(seconds=30)
    allow_private: bool = False

    def __post_init__(self) -> None:
        mistakes = list(self._mistakes())
        if mistakes:
            raise ValueError("\n".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        if not self.select.strip():
            yield 'select: it is empty; write a SELECT, or a file that has it: "sql/offers.sql"'
        if not self.key:
            yield 'key: name at least one column that tells who is meant, such as ["customer_id"]'
        twice = sorted({each for each in self.key if self.key.count(each) > 1})
        if twice:
            yield f"key: {', '.join(twice)} is in it twice; name it once"
        if self.limit is not None and self.limit < 1:
            yield "limit: write a number from 1, or leave it out"
        if not 0 <= self.control < 1:
            yield "control: write a share from 0 to less than 1, such as 0.1"
        if not 0 < self.rate <= 100_000:
            yield "rate: write a number of deliveries a second, such as 10"
        if not 0 <= self.retries <= _MOST:
            yield f"retries: write a number from 0 to {_MOST}"
        yield from self._mistakes_of_delivery()

    def _mistakes_of_delivery(self) -> Iterator[str]:
        try:
            target = self.target
        except ValueError as error:
            yield f"deliver: {error}"
            return
        if target.channel == "smtp":
            for name, why in (
                ("sender", 'a mail needs one; write sender = "Shop <shop@example.com>"'),
                ("contacts", "a mail needs an address; write a query that gives it"),
                ("template", 'a mail needs a text; write template = "offer.md"'),
            ):
                if not getattr(self, name):
                    yield f"{name}: {why}"
        if target.channel == "webhook" and not self.allow_private and target.scheme == "http":
            yield "deliver: write https://; plain http is for private networks (allow_private)"
        if self.token and target.channel != "webhook":
            yield "token: it is for webhooks; a mail server's password stands in deliver"

    @property
    def target(self) -> Target:
        """Where deliveries go."""
        return Target.of(self.deliver)

"""``[alerts]``: when something is wrong enough to tell, and whom."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What raises an alert. A threshold that is 0 raises none.

    Attributes:
        failed: Whether an interval whose run failed is one.
        late: How long after it was due an interval may lack predictions; nothing: as long as it
            likes.
        rejects: The largest share of rejected rows.
        drift: The largest PSI of an input or a prediction against the training sample.
        quality: By which share the error may be larger than it was in training; what is short of 1
            counts as the error of a measure that is best at 1.
        lag: How long after the event a stream's prediction may come, and how long events may wait
            while it does not move; nothing: as long as it likes.
        stopped: How long a stream that was consumed may have no consumer; nothing: as long as it
            likes.
        min_rows: Of fewer rows neither rejects, drift nor quality are judged.
    """

    failed: bool = True
    late: dt.timedelta = dt.timedelta(hours=1)
    rejects: float = 0.05
    drift: float = 0.25
    quality: float = 0.25
    lag: dt.timedelta = dt.timedelta(minutes=5)
    stopped: dt.timedelta = dt.timedelta(minutes=5)
    min_rows: int = 100

    def __post_init__(self) -> None:
        mistakes = list(self._mistakes())
        if mistakes:
            raise ValueError("\n".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        if not 0 <= self.rejects <= 1:
            yield "rejects: write a share between 0 and 1, such as 0.05"
        for name in ("drift", "quality", "min_rows"):
            if getattr(self, name) < 0:
                yield f"{name}: write 0 or more"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings(Thresholds):
    """``[alerts]``: thresholds of all deployments, and who is told.

    Attributes:
        webhook: Url that each alert is posted to.
        email: Addresses that each alert is mailed to.
        smtp: The mail server: ``smtp://user:password@host:587``, or ``smtps://``.
        sender: The address that mails come from.
        deployments: ``[alerts.NAME]``: what differs for single deployments.
    """

    webhook: str = ""
    email: tuple[str, ...] = ()
    smtp: str = ""
    sender: str = ""
    deployments: Mapping[str, Thresholds] = field(default_factory=dict)

    def of(self, deployment: str) -> Thresholds:
        """Return the thresholds of a deployment."""
        return self.deployments.get(deployment, self)

    def _mistakes(self) -> Iterator[str]:
        yield from Thresholds._mistakes(self)
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            yield 'webhook: write a url, such as "https://example.com/hook"'
        if self.email:
            if urlsplit(self.smtp).scheme not in ("smtp", "smtps"):
                yield 'smtp: mails need a server; write "smtp://user:password@host:587"'
            if "@" not in self.sender:
                yield 'sender: mails need the address they come from, such as "trivet@example.com"'
        for address in self.email:
            if "@" not in address or any(c in address for c in "\r\n, "):
                yield f"email: {address!r} is no address"

    @property
    def sends(self) -> bool:
        """Whether anybody is told."""
        return bool(self.webhook or self.email)

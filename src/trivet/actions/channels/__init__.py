"""Channels: one module a way of delivering, imported when it is used.

What is promised of each:

* ``webhook`` and ``topic``: at least once, each time with the same idempotency key, so a receiver
  that knows a key does nothing twice.
* ``file``: exactly once: a delivery is one file, named by its key and put in place whole.
* ``smtp``: at least once. A mail can arrive twice only if the process dies, or the connection is
  lost, between the server's yes and its being written down: one message at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from trivet.actions.settings import ActionSettings
from trivet.actions.template import Rendered
from trivet.brokers.base import Broker
from trivet.hosts.schedule import Interval

IDEMPOTENCY_KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Message:
    """What is delivered to one key.

    Attributes:
        id: The idempotency key.
        action: The action.
        interval: What was acted on.
        key: The key columns.
        selected: The row of the select.
        contact: The row of the contacts: personal data, never to be logged.
        words: The filled-in template, if there is one.
    """

    id: str
    action: str
    interval: Interval
    key: Mapping[str, Any]
    selected: Mapping[str, Any] = field(repr=False)
    contact: Mapping[str, Any] = field(default_factory=dict, repr=False)
    words: Rendered | None = field(default=None, repr=False)

    def payload(self) -> bytes:
        """Return the message as the JSON that webhooks, topics and files get."""
        parts: dict[str, Any] = {
            "id": self.id,
            "action": self.action,
            "interval_start": self.interval.start,
            "interval_end": self.interval.end,
            "key": self.key,
            "selected": self.selected,
        }
        if self.contact:
            parts["contact"] = self.contact
        if self.words is not None:
            words = self.words
            parts["message"] = {"subject": words.subject, "text": words.text, "html": words.html}
        return msgspec.json.encode(parts)


class Channel(Protocol):
    """A way of delivering; used by one thread.

    Attributes:
        most: How many messages one call of `send` takes: all of them arrive, or are tried again.
    """

    most: int

    def look(self) -> str:
        """Say where deliveries would go, as far as that shows without making one.

        Raises:
            DeliveryDelayed: They would wait.
            ActionError: The settings do not allow them.
        """
        ...

    def send(self, messages: Sequence[Message]) -> None:
        """Deliver; the messages have arrived, durably, when it returns.

        Raises:
            DeliveryDelayed: Not now; the same call may succeed later.
            DeliveryRefused: Never.
            ActionError: The settings do not allow it, whatever the message.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_channel(settings: ActionSettings, root: Path, broker: Callable[[], Broker]) -> Channel:
    """Return the channel that an action delivers over.

    Args:
        settings: The action.
        root: The folder that relative paths start from.
        broker: Connects to the project's broker.

    Raises:
        MissingExtra: A library is not installed.
    """
    target = settings.target
    if target.channel == "smtp":
        from trivet.actions.channels.smtp import Smtp  # noqa: PLC0415 - see above

        return Smtp(target, settings.sender, settings.address)
    if target.channel == "webhook":
        from trivet.actions.channels.webhook import Webhook  # noqa: PLC0415

        return Webhook(target, settings.token, allow_private=settings.allow_private)
    if target.channel == "topic":
        from trivet.actions.channels.topic import Topic  # noqa: PLC0415

        return Topic(target.path, broker())
    from trivet.actions.channels.file import Folder  # noqa: PLC0415

    return Folder(root / target.path)

"""Deliveries as events on a topic of the project's broker."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trivet.actions.channels import IDEMPOTENCY_KEY, Message
from trivet.brokers.base import Broker
from trivet.errors import BrokerError, DeliveryDelayed

_FLUSH_SECONDS = 30.0


class Topic:
    """A topic; the events of one key keep their order."""

    most = 500

    def __init__(self, name: str, broker: Broker) -> None:
        self._name = name
        self._broker = broker
        self._appender = broker.appender()

    def look(self) -> str:
        if self._name not in self._broker.topics():
            raise DeliveryDelayed(f"there is no topic {self._name!r} yet; create it")
        return f"to topic {self._name}"

    def send(self, messages: Sequence[Message]) -> None:
        failures: list[str] = []
        try:
            for message in messages:
                headers = (
                    (IDEMPOTENCY_KEY.lower(), message.id.encode()),
                    ("content-type", b"application/json"),
                )
                key = msgspec.json.encode(message.key)
                self._appender.append(self._name, key, message.payload(), headers, failures.append)
            left = self._appender.flush(_FLUSH_SECONDS)
        except BrokerError as error:
            raise DeliveryDelayed(f"topic {self._name}: {error}") from error
        if left or failures:
            reason = failures[0] if failures else f"{left} events are not acknowledged"
            raise DeliveryDelayed(f"topic {self._name}: {reason}")

    def close(self) -> None:
        self._appender.close()
        self._broker.close()

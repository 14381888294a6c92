"""Events on their way to a broker, as CloudEvents."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import TracebackType
from typing import Self

from trivet import brokers
from trivet.errors import BrokerUnavailable
from trivet.events import CloudEvents

_encode = CloudEvents().encode
_SECONDS = 10.0


class Sender:
    """Sends events of one source to one topic, in order; used by one thread.

    Args:
        broker: The broker's url; a relative path starts from the working directory.
        topic: The topic; made if it is not there.
        source: Who makes the events.
    """

    def __init__(self, broker: str, topic: str, source: str) -> None:
        self._topic = topic
        self._source = source
        self._broker = brokers.connect(broker, Path())
        try:
            self._broker.create(topic)
            self._appender = self._broker.appender()
        except BaseException:
            self._broker.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._appender.close()
        self._broker.close()

    def send(self, key: str, data: bytes, name: str, kind: str, moment: dt.datetime) -> None:
        """Take an event into the buffer.

        Args:
            key: Events of one key keep their order.
            data: JSON.
            name: The event's id: sent twice, it counts once.
            kind: What happened.
            moment: When.
        """
        value, headers = _encode(
            data, id=name, source=self._source, type=kind, time=moment, subject=key
        )
        self._appender.append(self._topic, key.encode(), value, headers)

    def flush(self) -> None:
        """Wait until everything is on the broker's disk.

        Raises:
            BrokerUnavailable: Some of it is not; send it again.
        """
        if left := self._appender.flush(_SECONDS):
            raise BrokerUnavailable(f"{left} events are not durable yet")

"""Sends events from other programs: a service's backend, a script, a test."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from trivet import brokers
from trivet.errors import BrokerError, BrokerUnavailable
from trivet.events import CloudEvents, Mode, PlainJson

FLUSH_SECONDS = 30.0
"""How long `Producer.flush` waits unless told otherwise."""


class Producer:
    """Sends events to a broker's topics: CloudEvents 1.0, or plain JSON.

    `send` returns at once; a thread or the broker's library writes what waits, many at a time.
    What `flush` returned for is on the broker's disk. Used by one thread.

    Args:
        url: The broker, as ``[broker] url`` in ``trivet.toml``.
        source: Who makes the events: a URI reference such as ``/taxi/backend``.
        format: ``cloudevents``, or ``json`` for the data as it is.
        mode: How CloudEvents are written: ``structured``, or ``binary`` (attributes as headers).
        root: The folder that a relative path in the url starts from.
        most: Events that may wait to be written.

    Raises:
        UnsupportedBroker: No broker is known for the url's scheme.
        MissingExtra: The broker's library is not installed.
        BrokerUnavailable: The broker cannot be reached.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str = "trivet",
        format: Literal["cloudevents", "json"] = "cloudevents",  # noqa: A002 - as in trivet.toml
        mode: Mode = "structured",
        root: Path = Path(),
        most: int = 100_000,
    ) -> None:
        self._source = source
        self._place = brokers.place(url)
        self._encode = (PlainJson() if format == "json" else CloudEvents(mode)).encode
        self._broker = brokers.connect(url, root)
        self._lock = threading.Lock()
        self._lost: list[str] = []
        try:
            self._appender = self._broker.appender(most=most)
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
        self.close()

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic; nothing happens if it is there."""
        self._broker.create(topic, partitions)

    def send(
        self,
        topic: str,
        key: str | bytes | None,
        data: Any,
        *,
        id: str | None = None,  # noqa: A002 - the attribute's name
        type: str = "",  # noqa: A002
        time: dt.datetime | None = None,
    ) -> str:
        """Take an event into the buffer; events of one key keep their order.

        Args:
            topic: The topic, which must exist.
            key: What the event is about; also its ``subject``.
            data: Bytes that are JSON already, or anything that can be written as JSON.
            id: Unlike that of any other event of this source: a consumer counts an id once, so an
                event that may be sent twice needs one of its own. By default a new one.
            type: What happened; by default the topic's name.
            time: When it happened, with a time zone; by default now.

        Returns:
            The event's id.

        Raises:
            BufferFull: More events wait than may; `flush`, or come back later. Nothing is dropped.
            TopicNotFound: There is no such topic.
            BrokerError: Events taken before were given up by the broker; see `flush`.
        """
        self._tell_lost()
        name = uuid.uuid4().hex if id is None else id
        value, headers = self._encode(
            data if isinstance(data, bytes) else msgspec.json.encode(data),
            id=name,
            source=self._source,
            type=type or topic,
            time=dt.datetime.now(dt.UTC) if time is None else time,
            subject=key.decode(errors="replace") if isinstance(key, bytes) else key,
        )
        raw = key.encode() if isinstance(key, str) else key
        self._appender.append(topic, raw, value, headers, self._give_up)
        return name

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything that was sent is on the broker's disk.

        Raises:
            BrokerUnavailable: Some of it still waits after so many seconds; flush again.
            BrokerError: The broker refused some of it for good; its message says how much and why.
        """
        left = self._appender.flush(seconds)
        self._tell_lost()
        if left:
            raise BrokerUnavailable(
                f"{self._place}: {left:,} events are not written after {seconds:g} s; "
                "they wait: flush again when the broker is back"
            )

    def close(self) -> None:
        """Flush, then let go of the broker.

        Raises:
            BrokerUnavailable: Some events could not be written, and are lost.
            BrokerError: The broker refused some.
        """
        try:
            self.flush()
        finally:
            self._appender.close()
            self._broker.close()

    def _give_up(self, why: str) -> None:
        with self._lock:  # the broker's own thread may call
            self._lost.append(why)

    def _tell_lost(self) -> None:
        if self._lost:
            with self._lock:
                lost, self._lost = self._lost, []
            raise BrokerError(
                f"{self._place} refused {len(lost):,} events, which are lost: {lost[-1]}; "
                "send them again"
            )

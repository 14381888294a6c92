"""Sends events from any program: at once for the caller, in batches for the broker."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from trivet.brokers import connect, place
from trivet.errors import BrokerError
from trivet.events import CloudEvents, Format, PlainJson

_encode = msgspec.json.Encoder().encode


class Producer:
    """Sends events to the topics of a broker; any thread may use it.

    An event is durable once `flush` (or the end of the `with` block) has returned: until then it
    waits in memory or is on its way. Events with the same key keep their order.

    Args:
        url: The broker: ``sqlite:///data/events.db`` or ``kafka://host:9092?…``.
        source: Who sends, as a URI reference such as ``/taxi/backend``; needed for CloudEvents.
        format: ``cloudevents`` (structured mode), ``cloudevents-binary`` or ``json`` (the data as
            it is).
        buffer: Events that may wait; one more raises `trivet.errors.BufferFull`.
        root: The folder that a relative path starts from.
    """

    def __init__(
        self,
        url: str,
        source: str = "",
        *,
        format: Literal["cloudevents", "cloudevents-binary", "json"] = "cloudevents",  # noqa: A002
        buffer: int = 100_000,
        root: Path = Path(),
    ) -> None:
        formats: dict[str, Callable[[], Format]] = {
            "cloudevents": CloudEvents,
            "cloudevents-binary": lambda: CloudEvents("binary"),
            "json": PlainJson,
        }
        if format not in formats:
            raise BrokerError(f"format {format!r}: write one of {', '.join(formats)}")
        if not source and format != "json":
            raise BrokerError("a CloudEvent needs a source: Producer(url, source='/my/backend')")
        self._url = place(url)
        self._source = source
        self._format = formats[format]()
        self._broker = connect(url, root)
        self._appender = self._broker.appender(most=buffer)
        self._lock = threading.Lock()
        self._closed = False

    def send(
        self,
        topic: str,
        key: str | bytes | None,
        data: Mapping[str, Any] | bytes,
        *,
        type: str = "",  # noqa: A002 - the attribute's name
        id: str = "",  # noqa: A002
        time: dt.datetime | None = None,
        subject: str | None = None,
        failed: Callable[[str], None] | None = None,
    ) -> str:
        """Take one event and return its id; nothing is waited for.

        Args:
            topic: Where to.
            key: Events of one key keep their order; None for no order.
            data: A mapping that can be written as JSON, or JSON.
            type: What kind of thing happened; by default the topic's name.
            id: Who sends an event again gives the same id, so that it counts once; by default a
                new one.
            time: When it happened; by default now.
            subject: What it happened to.
            failed: Told, from a thread of the producer's or from `flush`, why the event is given
                up. Without it, the next `flush` raises.

        Raises:
            BufferFull: So many events wait already that no more are taken.
            EventTooLarge: The broker takes no event of that size.
            TopicNotFound: There is no such topic.
            BrokerError: The data cannot be written as JSON, or the producer is closed.
        """
        try:
            body = data if isinstance(data, bytes) else _encode(data)
            identity = id or uuid.uuid4().hex
            value, headers = self._format.encode(
                body,
                id=identity,
                source=self._source,
                type=type or topic,
                time=_aware(time) if time else dt.datetime.now(dt.UTC),
                subject=subject,
            )
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise BrokerError(f"topic {topic!r}: the event cannot be written: {error}") from None
        place_of = key.encode() if isinstance(key, str) else key
        with self._lock:
            self._check_open()
            self._appender.append(topic, place_of, value, headers, failed)
        return identity

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Create a topic; nothing happens if it is there.

        Args:
            topic: Its name.
            partitions: Events of one key are in one partition; so many consumers share the work.

        Raises:
            BrokerError: The broker takes no such name or number, or the producer is closed.
            BrokerUnavailable: The broker cannot be reached.
        """
        with self._lock:
            self._check_open()
            self._broker.create(topic, partitions)

    def flush(self, seconds: float = 30.0) -> None:
        """Wait until every event sent before is durable.

        Raises:
            BrokerError: Some are not after so many seconds (they are kept, and tried further), or
                some were given up.
        """
        with self._lock:
            self._check_open()
            left = self._appender.flush(seconds)
        if left:
            raise BrokerError(
                f"{self._url}: {left:,} events are not durable after {seconds:g} s; they are kept: "
                "flush() again when the broker can be reached"
            )

    def close(self, seconds: float = 30.0) -> None:
        """Flush and end; the connection is closed even if that raises."""
        if self._closed:
            return
        try:
            self.flush(seconds)
        finally:
            self._closed = True
            self._appender.close()
            self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise BrokerError(f"{self._url}: the producer is closed")


def _aware(moment: dt.datetime) -> dt.datetime:
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment

"""A member of a Kafka consumer group, with incremental rebalances."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from trivet.brokers.base import Fetched, Headers, Listener, Start
from trivet.brokers.kafka_errors import REBALANCING, cause, error_of, translated
from trivet.brokers.kafka_log import LOG
from trivet.errors import BrokerUnavailable, MembershipLost, OffsetGone

_CALL_SECONDS = 30.0
_REBALANCE_SECONDS = 10.0
"""How long a commit waits for a rebalance to be over."""

_DRAINS, _DRAIN_SECONDS = 2, 0.01
_MANY = 10_000

_logger = logging.getLogger("trivet.brokers")


class KafkaMember:
    """One member; see `trivet.brokers.base.Member`.

    Args:
        settings: librdkafka's, with the group.
        topic: The topic.
        listener: Told of partitions that come and go.
        start: Where the group begins.
        broker: For messages.

    Attributes:
        topic: The topic.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topic: str,
        listener: Listener,
        *,
        start: Start,
        broker: str,
    ) -> None:
        self.topic = topic
        self._listener = listener
        self._start = start
        self._broker = broker
        self._held: set[int] = set()
        self._waiting: set[int] = set()
        self._paused: set[int] = set()
        self._failure: Exception | None = None
        self._trouble: KafkaError | None = None
        self._gone: dict[int, OffsetGone] = {}
        self._closing = False
        self._membership: Any = None
        self._is_proven = threading.Event()
        with translated(broker):
            self._consumer = Consumer({**settings, "error_cb": self._told}, logger=LOG)
            self._consumer.subscribe(
                [topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def poll(self, most: int, seconds: float) -> list[Fetched]:
        if self._waiting:
            self._assign_again()
        for gone in self._gone.values():
            raise OffsetGone(str(gone))
        messages = []
        with translated(self._broker):
            first = self._consumer.poll(seconds)
            if first is not None:
                messages = [first]
                if most > 1:
                    messages += self._consumer.consume(most - 1, 0)
            self._prove()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        fetched = self._columns(messages)
        if not fetched and self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise error_of(trouble, self._broker)
        return fetched

    def pause(self, partitions: Sequence[int]) -> None:
        self._paused.update(self._held.intersection(partitions))
        with translated(self._broker):
            self._consumer.pause(self._parts(self._held.intersection(partitions)))

    def resume(self, partitions: Sequence[int]) -> None:
        self._paused.difference_update(partitions)
        with translated(self._broker):
            self._consumer.resume(self._parts(self._held.intersection(partitions) - self._waiting))

    def seek(self, partition: int, offset: int) -> None:
        self._check([partition])
        self._gone.pop(partition, None)
        self._place_at({partition: offset})

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._check(offsets)
        if not offsets:
            return
        deadline = time.monotonic() + _REBALANCE_SECONDS
        parts = [TopicPartition(self.topic, p, offset) for p, offset in offsets.items()]
        while True:
            try:
                done = self._consumer.commit(offsets=parts, asynchronous=False) or []
                errors = [part.error for part in done if part.error is not None]
            except KafkaException as error:
                errors = [error.args[0]]
            if not errors:
                return
            if errors[0].code() not in REBALANCING or time.monotonic() > deadline:
                raise error_of(errors[0], self._group_place)
            time.sleep(0.02)

    def check_held(self, partitions: Collection[int]) -> Any:
        """Return what proves the membership to a transaction.

        Raises:
            MembershipLost: A partition has gone to another member.
        """
        self._check(partitions)
        self._is_proven.wait(_REBALANCE_SECONDS)
        if self._membership is None:
            raise MembershipLost(f"{self._group_place}: the group is being shared out anew")
        return self._membership

    def ask_again(self) -> None:
        """Forget what proves the membership: it was refused, or is of an older generation."""
        self._is_proven.clear()
        self._membership = None

    def _prove(self) -> None:
        """Ask for what proves the membership, once a generation.

        Only by the thread that polls: beside a poll, the answer may take minutes.
        """
        if self._membership is None and self._held:
            with suppress(KafkaException):  # the next poll asks again; what was read is not lost
                self._membership = self._consumer.consumer_group_metadata()
                self._is_proven.set()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._drain()
        with translated(self._broker):
            self._consumer.close()

    def _drain(self) -> None:
        """Give back all partitions, and hear what was not heard yet of those that come and go.

        What librdkafka still waits to be heard of when it closes, it may wait for without end: all
        of it after a fatal error, as when another member took this one's name.
        """
        deadline = time.monotonic() + _REBALANCE_SECONDS
        is_fatal = False
        try:
            self._consumer.unsubscribe()
        except KafkaException:
            is_fatal = True
        for _ in range(_DRAINS):
            with suppress(KafkaException):
                self._consumer.consume(_MANY, _DRAIN_SECONDS)
        while not is_fatal and self._consumer.assignment() and time.monotonic() < deadline:
            with suppress(KafkaException):
                self._consumer.consume(_MANY, _DRAIN_SECONDS)

    @property
    def _group_place(self) -> str:
        return f"{self._broker}, topic {self.topic!r}"

    def _columns(self, messages: Sequence[Message]) -> list[Fetched]:
        found: dict[int, list[Message]] = {}
        for message in messages:
            error = message.error()
            if error is not None:
                self._refuse(error, message.partition())
            else:
                found.setdefault(message.partition() or 0, []).append(message)
        ready = found.keys() & (self._held - self._waiting)
        return [columns(partition, found[partition]) for partition in sorted(ready)]

    def _refuse(self, error: KafkaError, partition: int | None) -> None:
        """Keep what went wrong for the end of this poll, or the begin of the next."""
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            _logger.warning("%s: %s", self._group_place, error.str())
            return
        problem = error_of(error, f"{self._group_place}, partition {partition}")
        if isinstance(problem, OffsetGone) and partition is not None:
            self._gone[partition] = problem
        elif not isinstance(problem, BrokerUnavailable):
            self._failure = problem
        else:
            self._trouble = error

    def _told(self, error: KafkaError) -> None:
        self._trouble = cause(self._trouble, error)

    def _on_assign(self, _: Consumer, parts: list[TopicPartition]) -> None:
        self.ask_again()
        if self._closing:  # to be given back, which nothing can be that was not taken
            self._consumer.incremental_assign(
                [TopicPartition(self.topic, part.partition, OFFSET_END) for part in parts]
            )
            return
        arrived = {part.partition for part in parts}
        self._held |= arrived
        try:
            places = self._places(arrived)
        except Exception as error:  # noqa: BLE001 - raised by poll: not through librdkafka
            self._failure = error
            self._waiting |= arrived
            places = dict.fromkeys(arrived, OFFSET_END)
        self._consumer.incremental_assign(
            [TopicPartition(self.topic, p, offset) for p, offset in places.items()]
        )
        self._consumer.pause(self._parts(self._waiting))

    def _assign_again(self) -> None:
        """Ask the listener once more, who failed when the partitions came."""
        self._place_at(self._places(self._waiting))
        self._waiting.clear()

    def _place_at(self, places: Mapping[int, int]) -> None:
        parts = [TopicPartition(self.topic, p, offset) for p, offset in places.items()]
        with translated(self._group_place):
            self._consumer.incremental_unassign(parts)
            self._consumer.incremental_assign(parts)
            # A pause outlives both.
            self._consumer.resume(self._parts(places.keys() - self._paused))
            self._consumer.pause(self._parts(places.keys() & self._paused))

    def _places(self, partitions: Collection[int]) -> dict[int, int]:
        """Return where to begin in partitions that came."""
        if not partitions:  # a rebalance may bring none
            return {}
        wanted = dict(self._listener.assigned(sorted(partitions)))
        rest = [TopicPartition(self.topic, p) for p in partitions if p not in wanted]
        if not rest:
            return wanted
        with translated(self._group_place):
            committed = self._consumer.committed(rest, _CALL_SECONDS)
        places = {part.partition: part.offset for part in committed if part.offset >= 0}
        begun = {p.partition: self._first(p.partition) for p in committed if p.offset < 0}
        if begun and self._start != "earliest":  # from now on the group has begun
            self.commit(begun)
        return {**begun, **places, **wanted}

    def _first(self, partition: int) -> int:
        if self._start == "earliest":
            return OFFSET_BEGINNING
        part = TopicPartition(self.topic, partition)
        with translated(self._group_place):
            if self._start != "latest":
                part.offset = int(self._start.timestamp() * 1000)
                found = self._consumer.offsets_for_times([part], _CALL_SECONDS)[0]
                if found.offset >= 0:
                    return int(found.offset)
            bounds = self._consumer.get_watermark_offsets(part, _CALL_SECONDS, cached=False)
        if bounds is None:
            raise BrokerUnavailable(f"{self._group_place}, partition {partition}: no answer")
        return int(bounds[1])

    def _on_revoke(self, _: Consumer, parts: list[TopicPartition]) -> None:
        self.ask_again()
        if not self._closing:
            self._prove()  # for what is kept before they go
        self._leave(parts, lost=False)

    def _on_lost(self, _: Consumer, parts: list[TopicPartition]) -> None:
        self.ask_again()
        self._leave(parts, lost=True)

    def _leave(self, parts: list[TopicPartition], *, lost: bool) -> None:
        left = {part.partition for part in parts}
        ours = sorted((left & self._held) - self._waiting)
        try:
            if ours and not self._closing:
                self._listener.revoked(ours, lost=lost)
        except Exception as error:  # noqa: BLE001 - raised by poll: not through librdkafka
            self._failure = error
        finally:
            self._held -= left
            self._waiting -= left
            self._paused -= left
            for partition in left:
                self._gone.pop(partition, None)
            with suppress(KafkaException) if self._closing else nullcontext():
                self._consumer.incremental_unassign(parts)

    def _check(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            if partition not in self._held:
                raise MembershipLost(
                    f"{self._group_place}, partition {partition} is not of this member (any more)"
                )

    def _parts(self, partitions: Collection[int]) -> list[TopicPartition]:
        return [TopicPartition(self.topic, partition) for partition in partitions]


def columns(partition: int, messages: Sequence[Message]) -> Fetched:
    """Return messages of one partition as columns."""
    headers: list[Headers] = []
    last: Any = None
    shared: Headers = ()
    for message in messages:
        raw: Any = message.headers()
        if raw != last:
            last = raw
            shared = tuple((name, value or b"") for name, value in raw or ())
        headers.append(shared)
    return Fetched(
        partition,
        [message.offset() or 0 for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        headers if last is not None or any(headers) else None,
        [message.timestamp()[1] for message in messages],
    )

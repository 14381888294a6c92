"""Appends to Kafka: idempotent, in order by key, and in transactions if it has a name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from trivet.brokers.base import Failed, Headers, Member
from trivet.brokers.kafka_errors import error_of, translated
from trivet.brokers.kafka_log import LOG
from trivet.brokers.kafka_member import KafkaMember
from trivet.errors import BrokerError, BufferFull, MembershipLost

CALL_SECONDS = 30.0
"""How long one call may wait for the broker."""

_SERVE_EVERY = 1024

_TAKEN_BACK = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}
"""Why events of a transaction that was aborted are not delivered."""

_logger = logging.getLogger("trivet.brokers")


class KafkaAppender:
    """One appender; see `trivet.brokers.base.Appender`.

    Args:
        settings: librdkafka's.
        check_topic: Raises if there is no such topic.
        transaction: The name of its transactions, or none.
        broker: For messages.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        check_topic: Callable[[str], None],
        *,
        transaction: str,
        broker: str,
    ) -> None:
        self._check_topic = check_topic
        self._transaction = transaction
        self._broker = broker
        self._topics: set[str] = set()
        self._lost: list[str] = []
        self._served = 0
        named = {"transactional.id": transaction} if transaction else {}
        with translated(broker):
            self._producer = Producer(
                {**settings, **named, "on_delivery": self._delivered}, logger=LOG
            )
        self._begun = False
        if transaction:
            self._patiently(lambda: self._producer.init_transactions(CALL_SECONDS))

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        failed: Failed | None = None,
    ) -> None:
        if topic not in self._topics:
            self._check_topic(topic)
            self._topics.add(topic)
        if self._transaction and not self._begun:
            raise BrokerError("this appender has transactions only: call begin() first")
        if any("\0" in name for name, _ in headers):
            raise BrokerError(f"topic {topic!r}: the name of a header may have no NUL character")
        more: dict[str, Any] = {"headers": list(headers)} if headers else {}
        if failed is not None:
            more["on_delivery"] = lambda error, _: failed(_reason(error)) if error else None
        self._served += 1
        try:
            if self._served % _SERVE_EVERY == 0:
                self._producer.poll(0)
            self._producer.produce(topic, value, key, **more)
        except BufferError:
            self._producer.poll(0)
            raise BufferFull(
                f"{len(self._producer):,} events wait to be sent to {self._broker}; "
                "flush() first, or append less at a time"
            ) from None
        except KafkaException as error:
            raise error_of(error.args[0], f"{self._broker}, topic {topic!r}") from None

    def flush(self, seconds: float) -> int:
        with translated(self._broker):
            left = int(self._producer.flush(seconds))
        if self._lost:
            lost, self._lost = self._lost, []
            raise BrokerError(f"{len(lost):,} events were given up: {lost[0]}")
        return left

    def begin(self) -> None:
        if not self._transaction:
            raise BrokerError("this appender was opened without a transaction name")
        with translated(self._broker):
            self._producer.begin_transaction()
        self._begun = True

    def commit(self, member: Member, offsets: Mapping[int, int]) -> None:
        if not self._begun:
            raise BrokerError("commit() without begin()")
        if not isinstance(member, KafkaMember):
            raise BrokerError("the member whose offsets are committed is of another broker")
        parts = [TopicPartition(member.topic, p, offset) for p, offset in offsets.items()]
        group = member.check_held(offsets) if parts else None
        try:
            if parts:
                self._patiently(
                    lambda: self._producer.send_offsets_to_transaction(parts, group, CALL_SECONDS)
                )
            self._patiently(lambda: self._producer.commit_transaction(CALL_SECONDS))
        except BrokerError:
            member.ask_again()
            raise
        self._begun = False
        self._lost.clear()

    def abort(self) -> None:
        if not self._begun:
            return
        self._begun = False
        with suppress(MembershipLost):  # whoever shut this one out has ended its transaction
            self._patiently(lambda: self._producer.abort_transaction(CALL_SECONDS))
        self._lost.clear()

    def close(self) -> None:
        with suppress(KafkaException):  # one that was shut out says so once more
            self._producer.purge()
            self._producer.flush(0)

    def _patiently(self, run: Callable[[], object]) -> None:
        """Run it again while librdkafka says that it may succeed then."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                run()
            except KafkaException as error:
                told = error.args[0]
                again = told.retriable() and not told.txn_requires_abort()
                if not again or time.monotonic() > deadline:
                    what = f"{self._broker}, transactions {self._transaction!r}"
                    raise error_of(told, what) from None
            else:
                return
            time.sleep(0.02)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() not in _TAKEN_BACK:
            why = _reason(error)
            self._lost.append(f"topic {message.topic()!r}: {why}")
            _logger.error("an event for topic %r is given up: %s", message.topic(), why)


def _reason(error: KafkaError) -> str:
    return f"{error.str().strip()} ({error.name()})"

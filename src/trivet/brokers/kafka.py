"""Kafka: ``kafka://host:9092,other:9092?security.protocol=SASL_SSL&sasl.username=…``.

Every setting of librdkafka may stand among the url's parameters, but those that the promises of
`trivet.brokers.base` rest on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from trivet.brokers.base import Fetched, Lag, Listener, Start
from trivet.brokers.kafka_appender import KafkaAppender
from trivet.brokers.kafka_errors import cause, error_of, is_refusal, translated
from trivet.brokers.kafka_log import LOG
from trivet.brokers.kafka_member import KafkaMember, columns
from trivet.brokers.kafka_offsets import KafkaOffsets
from trivet.errors import BrokerError, BrokerUnavailable, NotAuthorized, TopicNotFound

_CALL_SECONDS = 15.0
_ASK_SECONDS = 1.0
"""How long one of several tries to reach the broker takes."""

_OURS = {
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "transactional.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "isolation.level",
    "partition.assignment.strategy",
    "group.protocol",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "delivery.report.only.error",
    "queue.buffering.max.messages",
}
_ASKING = {"allow.auto.create.topics": False}
"""A topic that somebody only asks for, or misspells, is not to come into being by that."""

_MEMBER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "partition.assignment.strategy": "cooperative-sticky",
    "fetch.queue.backoff.ms": 50,
    "heartbeat.interval.ms": 1000,
}
_READER = {"enable.partition.eof": True, "fetch.wait.max.ms": 10}
_APPENDER = {
    "enable.idempotence": True,
    "delivery.report.only.error": True,
    # As Java's clients do, so that a key has one partition whoever sends it.
    "partitioner": "murmur2_random",
    "queue.buffering.max.kbytes": 262_144,
}

_TRANSACTIONS = {"retry.backoff.ms": 10}
"""The broker is still ending a transaction when the next one begins, and asks to come again."""


class KafkaBroker:
    """A Kafka cluster; see `trivet.brokers.base.Broker`.

    Args:
        url: The url.
        root: Not used: there are no paths but those of librdkafka's own settings.
    """

    def __init__(self, url: str, root: Path) -> None:
        servers, given = _read(url)
        self._name = f"kafka://{servers}"
        self._common: dict[str, Any] = {"bootstrap.servers": servers, **_ASKING, **given}
        self._trouble: KafkaError | None = None
        settings: dict[str, Any] = {**self._common, "error_cb": self._told}
        with translated(self._name):
            self._admin = AdminClient(settings, logger=LOG)
        self._offsets = KafkaOffsets({**_MEMBER, **self._common}, self._name)
        self._reader: Consumer | None = None

    @property
    def first_partitions(self) -> int:
        return 0

    def topics(self) -> Mapping[str, int]:
        found = self._metadata().topics
        return {
            name: len(topic.partitions)
            for name, topic in sorted(found.items())
            if not name.startswith("__")
        }

    def create(self, topic: str, partitions: int = 1) -> None:
        try:
            self._result(self._admin.create_topics([NewTopic(topic, partitions)])[topic])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise error_of(error.args[0], f"{self._name}, topic {topic!r}") from None
        self._wait(lambda: self._is_ready(topic), f"topic {topic!r} has no leader yet")

    def delete(self, topic: str) -> None:
        place = f"{self._name}, topic {topic!r}"
        try:
            asked = self._admin.delete_topics([topic], request_timeout=_CALL_SECONDS)
            self._result(asked[topic])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise error_of(error.args[0], place) from None
        # Asked for it by name, a broker might make it anew.
        self._wait(lambda: topic not in self.topics(), f"topic {topic!r} is still there")

    def delete_group(self, group: str) -> None:
        place = f"{self._name}, group {group!r}"
        deadline = time.monotonic() + _CALL_SECONDS
        while True:
            try:
                asked = self._admin.delete_consumer_groups([group], request_timeout=_CALL_SECONDS)
                self._result(asked[group])
            except KafkaException as error:
                if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return
                if error.args[0].code() == KafkaError.NON_EMPTY_GROUP:
                    raise BrokerError(f"{place} has members; stop them first") from None
                told = error_of(error.args[0], place)
                # It may be between two coordinators.
                if not isinstance(told, BrokerUnavailable) or time.monotonic() > deadline:
                    raise told from None
            else:
                return
            time.sleep(0.05)

    def _wait(self, is_done: Callable[[], bool], otherwise: str) -> None:
        """Look again until the cluster has done what it agreed to."""
        deadline = time.monotonic() + _CALL_SECONDS
        while not is_done():
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"{self._name}: {otherwise}")
            time.sleep(0.02)

    def member(
        self,
        topic: str,
        group: str,
        listener: Listener,
        *,
        start: Start = "earliest",
        instance: str = "",
    ) -> KafkaMember:
        self._partitions(topic)
        static = {"group.instance.id": instance} if instance else {}
        settings = {**_MEMBER, **self._common, **static, "group.id": group}
        return KafkaMember(settings, topic, listener, start=start, broker=self._name)

    def appender(self, *, transaction: str = "", most: int = 100_000) -> KafkaAppender:
        more = _TRANSACTIONS if transaction else {}
        settings = {**_APPENDER, **more, **self._common, "queue.buffering.max.messages": most}
        return KafkaAppender(
            settings, self._check_topic, transaction=transaction, broker=self._name
        )

    def read(self, topic: str, partition: int, offset: int, most: int) -> Fetched:
        self._check_partition(topic, partition)
        if self._reader is None:
            settings = {**_MEMBER, **_READER, **self._common, "group.id": "trivet-read"}
            with translated(self._name):
                self._reader = Consumer(settings, logger=LOG)
        place = f"{self._name}, topic {topic!r}, partition {partition}"
        deadline, found = time.monotonic() + _CALL_SECONDS, list[Any]()
        with translated(place):
            self._reader.assign([TopicPartition(topic, partition, offset)])
            try:
                while len(found) < most:
                    left = deadline - time.monotonic()
                    message = self._reader.poll(max(left, 0))
                    if message is None:
                        raise BrokerUnavailable(f"{place}: no answer for {_CALL_SECONDS:.0f} s")
                    error = message.error()
                    if error is None:
                        found.append(message)
                        found += [
                            more
                            for more in self._reader.consume(most - len(found), 0)
                            if more.error() is None
                        ]
                    elif error.code() == KafkaError._PARTITION_EOF:
                        break
                    elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                        continue  # the group is a name only: nothing is committed, nobody joins
                    else:
                        raise error_of(error, f"{place}, offset {offset}")
            finally:
                self._reader.unassign()
        return columns(partition, found)

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        return self._offsets.bounds(topic, self._partitions(topic), _CALL_SECONDS)

    def lag(self, topic: str, group: str) -> list[Lag]:
        bounds = self.bounds(topic)
        committed = self._offsets.committed(group, topic, bounds, _CALL_SECONDS)
        return [
            Lag(partition, committed.get(partition), end, end - committed.get(partition, first))
            for partition, (first, end) in bounds.items()
        ]

    def close(self) -> None:
        self._offsets.close()
        if self._reader is not None:
            self._reader.close()

    def _told(self, error: KafkaError) -> None:
        self._trouble = cause(self._trouble, error)

    def _metadata(self, topic: str | None = None) -> Any:
        deadline = time.monotonic() + _CALL_SECONDS
        asked: tuple[str, ...] = () if topic is None else (topic,)
        while True:
            try:
                return self._admin.list_topics(*asked, timeout=_ASK_SECONDS)
            except KafkaException as error:
                self._admin.poll(0)  # why it cannot be reached may have been told meanwhile
                if is_refusal(self._trouble):
                    raise BrokerError(f"{self._name}: {self._trouble}") from None
                told = error_of(error.args[0], self._name)
                if not isinstance(told, BrokerUnavailable) or time.monotonic() > deadline:
                    why = "" if self._trouble is None else f"; {self._trouble.str().strip()}"
                    raise type(told)(f"{told}{why}") from None

    def _partitions(self, topic: str) -> list[int]:
        found = self._metadata(topic).topics[topic]
        if found.error is not None:
            error = error_of(found.error, f"{self._name}, topic {topic!r}")
            if isinstance(error, TopicNotFound):
                raise TopicNotFound(
                    f"{self._name} has no topic {topic!r}; create it first"
                ) from None
            raise error
        return sorted(found.partitions)

    def _check_topic(self, topic: str) -> None:
        self._partitions(topic)

    def _check_partition(self, topic: str, partition: int) -> None:
        known = self._partitions(topic)
        if partition not in known:
            raise TopicNotFound(f"topic {topic!r} has no partition {partition}, but {len(known)}")

    def _is_ready(self, topic: str) -> bool:
        found = self._metadata(topic).topics[topic]
        parts = found.partitions.values()
        if found.error is not None:
            told = error_of(found.error, f"{self._name}, topic {topic!r}")
            if isinstance(told, NotAuthorized):
                raise told
        return found.error is None and all(p.leader >= 0 and p.error is None for p in parts)

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result(_CALL_SECONDS)
        except TimeoutError:
            raise BrokerUnavailable(f"{self._name} does not answer") from None


def _read(url: str) -> tuple[str, dict[str, str]]:
    """Return the servers and the settings of a url."""
    servers, _, query = url.partition("://")[2].partition("?")
    servers = servers.rstrip("/")
    if not servers or "/" in servers or "#" in url:
        raise BrokerError(f"kafka://{servers}: write kafka://host:9092, with %23 for a #")
    if "@" in servers:
        raise BrokerError(
            "a kafka url has no user before its hosts; write "
            "kafka://host:9092?sasl.username=…&sasl.password=…"
        )
    given = {}
    for pair in filter(None, query.split("&")):
        name, _, text = pair.partition("=")
        name = unquote(name)
        if name in _OURS:
            raise BrokerError(f"kafka://{servers}: leave out {name}: Trivet sets it")
        given[name] = unquote(text)
    return servers, given

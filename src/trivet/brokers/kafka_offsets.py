"""Where partitions begin and end, and what a group has committed of them: asked by consumers.

Not by the admin client: what that asks of a group's coordinator aborts the process if it gives up
waiting and the broker comes back afterwards (librdkafka's issues 3663 and 4605); and what it asks
of a leader is refused after a restart, because it goes on naming the leader's former epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from threading import Lock
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from trivet.brokers.kafka_errors import error_of
from trivet.brokers.kafka_log import LOG
from trivet.errors import BrokerUnavailable

_AGAIN_SECONDS = 0.05

_QUIET = {"log_level": 2}
"""What keeps it from an answer is raised, and logged by who reads or appends."""


class KafkaOffsets:
    """What is asked of one cluster, by any thread.

    Args:
        settings: librdkafka's.
        broker: For messages.
    """

    def __init__(self, settings: Mapping[str, Any], broker: str) -> None:
        self._settings = settings
        self._broker = broker
        self._lock = Lock()
        self._consumers: dict[str, Consumer] = {}

    def bounds(
        self, topic: str, partitions: Collection[int], seconds: float
    ) -> dict[int, tuple[int, int]]:
        """Return the oldest offset of each partition, and the one that the next event gets.

        Raises:
            BrokerUnavailable: There was no answer for so long.
        """
        consumer = self._consumer("trivet-bounds", "read_committed")

        def at(moment: int) -> dict[int, int]:
            parts = [TopicPartition(topic, partition, moment) for partition in partitions]
            return _patiently(
                lambda left: consumer.offsets_for_times(parts, left),
                seconds,
                f"{self._broker}, topic {topic!r}",
            )

        # The two ends have the numbers of moments, too.
        first, last = at(OFFSET_BEGINNING), at(OFFSET_END)
        return {partition: (first[partition], last[partition]) for partition in partitions}

    def committed(
        self, group: str, topic: str, partitions: Collection[int], seconds: float
    ) -> dict[int, int]:
        """Return the next offset that a group reads of each partition it has committed one of.

        Raises:
            BrokerUnavailable: There was no answer for so long.
        """
        # What an open transaction is about to commit would be waited for.
        consumer = self._consumer(group, "read_uncommitted")
        parts = [TopicPartition(topic, partition) for partition in partitions]
        found = _patiently(
            lambda left: consumer.committed(parts, left),
            seconds,
            f"{self._broker}, group {group!r}",
        )
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    def close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()

    def _consumer(self, group: str, isolation: str) -> Consumer:
        """Return the consumer that asks in the name of a group, and never joins it."""
        with self._lock:
            if group not in self._consumers:
                own = {"group.id": group, "isolation.level": isolation}
                self._consumers[group] = Consumer({**self._settings, **_QUIET, **own}, logger=LOG)
            consumer = self._consumers[group]
        consumer.poll(0)  # else what it tells of its connections would pile up
        return consumer


def _patiently(
    ask: Callable[[float], list[TopicPartition]], seconds: float, place: str
) -> dict[int, int]:
    """Ask until there is an answer for every partition."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            found = ask(max(left, _AGAIN_SECONDS))
            errors = [part.error for part in found if part.error is not None]
        except KafkaException as error:
            errors = [error.args[0]]
        if not errors:
            return {part.partition: part.offset for part in found}
        told = error_of(errors[0], place)
        if errors[0].code() == KafkaError._UNKNOWN_PARTITION:  # it is known, but has no leader now
            told = BrokerUnavailable(str(told))
        if not isinstance(told, BrokerUnavailable) or left <= 0:
            raise told from None
        time.sleep(_AGAIN_SECONDS)

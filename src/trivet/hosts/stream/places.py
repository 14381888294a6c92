"""Where a stream goes on in its partitions: the results database knows, or the group does."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from trivet.brokers.base import Broker, Start
from trivet.databases import Connection
from trivet.errors import DatabaseError, OffsetGone
from trivet.results import offsets
from trivet.results.layout import open_results

GO_ON = "to go on without them:"

log = logging.getLogger("trivet.stream")


class Places(Protocol):
    """Says where to go on."""

    def begin(self, partitions: Collection[int], reached: Mapping[int, int]) -> Mapping[int, int]:
        """Return the next offset of each partition; one not named is left to the group's member.

        Args:
            partitions: The partitions.
            reached: How far this worker has kept those that it had already.

        Raises:
            TransientError: The database is away.
            BrokerUnavailable: The broker is.
            OffsetGone: An offset is none of the topic's any more.
        """
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class GroupPlaces:
    """The group's own offsets.

    Args:
        broker: The broker.
        topic: The topic.
        group: The group.
        accept_loss: Whether to go on behind events that fell out of retention unscored.
    """

    def __init__(
        self, broker: Broker, topic: str, group: str, *, accept_loss: bool = False
    ) -> None:
        self._broker = broker
        self._topic, self._group = topic, group
        self._accept_loss = accept_loss

    def begin(self, partitions: Collection[int], reached: Mapping[int, int]) -> Mapping[int, int]:
        """See `Places`."""
        # What was committed in a transaction is not seen by everyone at once, but by the member.
        found = {p: offset for p, offset in reached.items() if p in partitions}
        if not self._accept_loss:
            return found
        found = committed(self._broker, self._topic, self._group, partitions) | found
        bounds = self._broker.bounds(self._topic)
        return {p: max(found[p], bounds[p][0]) for p in found}

    def close(self) -> None:
        """See `Places`."""


class ResultsPlaces:
    """The offsets in the results database; what it does not know, the group does.

    Args:
        url: The results database.
        root: The folder that relative paths start from.
        deployment: The deployment.
        broker: Has the topic.
        topic: The topic.
        group: The group, asked where the database knows nothing.
        start: Where a deployment begins that neither knows.
        accept_loss: Whether to go on behind events that fell out of retention unscored.
    """

    def __init__(
        self,
        url: str,
        root: Path,
        deployment: str,
        broker: Broker,
        topic: str,
        group: str,
        start: Start,
        *,
        accept_loss: bool = False,
    ) -> None:
        self._url, self._root = url, root
        self._deployment = deployment
        self._broker = broker
        self._topic, self._group, self._start = topic, group, start
        self._accept_loss = accept_loss
        self._db: Connection | None = None

    def begin(self, partitions: Collection[int], reached: Mapping[int, int]) -> Mapping[int, int]:
        """See `Places`; what this worker has reached, the database knows better."""
        try:
            if self._db is None:
                self._db = open_results(self._url, root=self._root)
            return self._begin(self._db, partitions)
        except DatabaseError:
            self.close()
            raise

    def close(self) -> None:
        """See `Places`."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _begin(self, db: Connection, partitions: Collection[int]) -> dict[int, int]:
        known = offsets.offsets(db, self._deployment, self._topic)
        fresh = [partition for partition in partitions if partition not in known]
        now = dt.datetime.now(dt.UTC)
        if fresh:
            first = committed(self._broker, self._topic, self._group, fresh)
            unknown = [partition for partition in fresh if partition not in first]
            first |= first_offsets(self._broker, self._topic, unknown, self._start)
            offsets.place(db, self._deployment, self._topic, first, now)
            known = offsets.offsets(db, self._deployment, self._topic)
        bounds = self._broker.bounds(self._topic)
        found = {partition: known[partition] for partition in partitions}
        for partition, offset in found.items():
            oldest, end = bounds.get(partition, (0, offset))
            if offset > end:
                raise OffsetGone(
                    f"{self._deployment} is at offset {offset} of partition {partition} of topic "
                    f"{self._topic!r}, which ends at {end}: the topic was made anew, or lost "
                    "events; give the deployment another name, or the topic its old events"
                )
            if offset < oldest:
                found[partition] = self._behind(db, partition, offset, oldest, now)
        return found

    def _behind(
        self, db: Connection, partition: int, offset: int, oldest: int, now: dt.datetime
    ) -> int:
        if not self._accept_loss:
            raise OffsetGone(
                f"{self._deployment}: events {offset} to {oldest - 1} of partition {partition} of "
                f"topic {self._topic!r} fell out of retention before they were scored; {GO_ON} "
                f"trivet consume {self._deployment} --accept-loss"
            )
        offsets.skip(db, self._deployment, self._topic, partition, oldest, now)
        log.warning(
            "%s: events %d to %d of partition %d of topic %r are gone and were never scored",
            self._deployment,
            offset,
            oldest - 1,
            partition,
            self._topic,
        )
        return oldest


def committed(
    broker: Broker, topic: str, group: str, partitions: Collection[int]
) -> dict[int, int]:
    """Return the offsets that a group has committed, by partition."""
    if not partitions:
        return {}
    return {
        lag.partition: lag.committed
        for lag in broker.lag(topic, group)
        if lag.committed is not None and lag.partition in partitions
    }


def first_offsets(
    broker: Broker, topic: str, partitions: Collection[int], start: Start
) -> dict[int, int]:
    """Return where a group begins in partitions that it has committed nothing of."""
    if not partitions:
        return {}
    bounds = broker.bounds(topic)
    if start == "earliest":
        return {partition: bounds[partition][0] for partition in partitions}
    if start == "latest":
        return {partition: bounds[partition][1] for partition in partitions}
    assert isinstance(start, dt.datetime)  # the two words are done
    wanted = start.timestamp() * 1000
    return {p: _first_since(broker, topic, p, bounds[p], wanted) for p in partitions}


def _first_since(
    broker: Broker, topic: str, partition: int, bounds: tuple[int, int], wanted: float
) -> int:
    """Return the first offset whose event was appended at a moment or later, by halving."""
    low, high = bounds
    while low < high:
        middle = (low + high) // 2
        found = broker.read(topic, partition, middle, 1)
        if found.offsets and found.times[0] < wanted:
            low = found.offsets[0] + 1
        else:
            high = middle
    return low

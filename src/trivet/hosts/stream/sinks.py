"""Where scored batches go, and what each way promises.

* `ResultsSink`: into the results database, exactly once; into topics too, if asked, at least once
  and before the database, with the same id each time.
* `TransactionSink`: into topics only, in one transaction with the group's offsets: exactly once
  for those who read what is committed.
* `TopicSink`: into topics only, at least once, before the group's offsets are committed.

The last two keep dead letters in the results database before anything else.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from trivet.brokers.base import Appender, Member
from trivet.errors import BrokerError, BrokerUnavailable, MembershipLost
from trivet.hosts.stream.metrics import Metrics
from trivet.hosts.stream.scoring import Scored
from trivet.hosts.stream.sending import Sender
from trivet.hosts.stream.store import Store
from trivet.results.offsets import Standing


class Sink(Protocol):
    """Takes scored batches, one after the other, in one thread.

    Attributes:
        mirrored: Whether the group's offsets are still to be committed after a batch was taken.
    """

    mirrored: bool

    def write(self, scored: Scored) -> None:
        """Have a batch kept; the same one may come again after a failure.

        Raises:
            TransientError: The database is away.
            BrokerUnavailable: The broker is.
            MembershipLost: Another worker has the partitions; nothing of the batch counts.
        """
        ...

    def tell(self, standings: Sequence[Standing]) -> None:
        """Have it known that partitions are consumed.

        Raises:
            DatabaseError: The database is away.
        """
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class ResultsSink:
    """Into the results database, and into topics before it.

    Args:
        store: The database.
        sender: The topics, if there are any.
        metrics: Counts events.
    """

    mirrored = True

    def __init__(self, store: Store, sender: Sender | None, metrics: Metrics) -> None:
        self._store = store
        self._sender = sender
        self._metrics = metrics
        self._sent: Scored | None = None

    def write(self, scored: Scored) -> None:
        """See `Sink`."""
        if self._sender is not None and self._sent is not scored:
            self._sender.append(scored)
            self._sender.flush()
            self._sent = scored
        there = self._store.keep(scored)
        self._sent = None
        _count(self._metrics, scored, there)

    def tell(self, standings: Sequence[Standing]) -> None:
        """See `Sink`."""
        self._store.tell(standings)

    def close(self) -> None:
        """See `Sink`."""
        self._store.close()


class TopicSink:
    """Into topics, at least once.

    Args:
        store: Keeps dead letters.
        sender: The topics.
        metrics: Counts events.
    """

    mirrored = True

    def __init__(self, store: Store, sender: Sender, metrics: Metrics) -> None:
        self._store = store
        self._sender = sender
        self._metrics = metrics

    def write(self, scored: Scored) -> None:
        """See `Sink`."""
        self._store.keep_rejects(scored)
        self._sender.append(scored)
        self._sender.flush()
        _count(self._metrics, scored)

    def tell(self, standings: Sequence[Standing]) -> None:
        """See `Sink`."""
        self._store.tell(standings)

    def close(self) -> None:
        """See `Sink`."""
        self._store.close()


class TransactionSink:
    """Into topics, in one transaction with the group's offsets.

    Args:
        store: Keeps dead letters.
        sender: The topics.
        appender: What the sender appends with, opened with the name of a transaction.
        member: Whose offsets are committed.
        metrics: Counts events.
    """

    mirrored = False

    def __init__(
        self, store: Store, sender: Sender, appender: Appender, member: Member, metrics: Metrics
    ) -> None:
        self._store = store
        self._sender = sender
        self._appender = appender
        self._member = member
        self._metrics = metrics

    def write(self, scored: Scored) -> None:
        """See `Sink`."""
        self._store.keep_rejects(scored)
        try:
            self._appender.begin()
            self._sender.append(scored)
        except BrokerError:
            self._appender.abort()
            raise
        ends = {partition: end for partition, (_, end) in scored.batch.spans.items()}
        try:
            self._appender.commit(self._member, ends)
        except MembershipLost:
            self._appender.abort()
            raise
        except BrokerUnavailable as error:
            # Whether it was committed only a new member can find out: this one begins no other.
            raise BrokerError(f"{error}; the outcome of a transaction is not known") from error
        self._sender.check()
        _count(self._metrics, scored)

    def tell(self, standings: Sequence[Standing]) -> None:
        """See `Sink`."""
        self._store.tell(standings)

    def close(self) -> None:
        """See `Sink`."""
        self._store.close()


def _count(metrics: Metrics, scored: Scored, there: int = 0) -> None:
    """Count a batch that was taken."""
    metrics.outcome("scored", scored.predictions.num_rows - there)
    metrics.outcome("duplicate", there)
    metrics.outcome("rejected", len(scored.rejected))
    metrics.outcome("skipped", scored.skipped)
    for each in scored.rejected:
        for problem in each.problems:
            metrics.dead_letter(problem.code)
    metrics.latency(scored.predictions.column("event_at"), time.time())

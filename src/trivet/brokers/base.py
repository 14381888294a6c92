"""What hosts and producers ask of a broker: append, read from, commit, lag.

A topic has partitions; a partition is a log in which each event has an offset and none moves.
Events with the same key go to the same partition, so they keep their order. The members of a
consumer group share the partitions of a topic between them; each group reads every event.

What is promised, and who keeps it:

* An append is durable once `Appender.flush` has returned 0 for it, and in order by key.
* `Member.poll` gives each partition's events in order, from the offset where it began.
* Nothing is committed but by `Member.commit` (or `Appender.commit`): a member that dies leaves
  its partitions to others, which begin at what was committed. Who keeps offsets of their own, in
  the transaction that keeps the effects, says in `Listener.assigned` where to begin.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Headers = tuple[tuple[str, bytes], ...]

Start = Literal["earliest", "latest"] | dt.datetime
"""Where a group begins that has committed nothing: the oldest event, only new ones, or the first
event appended at a moment or later. Where it began (but at the oldest) is committed at once."""

Failed = Callable[[str], None]
"""Told why an append was given up."""


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """Events of one partition, in order; every sequence has one item an event.

    Columns, not an object an event: they are turned into Arrow together.

    Attributes:
        partition: The partition.
        offsets: Ascending, not always without gaps.
        keys: None where an event has none.
        values: None for a tombstone.
        headers: None if no event has any.
        times: When each was appended (or, as the topic says, made): milliseconds since 1970.
    """

    partition: int
    offsets: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None
    times: Sequence[int]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in one partition.

    Attributes:
        partition: The partition.
        committed: The next offset that the group reads; None if it has committed nothing.
        end: The offset that the next event will get.
        events: Events between the two.
    """

    partition: int
    committed: int | None
    end: int
    events: int


class Listener(Protocol):
    """Told by `Member.poll`, from within it, which partitions come and go."""

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Return where to begin; a partition not named begins where the group committed last."""
        ...

    def revoked(self, partitions: Sequence[int], *, lost: bool) -> None:
        """Finish and commit what was polled of them, unless lost: then others may have them."""
        ...


class Member(Protocol):
    """One member of a consumer group, reading one topic.

    One thread polls, pauses, resumes and seeks; any thread commits. Polled events, `assigned` and
    `revoked` come in order: those of a partition after it was assigned, none after it was revoked.
    """

    def poll(self, most: int, seconds: float) -> list[Fetched]:
        """Return events as soon as there are some, or none after `seconds`.

        Call it at least every few seconds, with everything paused if need be: it is the sign of
        life that keeps the partitions.

        Raises:
            OffsetGone: An offset to read from fell out of retention.
            BrokerUnavailable: The broker cannot be reached; the same call may succeed later.
        """
        ...

    def pause(self, partitions: Sequence[int]) -> None:
        """Return no more events of these partitions until `resume`."""
        ...

    def resume(self, partitions: Sequence[int]) -> None:
        """End a pause."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Go on from another offset of an assigned partition."""
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit the next offset to read, by partition.

        Raises:
            MembershipLost: A partition has gone to another member.
            BrokerUnavailable: The broker cannot be reached.
        """
        ...

    def close(self) -> None:
        """Leave the group, so that others take over at once; the listener is not told."""
        ...


class Appender(Protocol):
    """Appends events; used by one thread."""

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        failed: Failed | None = None,
    ) -> None:
        """Take one event into the buffer; it is sent on in the background, or by `flush`.

        Raises:
            EventTooLarge: The broker takes no event of that size.
            BufferFull: So many events wait that no more are taken.
            TopicNotFound: There is no such topic.
        """
        ...

    def flush(self, seconds: float) -> int:
        """Wait until everything taken is durable; return how many events still are not.

        What was given up (told to `failed`) no longer counts.
        """
        ...

    def begin(self) -> None:
        """Begin a transaction: what is appended from now on becomes visible at `commit` only.

        Raises:
            BrokerError: This appender was opened without a transaction name.
        """
        ...

    def commit(self, member: Member, offsets: Mapping[int, int]) -> None:
        """Make what was appended visible and commit a member's offsets: both or neither.

        After any error, the transaction is still to be ended by `abort`.

        Raises:
            MembershipLost: Another member has taken over; nothing is visible.
        """
        ...

    def abort(self) -> None:
        """Take back what was appended since `begin`."""
        ...

    def close(self) -> None:
        """Give up what is not flushed."""
        ...


class Broker(Protocol):
    """A connection to a broker, from `trivet.brokers.connect`."""

    @property
    def first_partitions(self) -> int:
        """Partitions of a topic that is made by whoever reads it first; 0 if none is made so."""
        ...

    def topics(self) -> Mapping[str, int]:
        """Return the number of partitions of each topic."""
        ...

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic; nothing happens if it is there.

        Raises:
            NotAuthorized: The account may not.
        """
        ...

    def delete(self, topic: str) -> None:
        """Delete a topic with all its events; nothing happens if there is none.

        Raises:
            NotAuthorized: The account may not.
        """
        ...

    def delete_group(self, group: str) -> None:
        """Delete what a group committed; nothing happens if there is none.

        Raises:
            BrokerError: It has members.
            NotAuthorized: The account may not.
        """
        ...

    def member(
        self,
        topic: str,
        group: str,
        listener: Listener,
        *,
        start: Start = "earliest",
        instance: str = "",
    ) -> Member:
        """Join a consumer group.

        Args:
            topic: The topic.
            group: The group.
            listener: Told of partitions that come and go.
            start: Where a group begins that has committed nothing.
            instance: A name that stays the same over restarts (static membership): who joins under
                it takes over from who had it before, partitions included.

        Raises:
            TopicNotFound: There is no such topic.
        """
        ...

    def appender(self, *, transaction: str = "", most: int = 100_000) -> Appender:
        """Return something that appends.

        Args:
            transaction: A name that only one live appender has; needed for `Appender.begin`.
                A second one of the same name shuts the first one out.
            most: Events that may wait to become durable.
        """
        ...

    def read(self, topic: str, partition: int, offset: int, most: int) -> Fetched:
        """Read from an offset on, without a group; no events if there are none yet.

        Raises:
            OffsetGone: The offset fell out of retention.
        """
        ...

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return by partition the oldest offset there is and the one that the next event gets."""
        ...

    def lag(self, topic: str, group: str) -> list[Lag]:
        """Return how far a group is behind, by partition."""
        ...

    def close(self) -> None:
        """Close what this object itself opened; members and appenders live on."""
        ...

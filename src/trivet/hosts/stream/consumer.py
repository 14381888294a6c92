"""The thread that polls: it keeps the membership, whatever the model and the database do."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from trivet.brokers.base import Broker, Fetched, Member
from trivet.errors import (
    BrokerError,
    BrokerUnavailable,
    MembershipLost,
    OffsetGone,
    TransientError,
    TrivetError,
)
from trivet.hosts.stream.intake import Chunk, Intake
from trivet.hosts.stream.metrics import Metrics
from trivet.hosts.stream.pipeline import RETRY_SECONDS, TELL_SECONDS, Pipeline, is_loss
from trivet.hosts.stream.places import GO_ON, Places
from trivet.hosts.stream.settings import StreamSettings
from trivet.results.offsets import Standing

POLL_SECONDS = 0.1
FULL_SECONDS = 1.0
"""How long nothing is polled while too much is under way, before the partitions are paused."""

MIRROR_SECONDS = 1.0
LOOK_SECONDS = 5.0
SETTLE_SECONDS = 5.0
"""How long a partition that goes to another member waits for the batch it is in."""

log = logging.getLogger("trivet.stream")

Make = Callable[[Member, Intake], Pipeline]


class Consumer:
    """Polls a topic as a member of a group; a listener of its own member.

    Args:
        settings: The deployment.
        broker: The broker.
        places: Where to go on in a partition.
        mirrored: Whether the group's offsets follow what was kept.
        make: Makes the pipeline for a member and an intake.
        accept_loss: Whether to go on behind events that fell out of retention unscored.
        metrics: Counts what it sees.
    """

    def __init__(
        self,
        settings: StreamSettings,
        broker: Broker,
        places: Places,
        metrics: Metrics,
        *,
        mirrored: bool,
        make: Make,
        accept_loss: bool = False,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._places = places
        self._metrics = metrics
        self._mirrored = mirrored
        self._intake = Intake(settings.max_queue, settings.max_queue_bytes)
        self._make = make
        self._accept_loss = accept_loss
        self._member: Member | None = None
        self._failure: TrivetError | None = None
        self._positions: dict[int, int] = {}  # by assigned partition, what is polled next
        self._unplaced: set[int] = set()  # assigned, but nobody could say yet where to begin
        self._begun: dict[int, tuple[int, float]] = {}  # where each began, and when
        self._stopping = False
        self._paused: set[int] | None = None  # the partitions, while too much is under way
        self._told = float("-inf")
        self._next_mirror = self._next_look = 0.0
        self._next_try, self._wait = 0.0, RETRY_SECONDS[0]
        self._stalled: set[int] = set()

    @property
    def partitions(self) -> list[int]:
        """The partitions that are this member's."""
        return sorted(self._positions.keys() | self._unplaced)

    def stop(self) -> None:
        """Take no more events, and end when those under way are kept."""
        self._stopping = True

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            TrivetError: It cannot go on.
        """
        member = self._join()
        if member is None:
            return
        self._member = member
        try:
            pipeline = self._make(member, self._intake)
        except BaseException:
            member.close()
            self._places.close()
            raise
        pipeline.start()
        self._metrics.tell("trivet_stream_workers", 1)
        try:
            while not self._stopping and pipeline.failure is None:
                self._turn(member)
            self._drain(member, pipeline)
        finally:
            self._intake.close()
            pipeline.give_up()
            pipeline.join(SETTLE_SECONDS)
            self._metrics.tell("trivet_stream_workers", 0)
            with suppress(BrokerUnavailable, MembershipLost):
                member.close()
            self._places.close()
        if pipeline.failure is not None and is_loss(pipeline.failure):
            raise pipeline.failure

    def assigned(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Say where to begin; see `trivet.brokers.base.Listener`."""
        log.info("%s: partitions %s came", self._settings.name, _listed(partitions))
        self._metrics.rebalance("assigned", len(partitions))
        self._intake.forget(partitions)
        self._begin(partitions, {})
        try:
            found = dict(self._places.begin(partitions, {}))
        except (TransientError, BrokerUnavailable) as error:
            # The membership must not wait for it: the partitions are placed as soon as it is back.
            self._tell(error)
            self._unplaced.update(partitions)
            return {}
        except TrivetError as error:  # a broker's library calls this, and may lose what is raised
            self._failure = error
            return {}
        self._positions |= self._begin(partitions, found)
        return found

    def _begin(self, partitions: Collection[int], found: Mapping[int, int]) -> dict[int, int]:
        """Note where partitions begin; where the group itself knows it, nobody else has to."""
        now = time.monotonic()
        begun = {partition: found.get(partition, -1) for partition in partitions}
        self._begun |= {partition: (offset, now) for partition, offset in begun.items()}
        return begun

    def revoked(self, partitions: Sequence[int], *, lost: bool) -> None:
        """Finish what was polled of partitions; see `trivet.brokers.base.Listener`."""
        what = "lost" if lost else "revoked"
        log.info("%s: partitions %s were %s", self._settings.name, _listed(partitions), what)
        self._metrics.rebalance(what, len(partitions))
        self._intake.drop(partitions)
        if not lost:
            self._intake.settle(partitions, SETTLE_SECONDS)
            if self._member is not None:
                with suppress(BrokerUnavailable, MembershipLost):
                    self._mirror(self._member, now=True)
        self._intake.forget(partitions)
        for partition in partitions:
            self._positions.pop(partition, None)
            self._unplaced.discard(partition)
            self._stalled.discard(partition)
            if self._paused is not None:
                self._paused.discard(partition)
            self._metrics.partition(partition, 0, stalled=False)

    def _join(self) -> Member | None:
        """Join the group, however long the broker is away; None if told to stop meanwhile."""
        settings = self._settings
        while not self._stopping:
            try:
                return self._broker.member(
                    settings.topic, settings.member_group, self, start=settings.begin
                )
            except BrokerUnavailable as error:
                self._trouble(error)
        return None

    def _turn(self, member: Member) -> None:
        """Poll once, and do what is due beside it."""
        try:
            if self._unplaced or self._intake.is_stale:
                self._place(member)
            room = self._has_room(member)
            most = max(1, min(self._settings.max_batch, self._intake.room)) if room else 1
            self._take(member.poll(most, POLL_SECONDS))
            if self._failure is not None:
                raise self._failure
            self._mirror(member)
            self._wait = RETRY_SECONDS[0]
        except MembershipLost as lost:  # the next poll tells what has gone
            log.info("%s: %s", self._settings.name, lost)
        except OffsetGone as error:
            if not self._accept_loss:
                name = self._settings.name
                said = str(error)
                how = "" if GO_ON in said else f"; {GO_ON} trivet consume {name} --accept-loss"
                raise OffsetGone(f"{said}{how}") from None
            self._intake.reset()
        except BrokerUnavailable as error:
            self._trouble(error)
        self._look()

    def _has_room(self, member: Member) -> bool:
        """Say whether events may come; where they may not for long, pause all partitions."""
        if self._intake.room and self._paused is None:
            return True
        patience = FULL_SECONDS if self._paused is None else POLL_SECONDS
        if self._intake.wait_for_room(patience):
            if self._paused is not None:
                member.resume(sorted(self._paused))
                self._paused = None
                self._metrics.tell("trivet_stream_paused", 0.0)
            return True
        every = set(self.partitions)
        if self._paused != every:  # some may have come meanwhile
            member.pause(sorted(every))
            self._paused = every
            self._metrics.tell("trivet_stream_paused", 1.0)
        return False

    def _take(self, polled: Collection[Fetched]) -> None:
        """Put what was polled into the intake."""
        now = time.monotonic()
        chunks = []
        for fetched in polled:
            partition = fetched.partition
            if partition not in self._positions or not len(fetched.offsets):
                continue  # not placed yet: it will be read again
            begin = self._positions[partition]
            if begin < 0 and self._begun[partition][0] < 0:
                self._begun[partition] = (fetched.offsets[0], now)
            chunks.append(Chunk.of(fetched, begin, now))
            self._positions[partition] = chunks[-1].end
        if chunks and not self._intake.is_stale:
            self._intake.put(chunks)

    def _place(self, member: Member) -> None:
        """Go to where the partitions are, as soon as somebody can say it."""
        if time.monotonic() < self._next_try:
            return
        stale = self._intake.is_stale
        partitions = self.partitions if stale else sorted(self._unplaced)
        if stale and not self._intake.settle(partitions, SETTLE_SECONDS):
            return
        try:
            found = self._places.begin(partitions, self._kept_so_far())
            for partition, offset in found.items():
                member.seek(partition, offset)
        except MembershipLost:  # the next poll tells what has gone
            return
        except (TransientError, BrokerUnavailable) as error:
            self._next_try = time.monotonic() + self._wait
            self._wait = min(2 * self._wait, RETRY_SECONDS[1])
            self._tell(error)
            return
        self._positions |= self._begin(partitions, found)
        self._unplaced.clear()
        if stale:
            self._intake.begin_anew()

    def _kept_so_far(self) -> dict[int, int]:
        """Return how far the partitions are kept, those that anything was polled of."""
        begun = {partition: offset for partition, (offset, _) in self._begun.items() if offset >= 0}
        return begun | {partition: at for partition, (at, _) in self._intake.reached().items()}

    def _mirror(self, member: Member, *, now: bool = False) -> None:
        """Commit what was kept to the group, for those who look at its lag."""
        if not self._mirrored or (not now and time.monotonic() < self._next_mirror):
            return
        self._next_mirror = time.monotonic() + MIRROR_SECONDS
        kept = self._intake.kept()
        ours = {partition: end for partition, end in kept.items() if partition in self._positions}
        if ours:
            member.commit(ours)

    def _drain(self, member: Member, pipeline: Pipeline) -> None:
        """Keep what is under way, for so long at most, and the membership meanwhile."""
        until = time.monotonic() + self._settings.stop_timeout.total_seconds()
        if self._positions:
            with suppress(BrokerUnavailable, MembershipLost):
                member.pause(self.partitions)
        self._intake.drop()
        self._intake.close()
        while not pipeline.join(POLL_SECONDS):
            if time.monotonic() > until:
                pipeline.give_up()
                log.error(
                    "%s: %d events under way could not be kept before the end; they are read again",
                    self._settings.name,
                    self._intake.events,
                )
                break
            with suppress(BrokerUnavailable, MembershipLost):
                member.poll(1, POLL_SECONDS)
        with suppress(BrokerUnavailable, MembershipLost):
            self._mirror(member, now=True)

    def _look(self) -> None:
        """Tell how far behind each partition is, and which does not move."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        try:
            bounds = self._broker.bounds(self._settings.topic)
        except BrokerError:  # it is told where events are read
            return
        self._metrics.tell("trivet_stream_under_way_events", self._intake.events)
        reached, limit = self._intake.reached(), self._settings.stalled_after.total_seconds()
        seen_at, standings = dt.datetime.now(dt.UTC), []
        for partition in self._positions:
            at, since = reached.get(partition, self._begun[partition])
            behind = max(0, bounds[partition][1] - max(at, bounds[partition][0]))
            moved_at = seen_at - dt.timedelta(seconds=now - since)
            standings.append(Standing(partition, behind, moved_at, seen_at))
            stalled = behind > 0 and now - since > limit
            self._metrics.partition(partition, behind, stalled=stalled)
            if stalled and partition not in self._stalled:
                log.error(
                    "%s: partition %d has %d events and has not moved for %.0f s",
                    self._settings.name,
                    partition,
                    behind,
                    now - since,
                )
            (self._stalled.add if stalled else self._stalled.discard)(partition)
        self._intake.standings = standings

    def _trouble(self, error: Exception) -> None:
        """Wait a little before the broker is tried again."""
        self._metrics.retry("broker")
        self._tell(error)
        until = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, RETRY_SECONDS[1])
        while not self._stopping and time.monotonic() < until:
            time.sleep(min(POLL_SECONDS, max(0.0, until - time.monotonic())))

    def _tell(self, error: Exception) -> None:
        """Log a trouble that goes on, now and then only."""
        now = time.monotonic()
        if now - self._told > TELL_SECONDS:
            self._told = now
            log.error("%s waits: %s", self._settings.name, error)


def _listed(partitions: Sequence[int]) -> str:
    return ", ".join(map(str, partitions))

"""A member of a consumer group of the embedded broker.

There is no coordinator: each member keeps a lease in the file, and each looks for itself what its
share of the partitions is. One with too many gives some back, one with too few takes free ones.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence

from trivet import owners
from trivet.brokers import embedded_log as log
from trivet.brokers.base import Fetched, Listener, Start
from trivet.brokers.embedded_file import LogFile
from trivet.errors import MembershipLost

_BRIEFEST, _LONGEST = 0.0005, 0.004
"""Seconds between two looks whether another process has written: soon after events, and later."""

_LOOKS = 16
"""So many looks at the other members a lease."""


class EmbeddedMember:
    """One member; see `trivet.brokers.base.Member`.

    Args:
        file: A connection of its own.
        topic: The topic.
        group: The group.
        listener: Told of partitions that come and go.
        start: Where the group begins.
        instance: The name of a member that comes back, or none.
        lease: Seconds after which a member that does not poll is taken for dead.
    """

    def __init__(
        self,
        file: LogFile,
        topic: str,
        group: str,
        listener: Listener,
        *,
        start: Start,
        instance: str,
        lease: float,
    ) -> None:
        self._file = file
        self._topic, self._group = topic, group
        self._listener = listener
        self._start = start
        self._instance = instance or None
        self._lease = lease
        self._logs: dict[int, int] = {}
        self._owner = owners.me(uuid.uuid4().hex)
        self._claimed: set[int] = set()
        self._positions: dict[int, int] = {}
        self._rest: dict[int, Fetched] = {}
        self._paused: set[int] = set()
        self._turn = 0
        self._wait = _BRIEFEST
        self._version = -1
        self._generation: int | None = None
        self._next_beat = self._next_look = 0.0
        self._id = self._join()

    def poll(self, most: int, seconds: float) -> list[Fetched]:
        deadline = time.monotonic() + seconds
        while True:
            # Before the look at the logs: what is written during it is seen by the next.
            self._version = self._file.version()
            self._keep_membership()
            if fetched := self._fetch(most):
                self._wait = _BRIEFEST
                return fetched
            if not self._something_new(deadline):
                return []

    def pause(self, partitions: Sequence[int]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        self._paused.difference_update(partitions)

    def seek(self, partition: int, offset: int) -> None:
        self._check_assigned([partition])
        self._positions[partition] = offset
        self._rest.pop(partition, None)

    def commit(self, offsets: Mapping[int, int]) -> None:
        with self._file.writing():
            self.commit_within(self._file, offsets)

    def commit_within(self, file: LogFile, offsets: Mapping[int, int]) -> None:
        """Commit offsets within a transaction of a connection to the same file."""
        for partition, offset in offsets.items():
            values = {"log": self._logs[partition], "next_offset": offset}
            if not file.rows("commit_offset", group=self._group, member=self._id, **values):
                raise MembershipLost(
                    f"topic {self._topic!r}, partition {partition}: another member of the group "
                    f"{self._group!r} has it now; its work counts"
                )

    def close(self) -> None:
        try:
            with self._file.writing():
                self._file.rows("release_all", member=self._id)
                self._file.rows("leave", member=self._id)
                self._file.rows("next_generation", group=self._group, topic=self._topic)
        finally:
            self._file.close()

    def _fetch(self, most: int) -> list[Fetched]:
        ready = sorted(self._positions.keys() - self._paused)
        self._turn += 1
        turn = self._turn % (len(ready) or 1)
        found = []
        for partition in ready[turn:] + ready[:turn]:
            if most <= 0:
                break
            if fetched := self._fetch_one(partition, most):
                found.append(fetched)
                most -= len(fetched.offsets)
        return found

    def _fetch_one(self, partition: int, most: int) -> Fetched | None:
        whole = self._rest.pop(partition, None)
        if whole is None:
            number, position = self._logs[partition], self._positions[partition]
            whole = log.read(self._file, self._topic, partition, number, position, most)
            if not whole.offsets:
                return None
        fetched, rest = log.split(whole, most)
        if rest is not None:
            self._rest[partition] = rest
        self._positions[partition] = fetched.offsets[-1] + 1
        return fetched

    def _something_new(self, deadline: float) -> bool:
        """Wait until another process has written or our lease wants care; False at the deadline."""
        while (now := time.monotonic()) < deadline:
            time.sleep(min(self._wait, deadline - now))
            self._wait = min(self._wait * 1.5, _LONGEST)
            if self._file.version() != self._version or now >= self._next_look:
                return True
        return False

    def _keep_membership(self) -> None:
        now = time.monotonic()
        found = self._file.rows("generation", group=self._group, topic=self._topic)
        generation = found[0][0] if found else -1  # the group was deleted, or the topic was
        if generation == self._generation and now < self._next_look:
            return
        self._next_look = now + self._lease / _LOOKS
        dead = self._dead()
        if generation != self._generation or now >= self._next_beat or dead:
            self._generation = None  # unless all of the following succeeds, do it again
            generation, mine, excess = self._balance(dead)
            self._next_beat = now + self._lease / 4
            self._take_leave(self._positions.keys() - mine, lost=True)
            if excess:
                self._take_leave(excess, lost=False)
                generation = self._give_back(excess)
            self._begin(self._claimed - self._positions.keys())
            self._generation = generation

    def _dead(self) -> list[int]:
        """Return the members that have died, by their lease or by a look at their process."""
        now = time.time()
        return [
            member
            for member, owner, until in self._file.rows(
                "members", group=self._group, topic=self._topic
            )
            if member != self._id and (until < now or not owners.is_alive(owner))
        ]

    def _balance(self, dead: Collection[int]) -> tuple[int, set[int], set[int]]:
        """Prolong the lease, remove the dead, take free partitions.

        Returns:
            The generation, the partitions that it had already, and which of them are too many.
        """
        scope = {"group": self._group, "topic": self._topic}
        with self._file.writing():
            changed = bool(dead)
            for member in dead:
                self._file.rows("release_all", member=member)
                self._file.rows("leave", member=member)
            until = time.time() + self._lease
            if not self._file.rows("beat", member=self._id, lease_until=until):
                self._id = self._join_within()
                changed = True
            claims = dict(self._file.rows("claims", **scope))
            members = [row[0] for row in self._file.rows("members", **scope)]
            mine = {partition for partition, member in claims.items() if member == self._id}
            share = _share(members, claims, len(self._logs), self._id)
            free = sorted(self._logs.keys() - claims.keys())[: max(0, share - len(mine))]
            for partition in free:
                log_id = self._logs[partition]
                self._file.rows("claim", group=self._group, log=log_id, member=self._id)
            if changed or free:
                self._file.rows("next_generation", **scope)
            generation = self._file.rows("generation", **scope)[0][0]
        self._claimed = mine | set(free)
        return generation, mine, set(sorted(mine)[share:])

    def _give_back(self, partitions: Collection[int]) -> int:
        scope = {"group": self._group, "topic": self._topic}
        with self._file.writing():
            for partition in partitions:
                number = self._logs[partition]
                self._file.rows("release", group=self._group, log=number, member=self._id)
            self._file.rows("next_generation", **scope)
            generation: int = self._file.rows("generation", **scope)[0][0]
        self._claimed -= set(partitions)
        return generation

    def _take_leave(self, partitions: Collection[int], *, lost: bool) -> None:
        ours = sorted(self._positions.keys() & set(partitions))
        if ours:
            self._listener.revoked(ours, lost=lost)
        for partition in ours:
            del self._positions[partition]
            self._rest.pop(partition, None)
            self._paused.discard(partition)

    def _begin(self, partitions: Collection[int]) -> None:
        if not partitions:
            return
        wanted = self._listener.assigned(sorted(partitions))
        committed = dict(self._file.rows("committed", group=self._group, topic=self._topic))
        begun = {}
        for partition in partitions - wanted.keys() - committed.keys():
            begun[partition] = self._first(partition)
        if (
            begun and self._start != "earliest"
        ):  # from now on the group has begun, even if this member dies
            self.commit(begun)
        places = {**committed, **begun, **wanted}
        self._positions |= {partition: places[partition] for partition in partitions}

    def _first(self, partition: int) -> int:
        number = self._logs[partition]
        if self._start == "earliest":
            return log.state(self._file, number)[0]
        if self._start == "latest":
            return log.state(self._file, number)[1]
        return log.offset_at(self._file, number, self._start)

    def _check_assigned(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            if partition not in self._positions:
                raise MembershipLost(
                    f"topic {self._topic!r}, partition {partition} is not of this member"
                )

    def _join(self) -> int:
        with self._file.writing():
            return self._join_within()

    def _join_within(self) -> int:
        scope = {"group": self._group, "topic": self._topic}
        self._logs = log.logs_of(self._file, self._topic)  # others, if the topic was made anew
        mine = {"owner": self._owner, "instance": self._instance}
        until = time.time() + self._lease
        member = int(self._file.rows("join", lease_until=until, **mine, **scope)[0][0])
        if self._instance:
            self._file.rows("take_over", member=member, instance=self._instance, **scope)
            self._file.rows("leave_instance", member=member, instance=self._instance, **scope)
        self._file.rows("next_generation", **scope)
        return member


def _share(members: Sequence[int], claims: Mapping[int, int], partitions: int, member: int) -> int:
    """Return how many partitions a member should have; the larger shares go where more are now."""
    held = dict.fromkeys(members, 0)
    for each in claims.values():
        held[each] = held.get(each, 0) + 1
    order = sorted(members, key=lambda each: (-held[each], each))
    least, more = divmod(partitions, len(members))
    return least + (order.index(member) < more)

"""The backend's database: rides, what was told of them, and the outbox.

One thread writes. What comes within some milliseconds, or while it commits, goes into the next
transaction together, so hundreds of rides a second cost a few writes to the disk, and each is on
disk before it is answered.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from backend.rides import Ended, Estimate, Refused, Ride

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

_LAYOUT = Path(__file__).with_name("sql") / "layout.sql"
_SHOWN = 20
_TOGETHER = 500
_GATHER = 0.008
_BUSY = 30.0

_RIDE = (
    "SELECT ride_id, user_id, requested_at, pickup_at, pickup_zone, dropoff_zone, passengers, "
    "payment, duration_minutes, duration_source, duration_version, duration_reason, "
    "fare, fare_source, fare_version, fare_reason, "
    "ended_at, true_minutes, true_fare, true_tip, true_total FROM rides "
)
_ADD = (
    f"INSERT INTO rides VALUES ({', '.join('?' * 16)}, NULL, NULL, NULL, NULL, NULL) "
    "ON CONFLICT DO NOTHING"
)
_END = (
    "UPDATE rides SET ended_at = ?, true_minutes = ?, true_fare = ?, true_tip = ?, true_total = ? "
    "WHERE ride_id = ?"
)
_ANSWER = (
    "INSERT INTO answers SELECT ride_id, ?2, ?3 FROM rides WHERE ride_id = ?1 "
    "ON CONFLICT DO NOTHING"
)
_USER = "SELECT user_id FROM rides WHERE ride_id = ?"
_FACTS = Ride.__struct_fields__[:8]
_QUEUE = "INSERT INTO outbox (event_id, type, time, ride_id, data) VALUES (?, ?, ?, ?, ?)"


class Waiting(NamedTuple):
    """An event that waits to be sent."""

    number: int
    event_id: str
    type: str
    time: str
    ride_id: str
    data: str


class Answer(NamedTuple):
    """What the stream said about a ride."""

    ride_id: str
    kind: str
    answer: dict[str, Any]


class Database:
    """Rides on disk; the methods may be called from any thread, the async ones from a loop.

    Args:
        path: The SQLite file; made if it is not there.
        queued: Called, from any thread, after events were put into the outbox.
    """

    def __init__(self, path: Path, queued: Callable[[], None] = lambda: None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._queued = queued
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_LAYOUT.read_text(encoding="utf-8"))
        self._todo: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="rides-writer")
        self._writer.start()
        self._readers = ThreadPoolExecutor(2, "rides-reader", initializer=self._open_reader)
        self._own = threading.local()

    def close(self) -> None:
        """Finish what waits."""
        self._todo.put(None)
        self._writer.join()
        self._readers.shutdown()

    async def add(self, ride: Ride, event: str) -> tuple[Ride, bool]:
        """Keep a ride and its event, both or neither; return the ride, and whether it is new.

        Raises:
            Refused: Another user has a ride of this id.
        """
        known = await self._written(lambda db: _add(db, ride, event))
        if known is None:
            self._queued()
            return ride, True
        if known.user_id != ride.user_id:
            raise Refused(409, f"the id {ride.ride_id} is taken; choose another one")
        return known, False

    async def end(self, ride_id: str, user: str, end: Callable[[Ride], Ended]) -> Ride | None:
        """Keep how a user's ride ended, and the event that says so; a ride ends once.

        Args:
            ride_id: The ride.
            user: Whose it must be.
            end: Says how it ended; called in the writing thread.

        Returns:
            The ride, or None if the user has no such ride.
        """
        ride = await self._written(lambda db: _end(db, ride_id, user, end))
        self._queued()
        return ride

    async def ride(self, ride_id: str) -> Ride | None:
        """Return a ride."""
        return await self._read(lambda db: _first(_rides(db, "WHERE ride_id = ?", ride_id)))

    async def rides_of(self, user: str) -> list[Ride]:
        """Return a user's latest rides, the latest first."""
        where = f"WHERE user_id = ? ORDER BY requested_at DESC, rowid DESC LIMIT {_SHOWN}"
        return await self._read(lambda db: _rides(db, where, user))

    def waiting(self, most: int) -> list[Waiting]:
        """Return the first events of the outbox."""
        select = "SELECT * FROM outbox ORDER BY number LIMIT ?"
        done = self._readers.submit(
            lambda: [Waiting(*row) for row in self._own.db.execute(select, (most,))]
        )
        return done.result()

    def sent(self, number: int) -> None:
        """Take the events up to this one out of the outbox."""
        drop = "DELETE FROM outbox WHERE number <= ?"
        self._write(lambda db: db.execute(drop, (number,))).result()

    def answered(self, answers: Sequence[Answer], watches: Callable[[str], bool]) -> list[Ride]:
        """Keep what the stream said; return the rides that it is news for, of users who watch."""
        news = self._write(lambda db: _answered(db, answers)).result()
        # Asked only now: who begins to watch before the commit is told, who does after it has read.
        watched = [ride_id for ride_id, user in news.items() if watches(user)]
        if not watched:
            return []
        where = f"WHERE ride_id IN ({', '.join('?' * len(watched))})"
        return self._readers.submit(lambda: _rides(self._own.db, where, *watched)).result()

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Have something done in the next transaction."""
        done: Future[T] = Future()
        self._todo.put((work, done))
        return done

    async def _written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._write(work))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._readers.submit(lambda: work(self._own.db)))

    def _open_reader(self) -> None:
        self._own.db = self._connect()
        self._own.db.execute("PRAGMA query_only = ON")

    def _connect(self) -> sqlite3.Connection:
        # Autocommit, so that every transaction is one of ours.
        connection = sqlite3.connect(
            self._path, isolation_level=None, timeout=_BUSY, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _write_all(self) -> None:
        with closing(self._connect()) as db:
            last = False
            while not last:
                batch = [self._todo.get()]
                time.sleep(_GATHER)
                while len(batch) < _TOGETHER and not self._todo.empty():
                    batch.append(self._todo.get())
                last = None in batch
                self._commit(db, [item for item in batch if item is not None])

    def _commit(self, db: sqlite3.Connection, batch: Sequence[tuple[Work, Future[Any]]]) -> None:
        """Do things in one transaction; if one of them fails, each in its own."""
        if not batch:
            return
        try:
            db.execute("BEGIN IMMEDIATE")
            results = [work(db) for work, _ in batch]
            db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            if db.in_transaction:
                db.execute("ROLLBACK")
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for item in batch:
                    self._commit(db, [item])
            return
        for (_, done), result in zip(batch, results, strict=True):
            done.set_result(result)


def _add(db: sqlite3.Connection, ride: Ride, event: str) -> Ride | None:
    """Add a ride and return None, or return the one that has its id."""
    values = msgspec.structs.astuple(ride)
    first = [part for e in (ride.duration, ride.fare) for part in msgspec.structs.astuple(e)]
    if not db.execute(_ADD, (*values[:8], *first)).rowcount:
        return _rides(db, "WHERE ride_id = ?", ride.ride_id)[0]
    queued = (f"{ride.ride_id}-requested", "ride.requested", ride.requested_at, ride.ride_id, event)
    db.execute(_QUEUE, queued)
    return None


def _end(
    db: sqlite3.Connection, ride_id: str, user: str, end: Callable[[Ride], Ended]
) -> Ride | None:
    ride = _first(_rides(db, "WHERE ride_id = ? AND user_id = ?", ride_id, user))
    if ride is None or ride.ended is not None:
        return ride
    ended = end(ride)
    db.execute(_END, (*msgspec.structs.astuple(ended), ride_id))
    event = msgspec.json.encode({"ride_id": ride_id, **msgspec.to_builtins(ended)}).decode()
    db.execute(_QUEUE, (f"{ride_id}-ended", "ride.ended", ended.at, ride_id, event))
    return msgspec.structs.replace(ride, ended=ended)


def _answered(db: sqlite3.Connection, answers: Sequence[Answer]) -> dict[str, str]:
    """Keep answers; return the rides that are told something new, and whose they are."""
    news: dict[str, str] = {}
    for said in answers:
        answer = msgspec.json.encode(said.answer).decode()
        if db.execute(_ANSWER, (said.ride_id, said.kind, answer)).rowcount:
            news[said.ride_id] = db.execute(_USER, (said.ride_id,)).fetchone()[0]
    return news


def _rides(db: sqlite3.Connection, where: str, *values: Any) -> list[Ride]:
    rows = db.execute(_RIDE + where, values).fetchall()
    answers: dict[str, dict[str, Any]] = {row[0]: {} for row in rows}
    marks = ", ".join("?" * len(rows))
    said = db.execute(
        f"SELECT ride_id, kind, answer FROM answers WHERE ride_id IN ({marks})", list(answers)
    )
    for ride_id, kind, answer in said:
        answers[ride_id][kind] = msgspec.json.decode(answer)
    return [_ride(row, answers[row[0]]) for row in rows]


def _ride(row: Sequence[Any], answers: dict[str, Any]) -> Ride:
    ended = None if row[16] is None else Ended(*row[16:21])
    facts: dict[str, Any] = dict(zip(_FACTS, row, strict=False))
    duration, fare = Estimate(*row[8:12]), Estimate(*row[12:16])
    return Ride(**facts, duration=duration, fare=fare, answers=answers, ended=ended)


def _first(rides: Sequence[Ride]) -> Ride | None:
    return rides[0] if rides else None

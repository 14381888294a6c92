"""What a reader sees: all the while, and at the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from faults.project import NAME, TABLE, VIEW
from trivet.databases import Connection, connect
from trivet.errors import DatabaseError, TransientError
from trivet.results import retention
from trivet.results.layout import open_results

Sums = tuple[Any, ...]

_SUMS = f"""
    SELECT CAST(interval_start AS text) AS day, min(attempt) AS first_attempt,
        max(attempt) AS last_attempt, count(*) AS n, count(DISTINCT trip_id) AS trips,
        CAST(sum(line) AS bigint) AS lines,
        CAST(sum(CAST(fare * 1000000 AS bigint) * (1 + line % 97)) AS bigint) AS fares,
        sum(CASE WHEN long THEN 1 ELSE 0 END) AS longs, count(note) AS notes, count(tip) AS tips
    FROM {VIEW} GROUP BY interval_start
"""

_SEVERAL_AT_ONCE = """
    SELECT interval_start, count(*) AS n FROM trivet_runs WHERE state = 'running'
    GROUP BY deployment, interval_start HAVING count(*) > 1
"""

_ROWS = f"SELECT * FROM {VIEW} ORDER BY interval_start, line"

_REJECTS = """
    SELECT u.interval_start, r.row_key, r.field, r.code, r.reason
    FROM trivet_rejects r JOIN trivet_published u ON u.attempt = r.attempt
    ORDER BY u.interval_start, r.row_key, r.field, r.code, r.reason
"""

_PROFILES = """
    SELECT u.interval_start, p.side, p.column_name, p.row_count, p.null_count, p.counts, p.total,
        p.low, p.high
    FROM trivet_profiles p JOIN trivet_published u ON u.attempt = p.attempt
    ORDER BY u.interval_start, p.side, p.column_name
"""

_RUNS = """
    SELECT u.interval_start, u.interval_end, r.state, r.rows_read, r.rows_scored, r.rows_rejected,
        r.model_name, r.model_version, r.model_digest, r.warning, r.error
    FROM trivet_published u JOIN trivet_runs r ON r.attempt = u.attempt
    ORDER BY u.interval_start
"""

_ORPHANS = """
    SELECT count(*) AS n FROM {table} x
    WHERE NOT EXISTS (SELECT 1 FROM trivet_published u WHERE u.attempt = x.attempt)
"""

_STATES = "SELECT state, count(*) AS n FROM trivet_runs GROUP BY state"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a backfill leaves for readers, without attempt numbers and times.

    Attributes:
        rows: The view.
        rejects: Rejects of published attempts.
        profiles: Profiles of published attempts.
        runs: What the ledger says of published attempts.
        sums: What `Watcher` should see, by interval.
    """

    rows: pa.Table
    rejects: pa.Table
    profiles: pa.Table
    runs: pa.Table
    sums: Mapping[str, Sums]

    @classmethod
    def of(cls, url: str) -> Self:
        with connect(url) as db:
            rows = db.rows(_ROWS).drop_columns(["attempt", "scored_at"])
            return cls(rows, db.rows(_REJECTS), db.rows(_PROFILES), db.rows(_RUNS), _sums(db)[0])

    def assert_equals(self, expected: Snapshot) -> None:
        assert self.sums == expected.sums, f"{self.sums} instead of {expected.sums}"
        for part in ("runs", "rejects", "profiles", "rows"):
            mine, theirs = getattr(self, part), getattr(expected, part)
            if not mine.equals(theirs):
                raise AssertionError(f"{part}: {_difference(mine, theirs)}")


def _difference(mine: pa.Table, theirs: pa.Table) -> str:
    if mine.schema != theirs.schema:
        return f"columns {mine.schema} instead of {theirs.schema}"
    have, wanted = ([repr(row) for row in table.to_pylist()] for table in (mine, theirs))
    extra, lost = (Counter(have) - Counter(wanted)), (Counter(wanted) - Counter(have))
    return (
        f"{len(have)} rows instead of {len(wanted)}; "
        f"extra: {list(extra.elements())[:3]}; lost: {list(lost.elements())[:3]}"
    )


def states(url: str) -> dict[str, int]:
    """Return the number of attempts by state."""
    with connect(url) as db:
        found = db.rows(_STATES)
    return dict(zip(found["state"].to_pylist(), found["n"].to_pylist(), strict=True))


def orphans_after_sweep(url: str) -> dict[str, int]:
    """Sweep once more; return the rows left that belong to no published attempt, by table."""
    with open_results(url) as db:
        retention.sweep(db, NAME)
        counts = {
            table: db.rows(_ORPHANS.format(table=table))["n"][0].as_py()
            for table in (TABLE, "trivet_rejects", "trivet_profiles")
        }
    return {table: n for table, n in counts.items() if n}


class Watcher:
    """A reader that polls the view in a thread and writes down what should never be seen."""

    def __init__(self, url: str, expected: Mapping[str, Sums], *, full: bool = False) -> None:
        self._url = url
        self._expected = expected
        self._seen: dict[str, int] = dict.fromkeys(expected, -1) if full else {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher")
        self.polls = 0
        self.partly = 0
        """Polls that saw some intervals and not all."""
        self.moved = 0
        """How often an interval appeared or changed its attempt."""
        self.lost = 0
        """Times the connection was lost."""
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set() and not self.wrong:
            try:
                with connect(self._url) as db:
                    while not self._done.is_set() and not self.wrong:
                        self._poll(db)
                        self._done.wait(0.002)  # leave the processor to the one that is watched
            except TransientError:
                self.lost += 1
                self._done.wait(0.02)
            except DatabaseError as error:
                if self._seen:
                    self.wrong.append(f"the view is gone: {error}")
                self._done.wait(0.005)
            except BaseException as error:
                self.wrong.append(repr(error))
                raise

    def _poll(self, db: Connection) -> None:
        sums, attempts = _sums(db)
        several = db.rows(_SEVERAL_AT_ONCE).to_pylist()
        self.polls += 1
        self.partly += 0 < len(sums) < len(self._expected)
        if several:
            self.wrong.append(f"run twice at the same time: {several}")
        for day in self._seen.keys() - sums.keys():
            self.wrong.append(f"{day} was there and is gone")
        for day, found in sums.items():
            first, last = attempts[day]
            if first != last:
                self.wrong.append(f"{day} is a mixture of attempts {first} to {last}")
            if found != self._expected.get(day):
                self.wrong.append(f"{day} is {found}, not {self._expected.get(day)}")
            if first < self._seen.get(day, -1):
                self.wrong.append(f"{day} went back from attempt {self._seen[day]} to {first}")
            self.moved += self._seen.get(day, -1) != first
            self._seen[day] = first


def _sums(db: Connection) -> tuple[dict[str, Sums], dict[str, tuple[int, int]]]:
    sums, attempts = {}, {}
    for row in db.rows(_SUMS).to_pylist():
        day, first, last, *rest = row.values()
        sums[day], attempts[day] = tuple(rest), (first, last)
    return sums, attempts

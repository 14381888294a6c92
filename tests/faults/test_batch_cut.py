"""The database goes away in the middle of a backfill: the same command goes on by itself."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from faults.attempts import KNOBS, Ended, Zygote
from faults.places import Place, short_or_soak, spread
from faults.project import RESULTS
from faults.watching import Snapshot, Watcher, orphans_after_sweep, states
from support.postgres import PostgresServer
from trivet.cli import trivet
from trivet.databases import connect
from trivet.errors import DatabaseError
from trivet.hosts.batch import run
from trivet.results.ledger import Tally

SEED = 20200107

TERMINATE_ALL = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = '{database}' AND pid <> pg_backend_pid()
"""
TERMINATE_ONE = """
    SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()
        ORDER BY backend_start LIMIT 1 OFFSET {offset}
    ) AS one
"""

CUTS_A_RUN = 4

_RUNNING = "SELECT count(*) AS n FROM trivet_runs WHERE state = 'running'"


@short_or_soak(4, 60)
def test_connections_are_cut(
    own_postgres: Callable[[], PostgresServer], zygote: Zygote, tmp_path: Path, count: int
) -> None:
    server = own_postgres()
    place = Place.make(server.new_database, zygote, tmp_path, days=4, rows=2000)
    expected, quiet = place.undisturbed()
    draw = random.Random(SEED)
    moments = spread(draw, CUTS_A_RUN)
    cuts: Counter[str] = Counter()
    retried = 0
    # A cut may fall between two statements and fail nothing: go on until one did.
    while cuts.total() < count or (not retried and cuts.total() < 10 * count):
        url = place.new_results()
        with Watcher(url, expected.sums) as seen:
            zygote.begin(place.project.backfill(), {RESULTS: url})
            for _ in range(CUTS_A_RUN):
                _until_running(zygote, url)
                if zygote.ready(next(moments) * quiet.seconds / place.project.days):
                    break
                # Immediate restarts are the point; single connections find other places.
                how = ("restart", "all", "one")[cuts.total() % 3]
                _cut(server, url, how, draw)
                cuts[how] += 1
            ended = zygote.end()
        assert ended.code == 0, f"seed {SEED}, {dict(cuts)}: {ended}\n{zygote.told()}"
        assert not seen.wrong, (SEED, seen.wrong)
        retried += _check(url, expected, ended, place.project.days)
    print(f"\nseed {SEED}: {dict(cuts)}, {retried} attempts failed and were made again")
    assert retried


def test_the_server_crashes_between_the_last_rows_and_publishing(
    own_postgres: Callable[[], PostgresServer],
    zygote: Zygote,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash takes commits with it that were not waited for; what has lost rows must not count."""
    server = own_postgres()
    place = Place.make(server.new_database, zygote, tmp_path, days=2, rows=1000)
    expected, _ = place.undisturbed()
    judge, crashes = run._judge, itertools.count()

    def crash_and_judge(task: run.Task, tally: Tally) -> None:
        if tally.read and not next(crashes):
            server.restart(immediate=True)
        judge(task, tally)

    for knob, value in KNOBS.items():
        monkeypatch.setattr(knob, value)
    monkeypatch.setattr(run, "_judge", crash_and_judge)
    monkeypatch.setenv(RESULTS, url := place.new_results())
    trivet.main(place.project.backfill(), standalone_mode=False)
    assert next(crashes) > 0
    Snapshot.of(url).assert_equals(expected)


def _until_running(zygote: Zygote, url: str) -> None:
    """Wait for an attempt under way; a database that is away at the very start is an error."""
    while not zygote.ready(0):
        with suppress(DatabaseError), connect(url) as db:
            while not zygote.ready(0.01):
                if db.rows(_RUNNING)["n"].to_pylist() != [0]:
                    return


def _cut(server: PostgresServer, url: str, how: str, draw: random.Random) -> None:
    database = url.rpartition("/")[2]
    if how == "restart":
        server.restart(immediate=True)
    elif how == "all":
        server.sql(TERMINATE_ALL.format(database=database))
    else:
        server.sql(TERMINATE_ONE.format(database=database, offset=draw.randrange(3)))


def _check(url: str, expected: Snapshot, ended: Ended, days: int) -> int:
    Snapshot.of(url).assert_equals(expected)
    found = states(url)
    assert found.keys() <= {"succeeded", "failed"}, found
    assert found["succeeded"] >= days
    assert not orphans_after_sweep(url)
    Snapshot.of(url).assert_equals(expected)
    return found.get("failed", 0)

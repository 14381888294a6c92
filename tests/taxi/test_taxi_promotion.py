"""A new version of a model put to work while rides go on."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fleet import Fleet, Tally, drive, session, trips_of
from rides import DATA, between, month, read

from support.taxi_app import Company, environment
from support.up_process import Up

Until = Callable[[Callable[[], bool]], None]


@contextmanager
def riding(company: Company, rate: float) -> Iterator[Tally]:
    """Drive rides as long as the block lasts; their tally is whole when it has ended."""
    enough = threading.Event()
    tally = Tally()

    async def ride() -> None:
        trips = trips_of(between(read(DATA), month("2019-07"), month("2020-07")), 1_000_000)
        async with session(company.token) as client:
            fleet = Fleet(client, company.backend)
            fleet.tally = tally
            until = itertools.takewhile(lambda _: not enough.is_set(), trips)
            await drive(fleet, until, 0.0, rate)

    thread = threading.Thread(target=lambda: asyncio.run(ride()), name="fleet")
    thread.start()
    try:
        yield tally
    finally:
        enough.set()
        thread.join()


def test_a_better_version_is_promoted_while_rides_go_on(
    tmp_path: Path, quick_models: Path, until: Until
) -> None:
    company = Company(tmp_path / "taxi", quick_models)

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=company.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("prepare.py")
    with Up(company.folder, until) as up:
        up.wait_ready()
        with riding(company, 10) as tally:
            until(lambda: tally.versions["1"] >= 10)
            told = run("retrain.py", "--promote", "--trees", "0.05")
            until(lambda: tally.versions["2"] >= 10)
        assert (tally.lost, tally.retries) == (0, 0)
        assert tally.ended == tally.requested == tally.versions.total()
        assert "trip-duration" in told
        with closing(sqlite3.connect(company.folder / "data" / "rides.db")) as rides:
            versions = [
                version
                for (version,) in rides.execute(
                    "SELECT duration_version FROM rides "
                    "WHERE duration_source = 'model' ORDER BY rowid"
                )
            ]
        assert (versions[0], versions[-1]) == ("1", "2")
        run("-m", "trivet", "model", "rollback", "trip-duration")
        with riding(company, 10) as tally:
            until(lambda: tally.versions["1"] >= 5)
        assert (tally.lost, tally.retries) == (0, 0)
        assert up.stop() == 0

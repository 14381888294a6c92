"""The taxi company stopped at any moment while rides go on: no orphan, none lost, none twice."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.taxi_app import Company
from support.taxi_riders import Riders
from support.up_process import Up, here

Until = Callable[[Callable[[], bool]], None]
STREAMS = ("better_duration", "tip", "final_cost")
STOPS = ("term", "int", "term", "int", "at once", "kill")
CODES = {"term": {0, -signal.SIGTERM}, "int": {0, 130, -signal.SIGINT}, "kill": {-signal.SIGKILL}}
CODES["at once"] = CODES["int"]


@contextmanager
def results_of(company: Company) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(company.folder / "data" / "results.db", timeout=60)) as results:
        results.execute("ATTACH ? AS app", (str(company.folder / "data" / "rides.db"),))
        yield results


def rides_of(results: sqlite3.Connection, table: str) -> list[str]:
    return [ride for (ride,) in results.execute(f"SELECT ride_id FROM {table} ORDER BY ride_id")]


@contextmanager
def riding(company: Company, until: Until) -> Iterator[Riders]:
    """Request rides of a company that is up for a first time."""
    with Up(company.folder, until) as up:
        up.wait_ready()
        riders = Riders(company.backend, company.token)
        assert up.stop() == 0
    with riders:
        yield riders


def stop(up: Up, how: str) -> None:
    """Stop it, and see that it ends as it should, leaving nothing behind."""
    if how == "kill":
        up.process.kill()
    else:
        up.process.send_signal(signal.SIGTERM if how == "term" else signal.SIGINT)
        if how == "at once":
            up.process.send_signal(signal.SIGINT)
    code = up.process.wait(120)
    assert code in CODES[how], (how, code, up.log[-20:])
    assert how == "kill" or not here(up.folder)


@pytest.mark.parametrize(
    ("seed", "count"),
    [
        pytest.param(0, 2, id="short"),
        *(pytest.param(seed, 10, id=f"soak-{seed}", marks=pytest.mark.soak) for seed in range(10)),
    ],
)
def test_stopped_at_any_moment(
    seed: int, count: int, tmp_path: Path, quick_models: Path, until: Until
) -> None:
    draw = random.Random(seed)
    company = Company(tmp_path / "taxi", quick_models)
    softly: set[str] = set()
    with riding(company, until) as riders:
        for number in range(count):
            how = STOPS[(number + seed) % len(STOPS)]
            before = len(riders.acknowledged)
            with Up(company.folder, until) as up:
                if number % 2:  # while it runs
                    until(lambda n=before: len(riders.acknowledged) >= n + 10)  # type: ignore[misc]
                up_for = draw.uniform(0.0, 1.0 if number % 2 else 6.0)
                with pytest.raises(subprocess.TimeoutExpired):  # it does not end by itself
                    up.process.wait(up_for)
                stop(up, how)
            if how in ("term", "int"):
                softly |= set(list(riders.acknowledged)[before:])
        with Up(company.folder, until) as up:
            up.wait_ready()
            riders.finish()
            taken = sorted(riders.acknowledged)
            with results_of(company) as results:
                assert rides_of(results, "app.rides") == taken
                for view in STREAMS:
                    until(lambda v=view: len(rides_of(results, v)) >= len(taken))  # type: ignore[misc]
                    assert rides_of(results, view) == taken
                answers = sorted(3 * taken)
                until(lambda: len(rides_of(results, "app.answers")) >= len(answers))
                assert rides_of(results, "app.answers") == answers
                assert up.stop() == 0
                # A service that could say goodbye has written down all that it answered.
                logged = rides_of(results, "service_trip_duration")
                assert len(set(logged)) == len(logged)
                known = riders.acknowledged
                assert {ride for ride in softly if known[ride] == "model"} <= set(logged)
                [(left,)] = results.execute("SELECT count(*) FROM app.outbox")
                assert left == 0

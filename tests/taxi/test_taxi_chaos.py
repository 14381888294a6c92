"""Each part of the taxi company killed while rides go on: none is lost, none counts twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from support.taxi_app import Company, environment
from taxi.test_taxi_journey import ready, up

Until = Callable[[Callable[[], bool]], None]
RIDES = 150
KILLED = (
    "backend",
    "stream-tip",
    "dashboard",
    "service",
    "stream-final-cost",
    "schedule",
    "stream-better-duration",
)
STREAMS = ("tip", "better_duration", "final_cost")


def pid_of(company: Company, name: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "trivet", "status", "--json"],
        cwd=company.folder,
        env=environment(),
        capture_output=True,
        check=False,
    )
    processes = json.loads(done.stdout)["processes"]
    return next(int(each["pid"]) for each in processes if each["name"] == name)


def test_rides_go_on_while_parts_are_killed(
    tmp_path: Path, quick_models: Path, until: Until
) -> None:
    company = Company(tmp_path / "taxi", quick_models)
    words = [sys.executable, "fleet.py", "--rides", str(RIDES), "--rate", "15", "--json"]
    with up(company):
        until(lambda: ready(company))
        fleet = subprocess.Popen(
            [*words, "--backend", company.backend],
            cwd=company.folder,
            env=environment(),
            stdout=subprocess.PIPE,
        )
        with closing(_connect(company)) as results:
            for number, name in enumerate(KILLED):
                until(partial(_reached, results, "rides.rides", 10 + 20 * number))
                os.kill(pid_of(company, name), signal.SIGKILL)
                until(lambda: ready(company))
            told, _ = fleet.communicate(timeout=120)
            tally: dict[str, Any] = json.loads(told)
            assert fleet.returncode == 0
            assert (tally["requested"], tally["ended"], tally["lost"]) == (RIDES, RIDES, 0)
            for view in STREAMS:
                until(partial(_reached, results, view, RIDES))
                assert _count(results, view) == (RIDES, RIDES)
            until(lambda: _count(results, "rides.answers")[0] == 3 * RIDES)
            assert _count(results, "rides.rides") == (RIDES, RIDES)


def _connect(company: Company) -> sqlite3.Connection:
    results = sqlite3.connect(company.folder / "data" / "results.db", timeout=60)
    results.execute("ATTACH ? AS rides", (str(company.folder / "data" / "rides.db"),))
    return results


def _count(results: sqlite3.Connection, table: str) -> tuple[int, int]:
    query = f"SELECT count(*), count(DISTINCT ride_id) FROM {table}"
    rows, rides = results.execute(query).fetchone()
    return rows, rides


def _reached(results: sqlite3.Connection, table: str, rows: int) -> bool:
    return _count(results, table)[0] >= rows

"""Each part of the taxi company killed while rides go on: none is lost, none counts twice."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from support.browser import CHROMIUM, launched
from support.kafka import KafkaServer
from support.postgres import PostgresServer
from support.taxi_app import Company, outcome_of
from support.up_process import Up

Until = Callable[[Callable[[], bool]], None]
SECONDS = 120_000
OWN = (
    "backend",
    "service",
    "stream-tip",
    "stream-better-duration",
    "stream-final-cost",
    "dashboard",
    "schedule",
)
STREAMS = ("better_duration", "tip", "final_cost")


def kill(up: Up, name: str, draw: random.Random) -> None:
    """Kill a part: the process itself, or one of its workers."""
    pid = up.state(name).pid
    assert pid is not None
    workers = [child.pid for child in psutil.Process(pid).children(recursive=True)]
    os.kill(draw.choice([pid, *workers]), signal.SIGKILL)


@contextmanager
def open_page(company: Company) -> Iterator[Page | None]:
    """Give the page as a passenger has it open all the while, if there is a browser."""
    if CHROMIUM is None:
        yield None
        return
    with launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(SECONDS)
        page.goto(company.backend)
        expect(page.locator("#link")).to_have_attribute("data-state", "live", timeout=SECONDS)
        yield page


def journey(page: Page) -> None:
    """Have the page that was open all the while take a ride."""
    expect(page.locator("#link")).to_have_attribute("data-state", "live", timeout=SECONDS)
    page.locator("#pickup").select_option("230")
    page.locator("#dropoff").select_option("132")
    page.locator("#request").click()
    expect(page.locator(".ride .later.here")).to_have_count(3, timeout=SECONDS)


def chaos(
    company: Company,
    until: Until,
    *,
    rate: float,
    seconds: float,
    turns: int,
    seed: int,
    others: Mapping[str, Callable[[], None]],
) -> None:
    """Kill each part in random turn while rides go on, then count.

    Args:
        company: The company.
        until: Waits.
        rate: Rides a second.
        seconds: For so long.
        turns: How often each part is killed.
        seed: Of the turns.
        others: What is killed beside the project's own processes, and started again.
    """
    draw = random.Random(seed)
    rides = round(rate * seconds)
    with Up(company.project, until) as up:
        up.wait_ready()
        with open_page(company) as page, company.loading(rate, seconds) as load:
            with closing(sqlite3.connect(company.folder / "data" / "rides.db", timeout=60)) as app:

                def reached(table: str, rows: float) -> bool:
                    return bool(app.execute(f"SELECT count(*) FROM {table}").fetchone()[0] >= rows)

                parts = [*OWN, *others]
                for turn in range(turns):
                    draw.shuffle(parts)
                    for place, name in enumerate(parts):
                        share = (1 + turn * len(parts) + place) / (2 + turns * len(parts))
                        until(partial(reached, "rides", share * rides))
                        kill(up, name, draw) if name in OWN else others[name]()
                        up.wait_ready()
                outcome = outcome_of(load)
                assert (outcome["requested"], outcome["ended"], outcome["lost"]) == (
                    rides,
                    rides,
                    0,
                )
                for view in STREAMS:
                    assert outcome["predictions"][view] == [rides, rides], outcome
                for view in ("service_trip_duration", "service_fare"):
                    logged, asked = outcome["predictions"][view]
                    assert logged == asked <= rides
                until(partial(reached, "answers", 3 * rides))
                assert reached("rides", rides)
            if page is not None:
                journey(page)
        assert up.stop() == 0


def test_rides_go_on_while_parts_are_killed(
    tmp_path: Path, quick_models: Path, until: Until
) -> None:
    company = Company(tmp_path / "taxi", quick_models)
    chaos(company, until, rate=15, seconds=12, turns=1, seed=8, others={})


@pytest.fixture
def patiently(until: Callable[..., None]) -> Until:
    """Wait longer: so much waits for so little machine."""
    return lambda condition: until(condition, 300.0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
def test_rides_go_on_for_long(
    tmp_path: Path, quick_models: Path, patiently: Until, seed: int
) -> None:
    company = Company(tmp_path / "taxi", quick_models)
    chaos(company, patiently, rate=60, seconds=180, turns=3, seed=seed, others={})


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [3, 4])
def test_rides_go_on_while_servers_are_killed(
    tmp_path: Path,
    quick_models: Path,
    patiently: Until,
    own_kafka: KafkaServer,
    own_postgres: Callable[[], PostgresServer],
    seed: int,
) -> None:
    postgres = own_postgres()
    results = postgres.new_database()
    company = Company(tmp_path / "taxi", quick_models, own_kafka.url, results)
    others: dict[str, Callable[[], None]]
    others = {"broker": own_kafka.restart, "results": postgres.restart}
    chaos(company, patiently, rate=30, seconds=180, turns=2, seed=seed, others=others)

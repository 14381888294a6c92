"""Rides through everything at once: answered, and of each ride each prediction exactly once.

On SQLite and the embedded broker it is shown while parts are killed: `test_taxi_chaos`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.kafka import KafkaServer
from support.taxi_app import TAXI, Company, environment, outcome_of
from support.up_process import Up

Until = Callable[[Callable[[], bool]], None]
VIEWS = ("service_trip_duration", "service_fare", "better_duration", "tip", "final_cost")


def drive(company: Company, until: Until, rate: float, seconds: float) -> dict[str, Any]:
    """Drive rides with everything up; none may be lost, none counted twice."""
    with Up(company.project, until) as up:
        up.wait_ready()
        with company.loading(rate, seconds) as load:
            outcome = outcome_of(load)
        assert up.stop() == 0
    rides = round(rate * seconds)
    assert (outcome["requested"], outcome["ended"], outcome["lost"]) == (rides, rides, 0)
    for view in VIEWS:
        predictions, predicted = outcome["predictions"][view]
        asked = rides - outcome["fallbacks"] if view.startswith("service") else rides
        assert predictions == predicted
        assert asked <= predicted <= rides
    assert load.returncode == 0
    return outcome


def test_each_ride_has_each_prediction_once_on_postgresql_and_kafka(
    tmp_path: Path, quick_models: Path, until: Until, kafka: KafkaServer, postgres_url: str
) -> None:
    company = Company(tmp_path / "taxi", quick_models, kafka.url, postgres_url)
    drive(company, until, 20, 6)


@pytest.fixture(scope="module")
def whole_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the models as the demo trains them."""
    store = tmp_path_factory.mktemp("whole") / "models"
    words: list[str | Path] = [sys.executable, TAXI / "train.py", "--models", store]
    subprocess.run(words, check=True, env=environment(), stdout=subprocess.DEVNULL)
    return store


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_hundred_rides_a_second(tmp_path: Path, whole_models: Path, until: Until) -> None:
    outcome = drive(Company(tmp_path / "taxi", whole_models), until, 200, 300)
    assert outcome["p99_ms"] < 100
    assert max(outcome["behind"].values()) < 2_000  # ten seconds of rides
    assert not outcome["fallbacks"]

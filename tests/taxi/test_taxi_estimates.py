"""The first answer of the taxi backend: from the models, or a marked fallback, in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from backend.estimates import Estimates, Usual
from backend.rides import Estimate

from support.taxi_service import Service, serving

USUAL = Usual({"230-132": (40.0, 52.0)}, (11.0, 10.0))
FACTS = {"pickup_at": "2019-07-01T12:00:00Z", "pickup_zone": 230, "dropoff_zone": 132}


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    running.manner = ["good"]
    running.asked.clear()
    return running


def ask(
    url: str, times: int = 1, deadline: float = 20.0, facts: dict[str, Any] = FACTS
) -> list[tuple[Estimate, Estimate]]:
    async def asking() -> list[tuple[Estimate, Estimate]]:
        async with Estimates(url, USUAL, deadline) as estimates:
            return [await estimates.of("ride-0001", facts) for _ in range(times)]

    return asyncio.run(asking())


def test_both_models_answer(service: Service) -> None:
    [(duration, fare)] = ask(service.url)
    assert duration == Estimate(12.25, version="7")
    assert fare == Estimate(9.5, version="7")
    assert {asked["model"] for asked in service.asked} == {"trip-duration", "fare"}
    assert all(asked["ride_id"] == "ride-0001" for asked in service.asked)


@pytest.mark.parametrize("manner", ["fails", "garbage", "lacks", "nan", "huge"])
def test_a_wrong_answer_is_asked_again_once(service: Service, manner: str) -> None:
    service.manner = [manner, "good"]
    [(duration, fare)] = ask(service.url)
    assert (duration.source, fare.source) == ("model", "model")
    assert len(service.asked) == 4


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("fails", "answered 500"),
        ("refuses", "answered 422"),
        ("garbage", "something else"),
        ("lacks", "something else"),
        ("nan", "something else|nan"),
        ("huge", "answered 1000000000"),
    ],
)
def test_a_service_that_is_wrong_gives_the_usual(service: Service, manner: str, said: str) -> None:
    service.manner = [manner]
    [(duration, fare)] = ask(service.url)
    assert (duration.value, fare.value) == (40.0, 52.0)
    assert (duration.source, fare.source) == ("fallback", "fallback")
    assert any(part in duration.reason for part in said.split("|"))


def test_a_pair_of_zones_without_rides_gives_the_usual_of_all(service: Service) -> None:
    service.manner = ["fails"]
    [(duration, fare)] = ask(service.url, facts=FACTS | {"dropoff_zone": 1})
    assert (duration.value, fare.value) == (11.0, 10.0)


def test_a_service_that_hangs_keeps_nobody_waiting(service: Service) -> None:
    service.manner = ["hangs"]
    [(duration, fare)] = ask(service.url, deadline=0.1)
    assert (duration.source, fare.source) == ("fallback", "fallback")
    assert "slow" in duration.reason


def test_one_slow_try_leaves_time_for_another(service: Service) -> None:
    service.manner = ["hangs", "good"]
    [(duration, fare)] = ask(service.url, deadline=3.0)
    assert (duration.source, fare.source) == ("model", "model")


def test_a_service_that_is_down_gives_the_usual() -> None:
    [(duration, _)] = ask("http://127.0.0.1:1")
    assert duration.source == "fallback"
    assert "down" in duration.reason


def test_a_service_that_keeps_failing_is_left_alone_for_a_while(service: Service) -> None:
    service.manner = ["fails"]
    answers = ask(service.url, times=20)
    assert all(duration.source == "fallback" for duration, _ in answers)
    assert len(service.asked) < 40
    assert "a moment ago" in answers[-1][0].reason

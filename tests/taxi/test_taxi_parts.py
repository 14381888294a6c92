"""The small parts of the taxi backend: limits, sessions, zones, outlines, the live pages."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import stat
from pathlib import Path
from typing import Any

import outlines
import pytest
from backend.limits import Limiter
from backend.live import Live, TooMany
from backend.rides import Estimate, Ride
from backend.sessions import Sessions, keep_secret
from backend.zones import KNOWN, ZONES
from hypothesis import given
from hypothesis import strategies as st

from trivet.settings import load_project

TAXI = Path(__file__).parents[2] / "examples" / "taxi"


@given(
    st.integers(1, 5),
    st.floats(0.1, 10),
    st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_nobody_gets_more_than_a_burst_and_the_refill(
    burst: int, seconds: float, pauses: list[float]
) -> None:
    now = 0.0
    limit = Limiter(burst, seconds, lambda: now)
    taken: list[float] = []
    for pause in pauses:
        now += pause
        wait = limit.wait("one")
        if not wait:
            taken.append(now)
        else:
            assert 0 < wait <= seconds * (1 + 1e-9)
            now += wait * (1 + 1e-9)
            assert limit.wait("one") == 0
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            allowed = burst + (taken[last] - start) / seconds
            assert last - first + 1 <= allowed + 1e-6


def test_users_have_buckets_of_their_own() -> None:
    limit = Limiter(1, 60, lambda: 0.0)
    assert limit.wait("one") == 0
    assert limit.wait("two") == 0
    assert limit.wait("one") == 60


def test_a_cookie_is_known_again_and_cannot_be_made_up() -> None:
    sessions = Sessions(b"secret")
    cookie = sessions.new()
    user = sessions.user(cookie)
    assert user
    assert user == Sessions(b"secret").user(cookie)
    assert Sessions(b"other").user(cookie) is None
    for wrong in (None, "", ".", user, f"{user}.", f"x{cookie}", cookie[:-1] + "é", "fleet.x"):
        assert sessions.user(wrong) is None


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    secret = keep_secret(path)
    assert len(secret) == 64
    assert keep_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


def test_the_zones_lie_beside_each_other() -> None:
    assert len(ZONES) > 50
    assert all(number in KNOWN for number in ZONES)
    places = list(ZONES.values())
    for place, zone in enumerate(places):
        for other in places[place + 1 :]:
            apart = (
                abs(zone.column - other.column) >= 1
                or zone.row + zone.height <= other.row
                or other.row + other.height <= zone.row
            )
            assert apart, f"{zone.name} lies on {other.name}"
    assert ZONES[132].name == "JFK Airport"


def _square(x: float, y: float) -> list[list[list[float]]]:
    size = 0.05
    return [[[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]]


def _zone(number: int, geometry: dict[str, Any] | None) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"LocationID": number}, "geometry": geometry}


def test_outlines_are_drawn_to_scale() -> None:
    features = [
        _zone(230, {"type": "Polygon", "coordinates": _square(-74.0, 40.7)}),
        _zone(
            132,
            {
                "type": "MultiPolygon",
                "coordinates": [_square(-73.9, 40.7), _square(-73.8, 40.75)],
            },
        ),
        _zone(2, {"type": "Polygon", "coordinates": _square(-73.0, 40.7)}),
        _zone(43, None),
        {"type": "Feature", "properties": None, "geometry": None},
    ]
    made = outlines.outlines({"features": features})
    assert set(made["zones"]) == {230, 132}
    assert made["zones"][132].count("M") == 2
    assert made["zones"][230].startswith("M0.0 ")
    _, _, width, height = made["view"]
    assert width == 1020
    assert 490 < height < 560  # a degree of longitude is shorter than one of latitude
    json.dumps(made)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([], "no taxi zone"),
        ([_zone(230, {"type": "Polygon", "coordinates": _square(9e5, 2e5)})], "WGS"),
    ],
)
def test_another_file_is_refused(features: list[Any], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        outlines.outlines({"features": features})


def test_a_page_gets_what_is_there_then_the_news_and_a_beat() -> None:
    async def follow() -> list[bytes]:
        live = Live(beat=0.01)
        stream = live.follow("one", live.join("one"), lambda: _soon([{"ride_id": "a"}]))
        got = [await anext(stream)]
        assert live.watches("one")
        got.append(await anext(stream))
        live.tell(_ride("two", "c"))
        live.tell(_ride("one", "b"))
        got.append(await anext(stream))
        live.close()
        got.extend([part async for part in stream])
        assert not live.watches("one")
        late = live.follow("one", live.join("one"), lambda: _soon([]))
        assert len([part async for part in late]) == 1
        return got

    first, beat, news, *rest = asyncio.run(follow())
    assert first.endswith(b'event: rides\ndata: [{"ride_id":"a"}]\n\n')
    assert beat.startswith(b":")
    assert news.startswith(b'event: ride\ndata: {"ride_id":"b",')
    assert b"user_id" not in news
    assert not rest


def test_a_page_that_does_not_read_is_cut_off() -> None:
    async def fall_behind() -> int:
        live = Live()
        stream = live.follow("one", live.join("one"), lambda: _soon([]))
        await anext(stream)
        for number in range(1000):
            live.tell(_ride("one", str(number)))
        return len([part async for part in stream])

    assert 0 < asyncio.run(fall_behind()) < 1000


def test_a_user_has_only_so_many_pages() -> None:
    live = Live()
    for _ in range(6):
        live.join("one")
    with pytest.raises(TooMany):
        live.join("one")
    live.join("two")


def _ride(user: str, ride_id: str) -> Ride:
    moment = "2026-03-01T17:00:00Z"
    estimates = (Estimate(12.5, version="1"), Estimate(10.0, version="1"))
    return Ride(ride_id, user, moment, moment, 230, 132, 1, "card", *estimates)


async def _soon(value: Any) -> Any:
    return value


def test_both_project_files_say_the_same_of_models_and_deployments() -> None:
    demo, production = (load_project(TAXI / place) for place in ("", "production"))
    for name in ("models", "batch", "stream", "actuals"):
        assert getattr(demo, name).keys() == getattr(production, name).keys()
    assert production.broker.url.startswith("kafka://")
    assert production.results.url.startswith("postgresql://")
    for each in demo.stream.values():
        other = production.stream[each.name]
        assert dataclasses.replace(other, workers=each.workers) == each

"""The taxi backend's API: rides taken, told and ended, each user's own, within limits."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from backend.app import Rules, Taxi, application
from backend.estimates import Estimates, Usual
from backend.live import Live
from backend.sessions import Sessions
from backend.storage import Answer, Database
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from support.taxi_service import Service, serving

TOKEN = "the fleet's own"
FLEET = {"authorization": f"Bearer {TOKEN}"}
RIDE = {"pickup_zone": 230, "dropoff_zone": 132, "passengers": 2, "payment": "card"}
NOON = dt.datetime(2026, 3, 1, 17, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    running.manner = ["good"]
    return running


class Backend:
    """The application over a database in a folder, with a clock that is moved by hand."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.database = Database(folder / "rides.db")
        self.now = NOON
        self._service = service

    def run(self, talk: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        """Have a client talk to it; its cookies are its own."""

        async def running() -> Any:
            usual = Usual({}, (11.0, 10.0))
            async with Estimates(self._service.url, usual, 20.0) as estimates:
                taxi = Taxi(
                    self.database,
                    estimates,
                    Live(),
                    Sessions(b"secret"),
                    TOKEN,
                    Rules(now=lambda: self.now, time_lapse=60.0, burst=3, refill=1000.0),
                )
                transport = httpx.ASGITransport(application(taxi))
                async with httpx.AsyncClient(transport=transport, base_url="http://taxi") as client:
                    return await talk(client)

        return asyncio.run(running())

    def outbox(self) -> list[tuple[str, str, Any]]:
        """Return what waits to be sent."""
        return [(e.event_id, e.type, json.loads(e.data)) for e in self.database.waiting(1000)]


@pytest.fixture
def backend(tmp_path: Path, service: Service) -> Iterator[Backend]:
    made = Backend(tmp_path, service)
    yield made
    made.database.close()


def test_a_ride_is_answered_kept_and_queued(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> tuple[Any, Any, Any]:
        await client.get("/")
        asked = await client.post("/api/rides", json=RIDE)
        again = await client.get(asked.headers["location"])
        return asked, again.json(), (await client.get("/api/rides")).json()

    asked, again, all_of_them = backend.run(talk)
    ride = asked.json()
    assert asked.status_code == 201
    assert (ride["duration"]["value"], ride["fare"]["value"]) == (12.25, 9.5)
    assert ride["pickup_at"] == "2026-03-01T17:00:00Z"
    assert "user_id" not in ride
    assert again == ride
    assert all_of_them == [ride]
    [(event_id, kind, data)] = backend.outbox()
    assert (event_id, kind) == (f"{ride['ride_id']}-requested", "ride.requested")
    assert data["first_duration"] == 12.25
    assert data["card"] is True
    assert data["first_source"] == "model"


def test_without_the_service_the_answer_is_marked(backend: Backend, service: Service) -> None:
    service.manner = ["fails"]

    async def talk(client: httpx.AsyncClient) -> Any:
        await client.get("/")
        return (await client.post("/api/rides", json=RIDE)).json()

    ride = backend.run(talk)
    assert ride["duration"]["source"] == "fallback"
    assert ride["duration"]["value"] == 11.0
    assert ride["duration"]["reason"]
    assert backend.outbox()[0][2]["first_source"] == "fallback"


def test_asking_twice_with_one_id_gives_one_ride(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        body = {**RIDE, "ride_id": "my-own-ride"}
        return [await client.post("/api/rides", json=body, headers=FLEET) for _ in range(2)]

    first, second = backend.run(talk)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(backend.outbox()) == 1


def test_two_users_see_their_own_rides_only(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.get("/")
        first = await client.post("/api/rides", json={**RIDE, "ride_id": "of-the-first"})
        client.cookies.clear()
        await client.get("/")
        return [
            await client.get("/api/rides"),
            await client.get(first.headers["location"]),
            await client.post(f"{first.headers['location']}/end", json={"tip": 1}),
            await client.post("/api/rides", json={**RIDE, "ride_id": "of-the-first"}),
        ]

    rides, ride, end, taken = backend.run(talk)
    assert rides.json() == []
    assert (ride.status_code, end.status_code, taken.status_code) == (404, 404, 409)
    assert len(backend.outbox()) == 1


def test_a_ride_ends_once(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> list[Any]:
        await client.get("/")
        path = (await client.post("/api/rides", json=RIDE)).headers["location"]
        backend.now += dt.timedelta(seconds=15)
        first = (await client.post(f"{path}/end", json={"tip": 3.5})).json()
        backend.now += dt.timedelta(hours=1)
        return [first, (await client.post(f"{path}/end", json={"tip": 0})).json()]

    first, second = backend.run(talk)
    assert first == second
    assert first["ended"]["duration_minutes"] == 15  # a second is a minute here
    assert first["ended"]["tip"] == 3.5
    assert first["ended"]["total"] > first["ended"]["fare"] + 3.5
    assert [kind for _, kind, _ in backend.outbox()] == ["ride.requested", "ride.ended"]


def test_the_fleet_says_when_a_ride_was_and_how_it_ended(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> Any:
        body = {**RIDE, "payment": "cash", "ride_id": "trip-000001"}
        body["pickup_at"] = "2019-07-01T12:00:00Z"
        asked = await client.post("/api/rides", json=body, headers=FLEET)
        meter = {"duration_minutes": 20.5, "fare": 14.0, "tip": 2.0, "total": 17.8}
        path = asked.headers["location"]
        return (await client.post(f"{path}/end", json=meter, headers=FLEET)).json()

    ride = backend.run(talk)
    assert ride["pickup_at"] == "2019-07-01T12:00:00Z"
    assert ride["ended"]["duration_minutes"] == 20.5
    assert ride["ended"]["tip"] == 0  # of cash, nobody knows
    assert ride["ended"]["total"] == 17.8


def test_what_the_stream_said_is_told_once(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> Any:
        await client.get("/")
        ride = (await client.post("/api/rides", json=RIDE)).json()
        said = Answer(ride["ride_id"], "tip", {"tip": 2.0, "tip_low": 1.0, "tip_high": 3.0})
        other = said._replace(answer={"tip": 9.0})
        unknown = said._replace(ride_id="another-one")
        told = backend.database.answered([said, other, unknown], lambda user: True)
        assert [each.ride_id for each in told] == [ride["ride_id"]]
        assert backend.database.answered([other], lambda user: True) == []
        better = said._replace(kind="better-duration")
        assert backend.database.answered([better], lambda user: False) == []
        return (await client.get(f"/api/rides/{ride['ride_id']}")).json()

    answers = backend.run(talk)["answers"]
    assert answers["tip"] == {"tip": 2.0, "tip_low": 1.0, "tip_high": 3.0}
    assert answers.keys() == {"tip", "better-duration"}  # kept for when somebody looks


def test_a_user_who_asks_too_often_is_told_when_to_come_back(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.get("/")
        mine = [await client.post("/api/rides", json=RIDE) for _ in range(4)]
        fleet = [await client.post("/api/rides", json=RIDE, headers=FLEET) for _ in range(6)]
        client.cookies.clear()
        await client.get("/")
        return [*mine, *fleet, await client.post("/api/rides", json=RIDE)]

    replies = backend.run(talk)
    assert [reply.status_code for reply in replies] == [201, 201, 201, 429, *[201] * 6, 201]
    assert int(replies[3].headers["retry-after"]) > 900
    assert "too many rides" in replies[3].json()["detail"]
    assert len(backend.outbox()) == 10


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"pickup_zone": 264}, 422, "pickup_zone"),
        ({"dropoff_zone": 0}, 422, "dropoff_zone"),
        ({"pickup_zone": "230"}, 422, "pickup_zone"),
        ({"passengers": 7}, 422, "passengers"),
        ({"payment": "gold"}, 422, "payment"),
        ({"ride_id": "no spaces"}, 422, "ride_id"),
        ({"colour": "yellow"}, 422, "colour"),
        ({"pickup_at": "2019-07-01T12:00:00Z"}, 403, "pickup_at"),
        ({"note": "x" * 5000}, 413, "bytes"),
    ],
)
def test_a_wrong_request_is_refused_and_says_why(
    backend: Backend, change: dict[str, Any], status: int, said: str
) -> None:
    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        await client.get("/")
        return await client.post("/api/rides", json=RIDE | change)

    reply = backend.run(talk)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert said in reply.json()["detail"]
    assert not backend.outbox()


@tries(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=20))
def test_no_body_is_an_error_of_ours(backend: Backend, bodies: list[bytes]) -> None:
    async def talk(client: httpx.AsyncClient) -> set[int]:
        await client.get("/")
        kind = {"content-type": "application/json"}
        replies = [await client.post("/api/rides", content=b, headers=kind) for b in bodies]
        return {reply.status_code for reply in replies}

    assert backend.run(talk) == {422}


def test_who_is_not_known_gets_nothing(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> list[int]:
        wrong = {"authorization": "Bearer x"}
        elsewhere = {"sec-fetch-site": "cross-site"}
        replies = [
            await client.get("/api/rides"),
            await client.post("/api/rides", json=RIDE),
            await client.get("/api/rides", headers=wrong),
            await client.get("/api/events"),
        ]
        await client.get("/")
        form = {"content-type": "text/plain"}
        replies.append(await client.post("/api/rides", json=RIDE, headers=elsewhere))
        replies.append(await client.post("/api/rides", content=json.dumps(RIDE), headers=form))
        meter = {"tip": 1, "fare": 1.0}
        path = (await client.post("/api/rides", json=RIDE)).headers["location"]
        replies.append(await client.post(f"{path}/end", json=meter))
        return [reply.status_code for reply in replies]

    assert backend.run(talk) == [401, 401, 401, 401, 403, 415, 403]


def test_the_page_trusts_nothing_else(backend: Backend) -> None:
    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = await client.get("/")
        again = await client.get("/", headers={"if-none-match": first.headers["etag"]})
        return [
            first,
            again,
            await client.get("/static/app.js"),
            await client.get("/api/outlines"),
            await client.get("/health"),
        ]

    first, again, script, outlines, health = backend.run(talk)
    policy = first.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert first.text.count("<option") > 100
    for place in ("https://", "http://", "style=", "onclick"):
        assert place not in first.text
    assert again.status_code == 304
    assert script.status_code == 200
    assert script.headers["x-content-type-options"] == "nosniff"
    assert outlines.status_code == 200
    assert health.json() == {"status": "ok"}

"""The application itself: what all protocols share, and the addresses for those who run it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.service_client import PROTOCOLS, Answered, application, ask, send
from support.service_models import BoundedModel
from support.service_server import wait_until
from trivet.hosts.service import bodies
from trivet.hosts.service.access import MAX_LINES, AccessLog
from trivet.hosts.service.app import App
from trivet.hosts.service.protocols import records
from trivet.hosts.service.serving import Models
from trivet.hosts.service.settings import ServiceSettings
from trivet.testing import FailingModel, LinearModel

PATH = "/predict/linear"
ROW = {"x0": 2}


@pytest.fixture(scope="module")
def app() -> App:
    models = [LinearModel(), BoundedModel(on=[13.0]), FailingModel(name="failing", on=[13.0])]
    return application(models, key=("ride",), max_rows=10, max_body=10_000)


def problem(answer: Answered, status: int, kind: str) -> Any:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["type"] == f"urn:trivet:{kind}"
    assert told["status"] == status
    return told


def test_one_row_and_several(app: App) -> None:
    one = ask(app, PATH, ROW | {"ride": 7}, x_request_id="r-1").json()
    assert one == {
        "id": "r-1",
        "model": "linear",
        "version": "1",
        "digest": "(1.0,) 0.0",
        "prediction": {"prediction": 2.0},
    }
    many = ask(app, PATH, {"rows": [ROW, {"x0": "a"}, {}]}, x_request_id="r").json()
    assert many["predictions"] == [{"prediction": 2.0}, None, None]
    assert many["ids"] == ["r-0", "r-1", "r-2"]
    assert [(e["row"], e["field"], e["code"]) for e in many["errors"]] == [
        (1, "x0", "type"),
        (2, "x0", "missing"),
    ]
    assert ask(app, PATH, {"rows": [ROW]}, x_request_id="r").json()["ids"] == ["r"]


def test_many_rows_are_read_on_a_thread() -> None:
    app = application([LinearModel()])
    rows = [{"x0": float(i), "pad": "." * 20} for i in range(3000)]
    answer = ask(app, PATH, {"rows": rows}).json()
    assert [p["prediction"] for p in answer["predictions"]] == [float(i) for i in range(3000)]


SMALL_ROWS = {
    PATH: {"rows": [{}] * 1500},
    f"{PATH}/versions/1": {"rows": [1] * 5000},
    "/v2/models/linear/infer": {
        "inputs": [{"name": "x0", "datatype": "FP64", "shape": [9], "data": [None] * 5000}]
    },
    "/invocations": {"instances": [1] * 5000},
    "/invocations?model=linear": {"dataframe_records": [{}] * 1500},
}


@pytest.mark.parametrize("path", list(SMALL_ROWS))
def test_many_rows_of_few_bytes_are_read_on_a_thread_too(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    app = application([LinearModel()], max_rows=1000)
    works = []
    to_thread = asyncio.to_thread

    async def noted(work: Any, *given: Any) -> Any:
        works.append(work)
        return await to_thread(work, *given)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    body = SMALL_ROWS[path]
    assert len(json.dumps(body)) < 40_000
    assert ask(app, path, body).status in (400, 413)  # as soon as it is read
    assert len(works) == 1
    name = path.partition("?")[0]
    few = json.loads(json.dumps(body).replace("1, 1, ", "").replace("{}, ", ""))
    if "v2" not in name:
        assert ask(app, path, few).status in (200, 400, 422)
        assert len(works) == 1


def test_the_request_id_is_the_callers_if_it_is_a_plain_one(app: App) -> None:
    assert ask(app, PATH, ROW, x_request_id="ab c").headers["x-request-id"] == "ab c"
    for strange in ("", "é", "x" * 129, "a\x7f"):
        assert ask(app, PATH, ROW, x_request_id=strange).headers["x-request-id"] != strange
    ids = {ask(app, PATH, ROW).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/nothing", None, 404, "not_found"),
        ("/predict/nobody", ROW, 404, "not_found"),
        (f"{PATH}/versions/9", ROW, 404, "not_found"),
        (PATH, None, 405, "method"),
        ("/metrics", ROW, 405, "method"),
        (PATH, "x" * 10_001, 413, "too_large"),
        (PATH, {"rows": [ROW] * 11}, 413, "too_large"),
        (PATH, {"rows": []}, 400, "bad_request"),
        (PATH, {"rows": 3}, 400, "bad_request"),
        (PATH, "{", 422, "bad_rows"),
        (PATH, "[" * 9_000, 422, "bad_rows"),
        (PATH, '{"rows":' + "[" * 9_000, 422, "bad_rows"),
        (PATH, '{"rows":"\\ud800"}', 422, "bad_rows"),
        (PATH, '{"x0": NaN}', 422, "bad_rows"),
        (PATH, '{"x0": 1e999}', 422, "bad_rows"),
        (PATH, '{"x0": 1' + "0" * 5_000 + "}", 422, "bad_rows"),
        ("/predict/failing", {"x0": 13}, 500, "model"),
    ],
)
def test_what_is_refused(app: App, path: str, body: Any, status: int, kind: str) -> None:
    problem(ask(app, path, body), status, kind)


def test_every_wrong_field_is_named(app: App) -> None:
    told = problem(ask(app, "/predict/bounded", {"x0": -1, "n": "many"}), 422, "bad_rows")
    found = {(e["field"], e["code"]) for e in told["errors"]}
    assert found == {("x0", "range"), ("n", "type"), ("zone", "missing")}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_content_types(app: App, kind: str, status: int) -> None:
    assert ask(app, PATH, json.dumps(ROW), content_type=kind).status == status


@pytest.mark.parametrize(
    ("header", "coding", "status"),
    [
        ("content_encoding", "gzip", 415),
        ("content_encoding", "identity", 200),
        ("transfer_encoding", "gzip, chunked", 415),
        ("transfer_encoding", "Chunked", 200),
    ],
)
def test_a_compressed_body_is_not_taken_for_a_row(
    app: App, header: str, coding: str, status: int
) -> None:
    answer = ask(app, PATH, ROW, **{header: coding})
    assert answer.status == status
    if status == 415:
        told = problem(answer, 415, "media_type")["detail"]
        assert told == (
            f"{header.replace('_', '-').title()} {coding!r} is not read; send the body uncompressed"
        )
        assert answer.headers["accept-encoding"] == "identity"


def test_who_waits_for_leave_to_send_a_body_is_not_waited_for(app: App) -> None:
    refused = ask(app, PATH, "{}", content_length="104857600", expect="100-continue")
    assert (refused.status, refused.headers["connection"]) == (413, "close")
    assert "connection" not in ask(app, PATH, ROW, expect="100-continue").headers


def test_a_header_with_the_length_is_believed_early(app: App) -> None:
    problem(ask(app, PATH, "{}", content_length="104857600"), 413, "too_large")
    problem(ask(app, PATH, "{}", content_length="9" * 30), 413, "too_large")


def test_patience(app: App) -> None:
    assert ask(app, PATH, ROW, x_request_timeout="1.5").status == 200
    for nonsense in ("soon", "nan", "inf", "-1"):
        problem(ask(app, PATH, ROW, x_request_timeout=nonsense), 400, "bad_request")
    problem(ask(app, PATH, ROW, x_request_timeout="0"), 504, "late")


def test_head_and_options(app: App) -> None:
    assert ask(app, "/health/live", method="HEAD").status == 200
    answer = ask(app, "/health/live", method="OPTIONS")
    assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert ask(app, PATH, method="OPTIONS").headers["allow"] == "POST, OPTIONS"
    problem(ask(app, "/nothing", method="OPTIONS"), 404, "not_found")
    assert ask(app, PATH, method="DELETE").headers["allow"] == "POST, OPTIONS"


@pytest.fixture(scope="module")
def guarded() -> App:
    return application([LinearModel()], api_keys=("first", "second"))


class TestKeys:
    def test_one_of_them_lets_in(self, guarded: App) -> None:
        basic = base64.b64encode(b"anyone:second").decode()
        for shown in (
            {"x_api_key": "first"},
            {"authorization": "Bearer second"},
            {"authorization": f"Basic {basic}"},
        ):
            assert ask(guarded, PATH, ROW, **shown).status == 200

    @pytest.mark.parametrize(
        "shown",
        [
            {},
            {"x_api_key": "fir"},
            {"x_api_key": "é"},
            {"authorization": "first"},
            {"authorization": "Basic !"},
            {"authorization": "Digest first"},
        ],
    )
    def test_nothing_else_does(self, guarded: App, shown: dict[str, str]) -> None:
        answer = ask(guarded, PATH, ROW, **shown)
        problem(answer, 401, "unauthorized")
        assert "www-authenticate" in answer.headers
        for path in ("/metrics", "/openapi.json", "/docs", "/nothing"):
            assert ask(guarded, path, **shown).status == 401

    def test_health_is_open(self, guarded: App) -> None:
        assert ask(guarded, "/health/live").status == ask(guarded, "/health/ready").status == 200


class TestOrigins:
    def test_off_by_default(self, app: App) -> None:
        assert not any("access" in h for h in ask(app, PATH, ROW, origin="https://a.org").headers)

    def test_those_named_may_call(self) -> None:
        app = application([LinearModel()], cors_origins=("https://a.org",), api_keys=("k",))
        told = {"x_api_key": "k"}
        answer = ask(app, PATH, ROW, origin="https://a.org", **told)
        assert answer.headers["access-control-allow-origin"] == "https://a.org"
        stranger = ask(app, PATH, ROW, origin="https://b.org", **told)
        assert "access-control-allow-origin" not in stranger.headers
        assert stranger.headers["vary"] == "origin"
        before = ask(
            app,
            PATH,
            method="OPTIONS",
            origin="https://a.org",
            access_control_request_method="POST",
        )
        assert before.status == 204
        assert "x-api-key" in before.headers["access-control-allow-headers"]

    def test_all_may_call(self) -> None:
        app = application([LinearModel()], cors_origins=("*",))
        assert ask(app, PATH, ROW).headers["access-control-allow-origin"] == "*"


def test_stopping(app: App) -> None:
    stopping = application([LinearModel()])
    stopping.ready, stopping.closing = False, True
    answer = ask(stopping, "/health/ready")
    problem(answer, 503, "not_ready")
    assert answer.headers["retry-after"] == "1"
    assert ask(stopping, PATH, ROW).headers["connection"] == "close"


def test_an_error_that_is_ours_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty:
        __name__ = "faulty"
        fault = staticmethod(records.fault)

        def route(self, method: str, path: str) -> Any:
            async def fail(*_: object) -> Any:
                raise ZeroDivisionError("secret")

            return fail if path == "/faulty" else None

    app = application([LinearModel()], protocols=(Faulty(), records))
    with caplog.at_level(logging.ERROR, "trivet.service"):
        told = problem(ask(app, "/faulty", x_request_id="r-9"), 500, "model")
    assert "r-9" in told["detail"]
    assert "secret" not in told["detail"]
    assert "secret" in caplog.text


def test_what_a_model_raises_is_logged_under_the_requests_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = application([FailingModel(name="linear", on=[13.0])])
    with caplog.at_level(logging.ERROR, "trivet.service"):
        problem(ask(app, PATH, {"x0": 13}, x_request_id="r-13"), 500, "model")
    (line,) = caplog.messages
    assert line.startswith("request r-13: the model raised: ")
    assert "13" in line.removeprefix("request r-13: ")


def test_only_short_addresses_that_are_answered_are_remembered() -> None:
    app = application([LinearModel()], api_keys=("first",))
    for path in ("/predict/nobody", "/nothing", "/v2" + "/" * 300):
        for shown in ({}, {"x_api_key": "first"}):
            ask(app, path, ROW, **shown)
            ask(app, path, **shown)
    assert ask(app, PATH, ROW).status == 401
    assert not app._routes
    assert ask(app, PATH, ROW, x_api_key="first").status == 200
    assert list(app._routes) == [("POST", PATH)]


def test_addresses_are_not_remembered_without_end() -> None:
    async def check() -> None:
        app = application([LinearModel()])
        for method in ("GET", "HEAD"):
            for start in ("/v2", "/v2/health/live", "/v2/models/linear"):
                for more in range(200):
                    answer = await send(app, start + "/" * more, method=method)
                    assert answer.status == 200
        assert 0 < len(app._routes) <= 1024
        await send(app, PATH, ROW)
        assert ("POST", PATH) in app._routes

    asyncio.run(check())


async def converse(app: App, messages: list[dict[str, Any]], **scope: Any) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def collect(message: Any) -> None:
        sent.append(message)

    base = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": []}
    await app({**base, **scope}, receive, collect)
    return sent


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


def test_a_body_in_parts(app: App) -> None:
    def status(*messages: dict[str, Any], **scope: Any) -> int | None:
        sent = asyncio.run(converse(app, list(messages), **scope))
        return sent[0]["status"] if sent else None

    assert status(part(b'{"x'), part(b'0":'), part(b"1}", more=False)) == 200
    assert status(part(b" " * 6000), part(b" " * 6000)) == 413
    assert status(part(b" " * 6000), part(b" " * 6000, more=False)) == 413
    assert status(GONE) is None
    assert status(part(b"{"), GONE) is None
    assert status(part(b"{"), headers=[(b"x-request-timeout", b"0.01")]) == 408


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PATH), ("HEAD", "/health/live"), ("OPTIONS", PATH), ("POST", "/ping")],
)
def test_no_large_body_is_read_where_there_is_no_use_for_one(method: str, path: str) -> None:
    app = application([LinearModel()], api_keys=("first",))
    key = {} if path != PATH or method == "OPTIONS" else {"x_api_key": "first"}
    assert ask(app, path, b" " * 8192, method=method, **key).status in (200, 204, 405)
    assert ask(app, path, b" " * 8193, method=method, **key).status == 413
    length = {"content_length": "8193"}
    assert ask(app, path, b"", method=method, **key, **length).status == 413


class Sending:
    """A client that sends parts of a body when it is told to."""

    def __init__(self, app: App, **headers: str) -> None:
        self._parts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: list[Any] = []
        named = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        base = {"type": "http", "method": "POST", "path": PATH, "query_string": b""}
        self._task = asyncio.ensure_future(
            app({**base, "headers": named}, self._parts.get, self._collect)
        )

    async def _collect(self, message: Any) -> None:
        self._sent.append(message)

    async def part(self, body: bytes, *, more: bool = True) -> None:
        self._parts.put_nowait(part(body, more=more))
        while not self._parts.empty():
            await asyncio.sleep(0)

    async def gone(self) -> None:
        self._parts.put_nowait(GONE)
        await self._task

    async def answer(self) -> tuple[int, dict[bytes, bytes]]:
        await self._task
        return self._sent[0]["status"], dict(self._sent[0]["headers"])


def test_bodies_under_way_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LEAST", 0)
    large = b" " * 50_000

    async def check() -> None:
        app = application([LinearModel()], max_body=100_000)  # 800,000 together
        slow = [Sending(app) for _ in range(8)]
        for sending in slow:
            await sending.part(large)
            await sending.part(large)
        late = Sending(app)
        await late.part(large)
        status, headers = await late.answer()
        assert (status, headers[b"retry-after"]) == (503, b"1")
        whole = await send(app, PATH, b" " * 70_000 + b'{"x0":1}')
        assert (whole.status, whole.json()["type"]) == (503, "urn:trivet:busy")
        assert "bodies" in whole.json()["detail"]
        assert (await send(app, PATH, ROW)).status == 200  # it came small and whole
        for sending in slow[:4]:
            await sending.gone()
        assert (await send(app, PATH, b" " * 70_000 + b'{"x0":1}')).status == 200
        await slow[4].part(b" ")
        assert (await slow[4].answer())[0] == 413
        for sending in slow[5:]:
            await sending.part(b"", more=False)
            assert (await sending.answer())[0] == 422
        hasty = Sending(app, x_request_timeout="0.01")
        await hasty.part(large)
        assert (await hasty.answer())[0] == 408
        for _ in range(20):  # what was held is held no more
            assert (await send(app, PATH, b" " * 90_000 + b'{"x0":1}')).status == 200

    asyncio.run(check())


def test_other_conversations(app: App) -> None:
    life = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = asyncio.run(converse(app, life, type="lifespan"))
    assert [m["type"] for m in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert asyncio.run(converse(app, [], type="websocket")) == [{"type": "websocket.close"}]


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class TestAccessLog:
    def lines(
        self, *, errors_only: bool, requests: int = 1, write: Callable[[str], object] | None = None
    ) -> list[dict[str, Any]]:
        told: list[str] = []
        access = AccessLog(errors_only=errors_only, write=write or told.append)
        made = ServiceSettings(models=("linear",))
        models = Models((), 256, 1000)
        models.add("linear", LinearModel())
        app = App(made, models, PROTOCOLS, access=access)

        async def some() -> None:
            for _ in range(requests):
                await send(app, PATH, ROW, traceparent=TRACE, x_request_id="r-1")
            await send(app, "/nothing", traceparent="nonsense")
            access.flush()
            access.flush()

        asyncio.run(some())
        return [json.loads(line) for line in "".join(told).splitlines()]

    def test_everything(self) -> None:
        good, bad = self.lines(errors_only=False)
        assert good["request"] == "r-1"
        assert good["trace"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert (good["method"], good["path"], good["status"]) == ("POST", PATH, 200)
        assert (good["model"], good["version"], good["rows"]) == ("linear", "1", 1)
        assert good["ms"] > 0
        assert (bad["status"], bad["protocol"]) == (404, "service")
        assert "trace" not in bad

    @pytest.mark.parametrize(
        "unset", [f"ff{TRACE[2:]}", f"00-{'0' * 32}{TRACE[35:]}", f"{TRACE[:36]}{'0' * 16}-01"]
    )
    def test_a_trace_that_is_none(self, monkeypatch: pytest.MonkeyPatch, unset: str) -> None:
        monkeypatch.setitem(globals(), "TRACE", unset)
        assert "trace" not in self.lines(errors_only=False)[0]

    def test_errors_only(self) -> None:
        assert [line["status"] for line in self.lines(errors_only=True)] == [404]

    def test_it_does_not_grow_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert MAX_LINES > 100
        monkeypatch.setattr("trivet.hosts.service.access.MAX_LINES", 3)
        monkeypatch.setattr("trivet.hosts.service.access.FLUSH_SECONDS", 3600)
        lines = self.lines(errors_only=False, requests=6)
        assert [line["status"] for line in lines[:-1]] == [200] * (len(lines) - 1)
        assert lines[-1]["left_out"] == 7 - (len(lines) - 1) >= 3

    def test_a_reader_that_stalls_stops_no_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trivet.hosts.service.access.FLUSH_SECONDS", 0)
        monkeypatch.setattr("trivet.hosts.service.access.FLUSH_PATIENCE", 0.01)
        stalled, told = threading.Event(), list[str]()

        def write(text: str) -> None:
            stalled.wait()
            told.append(text)

        assert self.lines(errors_only=False, requests=5, write=write) == []
        stalled.set()
        wait_until(lambda: len("".join(told).splitlines()) == 6)

    def test_a_reader_that_is_gone_stops_no_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trivet.hosts.service.access.FLUSH_SECONDS", 0)
        tries: list[str] = []

        def write(text: str) -> None:
            tries.append(text)
            raise BrokenPipeError

        self.lines(errors_only=False, requests=2, write=write)
        assert len("".join(tries).splitlines()) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
NAMES = st.sampled_from(["x0", "n", "x1", "zone", "rows", "ride"])


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=200)
    | st.dictionaries(NAMES, JSON, max_size=6).map(lambda d: json.dumps(d).encode())
    | st.lists(st.dictionaries(NAMES, JSON, max_size=6), max_size=3).map(
        lambda rows: json.dumps({"rows": rows}).encode()
    ),
    kind=st.sampled_from(["application/json", ""]),
)
def test_no_body_makes_an_error_that_is_ours(app: App, body: bytes, kind: str) -> None:
    answer = ask(app, "/predict/bounded", body, content_type=kind)
    assert answer.status in (200, 400, 413, 422), answer.body
    answer.json()

"""Requests of thousands of rows that break the schema: what they are told, and what they cost."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.service_client import Answered, application, ask, send
from support.service_models import BoundedModel
from trivet.hosts.service.app import App
from trivet.hosts.service.faults import Problems
from trivet.hosts.service.protocols import arrow, columns, records
from trivet.hosts.service.protocols.problems import FEW, by_row, with_errors

MANY = 3000
PATH = "/predict/bounded"
STREAM = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def app() -> App:
    return application([BoundedModel()], key=("ride", "zone"), max_rows=200_000, max_body=2**25)


def row(place: int) -> dict[str, Any]:
    """Return one of many rows, of which some are good."""
    kinds: list[dict[str, Any]] = [
        {"x0": 1.5, "n": place, "zone": "ü", "ride": place},
        {"x0": f'a"\\\n{place}', "n": 0.5 + place, "x1": [], "ride": {"a": place}},
        {"x0": 1001 + place, "n": None, "zone": "\0" * place, "ride": None},
        {"x0": -1, "n": 2**40, "zone": place},
    ]
    return kinds[place % 4]


def stream(rows: int) -> bytes:
    batch = pa.record_batch(
        {
            "x0": pa.array([-1.0 - place for place in range(rows)]),
            "n": pa.array([2**40 + place for place in range(rows)]),
            "zone": pa.nulls(rows, pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def tensors(rows: int) -> dict[str, Any]:
    data = {"x0": ("FP64", -1.0), "n": ("INT64", 2**40), "zone": ("BYTES", "a")}
    return {
        "inputs": [
            {"name": name, "datatype": kind, "shape": [rows], "data": [value] * rows}
            for name, (kind, value) in data.items()
        ]
    }


def table(answer: Answered) -> Any:
    return pa.ipc.open_stream(answer.body).read_all()


def test_many_are_told_what_few_are(app: App) -> None:
    rows = [row(place) for place in range(MANY)]
    many = ask(app, PATH, {"rows": rows}, x_request_id="r").json()
    assert len(many["errors"]) > MANY
    for start in range(0, MANY, 20):
        few = ask(app, PATH, {"rows": rows[start : start + 20]}).json()
        assert few["predictions"] == many["predictions"][start : start + 20]
        told = [e | {"row": e["row"] + start} for e in few["errors"]]
        assert len(told) <= FEW
        assert told == [e for e in many["errors"] if start <= e["row"] < start + 20]


def test_many_that_only_a_loose_reader_takes(app: App) -> None:
    rows = [row(place) for place in range(MANY)]
    rows[7] = rows[7] | {"x0": float("nan")}
    many = ask(app, PATH, {"rows": rows}).json()
    strict = ask(app, PATH, {"rows": [row(place) for place in range(MANY)]}).json()
    assert many["predictions"] == strict["predictions"]
    named, others = (
        {(e["row"], e["field"]): e["code"] for e in a["errors"]} for a in (many, strict)
    )
    assert named == others | {(7, "x0"): "not_finite"}
    assert others[7, "x0"] == "range"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.tuples(TEXTS, st.sampled_from(["type", "null"]), TEXTS)),
        min_size=1,
    ),
    st.integers(0, 5),
)
def test_columns_of_problems_are_written_as_objects_are(
    found: list[tuple[int, tuple[str, str, str]]], start: int
) -> None:
    found = sorted(found, key=lambda problem: problem[0])
    problems = Problems.of((row + start, problem) for row, problem in found)
    problems.start = start
    several = Problems(pa.concat_batches([problems.columns] * (FEW + 1)), start)
    few = json.loads(with_errors(b'{"a":1}', problems))["errors"]
    assert [(e["row"], (e["field"], e["code"], e["reason"])) for e in few] == found
    assert json.loads(with_errors(b'{"a":1}', several))["errors"] == few * (FEW + 1)
    told = by_row(problems, 50).to_pylist()
    for place in range(50):
        mine = [problem for row, problem in found if row == place]
        text = told[place]
        if not mine:
            assert text is None
            continue
        read = json.loads(text)
        assert [(e["field"], e["code"], e["reason"]) for e in read] == mine


class Held(ThreadPoolExecutor):
    """A loop's threads, which do nothing before they are let."""

    def __init__(self) -> None:
        super().__init__(2)
        self.go = threading.Event()
        self.asked = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked += 1

        def later() -> Any:
            assert self.go.wait(60)
            return fn(*args, **kwargs)

        return super().submit(later)


ROWS = [row(place) for place in range(MANY)]
FORMS: dict[str, tuple[str, Any, str, int, int]] = {
    "records": (PATH, {"rows": ROWS}, "application/json", 200, 2),
    "arrow": (PATH + "/arrow", stream(9000), STREAM, 200, 2),
    "mlflow records": (
        "/invocations",
        {"dataframe_records": [r for r in ROWS if "zone" in r] * 2},
        "application/json",
        400,
        1,
    ),
    "mlflow split": (
        "/invocations",
        {"dataframe_split": {"columns": ["x0", "n", "zone"], "data": [[-1, 2, "a"]] * 9000}},
        "application/json",
        400,
        1,
    ),
    "mlflow CSV": ("/invocations", b"x0,n,zone\n" + b"-1,2,a\n" * 20_000, "text/csv", 400, 1),
    "oip": ("/v2/models/bounded/infer", tensors(9000), "application/json", 400, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_requests_are_answered_meanwhile(form: str) -> None:
    """Whatever takes long with many rows is done on threads; here they wait for a health check."""
    app = application([BoundedModel()], key=("ride",), max_rows=200_000, max_body=2**25)
    path, body, kind, status, times = FORMS[form]

    async def steps() -> None:
        held = Held()
        asyncio.get_running_loop().set_default_executor(held)
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        large = asyncio.create_task(send(app, path, sent, content_type=kind))
        while not held.asked:
            assert not large.done()
            await asyncio.sleep(0)
        assert (await send(app, "/health/live")).status == 200
        assert not large.done()
        held.go.set()
        answer = await large
        assert answer.status == status, answer.body[:1000]
        assert held.asked == times

    asyncio.run(steps())


def test_no_object_is_kept_for_each_problem(app: App) -> None:
    """Python's own memory, at its highest, is a small multiple of the answer's bytes."""
    rows = 5000
    body = json.dumps({"rows": [{"x0": f"a{place}", "n": []} for place in range(rows)]})
    tracemalloc.start()
    try:
        answer = ask(app, PATH, body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(answer.json()["errors"]) == 3 * rows
    assert peak < 4 * len(answer.body), (peak, len(answer.body))


def test_a_request_of_far_too_many_problems_is_refused(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (records, columns, arrow):
        monkeypatch.setattr(module, "MAX_PROBLEMS", 5000)
    answer = ask(app, PATH, {"rows": [{}] * MANY})
    assert answer.status == 422
    told = answer.json()
    assert told["detail"].endswith("more than 5000 problems")
    assert [(e["row"], e["field"]) for e in told["errors"]] == [
        (place // 3, ("x0", "n", "zone")[place % 3]) for place in range(1000)
    ]
    far = {"x0": -1, "n": 1, "zone": "a"}
    assert ask(app, PATH, {"rows": [far] * 5000}).status == 200
    assert ask(app, PATH, {"rows": [far] * 5001}).status == 422
    answer = ask(app, PATH + "/arrow", stream(MANY))
    assert answer.status == 422
    assert "row 0: x0: range" in answer.json()["detail"]

"""The prediction log: what is written, and that it is never in the way."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from support.service_client import PROTOCOLS, send
from support.service_models import BoundedModel, EchoModel
from support.service_server import counted, wait_until
from trivet.contract import Model
from trivet.databases import connect
from trivet.errors import QueryError, ResultsError, TransientError
from trivet.hosts.service import log as module
from trivet.hosts.service.answers import Waiting
from trivet.hosts.service.app import App
from trivet.hosts.service.batcher import TooLate
from trivet.hosts.service.log import LogSettings, PredictionWriter
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.serving import Models
from trivet.hosts.service.settings import ServiceSettings
from trivet.records import RecordReader
from trivet.results import rows
from trivet.results.layout import open_results
from trivet.schema import Field, Schema
from trivet.scoring import score
from trivet.testing import LinearModel


class Logged:
    """An application whose predictions are logged."""

    def __init__(
        self, url: str, *models: Model, key: tuple[str, ...] = ("ride",), **settings: Any
    ) -> None:
        self.metrics = Metrics()
        where = LogSettings(url=url, root=Path(), **{"queue": 1000, **settings})
        self.writer = PredictionWriter(where, self.metrics, chance=iter([0.1, 0.9] * 50).__next__)
        made = ServiceSettings(models=tuple({m.name for m in models}), key=key)
        self.models = Models(key, 256, 1000)
        self.models.observe(self.writer.observe)
        for model in models:
            self.models.add(model.name, model, summary={"version": model.version})
        block = self.writer if where.block else None
        self.app = App(made, self.models, PROTOCOLS, metrics=self.metrics, log=block)

    def run(self, steps: Callable[[], Awaitable[None]], patience: float = 30) -> int:
        async def all_of_it() -> int:
            self.writer.start()
            await steps()
            return await asyncio.to_thread(self.writer.stop, patience)

        return asyncio.run(asyncio.wait_for(all_of_it(), 60))

    def outcome(self, name: str) -> float:
        return counted(self.metrics.render()[0].decode(), "trivet_log_rows_total", outcome=name)


def read(url: str, query: str) -> list[dict[str, Any]]:
    with connect(url) as db:
        found: list[dict[str, Any]] = db.rows(query).to_pylist()
        return found


def test_what_was_asked_and_answered_is_written(results_url: str) -> None:
    logged = Logged(results_url, BoundedModel(), BoundedModel(name="other"))
    row = {"x0": 1, "n": 2, "x1": None, "zone": "née\0"}
    before = dt.datetime.now(dt.UTC)

    async def steps() -> None:
        path = "/predict/bounded"
        await send(logged.app, path, row | {"ride": 7}, x_request_id="a")
        many = [row | {"ride": "r8"}, {"x0": -1}, row | {"ride": {"of": [1.5, "é"]}}]
        await send(logged.app, path, {"rows": many}, x_request_id="b")
        await send(logged.app, "/predict/other", row, x_request_id="c")
        await send(logged.app, path, {"x0": "\ud800"}, x_request_id="d")

    assert logged.run(steps) == 0
    found = read(results_url, "SELECT * FROM service_bounded ORDER BY id")
    assert [(f["id"], f["source"], f["ride"]) for f in found[:2]] == [
        ("a", '{"ride":"7"}', "7"),
        ("b-0", '{"ride":"r8"}', "r8"),
    ]
    assert [f["id"] for f in found] == ["a", "b-0", "b-2"]
    first = found[0]
    assert json.loads(first["inputs"]) == row
    assert first["mean"] == 3.5
    assert (first["model_name"], first["model_version"]) == ("bounded", "1")
    assert 0 < first["seconds"] < 30
    at = first["scored_at"]
    at = dt.datetime.fromisoformat(at).replace(tzinfo=dt.UTC) if isinstance(at, str) else at
    assert before <= at <= dt.datetime.now(dt.UTC)
    assert [f["id"] for f in read(results_url, "SELECT id FROM service_other")] == ["c"]
    rejects = read(results_url, "SELECT * FROM trivet_rejects ORDER BY id, field")
    assert {(r["id"], r["field"], r["code"]) for r in rejects} >= {
        ("b-1", "x0", "range"),
        ("b-1", "zone", "missing"),
        ("d", "n", "missing"),
    }
    told = read(results_url, "SELECT * FROM trivet_deployments ORDER BY name")
    assert [(t["name"], t["kind"], t["view_name"]) for t in told] == [
        ("service-bounded", "service", "service_bounded"),
        ("service-other", "service", "service_other"),
    ]
    assert logged.outcome("written") == 4


def test_a_request_that_comes_again_counts_once(results_url: str) -> None:
    logged = Logged(results_url, LinearModel())

    async def steps() -> None:
        for ride in (1, 1, 2):
            await send(logged.app, "/predict/linear", {"x0": 1, "ride": ride}, x_request_id="same")

    logged.run(steps)
    found = read(results_url, "SELECT ride FROM service_linear ORDER BY ride")
    assert [f["ride"] for f in found] == ["1", "2"]
    assert logged.outcome("repeated") == 1


def test_every_type_is_kept(results_url: str) -> None:
    logged = Logged(results_url, EchoModel(nullable=True), key=("in_timestamp", "ride"))
    row = {"in_bool": True, "in_int8": 1, "in_timestamp": "2020-01-01T00:00:00Z", "in_date": None}

    async def steps() -> None:
        await send(logged.app, "/predict/echo", row, x_request_id="a")
        await send(logged.app, "/predict/echo", {}, x_request_id="b")

    logged.run(steps)
    first, second = read(results_url, "SELECT * FROM service_echo ORDER BY id")
    assert first["out_int8"] == 1
    assert first["in_timestamp"] == "2020-01-01T00:00:00Z"
    assert second["out_string"] is None


def test_many_rows_are_logged_as_few_are(sqlite_url: str) -> None:
    logged = Logged(sqlite_url, BoundedModel(), key=("ride", "n"), queue=10_000)
    rides = (7, None, "r\0", {"of": [1.5, "é"]})
    rows: list[dict[str, Any]] = [
        {
            "x0": place % 3 - 1,
            "n": place,
            "zone": "z" if place % 4 else None,
            "ride": rides[place % len(rides)],
        }
        for place in range(1200)
    ]

    async def steps() -> None:
        path = "/predict/bounded"
        await send(logged.app, path, {"rows": rows}, x_request_id="many")
        for start in range(0, 1200, 400):
            await send(logged.app, path, {"rows": rows[start : start + 400]}, x_request_id="few")

    logged.run(steps)
    told = "SELECT source, ride, n, inputs, mean FROM service_bounded WHERE id LIKE '{}-%'"
    why = "SELECT row_key, field, code, reason FROM trivet_rejects WHERE id LIKE '{}-%'"
    for query, count in ((told, 600), (why, 700)):
        many, few = (
            sorted(map(str, read(sqlite_url, query.format(name)))) for name in ("many", "few")
        )
        assert many == few
        assert len(many) == count


def test_columns_have_their_keys_too(sqlite_url: str) -> None:
    logged = Logged(sqlite_url, LinearModel(), key=("ride", "zone", "x0"))
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"x0": [1.0, 2.0], "ride": [7, 8]})
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)

    async def steps() -> None:
        kind = "application/vnd.apache.arrow.stream"
        body = sink.getvalue().to_pybytes()
        answer = await send(logged.app, "/predict/linear", body, content_type=kind)
        assert answer.status == 200, answer.body

    logged.run(steps)
    found = read(sqlite_url, "SELECT ride, zone, x0 FROM service_linear ORDER BY ride")
    assert found == [
        {"ride": "7", "zone": None, "x0": "1.0"},
        {"ride": "8", "zone": None, "x0": "2.0"},
    ]


def test_a_key_is_the_same_text_in_every_protocol(sqlite_url: str) -> None:
    model = EchoModel(types=("timestamp", "int8"))
    logged = Logged(sqlite_url, model, key=("ride", "in_timestamp", "seen"))
    row = {"in_timestamp": "2026-01-01T00:00:00", "in_int8": 1}
    ids = ["007", "0000-01-01", "NA", "é", "1.50"]
    rows = [row | {"ride": name, "seen": "x"} for name in ids]
    bad = row | {"in_int8": 300, "ride": "bad", "seen": "x"}
    names = list(bad)

    def tensor(name: str, datatype: str, *values: Any) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [len(values)], "data": values}

    def forms(rows: list[dict[str, Any]]) -> list[tuple[str, bytes | str, str]]:
        csv = "\n".join(",".join(map(str, line)) for line in [names, *(r.values() for r in rows)])
        split = {"columns": names, "data": [list(r.values()) for r in rows]}
        kinds = {"in_int8": "INT64"}
        tensors = [tensor(n, kinds.get(n, "BYTES"), *(r[n] for r in rows)) for n in names]
        sink = pa.BufferOutputStream()
        batch = pa.RecordBatch.from_pylist(rows)
        moment = batch.column(0).cast(pa.timestamp("ns"))
        batch = batch.set_column(0, "in_timestamp", moment)
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        arrow = sink.getvalue().to_pybytes()
        json_ = "application/json"
        return [
            ("/predict/echo", json.dumps({"rows": rows}), json_),
            ("/predict/echo/arrow", arrow, "application/vnd.apache.arrow.stream"),
            ("/invocations", csv, "text/csv"),
            ("/invocations", json.dumps({"dataframe_split": split}), json_),
            ("/invocations", json.dumps({"dataframe_records": rows}), json_),
            ("/v2/models/echo/infer", json.dumps({"inputs": tensors}), json_),
        ]

    async def steps() -> None:
        for number, (path, body, kind) in enumerate(forms(rows)):
            answer = await send(logged.app, path, body, content_type=kind, x_request_id=f"{number}")
            assert answer.status == 200, answer.body
        for path, body, kind in forms([bad]):
            await send(logged.app, path, body, content_type=kind)
        split = {
            "columns": [*names, "more"],
            "data": [[*row.values(), v, "x", 0] for v in (7, 8.5)],
        }
        await send(logged.app, "/invocations", {"dataframe_split": split}, x_request_id="mixed")

    logged.run(steps)
    assert logged.outcome("written") == 6 * len(ids) + 2
    found = read(sqlite_url, "SELECT source FROM service_echo WHERE id NOT LIKE 'mixed%'")
    keys = [
        json.dumps({"ride": n, "in_timestamp": "2026-01-01T00:00:00Z", "seen": "x"}) for n in ids
    ]
    assert sorted(json.dumps(json.loads(f["source"])) for f in found) == sorted(keys * 6)
    found = read(sqlite_url, "SELECT ride FROM service_echo WHERE id LIKE 'mixed%'")
    assert sorted(f["ride"] for f in found) == ["7", "8.5"]
    found = read(sqlite_url, "SELECT row_key FROM trivet_rejects")
    told = {"ride": "bad", "in_timestamp": "2026-01-01T00:00:00Z", "seen": "x"}
    assert [json.loads(f["row_key"]) for f in found] == [told] * 6


def test_a_new_version_may_answer_more(results_url: str) -> None:
    class More(LinearModel):
        @property
        def outputs(self) -> Schema:
            return Schema([*super().outputs, Field(name="spread", type="float64")])

        def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
            column = pa.array([0.5] * batch.num_rows)
            return pa.record_batch([column, column], schema=self.outputs.arrow)

    for model in (LinearModel(), More(version="2")):
        logged = Logged(results_url, model)

        async def steps(logged: Logged = logged) -> None:
            await send(logged.app, "/predict/linear", {"x0": 1})

        logged.run(steps)
    found = read(results_url, "SELECT model_version, spread FROM service_linear ORDER BY 1")
    assert [tuple(f.values()) for f in found] == [("1", None), ("2", 0.5)]
    narrow = Logged(results_url, LinearModel(version="3"))

    async def again() -> None:
        await send(narrow.app, "/predict/linear", {"x0": 1})

    narrow.run(again)
    assert len(read(results_url, "SELECT 1 AS n FROM service_linear")) == 3


def test_columns_that_clash_are_named(results_url: str) -> None:
    with open_results(results_url) as db:
        with pytest.raises(ResultsError, match="column 'inputs' has the name of a column that"):
            rows.prepare(
                db, "service-m", rows.SERVICE, pa.schema([pa.field("inputs", pa.string())])
            )
        rows.prepare(db, "service-m", rows.SERVICE, pa.schema([pa.field("y", pa.float64())]))
        with pytest.raises(ResultsError, match=r"'y' of predictions_service_m is .*give the model"):
            rows.prepare(db, "service-m", rows.SERVICE, pa.schema([pa.field("y", pa.string())]))


def test_what_cannot_be_written_is_counted_and_the_rest_goes_on(sqlite_url: str) -> None:
    class Clashing(LinearModel):
        @property
        def outputs(self) -> Schema:
            return Schema([Field(name="inputs", type="float64")])

        def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
            return pa.record_batch([batch.column(0)], schema=self.outputs.arrow)

    logged = Logged(sqlite_url, Clashing(name="clashing"), LinearModel())

    async def steps() -> None:
        await send(logged.app, "/predict/clashing", {"x0": 1})
        while logged.writer.queued:
            await asyncio.sleep(0.01)
        await send(logged.app, "/predict/linear", {"x0": 1})

    logged.run(steps)
    assert (logged.outcome("refused"), logged.outcome("written")) == (1, 1)


def test_a_sample(sqlite_url: str) -> None:
    logged = Logged(sqlite_url, LinearModel(), sample=0.5)

    async def steps() -> None:
        await asyncio.gather(
            *(send(logged.app, "/predict/linear", {"x0": n, "ride": n}) for n in range(10))
        )
        await send(logged.app, "/predict/linear", {"x0": 9, "ride": 10})
        await send(logged.app, "/predict/linear", {"x0": 9, "ride": 11})

    logged.run(steps)
    found = read(sqlite_url, "SELECT ride FROM service_linear ORDER BY CAST(ride AS INTEGER)")
    assert [f["ride"] for f in found] == ["0", "2", "4", "6", "8", "10"]


class Away:
    """A results database that is away, until it is let back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = True
        self.error: Exception = TransientError("the server is away")
        self.tries = 0
        monkeypatch.setattr(module, "RETRY_SECONDS", (0.001, 0.01))
        monkeypatch.setattr(module, "open_results", self.open)

    def open(self, url: str, *, root: Path) -> Any:
        self.tries += 1
        if self.away:
            raise self.error
        return open_results(url, root=root)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    return Away(monkeypatch)


def test_a_database_that_is_away_costs_no_request_and_what_fits_is_kept(
    sqlite_url: str, away: Away
) -> None:
    logged = Logged(sqlite_url, LinearModel(), queue=3)

    async def steps() -> None:
        for n in range(5):
            answer = await send(logged.app, "/predict/linear", {"x0": n})
            assert answer.status == 200
        while away.tries < 3:
            await asyncio.sleep(0.001)
        away.away = False

    logged.run(steps)
    assert len(read(sqlite_url, "SELECT id FROM service_linear")) == 3
    assert (logged.outcome("written"), logged.outcome("dropped")) == (3, 2)


def test_what_waits_to_be_written_keeps_no_request_alive(sqlite_url: str, away: Away) -> None:
    logged = Logged(sqlite_url, LinearModel())

    async def steps() -> None:
        for body in ({"x0": 1}, {"rows": [{"x0": 2}, {"x0": 3}]}):
            assert (await send(logged.app, "/predict/linear", body)).status == 200
        gc.collect()
        assert logged.writer.queued == 3
        assert not [it for it in gc.get_objects() if isinstance(it, Waiting)]
        away.away = False

    assert logged.run(steps) == 0
    assert logged.outcome("written") == 3


def test_with_block_requests_wait_and_nothing_is_dropped(sqlite_url: str, away: Away) -> None:
    logged = Logged(sqlite_url, LinearModel(), queue=2, block=True)

    async def steps() -> None:
        async def one(n: int) -> None:
            assert (await send(logged.app, "/predict/linear", {"x0": n})).status == 200

        await one(0)
        await one(1)
        waiting = [asyncio.create_task(one(n)) for n in range(2, 6)]
        late = await send(logged.app, "/predict/linear", {"x0": 9}, x_request_timeout="0.01")
        assert late.status == 504
        assert not any(task.done() for task in waiting)
        away.away = False
        await asyncio.gather(*waiting)

    assert logged.run(steps) == 0
    assert len(read(sqlite_url, "SELECT id FROM service_linear")) == 6
    assert logged.outcome("dropped") == 0


def test_what_is_left_at_the_end_is_told(sqlite_url: str, away: Away) -> None:
    logged = Logged(sqlite_url, LinearModel())

    async def steps() -> None:
        await send(logged.app, "/predict/linear", {"x0": 1})

    assert logged.run(steps, patience=0.05) == 1
    assert logged.outcome("dropped") == 1


def test_a_connection_that_breaks_is_opened_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.001, 0.01))
    failures = [QueryError("broken"), TransientError("broken")]
    real = rows.append

    def append(*given: Any) -> int:
        if failures:
            raise failures.pop()
        return real(*given)

    monkeypatch.setattr(rows, "append", append)
    logged = Logged(sqlite_url, LinearModel(), block=True)

    async def steps() -> None:
        await send(logged.app, "/predict/linear", {"x0": 1})

    assert logged.run(steps) == 0
    assert len(read(sqlite_url, "SELECT id FROM service_linear")) == 1


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the database refuse whatever has a row of this id."""
    real = rows.append

    def append(db: Any, deployment: str, predictions: pa.RecordBatch, *more: Any) -> int:
        if name in predictions.column("id").to_pylist():
            raise QueryError("no such day")
        return real(db, deployment, predictions, *more)

    monkeypatch.setattr(rows, "append", append)


def test_what_cannot_be_written_costs_no_other_request_its_rows(
    sqlite_url: str, away: Away, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "poison")
    logged = Logged(sqlite_url, LinearModel(), block=True, queue=100)

    async def steps() -> None:
        async def one(body: Any, **headers: str) -> None:
            assert (await send(logged.app, "/predict/linear", body, **headers)).status == 200

        await asyncio.gather(
            *(one({"x0": n, "ride": n}) for n in range(5)),
            one({"x0": 7, "ride": "none"}, x_request_id="poison"),
            *(one({"rows": [{"x0": n, "ride": n}] * 2}) for n in range(5, 8)),
        )
        away.away = False
        while logged.writer.queued:
            await asyncio.sleep(0.01)
        await one({"x0": 9, "ride": 9})

    assert logged.run(steps) == 0
    found = read(sqlite_url, "SELECT DISTINCT ride FROM service_linear ORDER BY ride")
    assert [f["ride"] for f in found] == [*"01234567", "9"]
    assert (logged.outcome("written"), logged.outcome("refused")) == (12, 1)
    assert logged.outcome("repeated") == 0
    (told,) = [r.getMessage() for r in caplog.records if "has no rows" in r.getMessage()]
    assert "has no rows of request poison to model linear: " in told


def test_results_that_cannot_be_opened_are_tried_again(sqlite_url: str, away: Away) -> None:
    logged = Logged(sqlite_url, LinearModel())
    away.error = ResultsError("the layout is older")

    async def steps() -> None:
        await send(logged.app, "/predict/linear", {"x0": 1})
        while away.tries < 3:
            await asyncio.sleep(0.001)
        away.away = False

    assert logged.run(steps) == 0
    assert logged.outcome("written") == 1


def test_large_rows_count_as_many(sqlite_url: str, away: Away) -> None:
    logged = Logged(sqlite_url, LinearModel(), key=("ride",), queue=300)
    long: Any = ["x" * 2**18, {"of": ["x"] * 2**13}]

    async def steps() -> None:
        for ride in long * 4:
            assert (
                await send(logged.app, "/predict/linear", {"x0": 1, "ride": ride})
            ).status == 200
        assert logged.writer.queued < 4
        away.away = False

    assert logged.run(steps) == 0
    assert logged.outcome("dropped") > 4


def test_a_wait_for_the_database_is_cut_by_the_stop(
    sqlite_url: str, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", (3600.0, 3600.0))
    logged = Logged(sqlite_url, LinearModel())

    async def steps() -> None:
        await send(logged.app, "/predict/linear", {"x0": 1})
        while not away.tries:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(module, "RETRY_SECONDS", (0.001, 0.01))
        away.away = False

    assert logged.run(steps) == 0
    assert logged.outcome("written") == 1


def observed(writer: PredictionWriter, *counts: int) -> None:
    """Have a writer observe a batch of some requests of so many rows each."""
    model = LinearModel()
    reader = RecordReader(model.inputs)
    record = reader.read(b'{"x0": 1}')
    batch = [
        Waiting([record] * count, count, 0.0, asyncio.Future(), f"request-{place}")
        for place, count in enumerate(counts)
    ]
    served = Models((), 256, 1000).add("linear", model)
    writer.observe(served, batch, score(model, reader.columns([record] * sum(counts))), 0.0)


def test_of_a_batch_one_request_is_not_written(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "request-2")

    async def steps() -> None:
        metrics = Metrics()
        writer = PredictionWriter(LogSettings(url=sqlite_url, root=Path()), metrics)
        observed(writer, 1, 2, 1, 1)
        writer.start()
        assert await asyncio.to_thread(writer.stop, 30.0) == 0
        text = metrics.render()[0].decode()
        assert counted(text, "trivet_log_rows_total", outcome="written") == 4
        assert counted(text, "trivet_log_rows_total", outcome="refused") == 1

    asyncio.run(steps())
    ids = [f["id"] for f in read(sqlite_url, "SELECT id FROM service_linear ORDER BY id")]
    assert ids == ["request-0", "request-1-0", "request-1-1", "request-3"]


def test_a_batch_of_which_a_part_is_logged_is_kept_as_a_whole(sqlite_url: str) -> None:
    async def steps() -> None:
        where = LogSettings(url=sqlite_url, root=Path(), sample=0.5, queue=100)
        writer = PredictionWriter(where, Metrics(), chance=iter([0.1, 0.9, 0.1]).__next__)
        observed(writer, 1, 20_000)
        assert writer.queued == 1
        observed(writer, 1)
        assert writer.queued == 1

    asyncio.run(steps())


def full_writer(url: str, kind: type[PredictionWriter] = PredictionWriter) -> PredictionWriter:
    writer = kind(LogSettings(url=url, root=Path(), block=True, queue=1), Metrics())
    observed(writer, 1)
    assert writer.is_full
    return writer


def test_who_waits_for_room_and_is_late(sqlite_url: str) -> None:
    async def steps() -> None:
        writer = full_writer(sqlite_url)
        for _ in range(100):
            with pytest.raises(TooLate, match="had no room"):
                await writer.room(time.monotonic())
        gc.collect()
        kept = [it for it in gc.get_objects() if isinstance(it, asyncio.Future) and it.cancelled()]
        assert len(kept) < 10

    asyncio.run(steps())


def test_room_that_comes_just_before_the_wait(sqlite_url: str) -> None:
    """The thread ends its chunk between the look for room and the wait for it."""

    class Quick(PredictionWriter):
        looked = False

        @property
        def is_full(self) -> bool:
            full = super().is_full
            if full and self.looked:
                self.start()
                wait_until(lambda: not self.queued)
            self.looked = True
            return full

    async def steps() -> None:
        writer = full_writer(sqlite_url, Quick)
        await writer.room(time.monotonic() + 1)
        assert await asyncio.to_thread(writer.stop, 30.0) == 0

    asyncio.run(asyncio.wait_for(steps(), 60))

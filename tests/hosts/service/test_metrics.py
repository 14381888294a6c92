"""What is counted, by each process and by all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.service_client import PROTOCOLS, send
from support.service_server import counted
from trivet.hosts.service import metrics as module
from trivet.hosts.service.app import App
from trivet.hosts.service.metrics import HELP, LATENCY, Board, Metrics, retire, summed
from trivet.hosts.service.serving import Models
from trivet.hosts.service.settings import ServiceSettings
from trivet.testing import FailingModel, LinearModel


def test_requests_batches_and_rejects() -> None:
    metrics = Metrics()
    models = Models((), 256, 1000)
    models.observe(metrics.batch)
    models.add("linear", FailingModel(on=[13.0]))
    app = App(ServiceSettings(models=("linear",)), models, PROTOCOLS, metrics=metrics)

    async def some() -> str:
        path = "/predict/linear"
        await asyncio.gather(*(send(app, path, {"x0": x}) for x in range(3)))
        await send(app, path, {"x0": "a"})
        await send(app, path, {"x0": 13})
        await send(app, "/nothing")
        metrics.look(models)
        answer = await send(app, "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return answer.body.decode()

    text = asyncio.run(some())
    for name, labels, value in (
        ("trivet_requests_total", {"model": "linear", "protocol": "records", "code": "200"}, 3),
        ("trivet_requests_total", {"model": "linear", "version": "1", "code": "422"}, 1),
        ("trivet_requests_total", {"model": "linear", "code": "500"}, 1),
        ("trivet_requests_total", {"model": "", "protocol": "service", "code": "404"}, 1),
        ("trivet_request_seconds_count", {"model": "linear"}, 5),
        ("trivet_batch_rows_sum", {"model": "linear"}, 5),
        ("trivet_batch_rows_bucket", {"le": "2.0"}, 2),
        ("trivet_batch_rows_bucket", {"le": "+Inf"}, 3),
        ("trivet_rows_scored_total", {"model": "linear"}, 3),
        ("trivet_rejects_total", {"code": "type"}, 1),
        ("trivet_rejects_total", {"code": "model_error"}, 1),
        ("trivet_model_info", {"model": "linear", "version": "1"}, 1),
        ("trivet_queue_rows", {"model": "linear"}, 0),
    ):
        assert counted(text, name, **labels) == value, name
    assert counted(text, "trivet_request_seconds_sum") > 0
    list(text_string_to_metric_families(text))


def test_openmetrics_if_asked() -> None:
    body, kind = Metrics().render("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body == b"# EOF\n"


def test_processes_are_summed_and_the_dead_go_on_counting(tmp_path: Path) -> None:
    alive, dead, parent = (Metrics(tmp_path, number) for number in (1, 2, 0))
    for metrics, by in ((alive, 3), (dead, 4)):
        metrics.count("trivet_rejects", by, model="m", code="type")
        metrics.gauge("trivet_workers", 1)
        metrics.request(None, "records", 200, 0.02)
    parent.count("trivet_worker_restarts", 1)

    def told() -> str:
        return alive.render()[0].decode()

    assert counted(told(), "trivet_rejects_total") == 7
    assert counted(told(), "trivet_workers") == 2
    assert counted(told(), "trivet_request_seconds_bucket", le="0.025") == 2
    retire(tmp_path, 2)
    retire(tmp_path, 2)
    assert counted(told(), "trivet_rejects_total") == 7
    assert counted(told(), "trivet_request_seconds_bucket", le="0.01") == 0
    assert counted(told(), "trivet_request_seconds_bucket", le="0.025") == 2
    assert counted(told(), "trivet_workers") == 1
    assert counted(told(), "trivet_worker_restarts_total") == 1
    retire(tmp_path, 1)
    assert counted(parent.render()[0].decode(), "trivet_rejects_total") == 7


def test_a_line_that_was_cut_off_is_not_read(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 1)
    metrics.count("trivet_rejects", 2, model="m", code="type")
    with (tmp_path / "1.names").open("a") as file:
        file.write('[1, "trivet_rej')
    assert list(summed(tmp_path).values()) == [[2.0]]


def test_reading_while_processes_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Metrics(tmp_path, 1).count("trivet_rejects", 2, model="m", code="type")
    real = module._read
    failures = [FileNotFoundError, FileNotFoundError]

    def read(folder: Path) -> module.Totals:
        if failures:
            raise failures.pop()
        return real(folder)

    monkeypatch.setattr(module, "_read", read)
    assert len(summed(tmp_path)) == 1
    failures.extend([FileNotFoundError] * 100)
    assert summed(tmp_path) == {}


def test_there_is_an_end_to_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOTS", 2 * (len(LATENCY) + 2) + 1)
    board = Board()
    first = board.place("trivet_request_seconds", {}, LATENCY)
    assert first == 0
    beyond = board.place("trivet_model_seconds", {}, LATENCY)
    board.numbers[beyond + len(LATENCY) + 1] += 1
    assert [name for name, *_ in board.values()] == ["trivet_request_seconds"]


def test_a_version_that_is_gone_is_not_in_use() -> None:
    metrics, models = Metrics(), Models((), 256, 1000)
    for version in "12":
        models.add("m", LinearModel(version=version))
        metrics.look(models)
    models.drop("m", "1")
    metrics.look(models)
    text = metrics.render()[0].decode()
    assert counted(text, "trivet_model_info", version="1") == 0
    assert counted(text, "trivet_model_info", version="2") == 1


def test_every_metric_has_a_name_and_a_text() -> None:
    for name, (kind, text) in HELP.items():
        assert name.startswith("trivet_")
        assert not name.endswith("_total")
        assert kind in ("counter", "gauge", "histogram")
        assert text.endswith(".")

"""What is counted, by each process and by all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from support.service_client import PROTOCOLS, send
from support.service_server import counted
from trivet.hosts.service.app import App
from trivet.hosts.service.metrics import HELP, Metrics
from trivet.hosts.service.serving import Family, Models
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
        assert kind in ("counter", "gauge", "histogram", "info")
        assert text.endswith(".")


def test_one_look_at_the_models_at_a_time() -> None:
    """A version dropped between two looks at once would be in neither one's list of the gone."""
    metrics, inside, both = Metrics(), threading.Semaphore(0), threading.Event()

    class Watched(Models):
        @property
        def families(self) -> Mapping[str, Family]:
            inside.release()
            both.wait(0.05)
            return super().families

    models = Watched((), 256, 1000)
    models.add("m", LinearModel())
    looks = [threading.Thread(target=metrics.look, args=(models,)) for _ in range(2)]
    looks[0].start()
    assert inside.acquire(timeout=60)
    looks[1].start()
    if inside.acquire(timeout=0.02):
        both.set()
    for look in looks:
        look.join()
    assert not both.is_set()
    text = metrics.render()[0].decode()
    assert counted(text, "trivet_model_info", model="m", version="1") == 1

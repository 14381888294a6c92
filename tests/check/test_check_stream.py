"""`trivet check` over streams: the same answers, and a planted disagreement found."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import trivet
from support.events import Remembers
from support.toy import Toy
from trivet import brokers
from trivet.check import inspect, prove, stream
from trivet.current import Source
from trivet.errors import TopicNotFound
from trivet.hosts.stream.scoring import Scorer
from trivet.hosts.stream.worker import Plan, Worker
from trivet.settings import BrokerSettings, Project, load_project


def project(root: Path, results: str) -> Project:
    trivet.save(Toy(), root / "models", name="toy", version="1")
    document: dict[str, Any] = {
        "results": {"url": results},
        "models": {"toy": {"uri": "models/toy", "trust": True}},
        "stream": {
            "plain": {"model": "toy", "topic": "a", "key": ["order"], "format": "json"},
            "cloud": {"model": "toy", "topic": "b", "key": ["order"]},
        },
    }
    file = root / "trivet.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return load_project(file, {})


def test_a_row_gets_one_answer_in_a_stream_too(tmp_path: Path, results_url: str) -> None:
    found = project(tmp_path, results_url)
    findings, models = inspect(found)
    told = {f.where: (f.state, f.what) for f in findings}
    assert told["[broker] url"][0] == "ok"
    lacking = "there is no topic 'a' yet: who comes first, the stream or a producer, makes it"
    assert told["[stream.plain] topic"] == ("ok", f"{lacking}, with 4 partitions")
    lacking = "there is no topic 'plain.dead' yet: the stream makes it when it starts"
    assert told["[stream.plain] dead_letters"] == ("ok", f"{lacking}, with 1 partition")
    verdicts = [v for v in prove(found, models) if v.deployment.startswith("stream.")]
    assert len(verdicts) in (4, 8)
    assert all(v.holds for v in verdicts), [(v.way, v.error, v.difference) for v in verdicts]


def test_a_planted_disagreement_is_found(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = project(tmp_path, sqlite_url)
    broker = brokers.connect(found.broker.url, found.root)
    broker.create("a", 2)
    broker.close()
    findings, models = inspect(found)
    assert ("[stream.plain] topic", "a: 2 partitions") in {(f.where, f.what) for f in findings}
    monkeypatch.setattr("trivet.check.sample.ROWS", 8)
    real = Scorer._columns

    def wrong(self: Scorer, *parts: Any) -> Any:
        batch = real(self, *parts)
        place = batch.schema.get_field_index("score")
        halves = [None if v is None else v / 2 for v in batch.column(place).to_pylist()]
        return batch.set_column(place, "score", _floats(halves))

    monkeypatch.setattr(Scorer, "_columns", wrong)
    verdicts = [v for v in prove(found, models) if v.deployment.startswith("stream.")]
    assert verdicts
    assert not any(v.holds for v in verdicts)


def test_what_is_said_of_topics_is_what_a_stream_does(tmp_path: Path, sqlite_url: str) -> None:
    """Whatever is lacking: it is made as told, or the stream does not start as told."""
    found = project(tmp_path, sqlite_url)
    settings = dataclasses.replace(found.stream["plain"], output="scores")
    found = dataclasses.replace(found, stream={"plain": settings})
    for partitions in (3, 0):
        url = f"sqlite:///events-{partitions}.db?partitions={partitions}"
        found = dataclasses.replace(found, broker=BrokerSettings(url=url))
        told = {f.where: (f.state, f.what) for f in inspect(found)[0]}
        plan = Plan(
            settings=settings,
            source=Source("toy", "models/toy", trust=True),
            broker=url,
            results=sqlite_url,
            root=tmp_path,
        )
        worker = Worker(plan)
        worker.stop()
        if not partitions:
            state, what = told["[stream.plain] topic"]
            assert (state, "does not start without it" in what) == ("warning", True)
            assert "trivet events publish a FILE --partitions N" in what
            with pytest.raises(TopicNotFound):
                starting(url, tmp_path)
            continue
        worker.run()
        with closing(brokers.connect(url, tmp_path)) as broker:
            made = dict(broker.topics())
        assert settings.dead_topic is not None
        for key, topic in (("output", "scores"), ("dead_letters", settings.dead_topic)):
            state, what = told[f"[stream.plain] {key}"]
            assert (state, f"makes it when it starts, with {made[topic]} " in what) == ("ok", True)
        starting(url, tmp_path)
        with closing(brokers.connect(url, tmp_path)) as broker:
            count = broker.topics()["a"]
        assert told["[stream.plain] topic"][1].endswith(f"makes it, with {count} partitions")


def starting(url: str, root: Path) -> None:
    """Join as a stream does."""
    with closing(brokers.connect(url, root)) as broker:
        broker.member("a", "g", Remembers()).close()


def test_a_worker_that_does_not_end_is_told_with_its_stream(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = project(tmp_path, sqlite_url)
    _, models = inspect(found)
    found = dataclasses.replace(
        found,
        stream={"plain": dataclasses.replace(found.stream["plain"], stop_timeout=dt.timedelta(0))},
    )
    monkeypatch.setattr(stream, "STOP_SECONDS", 0.01)
    monkeypatch.setattr("trivet.check.sample.ROWS", 2)
    go = threading.Event()
    run = Worker.run

    def hanging(worker: Worker) -> None:
        run(worker)
        go.wait(60)

    monkeypatch.setattr(Worker, "run", hanging)
    verdicts = [v for v in prove(found, models) if v.deployment.startswith("stream.")]
    go.set()
    assert verdicts
    for verdict in verdicts:
        assert verdict.error.startswith("[stream.plain]: it did not end within")


def _floats(values: list[Any]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.float64())

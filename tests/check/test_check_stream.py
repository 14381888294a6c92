"""`trivet check` over streams: the same answers, and a planted disagreement found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

import trivet
from support.toy import Toy
from trivet import brokers
from trivet.check import inspect, prove
from trivet.hosts.stream.scoring import Scorer
from trivet.settings import Project, load_project


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
    assert told["[stream.plain] topic"] == ("warning", "there is no topic 'a' yet; create it")
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


def _floats(values: list[Any]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.float64())

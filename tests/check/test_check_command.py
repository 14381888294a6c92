"""What `trivet check` prints, and the code that it ends with."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import socket
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tomli_w
from sklearn.linear_model import LinearRegression

import trivet
from support.deployments import Project, trips
from trivet.check import Verdict, batch, try_broker
from trivet.check.outcome import Difference, Outcome
from trivet.cli import beforehand
from trivet.cli import check as check_command
from trivet.settings import load_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Outcome], Outcome]) -> None:
    run = batch.run
    monkeypatch.setattr(batch, "run", lambda *given: change(run(*given)))


def further(outcome: Outcome) -> Outcome:
    """Move every score by one unit in the last place."""
    scores = outcome.answers["score"]
    moved = np.nextafter(scores.to_numpy(zero_copy_only=False), np.inf)
    answers = pa.record_batch({"score": pa.array(moved, mask=np.isnan(moved))})
    return dataclasses.replace(outcome, answers=answers)


def test_a_table_and_a_count_are_shown(project: Project) -> None:
    done = project.invoke("check")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["where", "what"]
    assert any(line.startswith("ok") and "[models.toy]" in line for line in lines)
    assert any(line.startswith("same") and "batch.toy-scores" in line for line in lines)
    assert lines[-1] == "2 of 2 ways give the same answer"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (further, "predictions, by 1 units in the last place: {'a': "),
        (lambda o: dataclasses.replace(o, problems={}), "rows: {'a': "),
        (lambda o: dataclasses.replace(o, digests=frozenset(["another"])), "digest another"),
    ],
    ids=["predictions", "rejects", "digest"],
)
def test_what_differs_is_shown(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Outcome], Outcome],
    told: str,
) -> None:
    changed(monkeypatch, change)
    done = project.invoke("check")
    assert done.exit_code == 1
    row, line = [line for line in done.stdout.splitlines() if line.startswith("DIFFERS")]
    assert row.split()[1:5] == ["batch.toy-scores", "sqlite", "to", "sqlite"]
    assert told in line
    assert done.stdout.endswith("1 of 2 ways give the same answer\n")
    [way] = [w for w in json.loads(project.invoke("check", "--json").stdout)["parity"] if w["what"]]
    assert (way["holds"], way["way"], way["deployment"]) == (
        False,
        "sqlite to sqlite",
        "batch.toy-scores",
    )
    assert told in way["what"]


def test_a_way_that_cannot_be_gone_is_shown_beside_the_others(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Outcome) -> Outcome:
        raise ValueError("no way")

    changed(monkeypatch, broken)
    done = project.invoke("check")
    assert done.exit_code == 1
    assert "ValueError: no way" in done.stdout
    assert "Traceback" not in done.output


def test_a_difference_that_was_measured_is_shown_and_holds(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = project.root / "models" / "toy" / "1" / "model.toml"
    document = tomllib.loads(manifest.read_text(encoding="utf-8"))
    document["batch_dependence"]["max_ulps"] = 1
    manifest.write_text(tomli_w.dumps(document), encoding="utf-8")
    changed(monkeypatch, further)
    done = project.invoke("check", "--json")
    [way] = [way for way in json.loads(done.stdout)["parity"] if way["ulps"]]
    assert (done.exit_code, way["holds"], way["ulps"], way["tolerance_ulps"]) == (0, True, 1, 1)
    assert "(as measured when it was saved)" in way["what"]


def test_only_looking_sends_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(batch, "run")
    done = project.invoke("check", "--only-look", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["holds"], told["parity"]) == (0, True, [])
    assert "ways" not in project.invoke("check", "--only-look").stdout


def test_sizes_of_a_way_that_give_one_answer_have_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verdict(way: str, ulps: int = 0, **more: Any) -> Verdict:
        given = {"deployment": "service", "model": "toy", "tolerance": 1, **more}
        return Verdict(way=way, difference=Difference(9, ulps, None), **given)

    where = "batch.trip-duration-of-the-whole-city"
    found = [
        verdict("direct call, other batch sizes", deployment="models.toy"),
        verdict("postgresql to postgresql", deployment=where),
        *(verdict(f"records, {size}") for size in ("alone", "7 together", "100 together")),
        verdict("arrow, alone"),
        verdict("arrow, 7 together", 3),
        verdict("arrow, 100 together"),
    ]
    monkeypatch.setattr("trivet.cli.history.WIDTH", 80)
    check_command._show(found)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    told = [line.split() for line in lines if line]
    assert ["same", "service", "toy", "records:", "alone,", "7,", "100", "9", "0", "1"] in told
    assert ["same", "service", "toy", "arrow:", "alone,", "100", "9", "0", "1"] in told
    assert ["DIFFERS", "service", "toy", "arrow:", "7", "together", "9", "3", "1"] in told
    assert lines[-1] == "7 of 8 ways give the same answer"


def test_the_proof_logs_only_if_it_is_asked_to(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of the service writes where the command does."""
    file = project.write()
    document = tomllib.loads(file.read_text()) | {"service": {"models": ["toy"]}}
    file.write_text(tomli_w.dumps(document))
    monkeypatch.setattr("trivet.check.sample.ROWS", 4)
    level = logging.getLogger("trivet").level
    assert project.invoke("check").stderr == ""
    assert "serving toy" not in capfd.readouterr().err
    told = project.invoke("--log", "json", "check").stderr + capfd.readouterr().err
    messages = [json.loads(line)["message"] for line in told.splitlines() if line[0] == "{"]
    assert any("serving toy" in message for message in messages), messages
    assert logging.getLogger("trivet").level == level


def test_a_library_that_is_lacking_is_one_finding(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the part that lacks it; the rest is looked at and proven."""
    file = project.write()
    stream = {"model": "toy", "topic": "a", "key": ["order"], "metrics_port": 9}
    more: dict[str, Any] = {
        "broker": {"url": "kafka://127.0.0.1:1"},
        "service": {"models": ["toy"]},
        "stream": {"live": stream},
        "models": {name: {"uri": f"models/{name}", "trust": True} for name in ("toy", "skops")},
    }
    file.write_text(tomli_w.dumps(tomllib.loads(file.read_text()) | more))
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    line = LinearRegression().fit(rows, [1.0, 3.0, 5.0])
    trivet.save(line, project.root / "models", name="skops", version="1", sample=rows)
    for extra in ("service", "metrics"):
        monkeypatch.setitem(beforehand.MODULES, extra, ("no_such_module",))
    for module in ("trivet.brokers.kafka", "skops.io", "trivet.hosts.service.server"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("trivet.check.sample.ROWS", 4)
    done = project.invoke("check", "--json")
    told = json.loads(done.stdout)
    errors = {f["where"]: f["what"] for f in told["findings"] if f["state"] == "error"}
    wanted = {
        "[service]": "service",
        "[broker] url": "kafka",
        "[stream.live] metrics_port": "service",
        "[models.skops]": "sklearn",
    }
    assert errors.keys() == wanted.keys(), errors
    for where, what in errors.items():
        assert f"pip install 'trivet[{wanted[where]}]'" in what
    assert done.exit_code == 1
    assert {p["deployment"] for p in told["parity"] if p["holds"]} == {
        "models.toy",
        "batch.toy-scores",
        "stream.live",
    }
    assert all(p["holds"] for p in told["parity"])


def test_databases_that_cannot_be_used_leave_the_proof_on_embedded_ones(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivet.check.sample.ROWS", 4)
    file = project.write()
    stream = {"model": "toy", "topic": "a", "key": ["order"]}
    more = {"stream": {"live": stream}, "results": {"url": "postgresql://127.0.0.1:1/away"}}
    file.write_text(tomli_w.dumps(tomllib.loads(file.read_text()) | more))
    done = project.invoke("check", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    wrong = {p["deployment"]: p["what"] for p in told["parity"] if not p["holds"]}
    assert wrong.keys() == {"batch.toy-scores", "stream.live"}
    assert all("127.0.0.1" in what for what in wrong.values())
    assert {p["way"] for p in told["parity"] if p["holds"]} >= {
        "sqlite to sqlite",
        "embedded to sqlite, alone",
    }


def test_rows_of_a_source_are_sent_or_told_to_be_lacking(project: Project) -> None:
    assert project.invoke("check", "--rows", "0").exit_code == 2
    without = project.invoke("check", "--json", "--rows", "5")
    assert "[batch.toy-scores] has no rows lately: made-up ones are sent" in without.stderr
    project.add(trips(1, 5, a=999.5))
    sent = project.invoke("check", "--json", "--rows", "5")
    assert (without.exit_code, sent.exit_code, sent.stderr) == (0, 0, "")
    rows = [json.loads(done.stdout)["parity"][-1]["rows"] for done in (without, sent)]
    assert rows[1] < rows[0]  # five of the source instead of 64


def test_a_model_that_cannot_be_loaded_is_not_sent_rows(project: Project) -> None:
    (project.root / "models" / "toy" / "current").write_text("9")
    done = project.invoke("check", "--rows", "5", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["parity"]) == (1, [])
    assert [f["where"] for f in told["findings"] if f["state"] == "error"] == ["[models.toy]"]


def test_a_column_beside_the_outputs_with_the_name_of_one_is_found(project: Project) -> None:
    file = project.write()
    stream = {"model": "toy", "topic": "a", "key": ["order"], "keep": ["score"]}
    service = {"models": ["toy", "toy@1"], "key": ["Score"]}
    more: dict[str, Any] = {"service": service, "stream": {"live": stream}}
    file.write_text(tomli_w.dumps(tomllib.loads(file.read_text()) | more))
    told = json.loads(project.invoke("check", "--only-look", "--json").stdout)
    errors = {f["where"]: f["what"] for f in told["findings"] if f["state"] == "error"}
    assert set(errors) == {"[stream.live] keep", "[service] key"}
    assert errors["[service] key"].startswith("'Score' is an output of the model toy too")


def test_a_broker_that_is_away_is_one_finding(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stream does is proven all the same, as far as it can be."""
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 0.1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"kafka://127.0.0.1:{closed.getsockname()[1]}"
    file = project.write()
    stream = {"model": "toy", "topic": "a", "key": ["order"]}
    more: dict[str, Any] = {"broker": {"url": url}, "stream": {"live": stream}}
    file.write_text(tomli_w.dumps(tomllib.loads(file.read_text()) | more))
    done = project.invoke("check", "--json")
    told = json.loads(done.stdout)
    [error] = [f for f in told["findings"] if f["state"] == "error"]
    assert error["where"] == "[broker] url"
    assert url in error["what"]
    assert "refused" in error["what"]
    assert done.stderr == ""
    assert done.exit_code == 1
    assert {p["way"]: p["holds"] for p in told["parity"]}["embedded to sqlite, alone"]
    assert not any(p["way"].startswith("kafka") for p in told["parity"])
    [tried] = try_broker(load_project(file, {}), dt.datetime.now(dt.UTC))
    assert tried.state == "error"
    assert tried.what.endswith("which proves streams on an embedded broker only")

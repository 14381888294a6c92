"""One command that looks a project through and proves that all hosts answer alike."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tomli_w
from click.testing import CliRunner

import trivet
from support.deployments import Project, trips
from support.postgres import PostgresServer
from support.service_models import TYPES
from trivet.check import batch, inspect, prove, service
from trivet.check.proof import Verdict
from trivet.cli import trivet as command
from trivet.settings import load_project

_POSTGRESQL = dict(zip(TYPES, batch._SQL.values(), strict=True))


@pytest.fixture
def echo(tmp_path: Path) -> Callable[..., Path]:
    """A project whose model gives back values of every type."""

    def made(results: str = "sqlite:///results.db", source: str = "sqlite:///source.db") -> Path:
        columns = ", ".join(f"NULL AS in_{kind}" for kind in TYPES)
        nulls = ", ".join(f"CAST(NULL AS {_POSTGRESQL[kind]}) AS in_{kind}" for kind in TYPES)
        typed = f"SELECT 1 AS id, {nulls}"
        document = {
            "results": {"url": results},
            "models": {"echo": {"uri": "support.service_models:Echo", "trust": True}},
            "batch": {
                "echoed": {
                    "model": "echo",
                    "source": source,
                    "query": f"SELECT 1 AS id, {columns}" if source.startswith("sqlite") else typed,
                    "key": ["id"],
                }
            },
            "service": {"models": ["echo"]},
        }
        file = tmp_path / "trivet.toml"
        file.write_text(tomli_w.dumps(document))
        if source.startswith("sqlite"):
            with trivet.databases.connect(source, root=tmp_path, write=True) as db:
                db.execute("CREATE TABLE IF NOT EXISTS unused (n INTEGER)")
        return file

    return made


def proven(file: Path, **more: Any) -> list[Verdict]:
    project = load_project(file, {})
    findings, models = inspect(project)
    assert {finding.state for finding in findings} <= {"ok", "warning"}, findings
    return list(prove(project, models, **more))


def test_every_type_through_every_host(
    echo: Callable[..., Path], postgres: PostgresServer, postgres_url: str
) -> None:
    verdicts = proven(echo(results=postgres_url, source=postgres.new_database()))
    assert {v.way.partition(",")[0] for v in verdicts} == {
        "direct call",
        "sqlite to sqlite",
        "postgresql to sqlite",
        "sqlite to postgresql",
        "records",
        "arrow",
        "oip rest",
        "oip grpc",
        "mlflow",
    }
    assert not [(v.way, v.error, v.difference) for v in verdicts if not v.holds]
    with trivet.databases.connect(postgres_url) as db:
        left = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'trivet_check_%'"
        assert not db.rows(left).num_rows
    compared = {v.way: v.difference.rows for v in verdicts if v.difference}
    assert compared["records, alone"] > 100
    assert compared["mlflow, 7 together"] < compared["mlflow, alone"]


def test_rows_of_the_source(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.add(trips(1, 5), trips(2, 3))
    done = project.invoke("check", "--rows", "7", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0, done.output
    assert told["holds"]
    assert {p["way"] for p in told["parity"]} >= {"sqlite to sqlite"}


def _off_by_one_ulp(values: list[float]) -> list[float]:
    return [v if not math.isfinite(v) else math.nextafter(v, math.inf) for v in values]


def _nudged(batch: pa.RecordBatch) -> pa.RecordBatch:
    place = batch.schema.get_field_index("in_float64")
    column = batch.column(place)
    values = [None if v is None else _off_by_one_ulp([v])[0] for v in column.to_pylist()]
    return batch.set_column(place, batch.schema.field(place), pa.array(values, column.type))


def _blamed(verdicts: list[Verdict]) -> set[str]:
    wrong = [v for v in verdicts if not v.holds]
    assert all(v.difference and v.difference.worst is not None for v in wrong)
    return {v.way.partition(",")[0] for v in wrong}


@pytest.mark.parametrize(
    "where", ["sqlite to sqlite", "sqlite to postgresql", "postgresql to sqlite"]
)
def test_a_planted_disagreement_of_databases_is_found(
    echo: Callable[..., Path],
    postgres: PostgresServer,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """One unit in the last place, between one pair of databases only."""
    run = batch.run

    def ran(place: Any, ready: Any, settings: Any, rows: pa.RecordBatch, root: Path) -> Any:
        sent = _nudged(rows) if place.name == where else rows
        return run(place, ready, settings, sent, root)

    monkeypatch.setattr(batch, "run", ran)
    file = echo(results=postgres_url, source=postgres.new_database())
    document = tomllib.loads(file.read_text())
    del document["service"]
    file.write_text(tomli_w.dumps(document))
    verdicts = proven(file)
    assert {v.way for v in verdicts} > {where}
    assert _blamed(verdicts) == {where}


@pytest.mark.parametrize("where", ["records", "arrow", "oip rest", "oip grpc", "mlflow"])
def test_a_planted_disagreement_of_a_protocol_is_found(
    echo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """One unit in the last place, in one protocol only."""
    ask = service.Running.lanes

    def lanes(running: service.Running) -> list[service.Lane]:
        return [
            lane
            if lane.name != where
            else lane._replace(ask=lambda m, n, rows, a=lane.ask: a(m, n, _nudged(rows)))
            for lane in ask(running)
        ]

    monkeypatch.setattr(service.Running, "lanes", lanes)
    assert _blamed(proven(echo())) == {where}


def test_a_reject_of_one_host_only_is_found(
    echo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = service.Running._records

    def lenient(self: Any, model: Any, name: str, rows: pa.RecordBatch) -> service.Part:
        part = ask(self, model, name, rows)
        return part._replace(problems={})

    monkeypatch.setattr(service.Running, "_records", lenient)
    verdicts = proven(echo())
    wrong = [v for v in verdicts if not v.holds]
    assert {v.way for v in wrong if v.difference} == {v.way for v in wrong}
    assert all(v.way.startswith("records") and v.difference.rejects for v in wrong if v.difference)


def test_a_host_that_cannot_be_gone_through_is_told(
    echo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no way")

    monkeypatch.setattr(batch, "run", broken)
    wrong = [v for v in proven(echo()) if not v.holds]
    assert [(v.way, v.error) for v in wrong] == [("sqlite to sqlite", "ValueError: no way")]


def test_findings_name_the_place_and_the_next_step(tmp_path: Path) -> None:
    project = Project(tmp_path)
    file = project.write(key=["nothing"])
    document = file.read_text() + '\n[models.gone]\nuri = "models/gone"\n'
    file.write_text(document)
    done = CliRunner().invoke(command, ["-f", str(file), "check", "--only-look"])
    assert done.exit_code == 1
    assert "[models.gone]" in done.stdout
    assert "gives no column nothing" in done.stdout.replace("\n", " ")


def test_an_unreadable_source_is_one_finding(tmp_path: Path) -> None:
    project = Project(tmp_path)
    file = project.write(query="SELECT * FROM nowhere")
    done = CliRunner().invoke(command, ["-f", str(file), "check", "--only-look", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    [error] = [f for f in told["findings"] if f["state"] == "error"]
    assert error["where"] == "[batch.toy-scores] query"
    assert "nowhere" in error["what"]


def test_a_column_that_no_value_fits_is_a_finding(tmp_path: Path, postgres_url: str) -> None:
    project = Project(tmp_path, source=postgres_url)
    file = project.write(query="SELECT trip_id, a, n, 1 AS city, note FROM trips")
    done = CliRunner().invoke(command, ["-f", str(file), "check", "--only-look", "--json"])
    [error] = [f for f in json.loads(done.stdout)["findings"] if f["state"] == "error"]
    assert "'city' is int32" in error["what"]

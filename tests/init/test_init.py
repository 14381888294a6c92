"""``trivet init``: projects that run at once, of a small model or of a given one."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

import trivet
from support.toy import Toy
from support.up_process import environment, run
from trivet.cli import beforehand
from trivet.cli import init as command_module
from trivet.cli import trivet as command
from trivet.errors import ModelError, ModelNotFound, SettingsError
from trivet.init import rows
from trivet.init.creating import create
from trivet.init.sketch import Part
from trivet.results.layout import open_results
from trivet.schema import Field, Schema
from trivet.settings import load_project
from trivet.validation import Decoded, no_problems, validate

TODAY = dt.datetime.now(dt.UTC).date()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "My Demo"
    parts: tuple[Part, ...] = ("batch", "service")
    create(folder, parts, TODAY, environment())
    return folder


def test_it_runs_at_once(demo: Path) -> None:
    project = load_project(demo)
    assert project.project.name == "my-demo"
    assert (set(project.batch), project.service is not None) == ({"delivery-time"}, True)
    done = run(demo, "schedule", "--once")
    assert done.returncode == 0, done.stderr
    with open_results(project.results.url, root=demo) as db:
        [count] = db.rows("SELECT count(*) AS n FROM delivery_time")["n"].to_pylist()
    assert count > 950
    checked = run(demo, "check", "--only-look")
    assert checked.returncode == 0, checked.stdout


def test_its_readme_tells_commands_that_there_are(demo: Path) -> None:
    text = (demo / "README.md").read_text()
    told = re.findall(r"^trivet (\w+)", text, re.MULTILINE)
    assert set(told) == {"check", "up", "status", "runs", "rejects", "compare", "model"}
    assert set(told) <= command.commands.keys()
    assert "$" not in re.sub(r"\$interval_\w+", "", text)
    assert "%" not in text


def test_its_request_is_one(demo: Path) -> None:
    [body] = re.findall(r"-d '(.*)'", (demo / "README.md").read_text())
    model = trivet.load("models/delivery-time", root=demo, trust=True)
    assert json.loads(body).keys() == {"order_id", *model.inputs.names}


def test_a_second_version_is_better(demo: Path) -> None:
    command_line = [sys.executable, "train.py", "2"]
    subprocess.run(command_line, cwd=demo, env=environment(), check=True, capture_output=True)
    first, second = (
        trivet.load(f"models/delivery-time@{version}", root=demo, trust=True).manifest
        for version in ("1", "2")
    )
    assert second.metrics["mae"] < 0.8 * first.metrics["mae"]


@pytest.mark.parametrize("template", ["batch", "service"])
def test_a_template_has_its_own_files(tmp_path: Path, template: str) -> None:
    result = invoke("init", str(tmp_path / "p"), "--template", template)
    assert result.exit_code == 0, result.output
    assert f"next: cd {tmp_path / 'p'} && trivet up" in result.output
    project = load_project(tmp_path / "p")
    assert (len(project.batch), project.service is not None) == (
        int(template == "batch"),
        template == "service",
    )
    assert (tmp_path / "p" / "sql").exists() == (template == "batch")


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "models").mkdir()
    with pytest.raises(SettingsError, match=r"README\.md is there already; nothing was written"):
        create(tmp_path, ("batch",), TODAY, environment())
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "models"}
    (tmp_path / "models" / "delivery-time").mkdir()
    with pytest.raises(SettingsError, match=r"README\.md, models/delivery-time are there already"):
        create(tmp_path, ("batch",), TODAY, environment())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        create(tmp_path / "file" / "p", ("batch",), TODAY, environment())


def test_a_script_that_fails_is_named(tmp_path: Path) -> None:
    path = {"PYTHONPATH": str(broken(tmp_path))}
    with pytest.raises(ModelError, match=r"train\.py failed: .*trivet"):
        create(tmp_path / "p", ("batch",), TODAY, os.environ | path)


def broken(folder: Path) -> Path:
    """Return a folder with a trivet that cannot be imported."""
    (folder / "broken").mkdir()
    (folder / "broken" / "trivet.py").write_text("raise ImportError('no trivet here')")
    return folder / "broken"


def test_missing_extras_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in ("service", "dashboard"):
        monkeypatch.setitem(beforehand.MODULES, extra, ("no_such_module",))
    told = invoke("init", str(tmp_path / "p"), "--template", "service").output
    assert "pip install 'trivet[service,dashboard]'" in told


# Given models


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame({"km": rng.gamma(2, 3, 200), "kg": rng.gamma(2, 1, 200)})


def target(features: pd.DataFrame) -> Any:
    return 3 * features["km"] + features["kg"]


def onnx_file(folder: Path) -> Path:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(frame().to_numpy(np.float32), target(frame()))
    path = folder / "line.onnx"
    path.write_bytes(to_onnx(model, frame().to_numpy(np.float32)[:1]).SerializeToString())
    return path


def lightgbm_file(folder: Path) -> Path:
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(n_estimators=3, verbose=-1).fit(frame(), target(frame()))
    model.booster_.save_model(folder / "trees.txt")
    return folder / "trees.txt"


def xgboost_file(folder: Path) -> Path:
    from xgboost import XGBRegressor

    model = XGBRegressor(n_estimators=3).fit(frame(), target(frame()))
    model.save_model(folder / "trees.ubj")
    return folder / "trees.ubj"


def unnamed_xgboost_file(folder: Path) -> Path:
    from xgboost import XGBRegressor

    model = XGBRegressor(n_estimators=3).fit(frame().to_numpy(), target(frame()))
    model.save_model(folder / "unnamed.json")
    return folder / "unnamed.json"


def skops_file(folder: Path) -> Path:
    import skops.io
    from sklearn.linear_model import LinearRegression

    skops.io.dump(LinearRegression().fit(frame(), target(frame())), folder / "line.skops")
    return folder / "line.skops"


def unnamed_skops_file(folder: Path) -> Path:
    import skops.io
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(frame().to_numpy(), target(frame()))
    skops.io.dump(model, folder / "unnamed.skops")
    return folder / "unnamed.skops"


def mlflow_directory(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from sklearn.linear_model import LinearRegression

        model = LinearRegression().fit(frame(), target(frame()))
        told = mlflow.models.infer_signature(frame(), model.predict(frame()))
        mlflow.sklearn.save_model(model, folder / "logged", signature=told)
    return folder / "logged"


def trivet_directory(folder: Path) -> Path:
    return trivet.save(Toy(), folder / "store", name="toy", version="7")


@pytest.mark.parametrize(
    ("make", "names", "trust"),
    [
        (onnx_file, {"x0", "x1"}, False),
        (lightgbm_file, {"km", "kg"}, False),
        (xgboost_file, {"km", "kg"}, False),
        (unnamed_xgboost_file, {"x0", "x1"}, False),
        (skops_file, {"km", "kg"}, False),
        (unnamed_skops_file, {"x0", "x1"}, False),
        (mlflow_directory, {"km", "kg"}, False),
        (trivet_directory, {"a", "n", "city"}, True),
        (lambda folder: trivet_directory(folder).parent, {"a", "n", "city"}, True),
    ],
)
def test_a_model_that_is_given(tmp_path: Path, make: Any, names: set[str], trust: bool) -> None:
    path = make(tmp_path)
    folder = tmp_path / "p"
    result = invoke("init", str(folder), "--model", str(path), "--template", "batch")
    assert result.exit_code == 0, result.output
    document = tomllib.loads((folder / "trivet.toml").read_text())
    [section] = document["models"].values()
    assert section.get("trust", False) == trust
    project = load_project(folder)
    [model] = project.models.values()
    assert set(trivet.load(model.uri, root=folder, trust=trust).inputs.names) == names
    done = CliRunner().invoke(command, ["--file", str(folder), "schedule", "--once"])
    assert done.exit_code == 0, done.output
    [name] = project.batch
    with open_results(project.results.url, root=folder) as db:
        [count] = db.rows(f"SELECT count(*) AS n FROM {name.replace('-', '_')}")["n"].to_pylist()
    assert count == 5 * rows.ROWS_A_DAY
    lines = (folder / "data" / "events.jsonl").read_text().splitlines()
    assert json.loads(lines[0]).keys() == names


def test_a_type_that_the_model_does_not_tell_is_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []

    def kind_of(name: str) -> str:
        asked.append(name)
        return "float32"

    create(
        tmp_path / "p",
        ("batch",),
        TODAY,
        environment(),
        unnamed_skops_file(tmp_path),
        kind_of,
    )
    assert asked == ["x0", "x1"]
    model = trivet.load("models/unnamed", root=tmp_path / "p")
    assert [field.type for field in model.inputs] == ["float32", "float32"]


def test_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.prompt", lambda text, **_: f"{text}!")
    assert command_module._asked("km") == "the type of the input km!"


def other(folder: Path, name: str, content: bytes = b"?") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def unsigned(folder: Path) -> Path:
    (folder / "m").mkdir()
    other(folder / "m", "MLmodel", b"flavors: {}")
    return folder / "m"


def unsafe(folder: Path) -> Path:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(np.linalg.norm), folder / "unsafe.skops")
    return folder / "unsafe.skops"


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda folder: folder / "none.onnx", ModelNotFound, "there is no"),
        (lambda folder: other(folder, "m.pkl"), ModelError, "reading a pickle runs whatever"),
        (lambda folder: other(folder, "m.h5"), ModelError, "no model that is known"),
        (lambda folder: other(folder, "m.py"), ModelError, "a class is saved first: trivet.save"),
        (lambda folder: other(folder, "m.json", b"{}"), ModelError, r"^.*: cannot be read: [^\n]+$"),
        (lambda folder: folder, ModelError, "no model that is known"),
        (lambda folder: other(folder, "m.onnx"), ModelError, "no ONNX model"),
        (lambda folder: other(folder, "m.skops"), ModelError, "skops cannot read it"),
        (unsigned, ModelError, "no whole signature"),
        (unsafe, ModelError, "not known to be safe"),
    ],
)
def test_what_is_no_model(tmp_path: Path, make: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        create(tmp_path / "p", ("batch",), TODAY, environment(), make(tmp_path))
    assert not (tmp_path / "p").exists()


BOUNDS = st.none() | st.integers(-1000, 1000)


@st.composite
def fields(draw: st.DrawFn) -> Field:
    kind = draw(st.sampled_from(["bool", "int8", "int64", "float32", "float64", "string"]))
    if kind in ("bool", "string"):
        values = draw(st.none() | st.just(("a", "b"))) if kind == "string" else None
        return Field(name="f", type=kind, values=values)
    limit = 127 if kind == "int8" else 1000
    low, high = sorted([draw(st.integers(-limit, limit)), draw(st.integers(-limit, limit))])
    bounds = {}
    if draw(st.booleans()):
        bounds["min"] = min(low, limit - 10)
    if draw(st.booleans()):
        bounds["max"] = max(high, 10 - limit)
    return Field(name="f", type=kind, **bounds)  # type: ignore[arg-type]


MOMENT = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@given(
    fields()
    | st.sampled_from(
        [
            Field(name="f", type="date"),
            Field(name="f", type="date", min=MOMENT.date()),
            Field(name="f", type="date", max=MOMENT.date()),
            Field(name="f", type="timestamp", min=MOMENT),
            Field(name="f", type="timestamp", max=MOMENT),
        ]
    )
)
@settings(max_examples=60, deadline=None)
def test_made_up_rows_are_what_the_schema_allows(field: Field) -> None:
    schema = Schema([field])
    batch = rows.made(schema, 50)
    assert batch.equals(rows.made(schema, 50))
    assert not validate(Decoded(batch, no_problems()), schema).num_rows

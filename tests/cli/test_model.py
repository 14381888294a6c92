"""``trivet model``: versions looked at, put in use and taken back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.linear_model import LinearRegression

import trivet
from support.toy import Toy, Tripled
from trivet.cli import trivet as command
from trivet.errors import ModelError, TrivetError, UntrustedModel

PROJECT = """
[models.toy]
uri = "models/toy"
trust = true
[models.pinned]
uri = "models/toy@1"
trust = true
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "trivet.toml").write_text(PROJECT)
    sample = {"a": [1.0, 2.0], "n": [1, 2], "city": ["nice", "lyon"]}
    trivet.save(
        Toy(),
        tmp_path / "models",
        name="toy",
        version="1",
        inputs=Toy.inputs,
        sample=sample,
        metrics={"mae": 0.25},
        description="Doubles",
    )
    trivet.save(Tripled(), tmp_path / "models", name="toy", version="2")
    return tmp_path


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--file", str(root), "model", *arguments])


def test_the_versions(root: Path) -> None:
    result = run(root, "list")
    first, second, third = result.output.splitlines()[1:]
    assert first.split()[:3] == ["toy", "1", "in"]
    assert "mae 0.25" in first
    assert first.rstrip().endswith("Doubles")
    assert second.split()[:2] == ["toy", "2"]
    assert third.split()[:2] == ["pinned", "1"]
    rows = [json.loads(line) for line in run(root, "list", "toy", "--json").output.splitlines()]
    assert [(row["version"], row["current"]) for row in rows] == [("1", True), ("2", False)]


def test_a_name_that_is_none(root: Path) -> None:
    for what in ("list", "show"):
        result = run(root, what, "tyo")
        assert (result.exit_code, "did you mean 'toy'?" in result.output) == (2, True)


def test_promote_and_rollback(root: Path) -> None:
    assert run(root, "promote", "toy", "2").output == "toy: version 2 is in use (before: 1)\n"
    assert (root / "models" / "toy" / "current").read_text() == "2\n"
    assert run(root, "rollback", "toy").output == "toy: version 1 is in use (before: 2)\n"
    again = run(root, "promote", "toy", "1")  # as a pipeline that is run again does
    assert (again.exit_code, again.output) == (0, "toy: version 1 is in use already\n")
    assert isinstance(run(root, "rollback", "toy").exception, ModelError)
    assert isinstance(run(root, "promote", "pinned", "2").exception, ModelError)


def test_a_version_that_does_not_load_is_not_put_in_use(root: Path) -> None:
    (root / "models/toy/2/model/toy.py").write_text("raise SystemError")
    assert isinstance(run(root, "promote", "toy", "2").exception, TrivetError)
    assert (root / "models" / "toy" / "current").read_text() == "1\n"


def test_code_is_run_only_when_trusted(root: Path) -> None:
    (root / "trivet.toml").write_text('[models.toy]\nuri = "models/toy"\n')
    assert isinstance(run(root, "promote", "toy", "2").exception, UntrustedModel)
    assert run(root, "show", "toy").exit_code == 0  # reads only


def test_another_schema_is_told(root: Path) -> None:
    from trivet.testing import LinearModel

    class Other(LinearModel):
        pass

    trivet.save(LinearModel(), root / "models", name="toy", version="3")
    told = run(root, "promote", "toy", "3").output
    assert "  input a is gone\n" in told
    assert "  output prediction is new (float64)\n" in told


def test_one_that_replaces_a_broken_one(root: Path) -> None:
    (root / "models/toy/1/model/toy.py").write_text("raise SystemError")
    assert run(root, "promote", "toy", "2").exit_code == 0


def test_everything_of_a_model(root: Path) -> None:
    text = run(root, "show", "toy").output
    assert text.splitlines()[0] == "toy 1  Doubles"
    for words in ("mae 0.25", "0 units in the last place", "0 to 1000", "lyon, nice, paris"):
        assert words in text
    assert "null allowed" in text
    told = json.loads(run(root, "show", "toy@2", "--json").output)
    assert (told["version"], told["name"], told["libraries"]) == ("2", "toy", {})
    assert json.loads(run(root, "show", "models/toy/1", "--json").output)["version"] == "1"
    assert json.loads(run(root, "show", "support.toy:Toy", "--json").output)["version"] == "0"


def test_without_a_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "trivet.toml").unlink()
    monkeypatch.chdir(root)
    result = CliRunner().invoke(command, ["model", "show", "models/toy"])
    assert result.exit_code == 0, result.output
    assert "toy 1" in result.output


@pytest.fixture
def registry(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give the client of an MLflow registry in a SQLite file, with three versions of a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own dependencies
        import mlflow
        import mlflow.sklearn
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec
        from mlflow.types import Schema as Columns

        url = f"sqlite:///{root}/mlflow.db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        mlflow.set_tracking_uri(url)
        try:
            client = mlflow.MlflowClient()
            client.create_registered_model("fares")
            model = LinearRegression().fit(np.arange(6.0).reshape(3, 2), [1.0, 2.0, 3.0])
            for number in range(3):
                place = root / f"made-{number}"
                names = [ColSpec("double", name) for name in "ab"]
                outputs = [ColSpec("double", "fare" if number < 2 else "price")]
                mlflow.sklearn.save_model(
                    model,
                    place,
                    signature=ModelSignature(Columns([*names]), Columns([*outputs])),
                    serialization_format="skops",
                    skops_trusted_types=["numpy.dtype"],
                    pip_requirements=[],
                )
                client.create_model_version("fares", place.as_uri(), description=f"No. {number}")
            yield client
        finally:
            mlflow.set_tracking_uri("")


def test_the_aliases_of_a_registry_are_the_truth(root: Path, registry: Any) -> None:
    (root / "trivet.toml").write_text('[models.fare]\nuri = "models:/fares@champion"\n')
    assert "version 1 is in use\n" in run(root, "promote", "fare", "1").output
    assert run(root, "promote", "fare", "2").output == "fare: version 2 is in use (before: 1)\n"
    told = run(root, "promote", "fare", "3").output
    assert "  output fare is gone\n" in told
    assert "  output price is new (float64)\n" in told
    assert str(registry.get_model_version_by_alias("fares", "champion").version) == "3"
    assert run(root, "rollback", "fare").output == "fare: version 2 is in use (before: 3)\n"
    assert run(root, "rollback", "fare").output == "fare: version 1 is in use (before: 2)\n"
    assert str(registry.get_model_version_by_alias("fares", "champion").version) == "1"
    rows = [json.loads(line) for line in run(root, "list", "--json").output.splitlines()]
    assert [(row["version"], row["current"]) for row in rows] == [
        ("1", True),
        ("2", False),
        ("3", False),
    ]
    assert "No. 2" in run(root, "list").output
    for arguments, words in (
        (("promote", "fare", "9"), "fares"),
        (("rollback", "fare"), "no version is known that was in use before 1"),
    ):
        error = run(root, *arguments).exception
        assert isinstance(error, ModelError)
        assert words in str(error)
    # Somebody moves it by MLflow's own means.
    registry.set_registered_model_alias("fares", "champion", "3")
    assert run(root, "rollback", "fare").output == "fare: version 1 is in use (before: 3)\n"


def test_an_alias_of_a_registry_without_the_model(root: Path, registry: Any) -> None:
    (root / "trivet.toml").write_text('[models.fare]\nuri = "models:/fairs@champion"\n')
    for arguments in (("list",), ("promote", "fare", "1"), ("rollback", "fare")):
        error = run(root, *arguments).exception
        assert isinstance(error, ModelError)
        assert "MLFLOW_TRACKING_URI" in str(error)

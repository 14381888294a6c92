"""Fixtures over the small models of `format_cases`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from formats.format_cases import CASES, NUMERIC, Case, save_mlflow
from trivet.schema import Field, Schema


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Case]:
    """Return a function that gives a case by name, trained once."""
    made: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in made:
            made[name] = CASES[name]()
        return made[name]

    return get


@pytest.fixture(params=[*CASES, "mlflow_sklearn"])
def case(
    request: pytest.FixtureRequest,
    trained: Callable[[str], Case],
    mlflow_directory: Callable[[], Path],
) -> Case:
    """Every case in turn."""
    name: str = request.param
    if name == "mlflow_sklearn":
        base = trained("sklearn_linear")
        inputs = Schema(Field(name=f.name, type="float64", nullable=True) for f in NUMERIC)
        return Case(mlflow_directory(), inputs, base.outputs, base.expected, exact=False)
    return trained(name)


@pytest.fixture(scope="session")
def mlflow_directory(
    tmp_path_factory: pytest.TempPathFactory, trained: Callable[[str], Case]
) -> Callable[[], Path]:
    """Return a function that gives an MLflow directory of a scikit-learn model kept by skops."""
    made: list[Path] = []

    def get() -> Path:
        if not made:
            made.append(
                save_mlflow(
                    trained("sklearn_linear").model,
                    tmp_path_factory.mktemp("mlflow") / "m",
                    serialization_format="skops",
                    skops_trusted_types=["numpy.dtype"],
                )
            )
        return made[0]

    return get

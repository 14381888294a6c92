"""Model formats: one module a format, imported when a model of that format is met.

A format is a module with the members of `Format`. It turns an artifact on disk into a
`Predictor`, and a trained object into an artifact.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import pyarrow as pa

from trivet.errors import InvalidModel, MissingExtra, ModelError
from trivet.schema import Schema


@dataclass(frozen=True, slots=True)
class Predictor:
    """A loaded artifact.

    Attributes:
        predict: See `trivet.contract.Model.predict`.
        parallel: Whether several threads may call `predict` at once and gain from it.
    """

    predict: Callable[[pa.RecordBatch], pa.RecordBatch]
    parallel: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """What a format can read off a trained object.

    Attributes:
        inputs: The columns that it reads, None if it does not tell.
        outputs: The columns that it returns, None if it does not tell.
        is_contract: Whether somebody wrote the inputs down, so that no sample tells them better.
    """

    inputs: Schema | None = None
    outputs: Schema | None = None
    is_contract: bool = False


@dataclass(frozen=True, slots=True)
class Spec:
    """What a format is told when it reads an artifact.

    Attributes:
        inputs: The columns of the batches to come.
        outputs: The columns to return.
        threads: How many threads the library may use for one call.
    """

    inputs: Schema
    outputs: Schema
    threads: int = 1


class Format(Protocol):
    """The members of a format's module."""

    EXTRA: str
    """The extra of Trivet that installs the library."""

    LIBRARIES: tuple[str, ...]
    """Distributions whose versions decide whether an artifact can be read."""

    def recognises(self, model: object) -> bool:
        """Say whether this format can save the object, without importing the library for it."""
        ...

    def signature(self, model: object) -> Signature:
        """Read the schemas off a trained object, as far as it knows them."""
        ...

    def write(self, model: object, directory: Path) -> str:
        """Write the artifact into a directory; return its name (a file or a folder) there."""
        ...

    def read(self, artifact: Path, spec: Spec) -> Predictor:
        """Load an artifact whose checksum matched and whose code, if any, is trusted."""
        ...

    def runs_code(self, artifact: Path) -> bool:
        """Say whether `read` would run code that the artifact carries (a pickle, a module)."""
        ...


_MODULES = ("onnx", "lightgbm", "xgboost", "sklearn", "mlflow", "python")
"""In the order in which they are asked whether they recognise an object."""


def by_name(name: str) -> Format:
    """Return the format's module.

    Raises:
        InvalidModel: No format has that name.
        MissingExtra: Its library is not installed.
    """
    if name not in _MODULES:
        raise InvalidModel(
            f"unknown model format {name!r}; this Trivet reads {', '.join(_MODULES)}"
        )
    try:
        return cast(Format, importlib.import_module(f"trivet.formats.{name}"))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("trivet"):
            raise
        raise MissingExtra(f"a model of the format {name!r}", name) from error


def of(model: object) -> tuple[str, Format]:
    """Return the name and module of the format that can save an object.

    Raises:
        ModelError: No format recognises it.
    """
    for name in _MODULES:
        module = cast(Format, importlib.import_module(f"trivet.formats.{name}"))
        if module.recognises(model):
            return name, module
    kind = type(model)
    raise ModelError(
        f"no format can save a {kind.__module__}.{kind.__qualname__}; save a model of "
        "scikit-learn, LightGBM, XGBoost, ONNX or MLflow, or a Python class with inputs, outputs "
        "and predict"
    )

"""One trained model, three ways to put it to work: on a schedule, behind an endpoint, on a stream.

Importing this package loads nothing heavy: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trivet.artifacts import LoadedModel, load, save
    from trivet.contract import Model
    from trivet.errors import TrivetError
    from trivet.producer import Producer
    from trivet.schema import Field, Schema

_HOMES = {
    "Field": "trivet.schema",
    "LoadedModel": "trivet.artifacts",
    "Model": "trivet.contract",
    "Producer": "trivet.producer",
    "Schema": "trivet.schema",
    "TrivetError": "trivet.errors",
    "load": "trivet.artifacts",
    "save": "trivet.artifacts",
}

__all__ = ["Field", "LoadedModel", "Model", "Producer", "Schema", "TrivetError", "load", "save"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'trivet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

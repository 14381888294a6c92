"""The taxi app of examples/taxi, its parts in this process and its models made in seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.once import made_once

TAXI = Path(__file__).parents[2] / "examples" / "taxi"
sys.path.insert(0, str(TAXI))


@pytest.fixture(scope="session")
def quick_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store with all models, each of a few trees."""
    from support.taxi_app import train

    return made_once(tmp_path_factory, "store", train) / "models"

"""The churn example, in a folder of its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

CHURN = Path(__file__).parents[2] / "examples" / "churn"
sys.path.insert(0, str(CHURN))


def _copied(folder: Path) -> Path:
    """Copy what the example is made of, without what it has made."""
    root = folder / "churn"
    made = shutil.ignore_patterns("models", "offers", "*.db*", "__pycache__")
    shutil.copytree(CHURN, root, ignore=made)
    return root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the example in a folder that the tests of the session share."""
    return _copied(tmp_path_factory.mktemp("example"))


@pytest.fixture
def own_root(tmp_path: Path) -> Path:
    """Give the example in a folder of this test's own."""
    return _copied(tmp_path)

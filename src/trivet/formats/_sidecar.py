"""A folder with a model file and what the file has no place for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trivet.errors import InvalidModel

FOLDER = "model"
_NAME = "extra.json"


def write(directory: Path, file_name: str, extra: Mapping[str, Any]) -> tuple[Path, str]:
    """Choose where a model file goes: straight into the directory if there is nothing to add.

    Returns:
        The path to write the model file to, and the artifact's name.
    """
    if not extra:
        return directory / file_name, file_name
    folder = directory / FOLDER
    folder.mkdir()
    (folder / _NAME).write_text(json.dumps(extra), encoding="utf-8")
    return folder / file_name, FOLDER


def read(artifact: Path, file_name: str) -> tuple[Path, dict[str, Any]]:
    """Return the model file of an artifact and what was added to it.

    Raises:
        InvalidModel: The addition is not readable.
    """
    if not artifact.is_dir():
        return artifact, {}
    try:
        extra = json.loads((artifact / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(
            f"{artifact / _NAME}: cannot be read: {error}; save the model again"
        ) from error
    return artifact / file_name, extra

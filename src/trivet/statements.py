"""Named SQL statements of the files in a package's folder ``sql``."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources

_NAMED = re.compile(r"^-- name: ([\w.]+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


@functools.cache
def statements_of(package: str) -> Mapping[str, str]:
    """Return the statements by name; a name is used once in all files of the folder."""
    folder = resources.files(package).joinpath("sql")
    files = [f.read_text(encoding="utf-8") for f in folder.iterdir() if f.name.endswith(".sql")]
    return {
        name: _COMMENT.sub("", body).strip()
        for text in files
        for name, body in _NAMED.findall(text)
    }

"""The browser's part of Vega-Lite, from the package vl-convert-python.

Making it takes a process to 190 MB, so a short-lived one makes it, once a version; it is kept in
a folder for caches.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from trivet.errors import MissingExtra, TrivetError

_MAKE = (
    "import sys, pathlib, vl_convert; "
    "pathlib.Path(sys.argv[1]).write_text(vl_convert.javascript_bundle(), encoding='utf-8')"
)


def bundle(cache: Path | None = None) -> Path:
    """Return the script that defines ``vegaEmbed``, made if it is not there yet.

    Args:
        cache: The folder to keep it in; by default one of the user's own.

    Raises:
        MissingExtra: vl-convert-python is not installed.
        TrivetError: It could not be made.
    """
    if importlib.util.find_spec("vl_convert") is None:
        raise MissingExtra("the dashboard", "dashboard")
    name = f"vega-{metadata.version('vl-convert-python')}.js"
    folders = [cache] if cache else _folders()
    for folder in folders:
        if (folder / name).exists() and _is_ours(folder):
            return folder / name
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(folder):
                continue
            handle, draft = tempfile.mkstemp(dir=folder, prefix=name)
        except OSError:
            continue
        os.close(handle)
        try:
            _make(draft)
            Path(draft).replace(folder / name)
        finally:
            Path(draft).unlink(missing_ok=True)
        return folder / name
    raise TrivetError(f"no folder can be written for {name}: tried {', '.join(map(str, folders))}")


def _make(target: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _MAKE, target], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TrivetError(f"vl-convert-python made no bundle: {done.stderr.strip()[-500:]}")


def _is_ours(folder: Path) -> bool:
    """Say whether nobody else could have put a script there: pages will run it."""
    found = folder.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _folders() -> list[Path]:
    try:
        home = [Path.home() / ".cache" / "trivet"]
    except RuntimeError:  # the user has no home
        home = []
    return [*home, Path(tempfile.gettempdir()) / f"trivet-cache-{os.getuid()}"]

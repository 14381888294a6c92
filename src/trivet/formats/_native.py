"""Shared libraries of installed packages, opened without importing the package.

Importing `lightgbm` or `xgboost` pulls in SciPy and, if it is there, scikit-learn: seconds and
some 100 MB that a prediction through the documented C interface does not need.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

from trivet.errors import MissingExtra, ModelError


class Handle:
    """An object inside a library, freed when nothing refers to it any more.

    Not at exit: a thread may still be predicting then, and the system takes the memory back.
    """

    def __init__(
        self,
        pointer: ctypes.c_void_p,
        free: Callable[[ctypes.c_void_p], object],
        keep: object = None,
    ) -> None:
        self.pointer = pointer
        self._keep = keep  # what must not be freed before this
        weakref.finalize(self, free, pointer).atexit = False


def library(package: str, names: dict[str, str], folders: tuple[str, ...]) -> ctypes.CDLL:
    """Open the shared library that a package carries.

    Args:
        package: Its import name, which is also Trivet's extra.
        names: `sys.platform` to the library's file name; ``""`` is any other platform.
        folders: Where it may lie, relative to the package's folder.

    Raises:
        MissingExtra: The package is not installed.
        ModelError: The package has no such library, or the system refuses to open it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtra(f"a model of the format {package!r}", package)
    home = Path(spec.origin).parent
    name = names.get(sys.platform, names[""])
    candidates = [path for folder in folders if (path := home / folder / name).is_file()]
    if not candidates:
        raise ModelError(
            f"{home} has no {name}; install {package} again: "
            f"pip install --force-reinstall {package}"
        )
    try:
        return ctypes.CDLL(str(candidates[0]))
    except OSError as error:
        raise ModelError(
            f"{candidates[0]} cannot be opened: {error}; install what it needs "
            "(often OpenMP: apt install libgomp1, brew install libomp)"
        ) from error

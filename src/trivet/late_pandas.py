"""pyarrow without pandas, until somebody imports pandas.

Where pandas is installed, pyarrow imports it at the first array that it makes of values of Python
or NumPy, if only to tell whether they are pandas' own: 45 MB and a third of a second of every
process. But there is no object of pandas before pandas is imported. So until then, pyarrow is left
to believe that it is not installed; from then on, all is as it ever was.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def put_off() -> None:
    """Have pyarrow look for pandas now, in vain, and again once it is imported.

    For a process that is Trivet's own, at its begin.
    """
    if "pandas" in sys.modules or any(isinstance(f, _Finder) for f in sys.meta_path):
        return
    import pyarrow as pa  # noqa: PLC0415 - heavy

    finder = _Finder()
    sys.meta_path.insert(0, finder)
    pa.array([0])
    finder.hides = False


class _Finder(MetaPathFinder):
    """Finds pandas as anybody would, but hides it at first, and tells pyarrow when it is there."""

    hides = True

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "pandas":
            return None
        if self.hides:
            raise ModuleNotFoundError("No module named 'pandas'", name=name)
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None:
            sys.meta_path.insert(0, self)
        elif spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads pandas with its own loader, then has pyarrow look again."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        import pyarrow as pa  # noqa: PLC0415 - imported long before

        with suppress(ImportError):  # of a pandas that is too old for pyarrow
            pa.nulls(0).to_pandas()

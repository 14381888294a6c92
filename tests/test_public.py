from __future__ import annotations

import subprocess
import sys
from importlib import resources

import pytest

import trivet


def test_the_public_names_are_these() -> None:
    assert trivet.__all__ == [
        "Field",
        "LoadedModel",
        "Model",
        "Producer",
        "Schema",
        "TrivetError",
        "load",
        "save",
    ]
    assert dir(trivet) == trivet.__all__


@pytest.mark.parametrize("name", trivet.__all__)
def test_each_public_name_leads_somewhere_and_is_documented(name: str) -> None:
    assert getattr(trivet, name).__doc__


def test_a_star_import_gives_the_public_names() -> None:
    space: dict[str, object] = {}
    exec("from trivet import *", space)
    assert set(trivet.__all__) <= space.keys()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'trivet' has no attribute 'modle'"):
        trivet.modle  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, trivet\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}"
        " & {'pyarrow', 'numpy', 'pandas', 'msgspec', 'click', 'rich'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_errors_and_durations_load_nothing_heavy() -> None:
    code = (
        "import sys, trivet.errors, trivet.durations\nprint('pyarrow' in sys.modules, "
        "'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "False"]


def test_the_package_is_typed() -> None:
    assert resources.files("trivet").joinpath("py.typed").is_file()

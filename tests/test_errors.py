from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from trivet import errors

SOURCES = Path(errors.__file__).parent
CLASSES = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
}


def drawn() -> dict[str, str]:
    """Read the tree in the docstring: each class's name to that of its base."""
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("::\n", 1)[1].split("\nA message", 1)[0]
    bases: dict[str, str] = {}
    path: list[str] = []
    for line in filter(str.strip, tree.splitlines()):
        name_at = re.search(r"[A-Z]", line)
        assert name_at is not None
        depth = (name_at.start() - 4) // 4
        name = line[name_at.start() :].split()[0]
        path[depth:] = [name]
        bases[name] = path[depth - 1] if depth else "Exception"
    return bases


def test_the_docstring_draws_exactly_the_classes_that_exist() -> None:
    assert drawn() == {name: kind.__mro__[1].__name__ for name, kind in CLASSES.items()}


def test_each_leaf_is_explained_in_the_tree() -> None:
    leaves = set(drawn()) - set(drawn().values())
    assert errors.__doc__ is not None
    for name in leaves:
        assert re.search(rf"── {name}\s+\S", errors.__doc__), name


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_is_raised_or_caught_somewhere(name: str) -> None:
    here = Path(errors.__file__)
    texts = [path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py") if path != here]
    children = [kind for kind in CLASSES.values() if kind.__base__ is CLASSES[name]]
    used = re.compile(rf"^(?!\s*(from|import)\b).*\b{name}\(|except.*\b{name}\b", re.MULTILINE)
    assert children or any(used.search(text) for text in texts)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_says_what_it_is_for(name: str) -> None:
    assert inspect.getdoc(CLASSES[name])


def test_settings_error_has_a_line_a_finding() -> None:
    error = errors.SettingsError("a.toml: x", "a.toml: y")
    assert str(error) == "a.toml: x\na.toml: y"
    assert error.findings == ("a.toml: x", "a.toml: y")


def test_missing_extra_tells_what_to_install() -> None:
    error = errors.MissingExtra("a model of the format 'onnx'", "onnx")
    assert error.extra == "onnx"
    assert "pip install 'trivet[onnx]'" in str(error)

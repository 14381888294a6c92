"""The shape of the code: who may import whom, and a few habits, read off every module's source.

`LAYERS` is the table to extend: a new part names its place, the parts below it that it may use,
and nothing else changes here. Imports inside functions count; those for type checkers do too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SOURCE / "trivet").rglob("*.py"))
}
LONGEST = 400

LAYERS: list[dict[str, set[str]]] = [
    # Lowest first. A part may import the parts that its entry names, and itself.
    {"errors": set(), "durations": set(), "monitoring": set(), "logs": set()},
    {"late_pandas": set()},
    {"owners": set(), "statements": set()},
    {"schema": {"errors"}, "workers": {"errors", "late_pandas"}, "counts": {"errors"}},
    {"validation": {"errors", "schema"}, "json_schema": {"schema"}},
    {
        "contract": {"errors", "schema"},
        "databases": {"errors", "schema", "validation"},
        "brokers": {"durations", "errors", "owners", "statements"},
        "records": {"errors", "schema", "validation"},
        "events": {"brokers"},
        "producer": {"brokers", "errors", "events"},
    },
    {"scoring": {"contract", "errors", "schema", "validation"}},
    {"producer": {"brokers", "errors", "events"}},
    {
        "formats": {"errors", "schema", "validation"},
        "manifest": {"errors", "monitoring", "schema"},
        "parity": {"contract", "errors", "manifest", "schema", "validation"},
        "foreign": {"errors", "formats", "manifest"},
        "artifacts": {
            "errors",
            "foreign",
            "formats",
            "manifest",
            "monitoring",
            "parity",
            "samples",
            "schema",
            "validation",
        },
        "samples": {
            "contract",
            "errors",
            "manifest",
            "monitoring",
            "parity",
            "schema",
            "scoring",
            "validation",
        },
        "results": {
            "contract",
            "databases",
            "errors",
            "monitoring",
            "owners",
            "schema",
            "statements",
        },
    },
    {
        "current": {"artifacts", "contract", "errors", "formats", "monitoring"},
        "promotion": {"artifacts", "errors", "formats", "manifest", "schema"},
    },
    {
        "hosts.schedule": {"errors"},
        "hosts.keys": {"errors"},
        "hosts.batch": {
            "contract",
            "current",
            "databases",
            "errors",
            "hosts.keys",
            "hosts.schedule",
            "monitoring",
            "owners",
            "results",
            "schema",
            "scoring",
            "validation",
        },
        "hosts.stream": {
            "brokers",
            "contract",
            "counts",
            "current",
            "databases",
            "errors",
            "events",
            "json_schema",
            "logs",
            "records",
            "results",
            "schema",
            "scoring",
            "validation",
            "workers",
        },
        "hosts.service": {
            "artifacts",
            "contract",
            "counts",
            "current",
            "databases",
            "errors",
            "json_schema",
            "logs",
            "manifest",
            "monitoring",
            "parity",
            "records",
            "results",
            "schema",
            "scoring",
            "validation",
            "workers",
        },
        "up.settings": set(),
    },
    {
        "actions": {
            "brokers",
            "databases",
            "errors",
            "hosts.schedule",
            "owners",
            "results",
            "schema",
        }
    },
    {
        "alerts": {
            "databases",
            "errors",
            "hosts.schedule",
            "monitoring",
            "results",
        }
    },
    {"dashboard": {"alerts", "errors", "hosts.schedule", "monitoring", "results"}},
    {
        "settings": {
            "alerts",
            "actions",
            "dashboard",
            "databases",
            "durations",
            "errors",
            "hosts.batch",
            "hosts.schedule",
            "hosts.service",
            "hosts.stream",
            "results",
            "up.settings",
        }
    },
    {
        "compare": {
            "artifacts",
            "databases",
            "errors",
            "hosts.batch",
            "hosts.schedule",
            "monitoring",
            "results",
            "scoring",
            "validation",
        },
        "init": {
            "artifacts",
            "brokers",
            "databases",
            "errors",
            "formats",
            "manifest",
            "results",
            "schema",
        },
        "up": {"dashboard", "errors", "hosts.service", "hosts.stream", "settings", "up.settings"},
        "check": {
            "actions",
            "artifacts",
            "brokers",
            "contract",
            "counts",
            "current",
            "databases",
            "errors",
            "hosts.batch",
            "hosts.service",
            "hosts.stream",
            "logs",
            "manifest",
            "parity",
            "results",
            "schema",
            "scoring",
            "settings",
            "validation",
        },
    },
    {"cli": {"*"}, "testing": {"*"}},
]
ALLOWED = {part: below for layer in LAYERS for part, below in layer.items()}
NOT_A_PART = {"trivet", "trivet.__main__", "trivet.hosts"}
"""The package's own names, its start, and the folder of the hosts: nothing to place."""

PURE = ("contract", "schema", "scoring", "validation")
FOREIGN_TO_PURE = {"adbc_driver_manager", "click", "confluent_kafka", "fastapi", "starlette"}


def part_of(module: str) -> str | None:
    """Return the part of the table that a module of ours belongs to."""
    name = module.removeprefix("trivet.")
    return next((p for p in ALLOWED if name == p or name.startswith(f"{p}.")), None)


def imports(module: str) -> Iterator[str]:
    """Give every module that a module imports, wherever in its code."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: write imports in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", sorted(MODULES.keys() - NOT_A_PART))
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    part = part_of(module)
    assert part is not None, f"{module} has no place in LAYERS"
    used = {
        found
        for name in imports(module)
        if name.startswith("trivet.")
        if (found := part_of(name)) not in (None, part)
    }
    assert "*" in ALLOWED[part] or used <= ALLOWED[part], f"{module} must not import {used}"


def test_the_table_names_only_parts_below() -> None:
    seen: set[str] = set()
    for layer in LAYERS:
        for part, below in layer.items():
            assert below - {"*"} <= seen | layer.keys(), part
        seen |= layer.keys()


def test_the_table_names_only_what_there_is() -> None:
    assert {part for m in MODULES if (part := part_of(m))} >= ALLOWED.keys() - {
        "samples",
        "testing",
    }


def test_no_host_imports_another_and_nothing_imports_the_command_line() -> None:
    for module in MODULES:
        used = set(imports(module))
        if not module.startswith(("trivet.cli", "trivet.__main__")):
            assert not any(name.startswith("trivet.cli") for name in used), module
        if module.startswith("trivet.hosts."):
            host = ".".join(module.split(".")[:3])
            shared = {"trivet.hosts.schedule", "trivet.hosts.keys"}
            others = {name for name in used if name.startswith("trivet.hosts.")} - shared
            assert all(name.startswith(host) for name in others), module
            assert not any(name.startswith("trivet.dashboard") for name in used), module


@pytest.mark.parametrize("part", PURE)
def test_the_core_knows_no_web_broker_or_database(part: str) -> None:
    used = {name.partition(".")[0] for name in imports(f"trivet.{part}")}
    assert not used & FOREIGN_TO_PURE


def test_only_the_settings_read_the_environment() -> None:
    for module in MODULES.keys() - {"trivet.settings"}:
        names = {n.attr for n in ast.walk(_tree(module)) if isinstance(n, ast.Attribute)}
        assert not names & {"environ", "getenv"}, module


def test_only_the_command_line_prints() -> None:
    for module in MODULES:
        calls = {
            node.func.id
            for node in ast.walk(_tree(module))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert module.startswith("trivet.cli") or "print" not in calls, module


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_is_not_too_long(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST, f"{module} has {lines} lines: split it by what it is about"

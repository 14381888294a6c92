"""The first moment: what is imported, hints at what was meant, completion."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from support.up_process import environment
from trivet.cli import trivet as command

HEAVY = {
    "altair",
    "confluent_kafka",
    "grpc",
    "lightgbm",
    "mlflow",
    "onnxruntime",
    "pandas",
    "rich",
    "sklearn",
    "starlette",
    "uvicorn",
    "xgboost",
}


def imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_help_imports_nothing_that_is_heavy() -> None:
    code = "from trivet.cli import trivet\ntrivet(['--help'], standalone_mode=False)"
    assert not imported(code) & (HEAVY | {"numpy", "pyarrow", "psutil"})


def test_the_library_imports_no_optional_one() -> None:
    assert not imported("import trivet") & HEAVY


def test_the_help_tells_every_command_in_a_whole_sentence() -> None:
    told = CliRunner().invoke(command, ["--help"]).output
    lines = [line.split(maxsplit=1)[0] for line in told.splitlines() if line.startswith("  ")]
    assert set(command.commands) <= set(lines)
    assert "..." not in told.replace("[ARGS]...", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scor"], "Did you mean 'score'?"),
        (["model", "promte"], "Did you mean 'promote'?"),
        (["score", "x", "--intervl", "2020"], "Did you mean '--interval'?"),
        (["frobnicate"], "No such command"),
    ],
)
def test_what_was_meant(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, words in result.output) == (2, True), result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    result = CliRunner().invoke(command, ["completion", shell])
    assert result.exit_code == 0
    assert "_TRIVET_COMPLETE" in result.output

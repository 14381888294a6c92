"""``trivet init``."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trivet.cli import beforehand

if TYPE_CHECKING:
    from trivet.init.sketch import Part

_COMMANDS = {"service": "trivet serve", "dashboard": "trivet dashboard"}


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A saved model to deploy: MLflow's or Trivet's directory, .onnx, .skops, LightGBM's "
    ".txt, XGBoost's .json or .ubj. Without it, a small one is trained.",
)
@click.option(
    "--template",
    type=click.Choice(["batch", "service", "stream", "all"]),
    default="all",
    show_default=True,
    help="What the model is deployed as.",
)
def init(directory: Path, model: Path | None, template: str) -> None:
    """Write a small project that runs at once into DIRECTORY.

    No file that is there is overwritten.
    """
    from trivet import settings
    from trivet.init.creating import create
    from trivet.init.sketch import PARTS

    parts: tuple[Part, ...] = tuple(p for p in PARTS if template in (p, "all"))
    create(
        directory,
        parts,
        dt.datetime.now(dt.UTC).date(),
        settings.environment(),
        model,
        _asked if sys.stdin.isatty() else _assumed,
    )
    click.echo(f"{directory}: trivet.toml and all it needs; README.md says what to try")
    wanted = ("service", "dashboard") if "service" in parts else ("dashboard",)
    lacking = [extra for extra in wanted if not beforehand.installed(extra)]
    if lacking:
        commands = " and ".join(_COMMANDS[extra] for extra in lacking)
        click.echo(f"for {commands}: pip install 'trivet[{','.join(lacking)}]'")
    click.echo(f"next: cd {directory} && trivet up")


def _asked(name: str) -> str:
    """Ask for the type of an input."""
    from trivet.schema import TYPES

    kind: str = click.prompt(
        f"the type of the input {name}", type=click.Choice(list(TYPES)), default="float64"
    )
    return kind


def _assumed(name: str) -> str:
    click.echo(f"the model does not tell the type of {name}: float64 is assumed", err=True)
    return "float64"

"""``trivet compare``."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trivet.cli import wiring
from trivet.cli.exits import FAILED
from trivet.cli.history import table

if TYPE_CHECKING:
    import pyarrow as pa

    from trivet.compare import Change, Comparison, Truth
    from trivet.hosts.schedule import Interval
    from trivet.results.actuals_settings import ActualsSettings
    from trivet.settings import Project


@click.command()
@click.argument("deployment")
@click.argument("first")
@click.argument("second")
@click.option("--interval", required=True, metavar="INTERVAL", help="Which one, such as 2020-04.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def compare(
    context: click.Context,
    deployment: str,
    first: str,
    second: str,
    interval: str,
    as_json: bool,
) -> None:
    """Score an interval of the batch DEPLOYMENT with the versions FIRST and SECOND of its model.

    Shows what would change and, where true values are known, which one is better. Nothing is
    published. It ends with 1 if the true values say that SECOND is worse.
    """
    from trivet.compare import compare as compared

    project = wiring.project_of(context)
    settings = project.batch[wiring.pick(project.batch, deployment, "batch deployment")]
    chosen = settings.calendar.named(interval)
    source = project.models[settings.model]
    models = [wiring.versioned(source, version).load(project.root) for version in (first, second)]
    actuals, truths = _truths(project, deployment, chosen)
    found = wiring.aside(
        lambda: compared(settings, (models[0], models[1]), chosen, project.root, truths, actuals)
    )
    label = f"{deployment} {settings.calendar.label(chosen)}"
    if as_json:
        told: dict[str, Any] = {
            "deployment": deployment,
            "interval": settings.calendar.label(chosen),
        }
        told |= {"interval_start": chosen.start, "interval_end": chosen.end}
        click.echo(msgspec.json.encode(told | _plain(dataclasses.asdict(found))).decode())
    else:
        _show(label, found, has_actuals=actuals is not None)
    if found.truth is not None and found.truth.second_is == "worse":
        raise click.exceptions.Exit(FAILED)


def _truths(
    project: Project, deployment: str, interval: Interval
) -> tuple[ActualsSettings | None, pa.Table | None]:
    from trivet.compare import known_truths

    for settings in project.actuals.values():
        if settings.of == deployment:
            return settings, known_truths(project.results.url, project.root, settings, interval)
    return None, None


def _plain(value: Any) -> Any:
    """Replace what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _show(label: str, found: Comparison, *, has_actuals: bool) -> None:
    first, second = found.sides
    click.echo(f"{label}, version {first.version} against {second.version}\n")
    codes = sorted({*first.rejects, *second.rejects})
    rows = [
        ("rows read", f"{first.read:,}", f"{second.read:,}"),
        ("scored", f"{first.scored:,}", f"{second.scored:,}"),
        ("scored by this one only", f"{found.only_first:,}", f"{found.only_second:,}"),
    ]
    rows += [
        (f"problems: {code}", f"{first.rejects.get(code, 0):,}", f"{second.rejects.get(code, 0):,}")
        for code in codes
    ]
    table(("", first.version, second.version), rows, numbers=(1, 2))
    numbers = [change for change in found.changes if change.quantiles]
    if numbers:
        click.echo(f"\nsecond minus first, over {found.both:,} rows")
        quantiles = list(numbers[0].quantiles)
        headers = ("output", "changed", "mean", "mean size", *(f"q{q}" for q in quantiles))
        cells = [_cells(change) for change in numbers]
        table(headers, cells, numbers=range(1, len(headers)))
    for change in found.changes:
        if not change.quantiles and change.rows:
            click.echo(f"\n{change.output}: {_share(change)} changed")
            table(("from", "to", "rows"), [(a, b, f"{n:,}") for a, b, n in change.switches], (2,))
    for name in found.lacking:
        click.echo(f"\noutput {name}: only one version has it")
    if found.truth is not None:
        _show_truth(found.truth, first.version, second.version)
    elif has_actuals:
        click.echo("\nno true value of these rows is known yet: trivet actuals pull")


def _cells(change: Change) -> tuple[str, ...]:
    figures = (change.mean, change.mean_size, *change.quantiles.values())
    return (change.output, _share(change), *(f"{figure:.4g}" for figure in figures))


def _share(change: Change) -> str:
    return f"{change.changed / change.rows:.1%}"


def _show_truth(truth: Truth, first: str, second: str) -> None:
    click.echo(f"\n{truth.output} against {truth.rows:,} true values")
    rows = [(name, f"{truth.first[name]:.4g}", f"{truth.second[name]:.4g}") for name in truth.first]
    table(("", first, second), rows, numbers=(1, 2))
    what = {
        "regression": "the error of a row",
        "binary": "the log loss of a row",
        "classes": "the share of wrong classes",
    }[truth.kind]
    words = {
        "better": f"{second} is better",
        "worse": f"{second} is worse",
        "undecided": "these rows do not tell which one is better",
    }[truth.second_is]
    click.echo(f"{words}: {what} changes by {truth.loss:+.4g} (± {1.96 * truth.error:.2g})")

"""The command ``trivet``: the only place that wires the parts together.

Exit codes: 0 done; 1 a run failed, or a database refused a statement; 2 the command, the project
file or a model cannot be used as it stands; 3 another process runs that interval
or that project; 4 a database
cannot be reached; 130 and 143 stopped by SIGINT and SIGTERM before the work was done. The daemon
``trivet schedule`` has no end of its own: stopped by a signal, it ends with 0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from trivet.cli import (
    actions,
    actuals,
    alerts,
    batch,
    check,
    compare,
    completion,
    dashboard,
    events,
    history,
    init,
    model,
    service,
    stream,
    up,
)
from trivet.cli.exits import INTERRUPTED, UNUSABLE, exit_code
from trivet.cli.reporting import located


@click.group(
    cls=completion.HintingGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path),
    default=Path("trivet.toml"),
    show_default=True,
    help="The project file, or its folder.",
)
@click.option(
    "--log",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="How to report progress; auto: live on a terminal, JSON lines elsewhere.",
)
@click.version_option(package_name="trivet")
@click.pass_context
def trivet(context: click.Context, file: Path, log: str) -> None:
    """Put one trained model to work: on a schedule, behind an endpoint, on a stream."""
    context.ensure_object(dict).update(file=file, log=log)


trivet.add_section("A project", init.init, check.check, up.up, up.status)
trivet.add_section("On a schedule", batch.score, batch.backfill, batch.schedule, history.runs)
trivet.add_section("Behind an endpoint", service.serve)
trivet.add_section(
    "On a stream", stream.consume, events.lag, stream.dead, events.events, stream.asyncapi
)
trivet.add_section("Models", model.model, compare.compare)
trivet.add_section(
    "What came of it",
    dashboard.dashboard,
    dashboard.report,
    history.rejects,
    actuals.actuals,
    alerts.alerts,
)
trivet.add_section("Actions", actions.act, actions.actions)
trivet.add_section("Care", history.results, completion.completion)


def main() -> None:
    """Run the command line; a user's mistake ends in one message, never in a traceback."""
    from trivet import errors

    seen: dict[str, Any] = {}
    try:
        # Not standalone, click hands the code of an Exit back instead of ending the process.
        sys.exit(trivet(prog_name="trivet", standalone_mode=False, obj=seen))
    except click.ClickException as mistake:
        mistake.show()
        sys.exit(UNUSABLE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except errors.TrivetError as error:
        for line in located(error, seen["file"]).splitlines():
            click.secho(f"error: {line}", fg="red", err=True)
        sys.exit(exit_code(error))


__all__ = ["main", "trivet"]

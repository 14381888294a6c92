"""``trivet serve``."""

from __future__ import annotations

import dataclasses

import click

from trivet.cli import wiring
from trivet.cli.reporting import reporting


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Instead of port in [service].")
@click.option("--workers", type=click.IntRange(1), help="Instead of workers in [service].")
@click.pass_context
def serve(context: click.Context, port: int | None, workers: int | None) -> None:
    """Serve the models of [service] over HTTP and gRPC, until told to stop.

    SIGTERM or Ctrl-C ends it after the requests under way; a second Ctrl-C ends it at once.
    SIGHUP has it look for new versions of its models.
    """
    from trivet.counts import CountsFolder
    from trivet.errors import MissingExtra

    try:
        from trivet.hosts.service.server import Supervisor, bind
        from trivet.hosts.service.worker import check_tls
    except ImportError as error:
        raise MissingExtra("the service", "service") from error

    project = wiring.project_of(context)
    if project.service is None:
        raise click.UsageError(
            f'{project.file} has no [service] section; write one with models = ["NAME"]'
        )
    given = {"port": port, "workers": workers}
    changed = {key: value for key, value in given.items() if value is not None}
    try:
        settings = dataclasses.replace(project.service, **changed)  # type: ignore[arg-type]
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    with reporting(context) as reporter, CountsFolder() as counts:
        plan = wiring.service_plan(project, settings, counts, json=reporter.json)
        check_tls(settings, project.root)
        wiring.check_results(project, settings)
        supervisor = Supervisor(plan, bind(settings))
        with wiring.on_signals(stop=supervisor.stop, reload=supervisor.reload):
            supervisor.run()

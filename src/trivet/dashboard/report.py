"""A report of one interval: the dashboard's charts in one file, for an e-mail or a ticket."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from trivet.dashboard import breakdown, periods, pictures, predictions, traffic, words
from trivet.dashboard.ask import Ask, NotThere, Span
from trivet.dashboard.charts import Chart
from trivet.dashboard.columns import Columns
from trivet.dashboard.pages import PAGES
from trivet.errors import ScheduleError
from trivet.hosts.schedule import Interval, Schedule

_BEFORE = 30


@dataclass(frozen=True, slots=True)
class Report:
    """What a report tells.

    Attributes:
        project: The project.
        deployment: The deployment.
        label: The interval's name.
        facts: What is known of it, by heading.
        error: Why it failed; empty if it did not.
        charts: The charts.
        rejects: Problems by code and field.
        made_at: When the report was made.
    """

    project: str
    deployment: str
    label: str
    facts: Mapping[str, str]
    error: str
    charts: Sequence[Chart]
    rejects: Sequence[Mapping[str, Any]]
    made_at: dt.datetime

    def html(self) -> str:
        """Return it as one page without script or any other file."""
        made = jinja2.Environment(
            loader=jinja2.PackageLoader("trivet.dashboard"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters.update(words.FILTERS)
        style = resources.files("trivet.dashboard").joinpath("static/report.css").read_text("utf-8")
        drawn = list(zip(self.charts, pictures.svgs(self.charts), strict=True))
        return made.get_template("report.html").render(report=self, style=style, drawn=drawn)

    def png(self) -> bytes:
        """Return it as one picture."""
        facts = [f"{name}: {value}" for name, value in self.facts.items()]
        lines = [" · ".join(facts[i : i + 4]) for i in range(0, len(facts), 4)]
        if self.error:
            lines.append(self.error[:160])
        return pictures.png(self.charts, f"{self.deployment} {self.label}", lines)


def make(ask: Ask, project: str, name: str, interval: str) -> Report:
    """Gather a report.

    Args:
        ask: Where to look; its moment is that of the report.
        project: The project's name.
        name: The deployment.
        interval: The interval's name, or empty for the newest; of a service or a stream, a day.

    Raises:
        NotThere: There is no such deployment, or nothing of that interval.
        ScheduleError: The interval's name cannot be understood.
    """
    deployment = ask.deployment(name)
    batch = deployment["kind"] == "batch"
    calendar = (
        Schedule(deployment["schedule"], deployment["timezone"]) if batch else Schedule("@daily")
    )
    span = _span(ask, deployment, calendar, interval)
    label = calendar.label(span)
    run: Mapping[str, Any] = {}
    if batch:
        tries = ask.source.rows("attempts_at", deployment=name, interval_start=span.start)
        if not tries:
            raise NotThere(
                f"{name} {label} has not been run; run: trivet score {name} --interval {label}"
            )
        attempt = next((t for t in tries if t["is_published"]), tries[0])["attempt"]
        run = ask.source.first("run", attempt=attempt)
    columns = Columns.of(ask, deployment)
    charts, facts = _charts(ask, deployment, columns, span)
    if run:
        facts = _facts(run)
    rejects = (
        ask.source.rows("reject_counts_of_run", attempt=run["attempt"], deployment=name)
        if run
        else []
    )
    return Report(project, name, label, facts, run.get("error") or "", charts, rejects, ask.now)


def _span(ask: Ask, deployment: Mapping[str, Any], calendar: Schedule, interval: str) -> Interval:
    if interval:
        return calendar.named(interval)
    newest = periods.newest(ask, deployment)
    if newest is None:
        name = deployment["name"]
        begin = {"batch": f"trivet score {name}", "stream": f"trivet consume {name}"}
        what = begin.get(deployment["kind"], "trivet serve")
        raise NotThere(f"{name} has no results yet; begin with: {what}")
    try:
        return calendar.interval_at(newest - dt.timedelta(microseconds=1))
    except ScheduleError as error:  # pragma: no cover - a schedule that registered once
        raise NotThere(str(error)) from None


def _charts(
    ask: Ask, deployment: Mapping[str, Any], columns: Columns, interval: Interval
) -> tuple[list[Chart], dict[str, str]]:
    """Return the charts: the interval among those before it, and what is in it."""
    if not columns.outputs:
        return [], {}
    batch = deployment["kind"] == "batch"
    output = columns.main
    length = interval.end - interval.start
    before = Span(interval.start - _BEFORE * length, interval.end, "")
    inside = Span(interval.start, interval.end, "")
    reference = periods.reference_of(columns.manifest, "output", output)
    found = periods.read(ask, deployment, "output", output, before)
    charts = [predictions.over_time(output, found, reference)]
    if spread := predictions.distribution(output, found, reference):
        charts.append(spread)
    charts.append(predictions.volume(found))
    facts: dict[str, str] = {}
    if not batch:
        flow = traffic.read(ask, deployment, columns.types, output, inside, interval.end)
        charts += flow.charts
        facts = {"rows": words.number(flow.rows), "errors": words.number(flow.errors)}
        facts |= {f"latency {p}": words.length(v) for p, v in flow.latency.items()}
    by = columns.usual_grouping
    if parts := breakdown.read(ask, deployment, columns, output, by, inside, interval.end):
        charts.append(parts)
    for page in PAGES:
        if page.report:
            charts += page.report(ask, deployment, before)
    return [chart for chart in charts if chart.rows], facts


def _facts(run: Mapping[str, Any]) -> dict[str, str]:
    seconds = words.parsed(run["seconds"], {}).get("total")
    return {
        "state": "published" if run["is_published"] else run["state"],
        "attempt": str(run["attempt"]),
        "model": f"{run['model_name']} {run['model_version']}",
        "read": words.number(run["rows_read"]),
        "scored": words.number(run["rows_scored"]),
        "rejected": words.number(run["rows_rejected"]),
        "took": words.length(seconds),
        "ended": f"{words.moment(run['ended_at'])} UTC" if run["ended_at"] else "not yet",
    }

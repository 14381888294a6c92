"""The history of runs: which intervals there are, how long they took, what repairs them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from trivet.dashboard import charts, freshness, words
from trivet.dashboard.ask import Ask, Page
from trivet.dashboard.charts import Chart
from trivet.dashboard.drawing import channel

_MOST = 1_000
_LISTED = 40
STATES = ("running", "succeeded", "failed", "killed", "stopped")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the calendar, such as a month: a name, empty places, cells."""

    name: str
    before: int
    cells: Sequence[freshness.Cell]


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows."""
    batch = [d for d in ask.deployments() if d["kind"] == "batch"]
    names = [d["name"] for d in batch]
    chosen = ask.get("deployment")
    shown = [d for d in batch if d["name"] == chosen] or batch
    state = ask.get("state") if ask.get("state") in STATES else ""
    blocks, attempts = [], []
    for deployment in shown:
        found = ask.source.rows("attempts", deployment=deployment["name"], limit=_MOST)
        line = freshness.timeline(deployment, found, ask.now, _MOST)
        repairs = [(part, freshness.repair(deployment["name"], part)) for part in _spans(line)]
        blocks.append(
            {
                "deployment": deployment,
                "line": line,
                "calendar": list(calendar(deployment, line.cells)),
                "counts": {
                    o: len(line.of(o)) for o in ("done", "running", "failed", "missing", "gone")
                },
                "repairs": repairs[:5],
                "more_repairs": max(0, len(repairs) - 5),
                "stages": stages(deployment["name"], found),
            }
        )
        attempts += [
            row
            | {
                "deployment": deployment["name"],
                "label": freshness.label_of(deployment, row["interval_start"], row["interval_end"]),
                "took": _took(row),
            }
            for row in found[: _LISTED * 4]
            if not state or row["state"] == state
        ]
    attempts.sort(key=lambda row: -row["attempt"])
    return {
        "names": names,
        "chosen": chosen if chosen in names else "",
        "blocks": blocks,
        "state": state,
        "states": STATES,
        "attempts": attempts[:_LISTED],
    }


def _spans(line: freshness.Timeline) -> Iterator[list[freshness.Cell]]:
    """Give what needs repair: neighbours with one command, the newest first."""
    parts = [list(group) for _, group in groupby(line.cells, key=lambda cell: cell.outcome)]
    for part in reversed(parts):
        if part[0].outcome in ("missing", "failed"):
            yield part


def _took(row: Mapping[str, Any]) -> float | None:
    seconds: float | None = words.parsed(row["seconds"], {}).get("total")
    if seconds is None and row["ended_at"]:
        seconds = (row["ended_at"] - row["started_at"]).total_seconds()
    return seconds


def calendar(deployment: Mapping[str, Any], cells: Sequence[freshness.Cell]) -> Iterator[Line]:
    """Cut the intervals into lines: hours into days, days into months, months into years."""
    if not cells:
        return
    zone = ZoneInfo(deployment["timezone"] or "UTC")
    lengths = sorted(cell.end - cell.start for cell in cells)
    length = lengths[len(lengths) // 2]
    hour, day = dt.timedelta(hours=1), dt.timedelta(days=1)

    def place(cell: freshness.Cell) -> tuple[str, int]:
        at = cell.start.astimezone(zone)
        if length < hour:
            return f"{at:%d %b %H}:00", round(at.minute * 60 / length.total_seconds())
        if length < day:
            seconds = (at.hour * 60 + at.minute) * 60
            return f"{at:%Y-%m-%d}", round(seconds / length.total_seconds())
        if length < 25 * day:
            return f"{at:%Y-%m}", int((at.day - 1) * day / max(length, day))
        return f"{at:%Y}", at.month - 1 if length < 300 * day else 0

    for name, group in groupby(cells, key=lambda cell: place(cell)[0]):
        inside = list(group)
        yield Line(name, place(inside[0])[1] if name == place(cells[0])[0] else 0, inside)


def stages(name: str, attempts: Sequence[Mapping[str, Any]]) -> Chart:
    """Return how long the newest runs took, by stage."""
    rows = []
    for row in attempts[:120]:
        seconds = words.parsed(row["seconds"], {})
        if row["state"] != "succeeded" or not seconds:
            continue
        rows += [
            {
                "attempt": row["attempt"],
                "interval": row["interval_start"],
                "stage": stage,
                "seconds": seconds[stage],
                "rows": row["rows_read"],
            }
            for stage in ("read", "score", "write")
            if stage in seconds
        ]
    rows.reverse()
    drawing = (
        charts.base()
        .mark("bar")
        .encode(
            x=channel("attempt:O", title="attempt", axis={"labelOverlap": True, "labelAngle": 0}),
            y=charts.value_axis("seconds", "seconds", of="figure"),
            color=channel("stage:N", sort=["read", "score", "write"]),
            tooltip=[
                "attempt:O",
                charts.moment_tip("interval", "interval"),
                "stage:N",
                channel("seconds:Q", format=",.3~g"),
                channel("rows:Q", format=","),
            ],
        )
    )
    return charts.chart(
        f"stages-{name}",
        "Seconds by stage",
        drawing,
        rows,
        says=f"How long each run of {name} read, scored and wrote.",
        height=150,
        note="Stages overlap, and scoring is summed over threads: they add up to more than the "
        "run took.",
        table={"attempt": "attempt", "interval": "interval", "stage": "stage", "seconds": "s"},
    )


PAGE = Page("runs", "Runs", "/runs", content)

"""The overview: every deployment at a glance, and what needs attention first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trivet.dashboard import charts, freshness, own, words
from trivet.dashboard.ask import Ask, Attention, Glance, Page, State, deployment_path
from trivet.errors import QueryError

_RECENT = 400
_DAYS = 30


@dataclass(frozen=True, slots=True)
class Card:
    """A deployment on the overview."""

    deployment: Mapping[str, Any]
    href: str
    state: State
    status: str
    when: dt.datetime | None
    glances: list[Glance]
    spark: Mapping[str, Any]
    spark_says: str
    next_due: dt.datetime | None = None


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows."""
    from trivet.dashboard.pages import PAGES  # noqa: PLC0415 - the pages tell of themselves here

    cards, attention = [], []
    for deployment in ask.deployments():
        card, troubles = (
            _batch(ask, deployment) if deployment["kind"] == "batch" else _log(ask, deployment)
        )
        cards.append(card)
        attention += troubles
    for page in PAGES:
        if page.glances:
            for name, glances in page.glances(ask).items():
                for card in cards:
                    if card.deployment["name"] == name:
                        card.glances.extend(glances)
        if page.attention:
            attention += page.attention(ask)
    order = {"bad": 0, "warn": 1}
    cards = [_warned(card, attention) for card in cards]
    attention.sort(key=lambda a: order.get(a.state, 2))
    return {"cards": cards, "attention": attention, "own": own.shown(ask, "")}


def _warned(card: Card, attention: list[Attention]) -> Card:
    """Return the card of a service or stream as what is wrong with it says."""
    name = card.deployment["name"]
    mine = [each for each in attention if each.deployment == name]
    if card.deployment["kind"] == "batch" or not mine:
        return card
    worst = next((each for each in mine if each.state == "bad"), mine[0])
    return replace(card, state=worst.state, status=worst.title)


def _batch(ask: Ask, deployment: Mapping[str, Any]) -> tuple[Card, list[Attention]]:
    name = deployment["name"]
    attempts = ask.source.rows("attempts", deployment=name, limit=_RECENT)
    line = freshness.timeline(deployment, attempts, ask.now, _RECENT)
    done, failed, missing = line.of("done"), line.of("failed"), line.of("missing")
    running = line.of("running")
    troubles = _troubles(ask, deployment, failed, missing, line)
    state, status = _standing(line)
    newest = done[-1] if done else None
    rows = [cell.rows for cell in line.cells[-_DAYS:]]
    glances = []
    if newest:
        share = newest.rejected / (newest.rows + newest.rejected or 1)
        glances = [
            Glance("newest interval", newest.label, "", "none", run_path(ask, newest.attempt)),
            Glance("rows in it", words.compact(newest.rows)),
            Glance(
                "rejects",
                words.percent(share),
                f"{words.number(newest.rejected)} rows" if newest.rejected else "",
                "none",
                ask.link("/rejects", deployment=name),
            ),
        ]
    last = max((a["ended_at"] or a["started_at"] for a in attempts), default=None)
    if running:
        status = f"running {running[-1].label}"
    return (
        Card(
            deployment,
            deployment_path(name),
            state,
            status,
            last,
            glances,
            charts.spark(rows),
            f"rows of the newest {len(rows)} intervals",
            line.next_due,
        ),
        troubles,
    )


def _standing(line: freshness.Timeline) -> tuple[State, str]:
    if not line.cells:
        return "none", "has not run yet"
    newest = line.cells[-1]
    if newest.outcome == "failed":
        return "bad", f"{newest.label} failed"
    if newest.outcome == "missing":
        late = words.length(line.late)
        return "warn", f"overdue for {late}"
    if line.of("failed"):
        return "warn", f"{_many(len(line.of('failed')), 'interval')} failed"
    if line.of("missing"):
        return "warn", f"{_many(len(line.of('missing')), 'interval')} missing"
    return "good", "up to date"


def _troubles(
    ask: Ask,
    deployment: Mapping[str, Any],
    failed: list[freshness.Cell],
    missing: list[freshness.Cell],
    line: freshness.Timeline,
) -> list[Attention]:
    name, found = deployment["name"], []
    if failed:
        newest = failed[-1]
        found.append(
            Attention(
                "bad",
                f"{newest.label} failed"
                if len(failed) == 1
                else f"{len(failed)} intervals failed, the newest is {newest.label}",
                newest.error,
                freshness.repair(name, [newest]),
                run_path(ask, newest.attempt),
                name,
                newest.end,
            )
        )
    if missing:
        first, last = missing[0], missing[-1]
        found.append(
            Attention(
                "warn",
                f"{first.label} is missing"
                if len(missing) == 1
                else f"{len(missing):,} intervals are missing, {first.label} to {last.label}",
                f"the newest has been due for {words.length(line.late)}",
                freshness.repair(name, missing),
                ask.link("/runs", deployment=name),
                name,
                last.end,
            )
        )
    return found


def _log(ask: Ask, deployment: Mapping[str, Any]) -> tuple[Card, list[Attention]]:
    """A service or a stream: its prediction log tells how it does."""
    name, table = deployment["name"], f"predictions_{deployment['view_name']}"
    newest, rejected = None, 0
    by_day: dict[str, int] = {}
    try:
        block = ask.source.first("last_blocks", table_name=table)["block"]
        place = f"({block},0)"
        found = ask.source.named_rows("newest_row", {"table": table}, place=place)
        newest = found[0]["scored_at"]
    except QueryError:  # registered, and nothing was logged yet
        pass
    days: list[str] = []
    if newest:
        since = (newest - dt.timedelta(days=_DAYS - 1)).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        until = newest + dt.timedelta(microseconds=1)
        for row in ask.source.rows("rows_by_hour", deployment=name, since=since, until=until):
            day = f"{row['hour']:%Y-%m-%d}"
            by_day[day] = by_day.get(day, 0) + row["n"]
        days = [f"{since + dt.timedelta(days=i):%Y-%m-%d}" for i in range(_DAYS)]
        last_day = newest - dt.timedelta(days=1)
        rejected = ask.source.first("log_rejects", deployment=name, since=last_day, until=until)[
            "n"
        ]
    today = by_day.get(f"{newest:%Y-%m-%d}", 0) if newest else 0
    glances = [
        Glance("rows that day", words.compact(today)),
        Glance(f"rows in {_DAYS} days", words.compact(sum(by_day.values()))),
        Glance(
            "rejects in a day",
            words.compact(rejected),
            "",
            "none",
            ask.link("/rejects", deployment=name),
        ),
    ]
    state: State = "good" if newest else "none"
    return (
        Card(
            deployment,
            deployment_path(name),
            state,
            ("answering" if deployment["kind"] == "service" else "scoring")
            if newest
            else "nothing logged yet",
            newest,
            glances,
            charts.spark([by_day.get(day, 0) for day in days]),
            f"rows a day over {_DAYS} days",
        ),
        [],
    )


def run_path(ask: Ask, attempt: int) -> str:
    """Return the address of a run."""
    return f"/runs/{attempt}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


PAGE = Page("overview", "Overview", "/", content)

"""Alerts: what is wrong now, what was, and what is too much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trivet.alerts.facts import gather
from trivet.alerts.rules import Alert, judge
from trivet.alerts.settings import Thresholds
from trivet.dashboard import words
from trivet.dashboard.ask import Ask, Attention, Page, State

_PAST = 100

TITLES = {
    "failed": "A run failed",
    "late": "Predictions are late",
    "missing": "Intervals are missing",
    "rejects": "Many rows are rejected",
    "drift": "Inputs or predictions have moved",
    "quality": "Predictions got worse",
    "lag": "The stream lags behind",
    "stopped": "Nobody consumes the stream",
}
_PLACES = {"rejects": "/rejects", "drift": "/drift", "quality": "/quality"}


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows."""
    past = ask.results("past_alerts", limit=_PAST)
    settings = ask.alerts
    limits = [
        (f"quality of {name}", f"{metric} {'above' if above else 'below'} {value:g}")
        for name, found in ask.limits.items()
        for metric, above, value in found
    ]
    rules = _rules(settings)
    limits += [
        (f"{kind} of {name}", text)
        for name, own in settings.deployments.items()
        for kind, text in _rules(own)
        if (kind, text) not in rules
    ]
    return {
        "attention": [_attention(ask, each) for each in _wrong(ask)],
        "past": past,
        "rules": rules,
        "limits": limits,
        "told": [
            *(["a webhook"] if settings.webhook else []),
            *([f"mail to {', '.join(settings.email)}"] if settings.email else []),
        ],
        "min_rows": settings.min_rows,
    }


def _rules(settings: Thresholds) -> list[tuple[str, str]]:
    """Return what is too much, in words, by kind of alert."""
    told = {
        "failed": settings.failed and "a run failed and its interval has no predictions",
        "late": settings.late and f"{words.length(settings.late)} after an interval was due",
        "rejects": settings.rejects and f"more than {words.percent(settings.rejects)} of the rows",
        "drift": settings.drift and f"PSI above {settings.drift:g}",
        "quality": settings.quality and f"the error {settings.quality:.0%} above training",
        "lag": settings.lag
        and f"{words.length(settings.lag)} after the event, or without a step while events wait",
        "stopped": settings.stopped and f"no consumer for {words.length(settings.stopped)}",
    }
    return [(kind, text or "off") for kind, text in told.items()]


def attention(ask: Ask) -> list[Attention]:
    """Return what needs a look beside the runs, of which the overview tells itself."""
    runs = ("failed", "late", "missing")
    return [_attention(ask, each) for each in _wrong(ask) if each.kind not in runs]


def _wrong(ask: Ask) -> list[Alert]:
    facts = gather(ask.results, ask.limits, ask.now)
    return [alert for each in facts for alert in judge(each, ask.alerts.of(each.name), ask.now)]


def _attention(ask: Ask, alert: Alert) -> Attention:
    state: State = "bad" if alert.kind in ("failed", "quality", "late", "stopped") else "warn"
    place = _PLACES.get(alert.kind)
    href = ask.link(place, deployment=alert.deployment) if place else ""
    if alert.kind in ("failed", "late", "missing"):
        href = ask.link("/runs", deployment=alert.deployment)
    return Attention(state, TITLES[alert.kind], alert.message, "", href, alert.deployment)


PAGE = Page("alerts", "Alerts", "/alerts", content, attention=attention)

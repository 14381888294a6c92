"""What is wrong, judged from facts: pure functions, the clock passed in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trivet.alerts.settings import Thresholds
from trivet.monitoring.drift import Drift
from trivet.monitoring.quality import HIGHER_IS_BETTER
from trivet.results.offsets import Standing

MAIN_METRICS = ("mae", "rmse", "roc_auc", "accuracy", "log_loss")
"""The measure that is held against that of the training: the first that both have."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that is wrong.

    Attributes:
        deployment: Where.
        kind: ``failed``, ``late``, ``missing``, ``rejects``, ``drift``, ``quality``, ``lag`` or
            ``stopped``.
        message: In words, with what to do.
        subject: What tells it from others of its kind, such as the metric.
        value: What was measured.
        threshold: What it passed.
    """

    deployment: str
    kind: str
    message: str
    subject: str = ""
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """A column's drift in the newest period."""

    side: str
    column: str
    drift: Drift


@dataclass(frozen=True, slots=True)
class Facts:
    """What the results tell of a deployment.

    Attributes:
        name: The deployment.
        period: The newest period that has predictions, in words.
        failed: Intervals without predictions whose run failed, the oldest first, in words.
        error: Why the newest of them failed.
        due: The newest interval that should have predictions by now, and since when; None if it
            has, or none is due.
        missing: Intervals without predictions between others that have them, the oldest first.
        latest: The newest interval that has predictions, in words.
        rows: Rows of the newest period, rejected ones too.
        rejected: Rejected rows of it.
        moved: Drift of each column in it.
        metrics: Measures of the newest period that has true values.
        measured: That period, in words.
        measured_rows: Its rows with a true value.
        trained: Measures that the manifest tells.
        limits: Limits of measures: metric, whether above is bad, and the value.
        lag: How long after their events the newest predictions came.
        topic: What a stream consumes.
        consumers: How its partitions are; empty if nobody has told.
    """

    name: str
    period: str = ""
    failed: Sequence[str] = ()
    error: str = ""
    due: tuple[str, dt.datetime] | None = None
    missing: Sequence[str] = ()
    latest: str = ""
    rows: int = 0
    rejected: int = 0
    moved: Sequence[Moved] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    measured: str = ""
    measured_rows: int = 0
    trained: Mapping[str, float] = field(default_factory=dict)
    limits: Sequence[tuple[str, bool, float]] = ()
    lag: dt.timedelta | None = None
    topic: str = ""
    consumers: Sequence[Standing] = ()


def judge(facts: Facts, settings: Thresholds, now: dt.datetime) -> list[Alert]:
    """Return what is wrong with a deployment."""
    return [
        *_runs(facts, settings, now),
        *_rejects(facts, settings),
        *_drift(facts, settings),
        *_quality(facts, settings),
        *_lag(facts, settings, now),
        *_stopped(facts, settings, now),
    ]


def grown(metric: str, value: float, trained: float) -> float:
    """Return by which share the error is larger than in training; NaN if that cannot be told."""
    if metric in HIGHER_IS_BETTER:
        value, trained = 1 - value, 1 - trained
    return value / trained - 1 if trained > 0 else float("nan")


def main_metric(metrics: Mapping[str, float], trained: Mapping[str, float]) -> str | None:
    """Return the measure that is held against that of the training."""
    return next((name for name in MAIN_METRICS if name in metrics and name in trained), None)


def _runs(facts: Facts, settings: Thresholds, now: dt.datetime) -> Iterator[Alert]:
    name = facts.name
    if settings.failed and facts.failed:
        newest, count = facts.failed[-1], len(facts.failed)
        more = f" ({count} intervals in all)" if count > 1 else ""
        yield Alert(
            name,
            "failed",
            f"{newest} failed{more}: {_short(facts.error)}; then: trivet score {name} "
            f"--interval {newest}",
            value=float(count),
        )
    if settings.late and facts.due and facts.due[1] + settings.late <= now:
        interval, since = facts.due
        latest = f"the newest is {facts.latest}" if facts.latest else "there are none yet"
        yield Alert(
            name,
            "late",
            f"{interval} has no predictions, it was due at {since:%Y-%m-%d %H:%M} UTC; {latest}; "
            f"does trivet schedule run?",
            value=(now - since).total_seconds(),
            threshold=settings.late.total_seconds(),
        )
    if settings.late and facts.missing:
        first, last, count = facts.missing[0], facts.missing[-1], len(facts.missing)
        which = first if count == 1 else f"{count} intervals from {first} to {last}"
        yield Alert(
            name,
            "missing",
            f"{which} have no predictions: trivet backfill {name} --from {first} --to {last}"
            if count > 1
            else f"{which} has no predictions: trivet score {name} --interval {first}",
            value=float(count),
        )


def _rejects(facts: Facts, settings: Thresholds) -> Iterator[Alert]:
    if not settings.rejects or facts.rows < max(settings.min_rows, 1):
        return
    share = facts.rejected / facts.rows
    if share > settings.rejects:
        yield Alert(
            facts.name,
            "rejects",
            f"{facts.period}: {facts.rejected:,} of {facts.rows:,} rows were rejected "
            f"({share:.1%}, threshold {settings.rejects:.1%}); see: trivet rejects {facts.name}",
            value=share,
            threshold=settings.rejects,
        )


def _drift(facts: Facts, settings: Thresholds) -> Iterator[Alert]:
    if not settings.drift:
        return
    moved = [
        each
        for each in facts.moved
        if each.drift.psi > settings.drift
        and each.drift.is_certain
        and each.drift.rows >= settings.min_rows
    ]
    if moved:
        moved.sort(key=lambda each: -each.drift.psi)
        names = ", ".join(f"{m.side} {m.column} {m.drift.psi:.2f}" for m in moved[:3])
        more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
        yield Alert(
            facts.name,
            "drift",
            f"{facts.period}: PSI against the training sample above {settings.drift:g}: "
            f"{names}{more}",
            value=moved[0].drift.psi,
            threshold=settings.drift,
        )


def _quality(facts: Facts, settings: Thresholds) -> Iterator[Alert]:
    if facts.measured_rows < max(settings.min_rows, 1):
        return
    for metric, above, limit in facts.limits:
        value = facts.metrics.get(metric, float("nan"))
        if value > limit if above else value < limit:
            yield Alert(
                facts.name,
                "quality",
                f"{facts.measured}: {metric} is {value:.4g}, {'above' if above else 'below'} its "
                f"limit {limit:g} ({facts.measured_rows:,} true values)",
                metric,
                value,
                limit,
            )
    main = main_metric(facts.metrics, facts.trained)
    limited = {name for name, _, _ in facts.limits}
    if not settings.quality or main is None or main in limited:
        return
    share = grown(main, facts.metrics[main], facts.trained[main])
    if share > settings.quality:
        yield Alert(
            facts.name,
            "quality",
            f"{facts.measured}: {main} is {facts.metrics[main]:.4g}, it was "
            f"{facts.trained[main]:.4g} in training: the error has grown by {share:.0%} "
            f"(threshold {settings.quality:.0%}, {facts.measured_rows:,} true values)",
            main,
            facts.metrics[main],
            facts.trained[main],
        )


def _lag(facts: Facts, settings: Thresholds, now: dt.datetime) -> Iterator[Alert]:
    if not settings.lag:
        return
    stalled = [
        each
        for each in facts.consumers
        if each.waiting and not _is_gone(each, settings, now) and now - each.moved_at > settings.lag
    ]
    threshold = settings.lag.total_seconds()
    if stalled:
        since = min(each.moved_at for each in stalled)
        waiting = sum(each.waiting for each in stalled)
        yield Alert(
            facts.name,
            "lag",
            f"{_partitions(stalled)} of {facts.topic} {_have(stalled)} not moved since "
            f"{since:%Y-%m-%d %H:%M} UTC, {_events(waiting)} waiting; see the log of its consumer",
            value=(now - since).total_seconds(),
            threshold=threshold,
        )
    elif facts.lag is not None and facts.lag > settings.lag:
        yield Alert(
            facts.name,
            "lag",
            f"predictions come {facts.lag.total_seconds():,.0f} s after their events "
            f"(threshold {threshold:,.0f} s); is there a consumer too few?",
            value=facts.lag.total_seconds(),
            threshold=threshold,
        )


def _stopped(facts: Facts, settings: Thresholds, now: dt.datetime) -> Iterator[Alert]:
    """Tell of partitions that were consumed and are no more, whether events come or not."""
    gone = [each for each in facts.consumers if _is_gone(each, settings, now)]
    if not gone:
        return
    since = max(each.seen_at for each in gone)
    waiting = sum(each.waiting for each in gone)
    waited = f", with {_events(waiting)} waiting" if waiting else ""
    yield Alert(
        facts.name,
        "stopped",
        f"nobody has consumed {_partitions(gone)} of {facts.topic} since {since:%Y-%m-%d %H:%M} "
        f"UTC{waited}; run: trivet consume {facts.name}",
        value=(now - since).total_seconds(),
        threshold=settings.stopped.total_seconds(),
    )


def _is_gone(standing: Standing, settings: Thresholds, now: dt.datetime) -> bool:
    return bool(settings.stopped) and now - standing.seen_at > settings.stopped


def _have(found: Sequence[Standing]) -> str:
    return "have" if len(found) > 1 else "has"


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _partitions(found: Sequence[Standing]) -> str:
    numbers = ", ".join(str(each.partition) for each in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"partition{'s' if len(found) > 1 else ''} {numbers}{more}"


def _short(text: str) -> str:
    line = text.splitlines()[0] if text else "no reason is known"
    return line if len(line) <= 200 else line[:199] + "…"

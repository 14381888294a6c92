"""Beside the scheduler: true values pulled, the quality measured, alerts told."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trivet.alerts.channels import Channel
from trivet.alerts.facts import Limits
from trivet.alerts.look import look, tell
from trivet.alerts.settings import AlertSettings
from trivet.databases import Connection
from trivet.errors import TrivetError
from trivet.results.actuals_settings import ActualsSettings
from trivet.results.layout import open_results
from trivet.results.measuring import pull_and_measure

log = logging.getLogger("trivet.watch")

ROUND_SECONDS = 60.0
"""How long after a round the next one begins."""

_POLL_SECONDS = 0.2


@dataclass(slots=True)
class Watch:
    """Pulls true values and tells of alerts, round after round.

    Attributes:
        root: The project's folder.
        results: Url of the results database.
        actuals: What to pull.
        alerts: ``[alerts]``.
        limits: Limits of measures by deployment.
        channels: What tells of an alert.
        stop: Set when the process was asked to end.
        clock: Tells the time, in UTC.
    """

    root: Path
    results: str
    actuals: Sequence[ActualsSettings]
    alerts: AlertSettings
    limits: Limits
    channels: Sequence[Channel]
    stop: threading.Event
    clock: Callable[[], dt.datetime]
    _due: dict[str, dt.datetime] = field(default_factory=dict)
    _woken: threading.Event = field(default_factory=threading.Event)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to pull or anybody to tell."""
        return bool(self.actuals or self.channels)

    def wake(self, deployment: str) -> None:
        """Have a deployment that published looked after in the next round, which begins now."""
        for each in self.actuals:
            if each.of == deployment:
                self._due.pop(each.name, None)
        self._woken.set()

    def round(self) -> bool:
        """Do what is due; return False if some of it failed."""
        fine = True
        try:
            with open_results(self.results, root=self.root) as db:
                for settings in self.actuals:
                    if not self.stop.is_set():
                        fine = self._pull(db, settings) and fine
                if self.channels and not self.stop.is_set():
                    now = self.clock()
                    found = look(db, self.alerts, self.limits, now)
                    fine = not tell(db, found, self.channels, now)[1] and fine
        except TrivetError as error:
            log.warning("%s; looking again soon", error)
            fine = False
        return fine

    def follow(self) -> None:
        """Do round after round until told to stop."""
        while not self.stop.is_set():
            self._woken.clear()
            self.round()
            until = time.monotonic() + ROUND_SECONDS
            while not self.stop.is_set() and time.monotonic() < until:
                if self._woken.wait(_POLL_SECONDS):
                    break

    def _pull(self, db: Connection, settings: ActualsSettings) -> bool:
        now = self.clock()
        if now < self._due.get(settings.name, now):
            return True
        self._due[settings.name] = now + settings.every
        try:
            done = pull_and_measure(db, settings, root=self.root, now=now, stop=self.stop.is_set)
        except TrivetError as error:
            log.warning("%s; pulling again in %s", error, settings.every)
            return False
        if done.rows or done.periods:
            log.info(
                "%s: %d true value%s pulled, %d period%s measured",
                settings.name,
                done.rows,
                "s"[done.rows == 1 :],
                done.periods,
                "s"[done.periods == 1 :],
            )
        return True


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Have a watch follow for as long as the block runs; then it is told to stop."""
    if not watch.has_work:
        yield
        return
    thread = threading.Thread(target=watch.follow, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.stop.set()
        thread.join()

"""Actions beside the scheduler: each acts on what is published, and sends what is due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from trivet.actions.action import Action
from trivet.errors import RunStopped, TrivetError

log = logging.getLogger("trivet.actions")

LONGEST_SLEEP = 60.0
"""Seconds within which an interval that another process has published is noticed."""

_POLL_SECONDS = 0.2


class Follower:
    """One action's part of the schedule."""

    def __init__(self, action: Action, stop: threading.Event) -> None:
        self._action = action
        self._stop = stop
        self._wake = threading.Event()

    @property
    def after(self) -> str:
        """The deployment that it follows."""
        return self._action.settings.after

    def wake(self) -> None:
        """Have it look now."""
        self._wake.set()

    def look(self) -> bool:
        """Act on what is due and deliver; return False if that failed.

        Raises:
            RunStopped: The process was asked to end.
        """
        action, fine = self._action, True
        try:
            action.register()
            for interval in action.due():
                action.decide(interval, cause="schedule")
            tally = action.deliver()
            fine = not tally.down
        except RunStopped:
            raise
        except TrivetError as error:
            log.warning("%s: %s; looking again soon", action.settings.name, error)
            fine = False
        return fine

    def follow(self) -> None:
        """Look again and again until told to stop."""
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.look()
            except RunStopped:
                return
            self._sleep()

    def _sleep(self) -> None:
        try:
            due = self._action.seconds_until_next()
        except TrivetError:
            due = None
        longest = LONGEST_SLEEP if due is None else min(LONGEST_SLEEP, max(due, 1.0))
        until = time.monotonic() + longest
        while not self._stop.is_set() and time.monotonic() < until:
            if self._wake.wait(_POLL_SECONDS):
                return


@contextmanager
def following(followers: Sequence[Follower], stop: threading.Event) -> Iterator[None]:
    """Have actions follow for as long as the block runs; then they are told to stop."""
    if not followers:
        yield
        return
    with ThreadPoolExecutor(len(followers), "action") as pool:
        running = [pool.submit(each.follow) for each in followers]
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()

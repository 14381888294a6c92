"""The two threads behind the one that polls: one scores, one keeps what was scored."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress

from trivet.errors import BrokerUnavailable, DatabaseError, MembershipLost, TransientError
from trivet.hosts.stream.intake import Intake
from trivet.hosts.stream.metrics import Metrics
from trivet.hosts.stream.scoring import Scored, Scorer
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.sinks import Sink

RETRY_SECONDS = (0.1, 10.0)
"""The shortest and the longest wait before a sink that failed is tried again."""

TELL_SECONDS = 10.0

BEAT_SECONDS = 15.0
"""How often the results are told that the partitions are consumed."""

log = logging.getLogger("trivet.stream")


class Pipeline:
    """Scores and keeps what comes into an intake, in order, a batch of each at a time.

    Args:
        settings: The deployment.
        intake: Where events come from.
        scorer: Scores them.
        sink: Keeps what was scored.
        metrics: Counts batches.

    Attributes:
        failure: Why it has ended before its time.
    """

    def __init__(
        self,
        settings: StreamSettings,
        intake: Intake,
        scorer: Scorer,
        sink: Sink,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._scorer = scorer
        self._sink = sink
        self._metrics = metrics
        self._scored: queue.Queue[Scored | None] = queue.Queue(1)
        self._given_up = threading.Event()
        self._told = float("-inf")
        self._next_beat = 0.0
        self.failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._score, name="stream-score", daemon=True),
            threading.Thread(target=self._keep, name="stream-keep", daemon=True),
        ]

    @property
    def is_alive(self) -> bool:
        """Whether something is still being scored or kept."""
        return any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def give_up(self) -> None:
        """Keep nothing any more that a sink does not take at once."""
        self._given_up.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end of what is under way; say whether it came."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not self.is_alive

    def _score(self) -> None:
        wait = self._settings.max_wait.total_seconds()
        try:
            while (batch := self._intake.take(self._settings.max_batch, wait)) is not None:
                if not batch.chunks:
                    continue
                if batch.generation != self._intake.generation:
                    self._intake.done(batch, kept=False)
                    continue
                scored = self._scorer.score(batch)
                self._metrics.batch(batch.count, scored.seconds)
                self._scored.put(scored)
        except Exception as error:  # noqa: BLE001 - the thread that polls raises it
            self._fail(error)
        finally:
            self._scored.put(None)

    def _keep(self) -> None:
        while (scored := self._next()) is not None:
            kept = False
            try:
                # After a failure what was scored goes nowhere: a later batch must not overtake.
                current = scored.batch.generation == self._intake.generation
                if current and self.failure is None:
                    kept = self._kept(scored)
            except MembershipLost as lost:
                log.info("%s; its events are left to it", lost)
                self._intake.reset()
            except Exception as error:  # noqa: BLE001 - see above
                self._fail(error)
            finally:
                self._intake.done(scored.batch, kept=kept)
        self._sink.close()

    def _next(self) -> Scored | None:
        """Wait for what was scored; now and then tell meanwhile how the partitions are."""
        while True:
            due = self._next_beat - time.monotonic()
            if due > 0:
                with suppress(queue.Empty):
                    return self._scored.get(timeout=due)
            standings = self._intake.standings
            self._next_beat = time.monotonic() + (BEAT_SECONDS if standings else 1.0)
            try:
                self._sink.tell(standings)
            except DatabaseError as error:  # the next batch waits for it, if it goes on
                self._tell(error)

    def _kept(self, scored: Scored) -> bool:
        """Have a batch kept, however long the sink is away; False if told to give up."""
        wait = RETRY_SECONDS[0]
        while True:
            try:
                self._sink.write(scored)
            except (TransientError, BrokerUnavailable) as error:
                what = "results" if isinstance(error, TransientError) else "broker"
                self._metrics.retry(what)
                self._tell(error)
            else:
                return True
            if self._given_up.wait(wait):
                self._fail(None)
                return False
            wait = min(2 * wait, RETRY_SECONDS[1])

    def _tell(self, error: Exception) -> None:
        """Log a trouble that goes on, now and then only."""
        now = time.monotonic()
        if now - self._told > TELL_SECONDS:
            self._told = now
            log.error("%s waits: %s", self._settings.name, error)

    def _fail(self, error: Exception | None) -> None:
        if self.failure is None:
            self.failure = error or _GivenUp()
        self._intake.close()
        self._intake.drop()


class _GivenUp(Exception):
    """The sink was still away when there was no more time: what is under way is read again."""


def is_loss(failure: Exception | None) -> bool:
    """Say whether a pipeline's failure is one to be told."""
    return failure is not None and not isinstance(failure, _GivenUp)

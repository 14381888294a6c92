"""Load: rides through the backend, evenly, while everything runs; then each prediction is counted.

    trivet up                                   # in another terminal
    python load.py --rate 200 --seconds 300

It drives the fleet, looks now and then how far each consumer is behind, waits until all of them
are done, and holds the results against the rides: of each ride each prediction, exactly once. The
exit code says whether that is so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fleet import TOKEN, Fleet, drive, session, trips_of
from rides import between, month, read

from trivet import brokers, databases
from trivet.brokers.base import Broker
from trivet.errors import BrokerError
from trivet.settings import Project, load_project

HERE = Path(__file__).parent
SERVICE = ("service_trip_duration", "service_fare")
STREAMS = ("better_duration", "tip", "final_cost")
VIEWS = (*SERVICE, *STREAMS)
GROUPS = {
    "better-duration": "rides",
    "tip": "rides",
    "final-cost": "rides",
    "backend": "answers",
}
"""Who reads which topic."""

LOOK = 2.0
PATIENCE = 120.0
LOG_PATIENCE = 5.0
COUNT = (
    "SELECT count(*) AS n, count(DISTINCT ride_id) AS rides FROM {view} WHERE ride_id LIKE $some"
)


@dataclass
class Outcome:
    """What came of a load.

    Attributes:
        rides: Rides that were acknowledged.
        ended: Of these, those whose end was acknowledged.
        lost: Requests given up.
        retries: Requests that had to be repeated.
        fallbacks: First estimates that were not the models'.
        p50_ms: The median time of an answer.
        p99_ms: The time that one answer in a hundred took longer than.
        seconds: How long the load took.
        behind: By consumer, the most events that it was ever behind.
        predictions: By view, rows and rides in the results.
    """

    rides: int
    ended: int
    lost: int
    retries: int
    fallbacks: int
    p50_ms: float
    p99_ms: float
    seconds: float
    behind: dict[str, int]
    predictions: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether each ride has each prediction once; a fallback may have been predicted too."""
        asked = self.rides - self.fallbacks
        logged = (self.predictions[view] for view in SERVICE)
        return self.streams_count and all(
            rows == rides and asked <= rows <= self.rides for rows, rides in logged
        )

    @property
    def streams_count(self) -> bool:
        """Whether each ride has each prediction of the streams once."""
        return all(self.predictions[view] == (self.rides, self.rides) for view in STREAMS)


class Watch:
    """Looks how far the consumers are behind, in a thread of its own."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag")
        self.behind = dict.fromkeys(GROUPS, 0)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        project = self._project
        with closing(brokers.connect(project.broker.url, project.file.parent)) as broker:
            while not self._over.wait(LOOK):
                with suppress(BrokerError):  # it may be away for a while
                    self._look(broker)

    def _look(self, broker: Broker) -> None:
        for group, topic in GROUPS.items():
            behind = sum(lag.events for lag in broker.lag(topic, group))
            self.behind[group] = max(self.behind[group], behind)


async def load(
    project: Project, backend: str, token: str, rate: float, seconds: float, prefix: str
) -> Outcome:
    """Drive rides, wait for the consumers, and count."""
    trips = between(read(), month("2019-07"), month("2020-07"))
    began = time.monotonic()
    with Watch(project) as watch:
        async with session(token) as client:
            fleet = Fleet(client, backend, prefix)
            await drive(fleet, trips_of(trips, round(rate * seconds)), 0.0, rate)
    took = time.monotonic() - began
    tally = fleet.tally
    outcome = Outcome(
        tally.requested,
        tally.ended,
        tally.lost,
        tally.retries,
        tally.fallbacks,
        round(1000 * tally.at(0.5), 1),
        round(1000 * tally.at(0.99), 1),
        round(took, 1),
        watch.behind,
    )
    deadline = time.monotonic() + PATIENCE
    with closing(databases.connect(project.results.url, root=project.file.parent)) as results:
        while True:
            outcome.predictions = {view: _count(results, view, prefix) for view in VIEWS}
            if outcome.counts or time.monotonic() > deadline:
                return outcome
            if outcome.streams_count:  # only the service's log is late, or was killed
                deadline = min(deadline, time.monotonic() + LOG_PATIENCE)
            await asyncio.sleep(0.5)


def _count(results: databases.Connection, view: str, prefix: str) -> tuple[int, int]:
    found = results.rows(COUNT.format(view=view), some=f"{prefix}-%").to_pylist()[0]
    return found["n"], found["rides"]


def told(outcome: Outcome) -> str:
    """Return what came of it, for people."""
    lines = [
        f"{outcome.rides:,} rides in {outcome.seconds:.0f} s, {outcome.ended:,} ended, "
        f"{outcome.fallbacks:,} with a fallback, {outcome.retries:,} requests repeated, "
        f"{outcome.lost:,} given up",
        f"answered in {outcome.p50_ms:.0f} ms (p50), {outcome.p99_ms:.0f} ms (p99)",
        "most events behind: " + ", ".join(f"{k} {v:,}" for k, v in outcome.behind.items()),
    ]
    for view, (rows, rides) in outcome.predictions.items():
        lines.append(f"{view:<22}{rows:>9,} predictions of {rides:,} rides")
    return "\n".join(lines)


def main() -> int:
    """Run the script; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", default="http://127.0.0.1:8000")
    parser.add_argument("--project", type=Path, default=HERE, help="folder of the trivet.toml")
    parser.add_argument("--rate", type=float, default=200.0, help="rides a second")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--prefix", default=f"load{int(time.time()):x}", help="of the rides' ids")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    outcome = asyncio.run(
        load(
            load_project(chosen.project),
            chosen.backend,
            TOKEN.read_text(encoding="ascii").strip(),
            chosen.rate,
            chosen.seconds,
            chosen.prefix,
        )
    )
    print(json.dumps(asdict(outcome)) if chosen.json else told(outcome))
    whole = outcome.rides == outcome.ended == round(chosen.rate * chosen.seconds)
    return 0 if whole and outcome.counts else 1


if __name__ == "__main__":
    raise SystemExit(main())

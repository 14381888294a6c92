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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet import TOKEN, Fleet, Tally, drive, session, trips_of
from rides import between, month, read

from trivet import brokers, databases
from trivet.brokers.base import Broker
from trivet.errors import BrokerError, TransientError
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
        tally: What the fleet counted.
        seconds: How long the load took.
        behind: By consumer, the most events that it was ever behind.
        predictions: By view, rows and rides in the results.
    """

    tally: Tally
    seconds: float
    behind: dict[str, int]
    predictions: dict[str, tuple[int, int]] = field(
        default_factory=lambda: dict.fromkeys(VIEWS, (0, 0))
    )

    @property
    def counts(self) -> bool:
        """Whether each ride has each prediction once; a fallback may have been predicted too."""
        rides, asked = self.tally.requested, self.tally.requested - self.tally.fallbacks
        logged = (self.predictions[view] for view in SERVICE)
        return self.streams_count and all(
            rows == predicted and asked <= rows <= rides for rows, predicted in logged
        )

    @property
    def streams_count(self) -> bool:
        """Whether each ride has each prediction of the streams once."""
        rides = self.tally.requested
        return all(self.predictions[view] == (rides, rides) for view in STREAMS)

    def told(self) -> dict[str, Any]:
        """Return the figures."""
        more = {name: value for name, value in vars(self).items() if name != "tally"}
        return self.tally.told() | more

    def __str__(self) -> str:
        lines = [
            f"{self.tally}, in {self.seconds:.0f} s",
            "most events behind: " + ", ".join(f"{k} {v:,}" for k, v in self.behind.items()),
        ]
        for view, (rows, rides) in self.predictions.items():
            lines.append(f"{view:<22}{rows:>9,} predictions of {rides:,} rides")
        return "\n".join(lines)


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
    outcome = Outcome(fleet.tally, round(took, 1), watch.behind)
    await count(outcome, project, prefix)
    return outcome


async def count(outcome: Outcome, project: Project, prefix: str) -> None:
    """Count the predictions until each is there, or it has taken too long."""
    deadline = time.monotonic() + PATIENCE
    while not outcome.counts and time.monotonic() < deadline:
        with suppress(TransientError):  # it may be away for a while
            outcome.predictions = _counted(project, prefix)
        if outcome.streams_count:  # only the service's log is late, or was killed
            deadline = min(deadline, time.monotonic() + LOG_PATIENCE)
        await asyncio.sleep(0.5)


def _counted(project: Project, prefix: str) -> dict[str, tuple[int, int]]:
    found = {}
    with closing(databases.connect(project.results.url, root=project.file.parent)) as results:
        for view in VIEWS:
            row = results.rows(COUNT.format(view=view), some=f"{prefix}-%").to_pylist()[0]
            found[view] = row["n"], row["rides"]
    return found


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
    print(json.dumps(outcome.told()) if chosen.json else outcome)
    whole = outcome.tally.requested == outcome.tally.ended == round(chosen.rate * chosen.seconds)
    return 0 if whole and outcome.counts else 1


if __name__ == "__main__":
    raise SystemExit(main())

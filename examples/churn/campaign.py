"""Live through ninety days of the campaign, a day at a time, and say whether it helped.

    python campaign.py

Every simulated night the scheduler does what it would do: it scores all customers of the day that
is over, and the action sends its offers; the company's simulator lets them arrive in the morning.
At the end the truth is pulled, and what the dashboard says of the campaign is held against what
the simulator knows. Then the dashboard is served.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from simulator import Company
from train_churn import train

from trivet.actions.following import Follower
from trivet.cli import wiring
from trivet.hosts.batch.scheduler import run_schedule
from trivet.settings import load_project

HERE = Path(__file__).parent
BEFORE, DAYS, HORIZON = 180, 90, 30


@dataclass(frozen=True)
class Verdict:
    """What the dashboard says of the campaign, and what is true.

    Attributes:
        uplift: By how much fewer of the treated left than of the held-out.
        low: Where its 95 % interval begins.
        high: Where it ends.
        true: What the simulator knows.
        treated: Of how many treated.
        control: Against how many held out.
    """

    uplift: float
    low: float
    high: float
    true: float
    treated: int
    control: int


class Nights:
    """The scheduler of the project, on a clock that the simulation moves."""

    def __init__(self, root: Path) -> None:
        project = load_project(root)
        stop = threading.Event()
        self._now = dt.datetime.now(dt.UTC)
        job = wiring.job_of(project, "churn-daily", stop, lambda _: None)
        action = wiring.action_of(project, "retention-offer", stop)
        self._stop = stop
        self._job = dataclasses.replace(
            job, around=dataclasses.replace(job.around, clock=self.clock)
        )
        self._follower = Follower(
            dataclasses.replace(
                action, around=dataclasses.replace(action.around, clock=self.clock)
            ),
            stop,
        )

    def clock(self) -> dt.datetime:
        """Tell the time of the simulation."""
        return self._now

    def night(self, day: dt.date) -> None:
        """Do what is due an hour after a day is over."""
        midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
        self._now = midnight + dt.timedelta(days=1, hours=1)
        self._job.register()
        failed = run_schedule([self._job], since=self._now, stop=self._stop, once=True)
        if failed or not self._follower.look():
            raise SystemExit(f"{day}: the night's work failed; see: trivet runs churn-daily")


def campaign(root: Path, last: dt.date, days: int = DAYS, seed: int = 1) -> Verdict:
    """Live through the days up to the last, pull the truth, and say whether it helped."""
    company = live(root, last, days, seed)
    first, known = last - dt.timedelta(days=days - 1), last - dt.timedelta(days=HORIZON)
    say(f"pulling the truth of {first} to {known}: trivet actuals churn-daily")
    pull = ["actuals", "churn-daily", "--from", str(first), "--to", str(known)]
    subprocess.run([sys.executable, "-m", "trivet", "--file", str(root), *pull], check=True)
    true, _ = company.true_effect(last + dt.timedelta(days=1))
    company.close()
    return verdict(root, true)


def live(root: Path, last: dt.date, days: int, seed: int = 1) -> Company:
    """Make a history, train, and live through the days up to the last; leave it all in a folder."""
    began = time.perf_counter()
    data = root / "data"
    for left in (*data.glob("*.db*"), data / "offers", root / "models"):
        if left.is_dir():
            shutil.rmtree(left)
        elif left.exists():
            left.unlink()
    data.mkdir(parents=True, exist_ok=True)
    first = last - dt.timedelta(days=days - 1)
    say(f"a company with {BEFORE} days of history, up to {first}")
    company = Company(data / "company.db", first - dt.timedelta(days=BEFORE), seed)
    company.advance(BEFORE)
    say("training on it")
    train(data / "company.db", root / "models", "1", first)
    say(f"{days} nights: trivet schedule scores everybody, the offers are sent, and arrive")
    nights, seen = Nights(root), set[str]()
    for number in range(days):
        day = first + dt.timedelta(days=number)
        company.advance()
        nights.night(day)
        offers = {}
        for path in (data / "offers").glob("*.json"):
            if path.name not in seen:
                seen.add(path.name)
                offer = json.loads(path.read_bytes())
                offers[offer["id"]] = int(offer["key"]["customer_id"])
        company.offer(list(offers.items()))
        if number % 10 == 9:
            print(f"  {day}  {len(seen):,} offers so far, {time.perf_counter() - began:.0f} s")
    return company


def verdict(root: Path, true: float) -> Verdict:
    """Ask what the dashboard asks, and put the truth beside it."""
    query = (root / "sql" / "charts" / "effect.sql").read_text(encoding="utf-8")
    with sqlite3.connect(root / "data" / "results.db") as results:
        _, uplift, low, high, treated, control, *_ = results.execute(query).fetchone()
    return Verdict(uplift, low, high, true, treated, control)


def say(what: str) -> None:
    """Say what comes now."""
    print(f"\n▸ {what}", flush=True)


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--last",
        type=dt.date.fromisoformat,
        default=dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1),
        help="the last day; by default yesterday",
    )
    parser.add_argument("--no-dashboard", action="store_true", help="end when all is told")
    arguments = parser.parse_args()
    began = time.perf_counter()
    found = campaign(HERE, arguments.last, arguments.days, arguments.seed)
    inside = "inside" if found.low <= found.true <= found.high else "OUTSIDE"
    print(
        f"\nOf {found.treated:,} treated customers {100 * found.uplift:.1f} points fewer left "
        f"within thirty days than of {found.control:,}\nheld out (95 % interval "
        f"{100 * found.low:.1f} to {100 * found.high:.1f}). The simulator's true effect is "
        f"{100 * found.true:.1f} points: {inside} the interval.\n"
        f"Done in {time.perf_counter() - began:.0f} s.",
        flush=True,
    )
    if not arguments.no_dashboard:
        say("the dashboard (Ctrl-C ends it)")
        command = [sys.executable, "-m", "trivet", "--file", str(HERE), "dashboard"]
        raise SystemExit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()

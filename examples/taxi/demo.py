"""The demo: everything of the taxi company at once, driven, checked and told.

    python demo.py           # some minutes, then it stops; its exit code says if all is well
    python demo.py --live    # the same, and it stays up until Ctrl-C

It trains the models if they are not there, starts `trivet up`, scores a year of real rides month by
month, drives a hundred rides through the backend, and holds each part against what it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
DATA = HERE / "data"
FIRST, LAST = "2019-07", "2020-06"
RIDES = 100
PATIENCE = 120.0
MODELS = ("trip-duration", "fare", "better-duration", "tip", "final-cost")
BACKEND, SERVICE, DASHBOARD = (f"http://127.0.0.1:{port}" for port in (8000, 8080, 8090))

MONTHS = """
SELECT strftime('%Y-%m', p.interval_start), count(*),
       avg(abs(p.duration_minutes - t.minutes)), avg(p.duration_minutes - t.minutes)
FROM trip_duration AS p
JOIN (
    SELECT trip_id, (unixepoch(dropoff_at) - unixepoch(pickup_at)) / 60.0 AS minutes
    FROM source.trips
) AS t USING (trip_id)
WHERE t.minutes BETWEEN 1 AND 60
GROUP BY 1 ORDER BY 1
"""
REJECTED = "SELECT sum(r.rows_rejected) FROM trivet_published JOIN trivet_runs r USING (attempt)"

# The first duration that the passenger was told, that the service logged, that the event carried,
# and that the batch run gave for the trip that the ride replays: equal to the last bit.
SAME = """
SELECT count(*)
FROM rides.rides AS told
JOIN service_trip_duration AS logged USING (ride_id)
JOIN better_duration AS event USING (ride_id)
JOIN trip_duration AS batch ON batch.trip_id = CAST(substr(told.ride_id, ?) AS INTEGER)
WHERE told.ride_id GLOB ?
  AND told.duration_minutes = logged.duration_minutes
  AND told.duration_minutes = event.first_duration
  AND told.duration_minutes = batch.duration_minutes
"""
QUALITY = """
SELECT avg(abs({predicted} - {true})), count(*)
FROM {view} JOIN rides.rides USING (ride_id)
WHERE ride_id GLOB ? AND true_minutes BETWEEN 1 AND 60 AND {where}
"""
LIVE = {
    "first duration": ("service_trip_duration", "p.duration_minutes", "true_minutes", "min"),
    "better duration": ("better_duration", "p.duration_minutes", "true_minutes", "min"),
    "first fare": ("service_fare", "p.fare", "true_fare", "$"),
    "tip (by card)": ("tip", "p.tip", "true_tip", "$"),
    "final cost": ("final_cost", "p.cost", "true_total", "$"),
}


class Failed(Exception):
    """A part of the demo is not as it should be; says which."""


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--live", action="store_true", help="stay up until Ctrl-C")
    live = parser.parse_args().live
    began = time.perf_counter()
    try:
        prepare()
        step("starting all of it: trivet up (its log is data/up.log)")
        with running() as status:
            for process in status["processes"]:
                print(f"  {process['name']:<18}{process['url']}")
            score_months()
            checks = drive_and_check()
            summary(time.perf_counter() - began, live)
            if live and all(checks):
                stay()
    except Failed as failure:
        print(f"\nfailed: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if all(checks) else 1


def prepare() -> None:
    """Make the databases and the models that are not there yet."""
    if not (DATA / "trips.db").exists() or not (DATA / "usual.json").exists():
        step("making data/trips.db from 180,000 real New York taxi rides")
        run("prepare.py")
    lacking = [name for name in MODELS if not (HERE / "models" / name / "current").exists()]
    if lacking:
        step("training the models on the rides before July 2019")
        run("train.py", *lacking)


@contextmanager
def running() -> Iterator[dict[str, Any]]:
    """Run `trivet up`; give its status when everything is ready, stop all of it in the end."""
    with (DATA / "up.log").open("w", encoding="utf-8") as log:
        up = subprocess.Popen(
            [*command(), "--log", "json", "up"], stdout=log, stderr=log, env=environment()
        )
        try:
            yield ready(up)
        finally:
            up.send_signal(signal.SIGTERM)
            if up.wait(PATIENCE):
                raise Failed(f"trivet up ended with {up.returncode}; see {shown(DATA)}/up.log")


def ready(up: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait until every process is ready."""

    def look() -> dict[str, Any] | None:
        if up.poll() is not None:
            log = (DATA / "up.log").read_text(encoding="utf-8")
            raise Failed("trivet up did not start:\n" + "\n".join(log.splitlines()[-12:]))
        told = subprocess.run(
            [*command(), "status", "--json"], capture_output=True, text=True, check=False
        )
        found: dict[str, Any] = json.loads(told.stdout)
        return found if found["ready"] else None

    status: dict[str, Any] = wait("trivet up", look)
    return status


def score_months() -> None:
    """Score a year, month by month, and hold it against the truth."""
    step(f"batch: {FIRST} to {LAST}, a month at a time: trivet backfill trip-duration")
    if trivet("backfill", "trip-duration", "--from", FIRST, "--to", LAST, "--force"):
        raise Failed("the backfill")
    with closing(connect()) as results:
        rows = results.execute(MONTHS).fetchall()
        rejected = results.execute(REJECTED).fetchone()[0]
    worst = max(error for _, _, error, _ in rows)
    print(f"\n{'month':<9}{'rides':>8}{'MAE':>8}{'bias':>8}   minutes")
    for month, rides, error, bias in rows:
        print(
            f"{month:<9}{rides:>8,}{error:>8.2f}{bias:>+8.2f}   {'█' * round(30 * error / worst)}"
        )
    print(
        f"\n{sum(row[1] for row in rows):,} predictions with a true duration, {rejected:,} rejects."
    )


def drive_and_check() -> list[bool]:
    """Drive rides through the backend, and look at each part; return what is well."""
    prefix = f"demo{int(time.time()):x}"
    step(f"service and stream: {RIDES} real rides through the backend, ended as they truly ended")
    fleet: list[str | Path]
    fleet = [sys.executable, HERE / "fleet.py", "--rides", str(RIDES), "--prefix", prefix, "--json"]
    done = subprocess.run(fleet, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode:
        raise Failed(f"the fleet: {done.stdout}{done.stderr}")
    tally = json.loads(done.stdout)
    pattern = f"{prefix}-*"
    views = [view for view, *_ in LIVE.values()]
    counts = dict.fromkeys([*views, "page"], 0)

    def all_there() -> bool:
        with closing(connect()) as results:
            for view in views:
                query = f"SELECT count(*), count(DISTINCT ride_id) FROM {view} WHERE ride_id GLOB ?"
                rows, rides = results.execute(query, (pattern,)).fetchone()
                counts[view] = rows if rows == rides else -rows
            told = "SELECT count(*) FROM rides.answers WHERE ride_id GLOB ?"
            counts["page"] = results.execute(told, (pattern,)).fetchone()[0] // 3
        return all(count == RIDES for count in counts.values())

    try:
        wait("the predictions", all_there)
    except Failed:
        print(f"  of {RIDES}: {counts}")
    with closing(connect()) as results:
        same = results.execute(SAME, (len(prefix) + 2, pattern)).fetchone()[0]
    page = httpx.get(f"{BACKEND}/").text
    answers = f"p50 {tally['p50_ms']:.0f} ms, p99 {tally['p99_ms']:.0f} ms"
    streams = ("better_duration", "tip", "final_cost")
    checks = [
        check("page", "<svg" in page and "JFK Airport" in page, BACKEND),
        check("answer", tally["requested"] == RIDES and not tally["fallbacks"], answers),
        check("ride ends", tally["ended"] == RIDES, f"{tally['ended']} with their true values"),
        check("events", counts["better_duration"] == RIDES, "each ride's, scored exactly once"),
        *(check(view, counts[view] == RIDES, f"{counts[view]} predictions") for view in streams),
        check("news", counts["page"] == RIDES, "all three answers back at each passenger's page"),
        check("same bits", same == RIDES, f"page = log = event = batch for {same} rides"),
        check("true values", not trivet("actuals", quiet=True), "pulled and measured"),
        *(check(*found) for found in dashboard()),
    ]
    live_quality(pattern)
    return checks


def dashboard() -> Iterator[tuple[str, bool, str]]:
    """Look at the pages of the dashboard."""
    for path in ("/", "/deployments/tip", "/quality", "/runs"):
        status = httpx.get(f"{DASHBOARD}{path}", timeout=PATIENCE).status_code
        yield "dashboard", status == 200, f"{DASHBOARD}{path}"


def live_quality(pattern: str) -> None:
    """Print how good the models were on these rides."""
    print(f"\n{'live quality':<18}{'rides':>7}{'MAE':>8}")
    with closing(connect()) as results:
        for name, (view, predicted, true, unit) in LIVE.items():
            query = QUALITY.format(
                predicted=predicted,
                true=true,
                view=f"{view} AS p",
                where="payment = 'card'" if view == "tip" else "TRUE",
            )
            error, rides = results.execute(query, (pattern,)).fetchone()
            print(f"{name:<18}{rides:>7,}{error:>8.2f} {unit}")


def summary(seconds: float, live: bool) -> None:
    """Say what to look at next."""
    where = shown(HERE)
    print(
        f"\nDone in {seconds:.0f} s. The error of a model trained before 2020 grows by half in\n"
        "April 2020: the roads were empty. What to look at next:\n"
        f"  {where}/trivet.toml     all there is to configure\n"
        f"  trivet -f {where} runs                      every run, its counts and times\n"
        f"  trivet -f {where} rejects trip-duration     rows that broke the schema, and why\n"
        f"  sqlite3 {where}/data/results.db 'SELECT * FROM tip LIMIT 5'\n"
        + ("" if live else "  make demo-live                              the same, to play with\n")
        + f"The command trivet is in {shown(Path(sys.executable).parent)}."
    )


def stay() -> None:
    """Stay up until Ctrl-C."""
    print(
        f"\nUp until Ctrl-C:\n"
        f"  {BACKEND}           the page: request a taxi\n"
        f"  {SERVICE}/docs      the models' service, and its API\n"
        f"  {DASHBOARD}           the dashboard\n"
        f"  python {shown(HERE)}/fleet.py --rides 10000 --rate 5     more rides, meanwhile",
        flush=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


def check(what: str, well: bool, said: str) -> bool:
    """Print one line of the list, and return whether it is well."""
    print(f"  {'✓' if well else '✗'} {what.replace('_', ' '):<18}{said}", flush=True)
    return well


def wait(what: str, look: Callable[[], Any]) -> Any:
    """Look again and again until there is something.

    Raises:
        Failed: There was nothing for too long.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise Failed(f"{what}: not there after {PATIENCE:.0f} s; see {shown(DATA)}/up.log")


def connect() -> sqlite3.Connection:
    """Open the results, with the trips and the backend's rides beside them, to read."""
    results = sqlite3.connect(DATA / "results.db", timeout=30)
    results.execute("ATTACH ? AS source", (str(DATA / "trips.db"),))
    results.execute("ATTACH ? AS rides", (str(DATA / "rides.db"),))
    return results


def step(what: str) -> None:
    """Say what comes now."""
    print(f"\n▸ {what}", flush=True)


def run(script: str, *arguments: str) -> None:
    """Run one of the scripts beside this one."""
    subprocess.run([sys.executable, HERE / script, *arguments], check=True)


def command() -> list[str | Path]:
    """Return what starts Trivet for this project."""
    return [sys.executable, "-m", "trivet", "--file", HERE]


def trivet(*arguments: str, quiet: bool = False) -> int:
    """Run a command of Trivet in this folder."""
    words: Sequence[str | Path] = [*command(), "--log", "text", *arguments]
    done = subprocess.run(words, check=False, capture_output=quiet, text=True)
    if quiet and done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode


def environment() -> dict[str, str]:
    """Return an environment in which `python` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path}


def shown(path: Path) -> str:
    """Return a path as short as it can be from here."""
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())

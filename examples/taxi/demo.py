"""The demo: score a year of real taxi rides month by month, then hold them against the truth."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
FIRST, LAST = "2019-07", "2020-06"

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


def main() -> int:
    """Run the demo; return the exit code."""
    began = time.perf_counter()
    if not (HERE / "data" / "trips.db").exists():
        step("making data/trips.db from 180,000 real New York taxi rides")
        run("prepare.py")
    if not (HERE / "models" / "trip-duration" / "current").exists():
        step("training trip-duration on the rides before July 2019")
        run("train.py")
    step(f"scoring {FIRST} to {LAST}, a month at a time: trivet backfill trip-duration")
    failed = trivet("backfill", "trip-duration", "--from", FIRST, "--to", LAST, "--force")
    if failed:
        return failed
    print_months()
    where = shown(HERE)
    print(
        f"\nDone in {time.perf_counter() - began:.0f} s. The error of a model trained before 2020 "
        "grows by half in\nApril 2020: the roads were empty. What to look at next:\n"
        f"  {where}/trivet.toml     all there is to configure\n"
        f"  trivet -f {where} runs                      every run, its counts and times\n"
        f"  trivet -f {where} rejects trip-duration     rows that broke the schema, and why\n"
        f"  sqlite3 {where}/data/results.db 'SELECT * FROM trip_duration LIMIT 5'\n"
        f"The command trivet is in {shown(Path(sys.executable).parent)}."
    )
    return 0


def print_months() -> None:
    """Compare what was predicted with how long the rides took."""
    with sqlite3.connect(HERE / "data" / "results.db") as results:
        results.execute("ATTACH ? AS source", (str(HERE / "data" / "trips.db"),))
        rows = results.execute(MONTHS).fetchall()
        rejected = results.execute(
            "SELECT sum(r.rows_rejected) FROM trivet_published JOIN trivet_runs r USING (attempt)"
        ).fetchone()[0]
    worst = max(error for _, _, error, _ in rows)
    print(f"\n{'month':<9}{'rides':>8}{'MAE':>8}{'bias':>8}   minutes")
    for month, rides, error, bias in rows:
        print(
            f"{month:<9}{rides:>8,}{error:>8.2f}{bias:>+8.2f}   {'█' * round(30 * error / worst)}"
        )
    print(
        f"\n{sum(row[1] for row in rows):,} predictions with a true duration, {rejected:,} rejects."
    )


def step(what: str) -> None:
    """Say what comes now."""
    print(f"\n▸ {what}", flush=True)


def run(script: str) -> None:
    """Run one of the scripts beside this one."""
    subprocess.run([sys.executable, HERE / script], check=True)


def trivet(*arguments: str) -> int:
    """Run a command of Trivet in this folder."""
    command: Sequence[str | Path] = [sys.executable, "-m", "trivet", "--file", HERE, *arguments]
    return subprocess.run(command, check=False).returncode


def shown(path: Path) -> str:
    """Return a path as short as it can be from here."""
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())

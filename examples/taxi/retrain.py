"""Retrain the ride-duration model on the latest months, compare the two, and promote the new one.

    python retrain.py               # trains version 2, compares it, leaves version 1 in use
    python retrain.py --promote     # and puts it to work if it is better, while rides go on

The first version learnt from rides before July 2019. In April 2020 the roads were empty and its
error grew by half; this one learns from March to May 2020 and is compared on June, which neither
of them has seen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rides import between, month, read
from train import save

HERE = Path(__file__).parent
NAME = "trip-duration"
FROM, UNTIL, TEST_UNTIL = "2020-03", "2020-06", "2020-07"


def main() -> int:
    """Run the script; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--version", default="2", help="the version to save as")
    parser.add_argument("--promote", action="store_true", help="put the new version to work")
    parser.add_argument("--trees", type=float, default=1.0, help="share of the trees, for a try")
    chosen = parser.parse_args()
    models = HERE / "models"
    old = (models / NAME / "current").read_text(encoding="utf-8").strip()
    rides = read()
    known = between(rides, month(FROM), month(UNTIL))
    later = between(rides, month(UNTIL), month(TEST_UNTIL))
    found = save(NAME, models, chosen.version, known, later, chosen.trees)
    print(
        f"{NAME} {chosen.version}: {known.num_rows:,} rides from {FROM}, "
        f"MAE {found['mae']:.2f} minutes in {UNTIL}",
        flush=True,
    )
    if trivet("compare", NAME, old, chosen.version, "--interval", UNTIL):
        return 1
    return trivet("model", "promote", NAME, chosen.version) if chosen.promote else 0


def trivet(*arguments: str) -> int:
    """Run a command of Trivet in this folder."""
    command: list[str | Path]
    command = [sys.executable, "-m", "trivet", "--file", HERE, "--log", "text", *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

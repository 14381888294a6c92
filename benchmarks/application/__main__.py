"""Load the whole taxi company, everything on this machine.

    cd benchmarks && python -m application --rate 200 --seconds 300

Trains the models of `examples/taxi` once, starts a copy of the project with `trivet up` (backend,
models' service, three consumers, dashboard, broker and results in files), drives rides through it,
counts every prediction, and tells what processor time each process took.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests")]  # where a copy of the project is made from

from support.taxi_app import TAXI, Company, environment, outcome_of  # noqa: E402
from support.up_process import here  # noqa: E402
from trivet.up.board import read  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=200.0, help="rides a second")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument(
        "--work", type=Path, default=HERE / ".work", help="where the models are kept"
    )
    chosen = parser.parse_args()
    models = chosen.work.resolve() / "models"
    if not (models / "final-cost" / "current").exists():
        words: list[str | Path] = [sys.executable, TAXI / "train.py", "--models", models]
        subprocess.run(words, check=True, env=environment())
    with tempfile.TemporaryDirectory(dir=chosen.work) as folder:
        company = Company(Path(folder) / "taxi", models)
        with (company.folder / "up.log").open("wb") as log:
            up = subprocess.Popen(
                [sys.executable, "-m", "trivet", "--log", "json", "up"],
                cwd=company.folder,
                env=environment(),
                stdout=log,
                stderr=log,
            )
        try:
            return measured(company, up, chosen.rate, chosen.seconds)
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait()


def measured(company: Company, up: subprocess.Popen[bytes], rate: float, seconds: float) -> int:
    while (status := read(company.folder)) is None or not status.is_ready:
        if up.poll() is not None:
            sys.exit((company.folder / "up.log").read_text())
        psutil.cpu_percent(0.2)
    names = {state.pid: state.name for state in status.processes}
    with company.loading(rate, seconds) as load:
        before = times(company, names)
        try:
            psutil.Process(load.pid).wait(seconds - 5)
        except psutil.TimeoutExpired:
            after = times(company, names)
        else:
            after = before
        outcome = outcome_of(load)
    for name, value in outcome.items():
        print(f"{name:<14}{value}")
    rides = rate * (seconds - 5)
    for name in sorted(after):
        took = 1000 * (after[name] - before.get(name, 0.0)) / rides
        print(f"{name:<26}{took:>7.2f} ms of processor a ride")
    return load.returncode


def times(company: Company, names: dict[int | None, str]) -> dict[str, float]:
    """Return the processor seconds of each part, its workers included."""
    found: dict[str, float] = {}
    for process in here(company.folder):
        try:
            used = process.cpu_times()
            parents = [process, *process.parents()]
            name = next((names[p.pid] for p in parents if p.pid in names), "")
            name = name or ("load" if "load.py" in process.cmdline() else "trivet up")
        except psutil.Error:
            continue
        found[name] = found.get(name, 0.0) + used.user + used.system
    return found


if __name__ == "__main__":
    sys.exit(main())

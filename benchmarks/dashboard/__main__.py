"""Measure the dashboard over many predictions.

    cd benchmarks && python -m dashboard --postgresql 10000000 --sqlite 1000000

Cold is a page's first byte from a process just started, over a database whose server was just
started and whose files are in no cache. Warm is the slowest of several that nobody asked for yet,
from one process for all pages, whose memory is read at the end.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from batch import postgres
from dashboard import data

PAGES = (
    "/",
    "/deployments/churn-daily",
    "/deployments/churn-daily?by=plan&range=30d",
    "/deployments/churn-daily?search=4242",
    "/deployments/service-duration",
    "/deployments/service-duration?range=all",
    "/runs",
    "/runs/50",
    "/quality",
    "/quality?by=plan&metric=brier",
    "/drift",
    "/drift?deployment=service-duration",
    "/alerts",
    "/rejects",
)

WARM = (1, 3, 5, 7, 9)
"""Days of April 2026 that spans end at, one for each time that a page is asked for warm."""


@contextmanager
def dashboard(url: str) -> Iterator[tuple[str, int]]:
    """Run ``trivet dashboard`` over results; give its address and its process."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "trivet.toml").write_text(f"[results]\nurl = {json.dumps(url)}\n")
        as_of = (data.FIRST + dt.timedelta(days=data.DAYS, hours=6)).isoformat()
        command = [sys.executable, "-m", "trivet", "--file", folder, "dashboard"]
        command += ["--port", "0", "--as-of", as_of]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1].rstrip("/")
            try:
                yield address, process.pid
            finally:
                process.terminate()


def first_byte(address: str) -> tuple[float, int]:
    """Return the milliseconds until a page's first byte, and its bytes."""
    began = time.perf_counter()
    with urllib.request.urlopen(address) as answer:
        answer.read(1)
        took = time.perf_counter() - began
        return 1000 * took, 1 + len(answer.read())


def cpu(pid: int) -> float:
    """Return the milliseconds that a process's threads have been on a processor."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6


def memory(pid: int) -> tuple[float, float]:
    """Return a process's resident memory now and at its peak, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    parts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return tuple(int(parts[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def measure(url: str, title: str, chill: Callable[[], None]) -> None:
    """Print the figures of every page over one results database."""
    heads = ("cold ms", "warm ms", "CPU ms", "again ms", "KB")
    print(f"\n{title}\n{'page':<46}" + "".join(f"{head:>9}" for head in heads))
    cold = {}
    for page in PAGES:
        chill()
        with dashboard(url) as (address, _):
            cold[page], _ = first_byte(address + page)
    with dashboard(url) as (address, pid):
        for page in PAGES:
            _, size = first_byte(address + page)
            again, _ = first_byte(address + page)
            # A filter that nobody asked for yet: the answer is not kept, the database's pages are.
            separator, before = "&" if "?" in page else "?", cpu(pid)
            asked = [f"{address}{page}{separator}to=2026-04-{day:02}" for day in WARM]
            warm = max(first_byte(each)[0] for each in asked)
            used = (cpu(pid) - before) / len(asked)
            times = f"{cold[page]:>9.0f}{warm:>9.0f}{used:>9.0f}{again:>9.0f}"
            print(f"{page:<46}{times}{size / 1000:>9.0f}", flush=True)
        shared = sum(
            first_byte(f"{address}/static/{name}")[1]
            for name in ("trivet.css", "trivet.js", "vega.js", "icon.svg")
        )
        now, peak = memory(pid)
        print(
            f"files beside a page {shared / 1000:.0f} KB; memory {now:.0f} MB, peak {peak:.0f} MB"
        )


def forget(folder: Path) -> None:
    """Drop the files below a folder from the system's cache."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def restart(server: postgres.Server) -> None:
    """Restart a server, with nothing of its tables in a cache."""
    folder = Path(server.execute("SHOW data_directory"))
    owner = folder.stat().st_uid
    control = [str(server.programs / "pg_ctl"), "-D", str(folder), "-w", "-m", "fast"]
    log = ["-l", str(folder.parent / "log")]

    def tell(*what: str) -> None:
        subprocess.run(
            [*control, *what], check=True, cwd=folder.parent, stdout=subprocess.DEVNULL,
            user=owner if os.geteuid() == 0 else None,
        )  # fmt: skip

    options = (folder / "postmaster.opts").read_text().split(maxsplit=1)[1].strip()
    tell("stop")
    forget(folder / "base")
    tell(*log, "-o", options.replace('"', ""), "start")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", type=int, default=0, metavar="ROWS")
    parser.add_argument("--sqlite", type=int, default=0, metavar="ROWS")
    chosen = parser.parse_args(arguments)
    print(f"pyarrow {pa.__version__}, Python {sys.version.split()[0]}")
    if chosen.sqlite:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/results.db"
            data.fill(url, chosen.sqlite)
            title = f"SQLite, {chosen.sqlite:,} predictions"
            measure(url, title, lambda: forget(Path(folder)))
    if chosen.postgresql:
        with postgres.running() as server:
            url = server.fresh("results")
            data.fill(url, chosen.postgresql)
            server.execute("VACUUM ANALYZE", "results")
            title = f"PostgreSQL, {chosen.postgresql:,} predictions"
            measure(url, title, lambda: restart(server))


if __name__ == "__main__":
    main()

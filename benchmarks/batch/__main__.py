"""Run the batch benchmarks.

    cd benchmarks && python -m batch --rows 1000000 --rounds 5

Imports the standard library only, since a child's peak memory begins with its parent's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import sqlite3
import statistics
import struct
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from batch import postgres
from batch.measure import Cost, whole_process

HERE = Path(__file__).parent
SIDES = HERE / "sides"
INTERVAL = "2024-01"
QUERY = """
SELECT trip_id, pickup_zone, dropoff_zone, trip_distance, hour, passengers
FROM trips WHERE pickup_at >= $interval_start AND pickup_at < $interval_end
"""
_BITS = """
SELECT md5(string_agg(trip_id || encode(float8send(prediction), 'hex'), ',' ORDER BY trip_id))
FROM {table}
"""


class Bench:
    """What every part needs: folders, interpreters, the server, and the figures so far."""

    def __init__(self, arguments: argparse.Namespace, server: postgres.Server) -> None:
        self.rows: int = arguments.rows
        self.rounds: int = arguments.rounds
        self.work: Path = arguments.work
        self.server = server
        peers, ours = (
            arguments.peers or self.work / "peers",
            arguments.trivet or self.work / "trivet",
        )
        self.peer = _python(peers, "-r", HERE / "requirements-peers.txt")
        # What a user of these databases and this model installs, and no more.
        self.here = _python(ours, "-e", f"{HERE.parents[1]}[postgresql,lightgbm]")
        self.figures: dict[str, object] = {}

    def data(self, rows: int) -> tuple[Path, str]:
        """Return the folder and the database of so many trips, made if they are not there."""
        folder = (self.work / f"rows-{rows}").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        name = f"source_{rows}"
        url = self.server.url(name)
        if not self.server.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.server.fresh(name)
            print(f"making {rows:,} trips …", flush=True)
            whole_process(
                [self.here, "-m", "batch.data", folder, str(rows), url], environment=_environment()
            )
        return folder, url

    def project(self, folder: Path, name: str, source: str, results: str, workers: int = 0) -> Path:
        """Write a project that scores the trips, and return its folder."""
        home = folder / name
        home.mkdir(exist_ok=True)
        lines = [
            f'[results]\nurl = "{results}"',
            f'[models.trip-duration]\nuri = "{folder / "models/trip-duration"}"',
            f'[batch.trips]\nmodel = "trip-duration"\nsource = "{source}"',
            f"query = '''{QUERY}'''",
            'key = ["trip_id"]\nschedule = "@monthly"\nstart = 2024-01-01',
            f"workers = {workers}\n" if workers else "",
        ]
        (home / "trivet.toml").write_text("\n".join(lines), encoding="utf-8")
        return home

    def score(self, project: Path) -> tuple[Cost, dict[str, float]]:
        """Score the month as a user does, and return what it took and what the ledger says."""
        trivet = self.here.with_name("trivet")
        command: list[str | Path] = [trivet, "--file", project / "trivet.toml"]
        cost = whole_process(
            [*command, "score", "trips", "--interval", INTERVAL],
            server_cpu=self.server.cpu_seconds,
        )
        told = whole_process([*command, "runs", "trips", "--json", "--limit", "1"]).output
        seconds: dict[str, float] = json.loads(told)["seconds"]
        return cost, seconds

    def peer_side(self, script: str, *arguments: str | Path) -> Cost:
        """Run one of the other sides."""
        return whole_process(
            [self.peer, SIDES / script, *arguments], server_cpu=self.server.cpu_seconds
        )

    def floor(self, folder: Path, threads: int = 2) -> tuple[float, float]:
        """Return the seconds and CPU seconds of prediction alone."""
        out = self.peer_side(
            "predict.py", folder / "model.txt", folder / "rows.npy", str(threads)
        ).output
        wall, cpu = map(float, out.split())
        return wall, cpu


def warm(bench: Bench) -> None:
    """Run every side once on a few trips, so that no round pays for compiling modules."""
    folder, source = bench.data(1_000)
    model, trips = folder / "model.txt", folder / "trips.db"
    mine, other = folder / "results-trivet.db", folder / "results-pandas.db"
    for file in (mine, other):
        _remove(file)
    bench.score(bench.project(folder, "warm", source, bench.server.fresh("results_warm")))
    bench.score(bench.project(folder, "warm", f"sqlite:///{trips}", f"sqlite:///{mine}"))
    for script, way in (
        ("pandas_postgresql.py", str),
        ("pandas_postgresql.py", _psycopg2),
        ("adbc_postgresql.py", str),
    ):
        bench.peer_side(script, model, way(source), way(bench.server.fresh("results_warm")))
    bench.peer_side("pandas_sqlite.py", model, trips, other)


def postgresql(bench: Bench) -> None:
    """PostgreSQL to PostgreSQL, round after round: script, loop, Trivet, floor."""
    folder, source = bench.data(bench.rows)
    url = bench.server.url
    project = bench.project(folder, "postgresql", source, url("results_trivet"))
    model = folder / "model.txt"
    sides: dict[str, Callable[[], Cost]] = {
        "pandas": lambda: bench.peer_side(
            "pandas_postgresql.py", model, source, url("results_pandas")
        ),
        "psycopg2": lambda: bench.peer_side(
            "pandas_postgresql.py", model, *map(_psycopg2, (source, url("results_psycopg2")))
        ),
        "adbc": lambda: bench.peer_side("adbc_postgresql.py", model, source, url("results_adbc")),
    }
    order = ("pandas", "trivet", "psycopg2", "adbc")
    costs: dict[str, list[Cost]] = {name: [] for name in order}
    runs: list[dict[str, float]] = []
    floors: list[tuple[float, float]] = []
    for number in range(bench.rounds):
        for name in order:
            bench.server.fresh(f"results_{name}")
            bench.server.execute("CHECKPOINT")  # nobody pays for the side before
            if name == "trivet":
                cost, seconds = bench.score(project)
                runs.append(seconds)
                floors.append(bench.floor(folder))
            else:
                cost = sides[name]()
            costs[name].append(cost)
            print(f"  round {number + 1} {name}: {_told(cost)}", flush=True)
        print(f"    run {runs[-1]}, predict alone {floors[-1][0]:.2f} s", flush=True)
    table(f"PostgreSQL to PostgreSQL, {bench.rows:,} rows", costs, bench.rows)
    memory = _paired(costs, "trivet", "pandas", lambda cost: cost.peak)
    total = [run["total"] for run in runs]
    over = [run / wall for run, (wall, _) in zip(total, floors, strict=True)]
    median = statistics.median
    bits = {
        bench.server.execute(
            _BITS.format(table="trips" if name == "trivet" else "predictions"), f"results_{name}"
        )
        for name in order
    }
    print(
        f"predict alone, 2 threads: {median(wall for wall, _ in floors):.2f} s "
        f"({median(cpu for _, cpu in floors):.2f} CPU s); run by the ledger: {median(total):.2f} s"
    )
    for name, what, relation, bar in (
        ("pandas", "pandas script", ">=", 8.0),
        ("psycopg2", "pandas script on psycopg2", "", 0.0),
        ("adbc", "ADBC loop", "", 0.0),
    ):
        speed = _paired(costs, name, "trivet", lambda cost: cost.wall)
        verdict(f"rows/s of Trivet / {what}", speed, relation, bar)
    verdict("peak memory of Trivet / pandas script", memory, "<=", 1 / 3)
    verdict("run / predict alone", over, "<=", 1.6)
    verdict("same bits as pandas and ADBC", [float(len(bits) == 1)], ">=", 1)
    bench.figures["postgresql"] = {
        "costs": {name: [asdict(cost) for cost in some] for name, some in costs.items()},
        "runs": runs,
        "floors": floors,
    }


def variants(bench: Bench) -> None:
    """The faster ways of `to_sql`, for the record."""
    folder, source = bench.data(bench.rows)
    costs: dict[str, list[Cost]] = {}
    ways = (("default", "10000"), ("multi", "1000"), ("multi", "10000"))
    for driver, named in (("psycopg", str), ("psycopg2", _psycopg2)):
        for method, chunk in ways:
            results = bench.server.fresh("results_pandas")
            bench.server.execute("CHECKPOINT")
            urls = named(source), named(results)
            model = folder / "model.txt"
            cost = bench.peer_side("pandas_postgresql.py", model, *urls, method, chunk)
            costs[f"{driver} {method} {chunk}"] = [cost]
    table(f"to_sql, {bench.rows:,} rows", costs, bench.rows)


def workers(bench: Bench) -> None:
    """One worker and two: the same bits, and what the second one gains."""
    folder, source = bench.data(bench.rows)
    costs: dict[str, list[Cost]] = {"workers = 1": [], "workers = 2": []}
    bits = set()
    for _ in range(max(1, bench.rounds // 2)):
        for number in (1, 2):
            results = bench.server.fresh(f"results_workers_{number}")
            bench.server.execute("CHECKPOINT")
            project = bench.project(folder, f"workers-{number}", source, results, number)
            costs[f"workers = {number}"].append(bench.score(project)[0])
            bits.add(bench.server.execute(_BITS.format(table="trips"), f"results_workers_{number}"))
    table(f"Trivet by workers, {bench.rows:,} rows", costs, bench.rows)
    verdict("same bits with one worker and two", [float(len(bits) == 1)], ">=", 1)


def sqlite(bench: Bench) -> None:
    """SQLite to SQLite, round after round: script, Trivet."""
    folder, _ = bench.data(bench.rows)
    trips, model = folder / "trips.db", folder / "model.txt"
    costs: dict[str, list[Cost]] = {"pandas": [], "trivet": []}
    bits = set()
    for number in range(bench.rounds):
        results = folder / "results-pandas.db"
        _remove(results)
        costs["pandas"].append(bench.peer_side("pandas_sqlite.py", model, trips, results))
        bits.add(_sqlite_bits(results, "predictions"))
        mine = folder / "results-trivet.db"
        _remove(mine)
        project = bench.project(folder, "sqlite", f"sqlite:///{trips}", f"sqlite:///{mine}")
        cost, seconds = bench.score(project)
        costs["trivet"].append(cost)
        bits.add(_sqlite_bits(mine, "trips"))
        for name, some in costs.items():
            print(f"  round {number + 1} {name}: {_told(some[-1])}", flush=True)
        print(f"    run {seconds}", flush=True)
    table(f"SQLite to SQLite, {bench.rows:,} rows", costs, bench.rows)
    verdict(
        "rows/s of Trivet / pandas script",
        _paired(costs, "pandas", "trivet", lambda cost: cost.wall),
        ">=",
        2.5,
    )
    verdict(
        "peak memory of Trivet / pandas script",
        _paired(costs, "trivet", "pandas", lambda cost: cost.peak),
    )
    verdict("same bits as pandas", [float(len(bits) == 1)], ">=", 1)
    bench.figures["sqlite"] = {
        name: [asdict(cost) for cost in some] for name, some in costs.items()
    }


def memory(bench: Bench) -> None:
    """Ten times the rows in the same memory, on both databases."""
    for kind in ("postgresql", "sqlite"):
        peaks = {}
        for rows in (bench.rows, 10 * bench.rows):
            folder, source = bench.data(rows)
            if kind == "sqlite":
                file = folder / "results-memory.db"
                _remove(file)
                source, results = f"sqlite:///{folder / 'trips.db'}", f"sqlite:///{file}"
            else:
                results = bench.server.fresh("results_memory")
            cost, seconds = bench.score(bench.project(folder, f"memory-{kind}", source, results))
            peaks[rows] = cost.peak
            print(f"  {kind} {rows:,} rows: {_told(cost)}, run {seconds}", flush=True)
        verdict(
            f"{kind}: peak memory at ten times the rows / at {bench.rows:,}",
            [peaks[10 * bench.rows] / peaks[bench.rows]],
            "<=",
            1.2,
        )


def contention(bench: Bench) -> None:
    """The longest wait of another writer of the results file, while a run goes into it."""
    folder, _ = bench.data(bench.rows)
    results = folder / "results-contention.db"
    _remove(results)
    source = f"sqlite:///{folder / 'trips.db'}"
    project = bench.project(folder, "contention", source, f"sqlite:///{results}")
    trivet: list[str | Path] = [bench.here.with_name("trivet"), "--file", project / "trivet.toml"]
    whole_process([*trivet, "results", "upgrade"])
    for what in ("alone", "a run", "a run again, its old rows swept"):
        command = [sys.executable, str(HERE / "contention.py"), str(results), "0.1"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdout.readline()
            if what == "alone":
                time.sleep(5)
            else:
                print(f"  {what}: {_told(bench.score(project)[0])}")
            waits = sorted(json.loads(other.communicate("\n")[0]))
        p99 = waits[min(len(waits) - 1, int(0.99 * len(waits)))]
        print(
            f"  {what}: {len(waits)} rows, median {statistics.median(waits) * 1e3:.1f} ms, "
            f"p99 {p99 * 1e3:.0f} ms, longest {waits[-1] * 1e3:.0f} ms"
        )
        if what != "alone":
            verdict(f"longest wait of another writer, {what} (s)", [waits[-1]], "<=", 0.5)


def table(title: str, costs: dict[str, list[Cost]], rows: int) -> None:
    """Print the medians of each side."""
    print(f"\n{title}: medians of {max(map(len, costs.values()))}")
    print(f"  {'':<24}{'wall s':>9}{'rows/s':>11}{'CPU s':>8}{'server CPU s':>14}{'peak MB':>9}")
    for name, some in costs.items():
        wall, cpu, server, peak = (
            statistics.median(getattr(cost, what) for cost in some)
            for what in ("wall", "cpu", "server", "peak")
        )
        print(
            f"  {name:<24}{wall:>9.2f}{rows / wall:>11,.0f}{cpu:>8.2f}{server:>14.2f}{peak:>9.0f}"
        )


def verdict(what: str, values: Sequence[float], relation: str = "", bar: float = 0) -> None:
    """Print a figure with its spread, and whether it keeps a bar."""
    value = statistics.median(values)
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    kept = ""
    if relation:
        good = value >= bar if relation == ">=" else value <= bar
        kept = f"  {'kept' if good else 'MISSED'}: {relation} {bar:.2g}"
    print(f"{what}: {value:.2f}{spread}{kept}", flush=True)


def _paired(
    costs: dict[str, list[Cost]], one: str, other: str, figure: Callable[[Cost], float]
) -> list[float]:
    return [figure(a) / figure(b) for a, b in zip(costs[one], costs[other], strict=True)]


def _psycopg2(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://")


def _told(cost: Cost) -> str:
    return (
        f"{cost.wall:.2f} s, CPU {cost.cpu:.2f} s, server {cost.server:.2f} s, {cost.peak:.0f} MB"
    )


def _sqlite_bits(path: Path, table: str) -> str:
    digest = hashlib.sha256()
    with closing(sqlite3.connect(path)) as db:
        for row in db.execute(f"SELECT trip_id, prediction FROM {table} ORDER BY trip_id"):
            digest.update(struct.pack("<qd", *row))
    return digest.hexdigest()


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(HERE.parent)}


def _python(folder: Path, *needed: str | Path) -> Path:
    """Return the interpreter of an environment, which is made on the first run."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making the environment {folder} …", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *needed], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="data and environments")
    parser.add_argument("--peers", type=Path, help="the other sides' environment, made if missing")
    parser.add_argument("--trivet", type=Path, help="Trivet's environment, made if missing")
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    parts = (postgresql, sqlite, workers, variants, memory, contention)
    for part in parts:
        what = (part.__doc__ or "").splitlines()[0]
        parser.add_argument(f"--{part.__name__}", action="store_true", help=what)
    arguments = parser.parse_args()
    chosen = [part for part in parts if getattr(arguments, part.__name__)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with postgres.running() as server:
        bench = Bench(arguments, server)
        warm(bench)
        for part in chosen or [postgresql, sqlite, workers]:
            print(f"\n{(part.__doc__ or '').splitlines()[0]}", flush=True)
            part(bench)
    if arguments.json:
        arguments.json.write_text(json.dumps(bench.figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Run the service benchmarks.

    cd benchmarks && python -m service --speed --model trees --rounds 3

Imports the standard library only: what serves and what is served have environments of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from service.load import Load, offered, warm, wrk
from service.sides import PEERS, Environments, Side, echo, peer, resident, running, trivet

HERE = Path(__file__).parent
OWN = ("off", "on", "sample")
PEER_NAMES = ("fastapi def", "fastapi async", "litserve", "mlserver", "bentoml", "mlflow")
QUIET: dict[str, dict[str, object]] = {
    "off": {"log": "none"},
    "on": {"log": "results"},
    "sample": {"log": "results", "log_sample": 0.1},
}
Loads = dict[str, dict[int, list[Load]]]


class Bench:
    """What every part needs: folders, interpreters, and the figures so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.model: str = arguments.model
        self.rounds: int = arguments.rounds
        self.seconds: int = arguments.seconds
        self.connections: list[int] = arguments.connections
        self.work: Path = arguments.work.resolve()
        self.wanted: list[str] = arguments.sides
        self.environments = Environments(
            self.work, arguments.trivet and arguments.trivet.absolute()
        )
        self.figures: dict[str, object] = {}
        if not (self.work / "data" / "done").exists():
            print("training the models …", flush=True)
            self.python("-m", "service.models", self.work / "data")

    def python(self, *arguments: str | Path) -> str:
        """Run something in Trivet's environment and return what it prints."""
        command = [self.environments.trivet, *arguments]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
        told = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
        return told.stdout

    def side(self, name: str) -> Side | None:
        """Return a side by its name, None if it cannot be installed."""
        if name == "echo":
            return echo(self.environments)
        kind = name.removeprefix("trivet ")
        if kind in OWN:
            return trivet(self.environments, self.work, self.model, kind, **QUIET[kind])
        return peer(self.environments, self.work, self.model, name)

    def bodies(self, side: Side) -> Path:
        return self.work / "data" / f"{self.model}.{side.form}.jsonl"

    def first(self, side: Side) -> bytes:
        return self.bodies(side).read_bytes().splitlines()[0]


def speed(bench: Bench) -> None:
    """Single rows, side after side in each round, each in a fresh process."""
    loads: Loads = {}
    for number in range(bench.rounds):
        for name in bench.wanted:
            side = bench.side(name)
            if side is None:
                continue
            bodies = bench.bodies(side)
            with running(side, bench.first(side)):
                warm(side.url, bodies, side.content_type)
                for connections in bench.connections:
                    load = wrk(
                        side.url,
                        bodies,
                        side.content_type,
                        connections,
                        bench.seconds,
                        whole=False,
                    )
                    loads.setdefault(name, {}).setdefault(connections, []).append(load)
                    print(f"  round {number + 1} {name}, {connections}: {_told(load)}", flush=True)
    _table(bench, loads)
    _speed_verdicts(bench, loads)
    bench.figures["speed"] = {
        name: {c: [asdict(load) for load in some] for c, some in by.items()}
        for name, by in loads.items()
    }


def _speed_verdicts(bench: Bench, loads: Loads) -> None:
    """Hold the ratios, taken round by round, against the bars; the linear model's are 80 %."""
    ease = 0.8 if bench.model == "linear" else 1.0

    def rate(load: Load) -> float:
        return load.rate

    def ratio(
        what: str,
        one: str,
        other: str,
        connections: int,
        relation: str,
        bar: float,
        figure: Callable[[Load], float] = rate,
    ) -> None:
        if connections in loads.get(one, {}) and connections in loads.get(other, {}):
            pairs = zip(loads[one][connections], loads[other][connections], strict=True)
            values = [figure(a) / figure(b) for a, b in pairs]
            _verdict(f"{what}, {connections} connections", values, relation, bar)

    off, handler, floor = "trivet off", "fastapi def", "echo"
    ratio("requests/s, Trivet / FastAPI def", off, handler, 16, ">=", 5 * ease)
    ratio("p99, Trivet / FastAPI def", off, handler, 16, "<=", 0.1 / ease, lambda x: x.p99)
    ratio("requests/s, Trivet / bare echo", off, floor, 64, ">=", 0.6 * ease)
    ratio("requests/s, Trivet / FastAPI async def", off, "fastapi async", 1, ">=", ease)
    for connections in bench.connections:
        ratio("requests/s, log on / off", "trivet on", off, connections, ">=", 0.6)
        ratio("requests/s, log at 0.1 / off", "trivet sample", off, connections, ">=", 0.9)
    hand = [name for name in loads if name.startswith("fastapi")]
    servers = [n for n in ("litserve", "mlserver", "bentoml", "mlflow") if n in loads]
    for who, some, bar in (("FastAPI", hand, 6.0), ("the best model server", servers, 10.0)):
        if some and off in loads:
            values = [
                _peak(loads, (off,), number) / _peak(loads, some, number)
                for number in range(bench.rounds)
            ]
            _verdict(f"peak, Trivet / {who}", values, ">=", bar * ease)


def _peak(loads: Loads, names: Sequence[str], number: int) -> float:
    return max(
        some[number].rate
        for name in names
        for connections, some in loads[name].items()
        if connections <= 64
    )


def crowd(bench: Bench) -> None:
    """Many connections: the peak, and what is left of it at 256 and at 1024."""
    side = bench.side("trivet off")
    assert side is not None
    bodies = bench.bodies(side)
    rates: dict[int, list[float]] = {}
    with running(side, bench.first(side)):
        warm(side.url, bodies, side.content_type)
        for _ in range(bench.rounds):
            for connections in (16, 64, 256, 1024):
                load = wrk(
                    side.url, bodies, side.content_type, connections, bench.seconds, whole=False
                )
                rates.setdefault(connections, []).append(load.rate)
                print(f"  {connections}: {_told(load)}", flush=True)
    for connections in (256, 1024):
        values = [
            rates[connections][n] / max(some[n] for some in rates.values())
            for n in range(bench.rounds)
        ]
        _verdict(f"requests/s at {connections} connections / peak", values, ">=", 0.8)
    bench.figures["crowd"] = rates


def overload(bench: Bench) -> None:
    """Four times what a heavy model can do, and how the excess is answered."""
    for model in ("heavy", "medium"):
        _overload(bench, model)


def _overload(bench: Bench, model: str) -> None:
    settings: dict[str, object] = {"log": "none", "max_queue": 128, "max_batch": 64}
    side = trivet(bench.environments, bench.work, model, "overload", **settings)
    bodies = bench.work / "data" / f"{model}.record.jsonl"
    body = bodies.read_bytes().splitlines()[0]
    ratios, times, latest = [], [], []
    with running(side, body):
        warm(side.url, bodies, side.content_type)
        for number in range(bench.rounds):
            peak = wrk(side.url, bodies, side.content_type, 64, bench.seconds, whole=False).rate
            load = offered(side.url, body, side.content_type, 512, 4 * peak, bench.seconds)
            print(
                f"  round {number + 1} {model}: peak {peak:,.0f}/s; offered {load.offered:,.0f}/s, "
                f"answered {load.rate:,.0f}/s with p99 {load.p99:.1f} ms, 503 with p99 "
                f"{load.p99_refused:.1f} ms, worst {load.worst:.0f} ms, {load.broken} broken",
                flush=True,
            )
            ratios.append(load.rate / peak)
            times.append(load.offered / peak)
            latest.append(load.p99_refused)
    _verdict(f"{model}: requests offered / peak", times, ">=", 3.8)
    _verdict(f"{model}: goodput / peak", ratios, ">=", 0.8)
    _verdict(f"{model}: p99 of the 503 (ms)", latest, "<=", 50.0)
    bench.figures[f"overload {model}"] = {
        "offered": times,
        "goodput": ratios,
        "p99 of 503": latest,
    }


def arrow(bench: Bench) -> None:
    """Requests of 10,000 rows as Arrow, beside the model alone on the same rows."""
    side = trivet(bench.environments, bench.work, "trees", "arrow", log="none")
    data = bench.work / "data"
    first = (data / "trees.record.jsonl").read_bytes().splitlines()[0]
    kind = "application/vnd.apache.arrow.stream"
    url = side.url + "/arrow"
    ratios: dict[str, list[float]] = {}
    with running(side, first):
        wrk(url, data / "many.arrow", kind, 2, 1, whole=True)
        for number in range(bench.rounds):
            own = json.loads(bench.python(PEERS / "own_speed.py", data))
            for connections in (1, 2):
                load = wrk(url, data / "many.arrow", kind, connections, bench.seconds, whole=True)
                rows = 10_000 * load.rate
                print(
                    f"  round {number + 1}: {connections} connections {rows:,.0f} rows/s; "
                    f"alone {own}",
                    flush=True,
                )
                for what, alone in own.items():
                    name = f"rows/s, {connections} connections / {what}"
                    ratios.setdefault(name, []).append(rows / alone)
    for what, values in ratios.items():
        _verdict(what, values, ">=", 0.8)
    bench.figures["arrow"] = ratios


def memory(bench: Bench) -> None:
    """The resident memory of a worker, after load."""
    for model in ("linear", "trees"):
        side = trivet(bench.environments, bench.work, model, "memory", log="results")
        bodies = bench.work / "data" / f"{model}.record.jsonl"
        with running(side, bodies.read_bytes().splitlines()[0]) as pid:
            fresh = max(size for one, size in resident(pid).items() if one != pid)
            wrk(side.url, bodies, side.content_type, 64, bench.seconds, whole=False)
            sizes = resident(pid)
            worker = max(size for one, size in sizes.items() if one != pid)
            print(f"  {model}: fresh {fresh:.0f} MB, parent {sizes[pid]:.0f} MB", flush=True)
            _verdict(f"{model}: MB of a worker after load", [worker], "<=", 200.0)
            bench.figures[f"memory {model}"] = worker


def _table(bench: Bench, loads: Loads) -> None:
    heads = "".join(f"{f'{c}: req/s (p50, p99 ms)':>30}" for c in bench.connections)
    print(f"\n{bench.model}: medians of {bench.rounds}\n  {'':<16}{heads}")
    for name, by in loads.items():
        cells = []
        for some in by.values():
            rate, p50, p99 = (
                statistics.median(getattr(load, what) for load in some)
                for what in ("rate", "p50", "p99")
            )
            cells.append(f"{rate:,.0f} ({p50:.2f}, {p99:.1f})")
        print(f"  {name:<16}" + "".join(f"{cell:>30}" for cell in cells))


def _verdict(what: str, values: Sequence[float], relation: str, bar: float) -> None:
    value = statistics.median(values)
    good = value >= bar if relation == ">=" else value <= bar
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    print(
        f"{what}: {value:.2f}{spread}  {'kept' if good else 'MISSED'}: {relation} {bar:.3g}",
        flush=True,
    )


def _told(load: Load) -> str:
    bad = f", {load.refused} refused, {load.broken} broken" if load.refused or load.broken else ""
    return f"{load.rate:,.0f}/s, p50 {load.p50:.2f} ms, p99 {load.p99:.1f} ms{bad}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    sides = ("echo", *(f"trivet {kind}" for kind in OWN), *PEER_NAMES)
    parser.add_argument("--model", choices=("trees", "linear"), default="trees")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--sides", nargs="+", choices=sides, default=list(sides), metavar="SIDE")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="data and environments")
    parser.add_argument("--trivet", type=Path, help="Trivet's environment, made if missing")
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    parts = (speed, crowd, overload, arrow, memory)
    for part in parts:
        what = (part.__doc__ or "").splitlines()[0]
        parser.add_argument(f"--{part.__name__}", action="store_true", help=what)
    arguments = parser.parse_args()
    for tool, package in (("wrk", "wrk"), ("h2load", "nghttp2-client")):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed; apt install {package}")
    chosen = [part for part in parts if getattr(arguments, part.__name__)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped too
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    bench = Bench(arguments)
    for part in chosen or parts:
        print(f"\n{(part.__doc__ or '').splitlines()[0]}", flush=True)
        part(bench)
    if arguments.json:
        arguments.json.write_text(json.dumps(bench.figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

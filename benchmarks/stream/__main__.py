"""Trivet beside a raw loop and other frameworks, in pairs in one run: benchmarks/README.md."""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOPIC = "rides"
PARTITIONS = 4
PACE, WARM, MEASURED = 1000, 5000, 10_000
"""Events a second, and how many of them are let pass before so many are measured."""

PATIENCE = 120.0

PEERS = {
    "quix": ("quix", "quix.py", 60_000),
    "faststream": ("faststream", "faststream_batch.py", 40_000),
    "bytewax": ("bytewax", "bytewax_operators.py", 0),
    "bytewax-batches": ("bytewax", "bytewax_batches.py", 0),
}
"""By peer: its environment and script, and how many events it is given; 0 for all."""

Told = dict[str, Any]


class Runs:
    """Runs sides against one broker.

    Args:
        url: The broker's.
        folder: Has the model, and takes the results.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self._numbers = itertools.count(1)

    def name(self, prefix: str) -> str:
        """Return the name of a group or topic that there is not yet."""
        return f"{prefix}-{next(self._numbers)}"

    def create(self, topic: str) -> str:
        from trivet import brokers

        made = brokers.connect(self.url)
        made.create(topic, PARTITIONS)
        made.close()
        return topic

    def raw(self, sink: str, topic: str, events: int, *warm: int) -> list[str | Path]:
        """Return the command of the raw loop."""
        group = self.name("raw")
        into = f"topic:{self.create(f'{group}-out')}" if sink == "topic" else self._file(group)
        model = self.folder / "model.txt"
        words: list[str | Path] = [HERE / "sides/raw.py", model, self.url, topic, into]
        return [sys.executable, *words, *map(str, (events, group, *warm))]

    def trivet(self, sink: str, topic: str, events: int, warm: int = 0) -> list[str | Path]:
        """Return the command of Trivet's worker."""
        group = self.name("trivet")
        settings = [f'group="{group}"', 'dead_letters="none"']
        if sink == "topic":
            settings += ["results=false", f'output="{self.create(f"{group}-out")}"']
        words: list[str | Path] = [HERE / "sides/trivet_worker.py", self.folder, self.url, topic]
        results = f"sqlite:///{self._file(group)}"
        return [sys.executable, *words, results, str(events), str(warm), *settings]

    def peer(self, python: Path, script: str, topic: str, events: int) -> list[str | Path]:
        """Return the command of a peer."""
        group = self.name("peer")
        output = self.create(f"{group}-out")
        server = self.url.removeprefix("kafka://")
        words: list[str | Path] = [
            HERE / "peers" / script,
            self.folder / "model.txt",
            server,
            topic,
            output,
        ]
        return [python, *words, str(events), group]

    def _file(self, name: str) -> str:
        return str(self.folder / f"{name}.db")

    def run(self, command: Sequence[str | Path], beside: Sequence[str | Path] = ()) -> Told:
        """Run a side to its end, and return what it told last."""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE.parent
        ) as side:
            try:
                if beside:
                    subprocess.run(beside, check=True, cwd=HERE.parent, stdout=subprocess.DEVNULL)
                said, complaints = side.communicate(timeout=PATIENCE)
            except BaseException:
                side.kill()
                raise
        if side.returncode:
            raise SystemExit(f"{command} failed:\n{said}{complaints}")
        for path in self.folder.glob("*-*.db*"):
            path.unlink()
        told: Told = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
        return told


@contextmanager
def broker(kind: str, folder: Path) -> Iterator[str]:
    """Give the url of a broker."""
    if kind == "embedded":
        yield f"sqlite:///{folder / 'events.db'}"
        return
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from support.kafka import KafkaServer

    with KafkaServer() as server:
        yield server.url


def speed(runs: Runs, what: str, sink: str, events: int, rounds: int) -> None:
    """Compare the events a second of the raw loop and of Trivet."""
    pairs = []
    for _ in range(rounds):
        raw = rate(runs.run(runs.raw(sink, TOPIC, events)))
        pairs.append((raw, rate(runs.run(runs.trivet(sink, TOPIC, events)))))
    floors, ours = zip(*pairs, strict=True)
    print(
        f"{what} to {sink}: raw {statistics.median(floors):,.0f}, "
        f"trivet {statistics.median(ours):,.0f} events/s, "
        f"ratio {spread([b / a for a, b in pairs])}",
        flush=True,
    )


def latency(runs: Runs, what: str, sink: str, rounds: int) -> None:
    """Compare how late results are of events that come at a steady pace."""
    count = WARM + MEASURED
    for _ in range(rounds):
        for side, command in (("raw", runs.raw), ("trivet", runs.trivet)):
            topic = runs.create(runs.name("paced"))
            paced = [sys.executable, "-m", "stream.paced", runs.url, topic, str(count), str(PACE)]
            told = runs.run(command(sink, topic, count, WARM), paced)
            print(
                f"{what} to {sink}, {PACE:,} events/s, {side}: "
                f"p50 {told['p50_ms']:.1f}, p99 {told['p99_ms']:.1f} ms",
                flush=True,
            )


def peers(runs: Runs, work: Path, events: int, rounds: int, names: Sequence[str]) -> None:
    """Compare other frameworks with Trivet, from a topic of Kafka to another."""
    needed = {PEERS[name][0] for name in names}
    made = {name: python(work / name, HERE / f"requirements/{name}.txt") for name in needed}
    ratios: dict[str, list[float]] = {name: [] for name in names}
    speeds: dict[str, list[float]] = {name: [] for name in (*names, "trivet")}
    for _ in range(rounds):
        ours = rate(runs.run(runs.trivet("topic", TOPIC, events)))
        speeds["trivet"].append(ours)
        for name in names:
            environment, script, most = PEERS[name]
            command = runs.peer(made[environment], script, TOPIC, min(events, most or events))
            theirs = rate(runs.run(command))
            speeds[name].append(theirs)
            ratios[name].append(ours / theirs)
    print(f"kafka to topic: trivet {statistics.median(speeds['trivet']):,.0f} events/s")
    for name in names:
        print(
            f"{name}: {statistics.median(speeds[name]):,.0f} events/s, "
            f"trivet / {name} {spread(ratios[name])}",
            flush=True,
        )


def python(folder: Path, requirements: Path) -> Path:
    """Return the interpreter of an environment, which is made on the first run."""
    found = folder / "bin" / "python"
    if not (folder / ".made").exists():
        venv.create(folder, with_pip=True)
        command: list[str | Path] = [found, "-m", "pip", "install", "--quiet", "-r", requirements]
        subprocess.run(command, check=True)
        (folder / ".made").touch()
    return found


def rate(told: Told) -> float:
    return float(told["events"] / told["seconds"])


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stream")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--brokers", default="embedded,kafka")
    parser.add_argument("--sinks", default="results,topic")
    parser.add_argument("--parts", default="speed,latency,peers")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="environments")
    asked = parser.parse_args()
    parts = asked.parts.split(",")
    folder = Path(tempfile.mkdtemp(prefix="trivet-stream-"))
    try:
        for kind in asked.brokers.split(","):
            with broker(kind, folder) as url:
                runs = Runs(url, folder)
                command = [sys.executable, "-m", "stream.data", str(folder), url, TOPIC]
                subprocess.run([*command, str(asked.events)], check=True, cwd=HERE.parent)
                sinks = asked.sinks.split(",")
                if kind == "kafka":  # a cold broker gives half
                    for sink in sinks:
                        runs.run(runs.raw(sink, TOPIC, asked.events))
                        runs.run(runs.trivet(sink, TOPIC, asked.events))
                for sink in sinks:
                    if "speed" in parts:
                        speed(runs, kind, sink, asked.events, asked.rounds)
                    # Where one waits for a disk or a broker: the other two are between them.
                    if "latency" in parts and (kind, sink) in (
                        ("embedded", "results"),
                        ("kafka", "topic"),
                    ):
                        latency(runs, kind, sink, asked.rounds)
                if "peers" in parts and kind == "kafka":
                    names = asked.peers.split(",")
                    peers(runs, asked.work, asked.events, asked.rounds, names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

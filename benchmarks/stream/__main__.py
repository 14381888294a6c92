"""Trivet beside the raw loop, in pairs in one run; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOPIC = "rides"


def run(*words: str | Path) -> dict[str, Any]:
    """Run a side to its end, and return what it told last."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parent)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
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


def pair(url: str, folder: Path, sink: str, events: int, number: int) -> tuple[float, float]:
    """Return the events a second of the raw loop and of Trivet."""
    from trivet import brokers

    group = f"{sink}-{number}"
    if sink == "topic":
        made = brokers.connect(url)
        for output in (f"raw-{group}", f"out-{group}"):
            made.create(output, 4)
        made.close()
    results = folder / f"{group}.db"
    raw = f"topic:raw-{group}" if sink == "topic" else str(folder / f"raw-{group}.db")
    floor = run(
        HERE / "sides/raw.py", folder / "model.txt", url, TOPIC, raw, str(events), f"raw-{group}"
    )
    settings = [f'group="{group}"', 'dead_letters="none"']
    if sink == "topic":
        settings += ["results=false", f'output="out-{group}"']
    ours = run(
        HERE / "sides/trivet_worker.py",
        folder,
        url,
        TOPIC,
        f"sqlite:///{results}",
        str(events),
        *settings,
    )
    for path in folder.glob(f"*{group}.db*"):
        path.unlink()
    return floor["events"] / floor["seconds"], ours["events"] / ours["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stream")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--brokers", default="embedded,kafka")
    parser.add_argument("--sinks", default="results,topic")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="trivet-stream-"))
    try:
        for kind in asked.brokers.split(","):
            with broker(kind, folder) as url:
                command = [sys.executable, "-m", "stream.data", str(folder), url, TOPIC]
                subprocess.run([*command, str(asked.events)], check=True, cwd=HERE.parent)
                for sink in asked.sinks.split(","):
                    if kind == "kafka":  # a cold broker gives half
                        pair(url, folder, sink, asked.events, 0)
                    pairs = [
                        pair(url, folder, sink, asked.events, n + 1) for n in range(asked.rounds)
                    ]
                    ratios = sorted(ours / floor for floor, ours in pairs)
                    floors, speeds = zip(*pairs, strict=True)
                    print(
                        f"{kind} to {sink}: raw {statistics.median(floors):,.0f}, "
                        f"trivet {statistics.median(speeds):,.0f} events/s, "
                        f"ratio {statistics.median(ratios):.2f} "
                        f"({ratios[0]:.2f} to {ratios[-1]:.2f})",
                        flush=True,
                    )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

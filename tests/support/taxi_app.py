"""The taxi company in a folder of its own: its models made in seconds, its ports its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from support.up_process import SOURCE, free_ports

ROOT = Path(__file__).parents[2]
TAXI = ROOT / "examples" / "taxi"
USUAL = '{"overall": [11.0, 10.0], "pairs": {"230-132": [40.0, 52.0]}}'


def train(folder: Path) -> Path:
    """Train all models with a few trees each; return the store."""
    store = folder / "models"
    words: list[str | Path]
    words = [sys.executable, TAXI / "train.py", "--trees", "0.02", "--models", store]
    subprocess.run(words, check=True, env=environment(), stdout=subprocess.DEVNULL)
    return store


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(SOURCE), "COLUMNS": "200"}


class Company:
    """A copy of the project.

    Args:
        folder: Where to.
        models: The store that its models come from.
        broker: Url of a Kafka broker, for the project on PostgreSQL and Kafka.
        results: Url of a PostgreSQL database, for the same.

    Attributes:
        folder: Where it is.
        project: The folder of its trivet.toml.
        backend: The address of the backend.
        service: The address of the models' service.
        dashboard: The address of the dashboard.
    """

    def __init__(self, folder: Path, models: Path, broker: str = "", results: str = "") -> None:
        self.folder = folder
        self.project = folder / "production" if broker else folder
        self.project.mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TAXI / "backend", folder / "backend", ignore=ignored)
        shutil.copytree(TAXI / "sql", folder / "sql")
        for script in TAXI.glob("*.py"):
            shutil.copy(script, folder)
        shutil.copytree(models, folder / "models")
        (folder / "data").mkdir()
        (folder / "data" / "trips.parquet").symlink_to(TAXI / "data" / "trips.parquet")
        (folder / "data" / "usual.json").write_text(USUAL, encoding="utf-8")
        ports = free_ports(3)
        self.backend, self.service, self.dashboard = (f"http://127.0.0.1:{port}" for port in ports)
        file = self.project.relative_to(folder) / "trivet.toml"
        settings = (TAXI / file).read_text(encoding="utf-8")
        if broker:
            settings = settings.replace("kafka://127.0.0.1:9092", broker)
            settings = re.sub(r'"postgresql://.*?"', f'"{results}"', settings)
        for old, new in zip((8000, 8080, 8090), ports, strict=True):
            settings = re.sub(rf"\b{old}\b", str(new), settings)
        settings = settings.replace("-m backend", f"-m backend --service {self.service}")
        (folder / file).write_text(settings, encoding="utf-8")

    @property
    def token(self) -> str:
        """The fleet's token."""
        return (self.folder / "data" / "fleet.token").read_text(encoding="ascii")

    @contextmanager
    def loading(self, rate: float, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
        """Drive rides, while everything is up; `outcome_of` gives what came of it."""
        words: list[str | Path]
        words = [sys.executable, "load.py", "--backend", self.backend, "--project", self.project]
        words += ["--rate", str(rate), "--seconds", str(seconds), "--json"]
        with subprocess.Popen(
            words, cwd=self.folder, env=environment(), stdout=subprocess.PIPE
        ) as load:
            try:
                yield load
            finally:
                if load.poll() is None:
                    load.kill()

    @contextmanager
    def running_backend(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the backend alone."""
        port = self.backend.rpartition(":")[2]
        words = [sys.executable, "-m", "backend", "--port", port, "--service", self.service]
        with (self.folder / "backend.log").open("ab") as log:
            process = subprocess.Popen(
                [*words, *arguments], cwd=self.folder, env=environment(), stdout=log, stderr=log
            )
            try:
                answers(f"{self.backend}/health", process)
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                process.wait(60)


def outcome_of(load: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait for the end of a load and return what came of it."""
    told, _ = load.communicate()
    return dict(json.loads(told))


def answers(url: str, process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    """Wait until something answers there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, "it ended before it was ready"
        assert time.monotonic() < deadline, f"{url} never answered"
        time.sleep(0.05)

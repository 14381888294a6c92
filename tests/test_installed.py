"""From a built wheel in an empty environment: a new user's first minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.up_process import free_ports, here

ROOT = Path(__file__).parents[1]

Until = Callable[[Callable[[], bool]], None]


class Machine:
    """A folder with an environment of its own, and a clock of what each step took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "env" / "bin"
        self.began = time.monotonic()

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
        plain["PATH"] = f"{self.bin}{os.pathsep}{plain['PATH']}"
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd or self.folder,
            env=plain,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def tell(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {what}")


@pytest.mark.soak
def test_the_first_minutes(tmp_path: Path, until: Until) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    machine = Machine(tmp_path)
    machine.run(sys.executable, "-m", "venv", "env")
    machine.run(machine.bin / "pip", "install", "--quiet", f"{wheel}[service,dashboard]")
    machine.tell("installed")
    machine.run(machine.bin / "trivet", "init", "demo")
    machine.tell("trivet init demo")
    demo = tmp_path / "demo"
    service, pages = free_ports(2)
    text = (
        (demo / "trivet.toml").read_text().replace("port = 8080", f"port = {service}\ngrpc = false")
    )
    (demo / "trivet.toml").write_text(f"{text}\n[dashboard]\nport = {pages}\n")
    log = (tmp_path / "up.log").open("w")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    plain["PATH"] = f"{machine.bin}{os.pathsep}{plain['PATH']}"
    up = subprocess.Popen(
        [machine.bin / "trivet", "up"], cwd=demo, env=plain, stdout=log, stderr=log
    )
    try:

        def ready() -> bool:
            assert up.poll() is None, (tmp_path / "up.log").read_text()
            done = subprocess.run(
                [machine.bin / "trivet", "status", "--json"],
                cwd=demo,
                env=plain,
                capture_output=True,
                check=False,
            )
            return done.returncode == 0

        until(ready)
        machine.tell("everything is ready")
        until(lambda: rows(machine, demo, "delivery_time") > 900)
        machine.tell("a scored table")
        row = {"order_id": 1, "distance_km": 4.2, "weight_kg": 1.5, "carrier": "bike"}
        answer = post(f"http://127.0.0.1:{service}/predict/delivery-time", row)
        assert answer["prediction"]["minutes"] > 1
        machine.tell("an answered request")
        until(lambda: rows(machine, demo, "live_delivery_time") > 0)
        machine.tell("a consumed event")
        with urllib.request.urlopen(f"http://127.0.0.1:{pages}/") as page:
            assert b"delivery-time" in page.read()
        machine.tell("a dashboard")
    finally:
        up.terminate()
        code = up.wait(120)
        log.close()
    assert code == 0, (tmp_path / "up.log").read_text()
    assert not here(demo)
    machine.tell("stopped, nothing left")


def rows(machine: Machine, demo: Path, view: str) -> int:
    look = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect('data/results.db')\n"
        "there = db.execute('SELECT count(*) FROM sqlite_master WHERE name = ?', [sys.argv[1]])\n"
        "count = f'SELECT count(*) FROM {sys.argv[1]}'\n"
        "print(there.fetchone()[0] and db.execute(count).fetchone()[0])"
    )
    return int(machine.run(machine.bin / "python", "-c", look, view, cwd=demo))


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
    return found

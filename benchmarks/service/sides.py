"""The servers: how each is started, what it is sent, and how it is known to be ready."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / "peers"
PATIENCE = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One server.

    Attributes:
        name: What it is called in the tables.
        command: Starts it.
        port: Where it listens.
        path: Where rows are sent.
        form: Which of the files of rows it is sent; see `service.models`.
        content_type: What they are.
        environment: Variables that it needs.
        folder: Where it is started.
    """

    name: str
    command: tuple[str | Path, ...]
    port: int
    path: str
    form: str = "record"
    content_type: str = "application/json"
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = PEERS

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


class Environments:
    """The interpreters of the sides, each made on the first run; a peer that cannot be is left out.

    Args:
        work: The folder that they are made in.
        trivet: Trivet's, if it is there already.
    """

    def __init__(self, work: Path, trivet: Path | None) -> None:
        self._work = work
        root = HERE.parents[1]
        self.trivet = (
            trivet / "bin" / "python"
            if trivet
            else self._python("trivet", "-e", f"{root}[service,lightgbm,sklearn]")
        )

    def peer(self, name: str) -> Path | None:
        """Return a peer's interpreter, or None, with a word about it, if it cannot be installed."""
        try:
            return self._python(name, "-r", HERE / "requirements" / f"{name}.txt")
        except subprocess.CalledProcessError:
            print(f"{name} is left out: it cannot be installed here", flush=True)
            shutil.rmtree(self._work / name, ignore_errors=True)
            return None

    def _python(self, name: str, *needed: str | Path) -> Path:
        folder = self._work / name
        python = folder / "bin" / "python"
        if not python.exists():
            print(f"making the environment {folder} …", flush=True)
            venv.create(folder, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *needed], check=True)
        return python


def trivet(
    environments: Environments, work: Path, model: str, kind: str, **settings: object
) -> Side:
    """Return Trivet as a user starts it, with more of ``[service]`` if wanted."""
    home = work / "projects" / f"{model}-{kind}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    port = free_port()
    told = {
        "models": [model],
        "port": port,
        "grpc_port": free_port(),
        "key": ["ride_id"],
    } | settings
    lines = [f"{key} = {_toml(value)}" for key, value in told.items()]
    (home / "trivet.toml").write_text(
        f'[results]\nurl = "sqlite:///results.db"\n'
        f'[models.{model}]\nuri = "{work / "data/models" / model}"\n'
        "[service]\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    return Side(
        name=f"trivet {kind}",
        command=(environments.trivet.with_name("trivet"), "serve"),
        port=port,
        path=f"/predict/{model}",
        folder=home,
    )


def echo(environments: Environments) -> Side:
    """Return the bare echo, on Trivet's own server and versions."""
    port = free_port()
    return Side(
        name="echo",
        command=(environments.trivet, PEERS / "echo.py", str(port)),
        port=port,
        path="/",
    )


def peer(environments: Environments, work: Path, model: str, name: str) -> Side | None:
    """Return one of the others, or None if it cannot be installed."""
    python = environments.peer(name.partition(" ")[0])
    if python is None:
        return None
    file = work / "data" / ("linear.pkl" if model == "linear" else f"{model}.txt")
    port = free_port()
    if name.startswith("fastapi "):
        script = "fastapi_linear.py" if model == "linear" else "fastapi_trees.py"
        path = "/async" if name.endswith("async") else "/def"
        return Side(name=name, command=(python, script, str(port), file), port=port, path=path)
    if name == "litserve":
        start = (python, "litserve_both.py", str(port), file)
        return Side(name=name, command=start, port=port, path="/predict")
    if name == "mlserver":
        folder = work / "projects" / f"{model}-mlserver"
        command = (python, "mlserver_both.py", str(port), file, folder)
        path = "/v2/models/trips/infer"
        return Side(
            name=name,
            command=command,
            port=port,
            path=path,
            form="infer",
            environment={"PYTHONPATH": str(PEERS)},
        )
    if name == "bentoml":
        served = f"bentoml_both:{'Linear' if model == 'linear' else 'Trees'}"
        return Side(
            name=name,
            command=(python.with_name("bentoml"), "serve", served, "-p", str(port)),
            port=port,
            path="/predict",
            form="rows",
            environment={"MODEL": str(file), "BENTOML_DO_NOT_TRACK": "True"},
        )
    assert name == "mlflow", name
    folder = work / "projects" / f"{model}-mlflow"
    if not folder.exists():
        subprocess.run([python, PEERS / "mlflow_save.py", file, folder], check=True)
    options = ("-p", str(port), "--env-manager", "local", "--workers", "1")
    return Side(
        name=name,
        command=(python.with_name("mlflow"), "models", "serve", "-m", folder, *options),
        port=port,
        path="/invocations",
        form="split",
    )


@contextmanager
def running(side: Side, body: bytes) -> Iterator[int]:
    """Run a server until the block ends; give its process id once it answers a row with 200."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {
        "PATH": f"{Path(side.command[0]).parent}:{os.environ['PATH']}",
        # A thread a model: with more, LightGBM answers a single row many times slower.
        "OMP_NUM_THREADS": "1",
        **side.environment,
    }
    log = side.folder / f"{side.name.replace(' ', '-')}.log"
    if side.folder == PEERS:
        log = Path(tempfile.gettempdir()) / log.name
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in side.command],
            cwd=side.folder,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait(side, body, process, log)
        yield process.pid
    finally:
        _end(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident(pid: int) -> dict[int, float]:
    """Return the resident MB of a process and of all that it started."""
    children: dict[int, list[int]] = {}
    sizes: dict[int, float] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            told = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if "VmRSS" in told:
            children.setdefault(int(told["PPid"]), []).append(int(told["Pid"]))
            sizes[int(told["Pid"])] = int(told["VmRSS"].split()[0]) / 1024
    found, pending = {}, [pid]
    while pending:
        one = pending.pop()
        if one in sizes:
            found[one] = sizes[one]
        pending += children.get(one, [])
    return found


def _wait(side: Side, body: bytes, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    request = urllib.request.Request(
        side.url, data=body, headers={"content-type": side.content_type}, method="POST"
    )
    last = "nothing"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.read()[:500]!r}"
        except OSError as error:
            last = str(error)
        time.sleep(0.1)
    end = log.read_text(errors="replace")[-2000:]
    raise SystemExit(f"{side.name} does not answer a row: {last}\n{end}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started, and wait for it."""
    for number, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 15.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait(PATIENCE)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


if sys.platform == "win32":
    raise SystemExit("these benchmarks need wrk and signals: Linux or macOS")

"""Clients that others wrote, in processes of their own, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

SUPPORT = Path(__file__).parents[2] / "support"
MAKE = (
    "make .clients/.done, or TRIVET_CLIENTS_PYTHON=<a Python with tests/requirements-clients.txt>"
)


class Ports(NamedTuple):
    http: str
    grpc: str


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    paths = [str(SUPPORT.parent), str(SUPPORT.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, str(SUPPORT / "service_process.py")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    ) as process:
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            yield Ports(str(told["http"]), str(told["grpc"]))
        finally:
            process.terminate()
            process.wait(30)


def run(script: str, *arguments: str) -> Any:
    python = os.environ.get("TRIVET_CLIENTS_PYTHON")
    if not python or not Path(python).exists():
        pytest.skip(f"the clients are not installed; {MAKE}")
    done = subprocess.run(
        [python, str(SUPPORT / "clients" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_triton_over_http(ports: Ports) -> None:
    said = run("triton_http.py", ports.http)
    assert (said["live"], said["ready"], said["model_ready"], said["version_ready"]) == (True,) * 4
    assert said["nobody_ready"] is False
    assert said["server"]["extensions"] == ["binary_tensor_data"]
    assert said["model"]["inputs"][0] == {"name": "in_bool", "datatype": "BOOL", "shape": [-1]}
    assert said["binary"] == said["json"] == [31.0, 62.0]
    assert said["version"] == [21.0, 42.0]
    assert said["id"] == "mine"
    assert all(said["echo_binary"].values()), said["echo_binary"]
    assert all(said["echo_json"].values()), said["echo_json"]
    for case, status, words in (
        ("wrong_name", "400", "'nope'"),
        ("wrong_type", "400", "'x0'"),
        ("wrong_shape", "400", "'x0'"),
        ("missing", "400", "'x1'"),
        ("wrong_output", "400", "'nothing'"),
        ("wrong_model", "404", "'nobody'"),
        ("bad_row", "400", "row 1: x0: not_finite"),
    ):
        assert said[case][0] == status, case
        assert words in said[case][1], case


def test_triton_over_grpc(ports: Ports) -> None:
    said = run("triton_grpc.py", ports.grpc)
    assert (said["live"], said["ready"], said["model_ready"]) == (True,) * 3
    assert said["nobody_ready"][0] == "StatusCode.NOT_FOUND"
    assert said["server"]["name"] == "trivet"
    assert said["model"]["versions"] == ["1", "2"]
    assert said["model"]["inputs"][1] == {"name": "x1", "datatype": "FP64", "shape": ["-1"]}
    assert said["infer"] == [31.0, 62.0]
    assert said["version"] == [21.0, 42.0]
    assert said["id"] == "mine"
    assert said["texts"] == ["é", "b"]
    assert said["means"] == [4.5, 7.0]
    assert said["wrong_name"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "'nope'" in said["wrong_name"][1]
    assert said["wrong_model"][0] == "StatusCode.NOT_FOUND"
    assert said["late"][0] == "StatusCode.DEADLINE_EXCEEDED"


def test_kserve_over_both(ports: Ports) -> None:
    said = run("kserve_both.py", ports.http, ports.grpc)
    for case in ("live", "ready", "model_ready", "grpc_live", "grpc_ready", "grpc_model_ready"):
        assert said[case] is True, case
    assert said["nobody_ready"] is False
    assert said["grpc_nobody_ready"][0] == "NOT_FOUND"
    for case in ("json", "binary", "grpc_json", "grpc_binary"):
        assert said[case] == ["mine", [31.0, 62.0]], case
    assert said["wrong_name"][0] == 400
    assert "'nope'" in said["wrong_name"][1]
    assert said["grpc_wrong_name"][0] == "INVALID_ARGUMENT"
    assert "'nope'" in said["grpc_wrong_name"][1]


def test_mlflow(ports: Ports) -> None:
    said = run("mlflow_scoring.py", ports.http)
    assert said["frame"] == said["array"] == [31.0, 62.0]
    assert said["objects"] == [31.0]
    assert said["version"]
    assert "400" in said["refused"]
    assert "x1" in said["refused"]
    for case, (theirs, ours) in said["both"].items():
        assert theirs[0] == ours[0], (case, theirs, ours)
        if theirs[0] == 200:
            assert theirs == ours, case
        else:
            assert set(ours[1]) == {"error_code", "message"}, case

"""A real service under requests of each protocol that were good until something changed them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pyarrow as pa
import pytest

from faults.places import short_or_soak
from support.mutations import NUMBERS, any_bytes, any_json
from support.service_models import Echo
from support.service_server import PATIENCE, Service
from trivet import parity
from trivet.current import Source
from trivet.hosts.service.protocols.oip_messages import MESSAGES, SERVICE

SEED = 20200704
BATCH = 250
THREADS = 4
ROOM = 96 * 2**20
"""So much may a process grow by, whatever it is sent; a body has 1 MB at most."""

MODELS = [Source("fare", "faults.fare:Fare"), Source("echo", "support.service_models:Echo")]
KINDS = ("application/json", "text/csv", "application/octet-stream", "a/b; charset=\xff", "")
LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Sent:
    """A request: over HTTP, or with a message in place of the path over gRPC.

    Attributes:
        path: The address, ``ModelInfer`` for gRPC.
        body: What is sent.
        value: What was written as JSON at the body's begin, None for none.
        tail: The bytes behind that.
        headers: What is sent beside the body.
    """

    path: str
    body: bytes = b""
    value: Any = None
    tail: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_grpc(self) -> bool:
        return not self.path.startswith("/")

    def changed(self, draw: random.Random) -> Sent:
        """Return it with some of its parts changed."""
        if self.is_grpc:
            return replace(self, body=_message(draw, self.body))
        headers = dict(self.headers)
        if self.value is not None and draw.random() < 0.6:
            head = any_json(draw, self.value)
            body = head + self.tail
            if LENGTH in headers:
                headers[LENGTH] = str(len(head))
        else:
            body = any_bytes(draw, self.body)
        if LENGTH in headers and draw.random() < 0.2:
            headers[LENGTH] = draw.choice(("", "x", "1e3", *map(str, NUMBERS), "9" * 40))
        if draw.random() < 0.03:
            headers["Content-Type"] = draw.choice(KINDS)
        if draw.random() < 0.003:
            body += b" " * 2**20
        return replace(self, body=body, headers=headers)


def _message(draw: random.Random, body: bytes) -> bytes:
    """Change a message: its bytes, or its members."""
    if draw.random() < 0.5:
        return any_bytes(draw, body)
    message = MESSAGES["ModelInferRequest"].FromString(body)
    for _ in range(draw.randint(1, 3)):
        tensor = draw.choice(message.inputs)
        kind = draw.randrange(7)
        if kind == 0:
            tensor.shape[:] = draw.choices(NUMBERS, k=draw.randint(0, 3))
        elif kind == 1:
            tensor.datatype = draw.choice(("FP64", "INT8", "UINT64", "BYTES", "FP16", "", "X"))
        elif kind == 2:
            tensor.name = draw.choice(("", "x" * 10_000, *(t.name for t in message.inputs)))
        elif kind == 3:
            message.raw_input_contents.append(draw.randbytes(draw.randint(0, 40)))
        elif kind == 4:
            tensor.contents.int64_contents.extend(draw.choices(NUMBERS[:-1], k=3))
        elif kind == 5:
            message.inputs.add().CopyFrom(tensor)
        elif len(message.inputs) > 1:
            message.inputs.remove(tensor)
    changed: bytes = message.SerializeToString()
    return changed


FARES: list[dict[str, Any]] = [
    {"distance": 3.5, "passengers": 2, "zone": "north", "ride": "r1"},
    {"distance": 12.25, "passengers": None, "zone": "west", "ride": "r2"},
    {"distance": 0.0, "passengers": 8, "zone": "south"},
]
ECHOED = parity.synthetic(Echo.inputs, 3)
ECHOES: list[dict[str, Any]] = json.loads(json.dumps(ECHOED.to_pylist(), default=str))
for _row in ECHOES:
    _row["in_timestamp"] = _row["in_timestamp"].replace(" ", "T")


def _json(path: str, value: Any) -> Sent:
    kind = {"Content-Type": "application/json"}
    return Sent(path, json.dumps(value).encode(), value, headers=kind)


def _records() -> Iterator[Sent]:
    yield _json("/predict/fare", FARES[0])
    yield _json("/predict/fare", {"rows": FARES})
    yield _json("/predict/echo", ECHOES[0])
    yield _json("/predict/echo", {"rows": ECHOES})


def _arrow() -> Iterator[Sent]:
    fares = pa.RecordBatch.from_pylist(FARES)
    words = fares.set_column(2, "zone", fares["zone"].dictionary_encode())
    for path, batch in (("fare", fares), ("fare", words), ("echo", ECHOED)):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
            writer.write_batch(batch)
        kind = {"Content-Type": "application/vnd.apache.arrow.stream"}
        yield Sent(f"/predict/{path}/arrow", sink.getvalue().to_pybytes(), headers=kind)


def _tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


def _oip() -> Iterator[Sent]:
    zone = _tensor("zone", "BYTES", ["north", "east"])
    passengers = _tensor("passengers", "INT64", [1, 2])
    value = {"id": "7", "inputs": [_tensor("distance", "FP64", [1.5, 2.0]), passengers, zone]}
    yield _json("/v2/models/fare/infer", value)
    yield _json("/v2/models/fare/versions/0/infer", value | {"outputs": [{"name": "fare"}]})


def _oip_binary() -> Iterator[Sent]:
    parts = {
        "distance": ("FP64", pa.array([1.5, 2.0], pa.float64()).buffers()[1].to_pybytes()[:16]),
        "passengers": ("INT64", pa.array([1, 2], pa.int64()).buffers()[1].to_pybytes()[:16]),
        "zone": ("BYTES", b"\x05\0\0\0north\x04\0\0\0east"),
    }
    value = {
        "inputs": [
            {"name": n, "datatype": t, "shape": [2], "parameters": {"binary_data_size": len(data)}}
            for n, (t, data) in parts.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    head, tail = json.dumps(value).encode(), b"".join(data for _, data in parts.values())
    told = {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}
    yield Sent("/v2/models/fare/infer", head + tail, value, tail, told)


def _oip_grpc() -> Iterator[Sent]:
    contents: tuple[tuple[str, str, str, list[Any]], ...] = (
        ("distance", "FP64", "fp64_contents", [1.5, 2.0]),
        ("passengers", "INT64", "int64_contents", [1, 2]),
        ("zone", "BYTES", "bytes_contents", [b"north", b"east"]),
    )
    inputs: list[dict[str, Any]] = [
        {"name": name, "datatype": kind, "shape": [2], "contents": {member: values}}
        for name, kind, member, values in contents
    ]
    message = MESSAGES["ModelInferRequest"]
    yield Sent("ModelInfer", message(model_name="fare", inputs=inputs).SerializeToString())
    bare = [{k: v for k, v in tensor.items() if k != "contents"} for tensor in inputs]
    raw = next(_oip_binary()).tail
    parts = [raw[:16], raw[16:32], raw[32:]]
    whole = message(model_name="fare", inputs=bare, raw_input_contents=parts)
    yield Sent("ModelInfer", whole.SerializeToString())


def _mlflow() -> Iterator[Sent]:
    rows = [{k: v for k, v in row.items() if k != "ride"} for row in FARES]
    columns = list(rows[0])
    values = [list(row.values()) for row in rows]
    whole = {name: [row[name] for row in rows[::2]] for name in columns}
    yield _json("/invocations", {"dataframe_records": rows})
    yield _json("/invocations", {"dataframe_split": {"columns": columns, "data": values}})
    yield _json("/invocations", {"instances": rows})
    yield _json("/invocations", {"inputs": whole})
    lines = "\n".join(",".join(map(str, row)) for row in (columns, values[0], values[2]))
    yield Sent("/invocations", lines.encode(), headers={"Content-Type": "text/csv"})


PROTOCOLS: dict[str, Callable[[], Iterator[Sent]]] = {
    "records": _records,
    "arrow": _arrow,
    "oip": _oip,
    "oip_binary": _oip_binary,
    "oip_grpc": _oip_grpc,
    "mlflow": _mlflow,
}
REFUSED = {400, 413, 415, 422}
GRPC_ANSWERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}


class Target:
    """A service, the connections to it, and what it was before anything was changed."""

    def __init__(self, service: Service, http: httpx.Client, channel: grpc.Channel) -> None:
        self._service = service
        self._http = http
        self._infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self.pids = sorted(service.supervisor.pids)
        self.good = {name: list(make()) for name, make in PROTOCOLS.items()}
        self._answers = {id(s): self._ask(s) for sent in self.good.values() for s in sent}
        for answers in self._answers.values():
            assert answers[0] in (200, "OK"), answers
        self.resident = self.memory()
        self.most = 0

    def memory(self) -> int:
        return max(psutil.Process(pid).memory_info().rss for pid in self.pids)

    def _ask(self, sent: Sent) -> tuple[int | str, bytes]:
        if not sent.is_grpc:
            named = {"X-Request-Id": "fuzz"} | sent.headers
            told = [(k.encode(), v.encode("latin-1")) for k, v in named.items()]
            answer = self._http.post(sent.path, content=sent.body, headers=told)
            return answer.status_code, answer.content
        try:
            told_id = (("x-request-id", "fuzz"),)
            return "OK", self._infer(sent.body, timeout=PATIENCE, metadata=told_id)
        except grpc.RpcError as error:
            return error.code().name, (error.details() or "").encode()

    def batch(self, sent: Sequence[Sent]) -> Counter[int | str]:
        """Send requests, several at a time; look at their answers, and return the statuses."""
        with ThreadPoolExecutor(THREADS) as threads:
            answers = list(threads.map(self._ask, sent))
        wrong = [
            f"{status} {body[:300]!r} to {one.path} {one.headers} {one.body[:2000]!r}"
            for one, (status, body) in zip(sent, answers, strict=True)
            if not self._is_right(one, status, body)
        ]
        assert not wrong, "\n".join(wrong)
        return Counter(status for status, _ in answers)

    def _is_right(self, sent: Sent, status: int | str, body: bytes) -> bool:
        """Say whether an answer is the one of before, or for a changed request one that may be."""
        if id(sent) in self._answers:
            before = self._answers[id(sent)]
            if sent.path.endswith("/arrow") and status == before[0]:  # or it differs in padding
                return bool(_table(body).equals(_table(before[1]), check_metadata=True))
            return (status, body) == before
        if sent.is_grpc:
            return status in GRPC_ANSWERS
        return status == 200 or (status in REFUSED and body.startswith(b"{"))

    def is_well(self) -> None:
        """Make sure that the processes are the same, ready, and have not grown."""
        assert self._http.get("/health/ready").status_code == 200
        assert sorted(self._service.supervisor.pids) == self.pids
        grown = self.memory() - self.resident
        self.most = max(self.most, grown)
        assert grown < ROOM, f"{grown / 2**20:.0f} MB more"


def _table(body: bytes) -> Any:
    return pa.ipc.open_stream(body).read_all()


@contextmanager
def served(root: Path) -> Iterator[Target]:
    """Serve two models, over both servers, with the log of predictions on."""
    more: dict[str, Any] = {
        "grpc": True,
        "grpc_port": 0,
        "log": "results",
        "max_body": 2**20,
        "max_rows": 1000,
    }
    with Service(root, MODELS, key=("ride",), **more) as service, service.client() as http:
        with grpc.insecure_channel(f"127.0.0.1:{service.supervisor.grpc_port}") as channel:
            yield Target(service, http, channel)
        service.until(lambda: service.counted("trivet_log_queue_rows") == 0)
        assert service.counted("trivet_log_rows_total", outcome="written") > 0


@short_or_soak(BATCH, 25_000)
def test_changed_requests(tmp_path: Path, capfd: pytest.CaptureFixture[str], count: int) -> None:
    told: dict[str, Counter[int | str]] = defaultdict(Counter)
    with served(tmp_path) as target:
        for number in range(count // BATCH):
            for name, good in target.good.items():
                draw = random.Random(f"{SEED} {name} {number}")
                sent = [draw.choice(good).changed(draw) for _ in range(BATCH)] + good * 3
                draw.shuffle(sent)
                told[name] += target.batch(sent)
                target.is_well()
                log = capfd.readouterr().err
                assert '"level":"error"' not in log, log[-4000:]
                assert "Traceback" not in log, log[-4000:]
    with capfd.disabled():
        print(f"\nseed {SEED}: {target.most / 2**20:.0f} MB more at most")
        for name, statuses in told.items():
            print(f"{name}: {statuses.total()} requests, {dict(statuses.most_common())}")


CONFIG = """
[generation]
allow-extra-parameters = false  # any server takes unknown headers

[parameters]
"header.X-API-Key" = "secret"
"header.Authorization" = "Bearer secret"  # one good key lets in, whatever stands in the other

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]  # as asked: with hardly any patience
"""
COMMAND = "from schemathesis.cli import schemathesis; schemathesis()"


@short_or_soak(5, 3000)
def test_schemathesis(tmp_path: Path, capfd: pytest.CaptureFixture[str], count: int) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    more: dict[str, Any] = {
        "api_keys": ("secret",),
        "key": ("ride",),
        "max_rows": 1000,
        "log": "results",
    }
    with Service(tmp_path, MODELS, **more) as service:
        pids = service.supervisor.pids
        done = subprocess.run(
            [
                *(sys.executable, "-c", COMMAND, "--config-file", str(config)),
                *("run", f"{service.url}/openapi.json", "--checks", "all", "--no-color"),
                *("--max-examples", str(count), "--seed", str(SEED), "-H", "X-API-Key: secret"),
                *("--continue-on-failure", "--request-timeout", str(PATIENCE), "--workers", "2"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert service.supervisor.pids == pids
        log = capfd.readouterr().err
        assert "Traceback" not in log, log[-4000:]
    with capfd.disabled():
        print(f"\nseed {SEED}:{done.stdout[-1500:]}")

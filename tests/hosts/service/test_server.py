"""The service as a whole: real processes on real ports."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

import trivet
from support.service_server import PATIENCE, Service, wait_until
from support.service_toys import DAWDLE, DIE, HANG, RAISE, SHAPE, Doubling, Hanging, Tripling
from trivet.artifacts import set_current
from trivet.current import Source
from trivet.databases import connect
from trivet.errors import SettingsError
from trivet.hosts.service import server as parent
from trivet.hosts.service import worker
from trivet.hosts.service.connections import Sweeper
from trivet.hosts.service.server import bind
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.service.worker import check_tls

QUICK = Source("quick", "support.service_toys:Doubling")
SLOW = Source("slow", "support.service_toys:Thoughtful")


def seconds(number: float) -> dt.timedelta:
    return dt.timedelta(seconds=number)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two processes that serve two models."""
    with Service(tmp_path_factory.mktemp("two"), [QUICK, SLOW], workers=2) as service:
        yield service


def ask(client: httpx.Client, x: float, model: str = "quick", **headers: str) -> httpx.Response:
    return client.post(f"/predict/{model}", json={"x": x}, headers=headers)


def test_two_processes_answer_and_their_counts_are_summed(two: Service) -> None:
    before = two.counted("trivet_requests_total", model="quick", code="200")
    for _ in range(20):
        with two.client() as client:
            assert ask(client, 4).json()["prediction"] == {"y": 8.0}
    assert two.counted("trivet_requests_total", model="quick", code="200") == before + 20
    assert two.counted("trivet_workers") == 2


def test_the_service_tells_what_it_serves(two: Service) -> None:
    with two.client() as client:
        assert client.get("/health/live").json() == {"status": "ok"}
        models = client.get("/health/ready").json()["models"]
        assert models["slow"] == {"default": "0", "versions": ["0"]}
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/ping").status_code == 200


@pytest.mark.parametrize("model", ["quick", "slow"])
def test_a_model_that_fails_is_a_500_and_the_next_request_works(two: Service, model: str) -> None:
    with two.client() as client:
        for x, words in ((RAISE, "902 brings bad luck"), (SHAPE, "expected 1 rows, got 0")):
            answer = ask(client, x, model, **{"x-request-id": "mine"})
            assert answer.status_code == 500
            assert answer.headers["x-request-id"] == "mine"
            assert words in answer.json()["detail"]
            assert ask(client, 1, model).json()["prediction"] == {"y": 2.0}


def test_a_killed_process_is_replaced_and_others_go_on(two: Service) -> None:
    killed = two.supervisor.pids[0]
    restarts = two.counted("trivet_worker_restarts_total")
    scored = two.counted("trivet_rows_scored_total", model="quick")
    os.kill(killed, signal.SIGKILL)
    two.until(lambda: two.supervisor.is_ready and killed not in two.supervisor.pids)
    with two.client() as client:
        assert ask(client, 2).status_code == 200
    assert two.counted("trivet_worker_restarts_total") == restarts + 1
    assert two.counted("trivet_rows_scored_total", model="quick") == scored + 1


def test_a_model_that_kills_its_process_takes_only_its_own_requests_along(two: Service) -> None:
    with two.client() as client, pytest.raises(httpx.TransportError):
        ask(client, DIE)
    two.until(lambda: two.supervisor.is_ready)
    with two.client() as client:
        assert ask(client, 2).status_code == 200


def test_pipelined_requests_are_answered_in_order(two: Service) -> None:
    requests = b""
    for x in range(20):
        body = b'{"x":%d}' % x
        requests += b"POST /predict/%s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (
            b"slow" if x % 3 else b"quick",
            len(body),
            body,
        )
    with socket.create_connection(("127.0.0.1", two.supervisor.port), PATIENCE) as sock:
        sock.sendall(requests)
        got = b""
        while got.count(b'"prediction"') < 20:
            got += sock.recv(65536)
    found = [float(part.partition(b"}")[0]) for part in got.split(b'"y":')[1:]]
    assert found == [2.0 * x for x in range(20)]


def test_a_head_without_an_end_is_cut_off(two: Service) -> None:
    with socket.create_connection(("127.0.0.1", two.supervisor.port), PATIENCE) as sock:
        sock.sendall(b"GET /health/live HTTP/1.1\r\n")
        sock.settimeout(0.001)
        got = b""
        while not got:
            sock.sendall(b"x-more: " + b"y" * 4000 + b"\r\n")
            with suppress(TimeoutError):
                got = sock.recv(1000)
        assert got.startswith(b"HTTP/1.1 431 ")


def test_what_is_refused_before_it_is_a_request_is_counted_and_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Service(tmp_path, [QUICK], max_connections=2, max_head=1024) as service:
        port = service.supervisor.port
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as nonsense:
            nonsense.sendall(b"what is this?\r\n\r\n")
            assert nonsense.recv(1000).startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as long:
            long.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 2000 + b"\r\n\r\n")
            assert long.recv(1000).startswith(b"HTTP/1.1 431 ")
        with service.client() as one, service.client() as two:
            assert ask(one, 1).status_code == ask(two, 1).status_code == 200
            with service.client() as three:
                crowded = ask(three, 1)
        assert crowded.status_code == 503
        assert (crowded.headers["retry-after"], crowded.headers["connection"]) == ("1", "close")
        assert crowded.json()["detail"] == "more than 2 connections are open"
        for code in ("400", "431", "503"):
            assert service.counted("trivet_requests_total", code=code, protocol="service") == 1
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line[:1] == "{"]
    told = [line["status"] for line in lines if line.get("logger") == "trivet.access"]
    assert told == [400, 431, 503]


def test_a_large_body_is_refused_before_it_is_sent(two: Service) -> None:
    with socket.create_connection(("127.0.0.1", two.supervisor.port), PATIENCE) as sock:
        sock.sendall(
            b"POST /predict/quick HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_hundred_megabytes_in_chunks_are_refused_in_flat_memory(two: Service) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 2**20

    with two.client() as client:
        try:
            answer = client.post("/predict/quick", content=body())
        except httpx.WriteError:
            return  # cut off while it was still sending
        assert answer.status_code == 413


def test_the_next_request_works_after_a_model_hung(tmp_path: Path) -> None:
    with (
        Service(tmp_path, [SLOW, QUICK], timeout=seconds(0.5)) as service,
        service.client() as client,
    ):
        answer = ask(client, HANG, "slow", **{"x-request-id": "held"})
        assert answer.status_code == 504
        assert answer.headers["x-request-id"] == "held"
        assert ask(client, 3).status_code == 200
        service.until(lambda: ask(client, 3, "slow").status_code == 200)
        service.until(lambda: service.counted("trivet_model_threads_lost", model="slow") == 1)


def test_a_process_whose_loop_stands_still_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "SILENCE_SECONDS", 1.5)
    with Service(tmp_path, [QUICK], timeout=seconds(0.5)) as service:
        stuck = service.supervisor.pids
        with service.client() as client, pytest.raises(httpx.TransportError):
            ask(client, HANG)
        service.until(lambda: service.supervisor.is_ready and service.supervisor.pids != stuck)
        with service.client() as client:
            assert ask(client, 3).status_code == 200


def test_what_an_alert_waits_for_is_there_before_it_happens(tmp_path: Path) -> None:
    guide = Path(__file__).parents[3] / "docs" / "how-to" / "serve-models.md"
    awaited = re.findall(
        r"increase\((\w+)(?:{outcome=~?\"([\w|]+)\"})?\[", guide.read_text("utf-8")
    )
    assert len(awaited) == 3
    with Service(tmp_path, [QUICK], log="results") as service, service.client() as client:
        text = client.get("/metrics").text
    for name, outcomes in awaited:
        for outcome in outcomes.split("|"):
            sample = rf"{name}(\{{.*outcome=\"{outcome}\".*\}})?" if outcome else name
            assert re.search(rf"^{sample} 0\.0$", text, re.M), (name, outcome, text)


def test_predictions_are_logged_whatever_was_spoken(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    given = {"log": "results", "access_log": "all", "key": ("ride",), "workers": 2}
    with Service(tmp_path, [QUICK], results=url, grpc=True, grpc_port=0, **given) as service:
        with service.client() as client:
            for n in range(5):
                answer = client.post("/predict/quick", json={"x": n, "ride": n})
                assert answer.status_code == 200
            tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [7.0]}
            asked = client.post("/v2/models/quick/infer", json={"inputs": [tensor]})
            assert asked.json()["outputs"][0]["data"] == [14.0]
        with grpc.insecure_channel(f"127.0.0.1:{service.supervisor.grpc_port}") as channel:
            ready: Any = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
            assert ready(b"", timeout=PATIENCE) == b"\x08\x01"
        service.until(lambda: service.counted("trivet_log_rows_total", outcome="written") == 6)
        assert service.counted("trivet_requests_total", protocol="oip_grpc") == 1
    with connect(url) as db:
        found = db.rows("SELECT ride, y FROM service_quick ORDER BY y").to_pylist()
    rides = [(None if f["ride"] is None else f["ride"], f["y"]) for f in found]
    assert rides == [*((str(n), 2.0 * n) for n in range(5)), (None, 14.0)]


def test_stopping_finishes_what_is_in_flight(tmp_path: Path) -> None:
    with Service(tmp_path, [SLOW], stop_delay=seconds(0.3)) as service:
        answers: list[httpx.Response] = []

        def slow() -> None:
            with service.client() as client:
                answers.append(ask(client, DAWDLE, "slow"))

        with service.client() as client:
            ask(client, 1, "slow")
            thread = threading.Thread(target=slow)
            thread.start()
            service.until(lambda: service.counted("trivet_requests_total") > 1)
            service.supervisor.stop()
            wait_until(lambda: client.get("/health/ready").status_code == 503)
            late = ask(client, 5, "slow")
            assert late.status_code == 200
            assert late.headers["connection"] == "close"
        thread.join()
    assert [answer.status_code for answer in answers] == [200]
    assert service.error is None


def test_a_service_that_cannot_load_its_model_says_why(tmp_path: Path) -> None:
    with Service(tmp_path, [Source("lost", "models/lost")], workers=2) as service:
        pass
    assert isinstance(service.error, SettingsError)
    assert "no model at" in str(service.error)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"\[service\] port: 127.0.0.1:{port} cannot"):
            bind(ServiceSettings(models=("m",), port=port))
    with pytest.raises(SettingsError, match=r"\[service\] host: no such"):
        bind(ServiceSettings(models=("m",), host="no such host"))
    with pytest.raises(SettingsError, match=r"\[service\] host: 192.0.2.1 is no address of this"):
        bind(ServiceSettings(models=("m",), host="192.0.2.1"))


def test_grpc_needs_a_port_of_its_own() -> None:
    with pytest.raises(SettingsError, match="grpc_port: 8080 is the port of HTTP already"):
        bind(ServiceSettings(models=("m",), grpc_port=8080))
    bind(ServiceSettings(models=("m",), port=0, grpc_port=0)).close()


@pytest.mark.parametrize("found", [["grpc"], []])
def test_grpc_needs_protobuf_too(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    def find_spec(name: str) -> Any:
        if not found:
            raise ModuleNotFoundError(name)  # as for a part of a package that is not there
        return True if name in found else None

    assert worker.grpc_is_there()
    monkeypatch.setattr(worker, "find_spec", find_spec)
    assert not worker.grpc_is_there()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls_and_clients_with_certificates(
    tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trivet.service")
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for place, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(str(tmp_path / "cert.pem"), append=place > 0)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    given = {"tls_cert": "cert.pem", "tls_key": "key.pem", "tls_client_ca": "ca.pem"}
    check_tls(ServiceSettings(models=("m",), **given), tmp_path)  # type: ignore[arg-type]
    known, stranger = ssl.create_default_context(), ssl.create_default_context()
    for context in (known, stranger):
        authority.configure_trust(context)
    authority.issue_cert("client@example.org").configure_cert(known)
    with Service(tmp_path, [QUICK], grpc=True, grpc_port=0, **given) as service:
        url = service.url.replace("http:", "https:")
        with httpx.Client(base_url=url, verify=known, trust_env=False) as client:
            assert ask(client, 3).status_code == 200
        with (
            httpx.Client(base_url=url, verify=stranger, trust_env=False) as client,
            pytest.raises(httpx.TransportError),
        ):
            ask(client, 3)
        assert service.supervisor.grpc_port
    assert "serving quick" in caplog.text
    assert "the service is open" not in caplog.text  # nobody gets in without a certificate


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("cert.pem", None, r"tls_cert: .*/cert.pem cannot be read: No such file"),
        ("key.pem", None, r"tls_key: .*/key.pem cannot be read: No such file"),
        ("ca.pem", None, r"tls_client_ca: .*/ca.pem cannot be read: No such file"),
        ("cert.pem", "junk", r"tls_cert: .*/cert.pem has no certificate"),
        ("key.pem", "junk", r"tls_key: .*/key.pem has no private key"),
        ("ca.pem", "junk", r"tls_client_ca: .*/ca.pem has no certificate"),
        ("key.pem", "foreign", r"tls_key: .*/key.pem is not the key of .*/cert.pem"),
        ("key.pem", "encrypted", r"tls_key: .*/key.pem has no private key, or an encrypted one"),
    ],
)
def test_the_certificate_that_is_wrong_is_named(
    tmp_path: Path, authority: trustme.CA, file: str, content: str | None, words: str
) -> None:
    server, foreign = (authority.issue_cert("127.0.0.1") for _ in range(2))
    contents = {
        "cert.pem": server.cert_chain_pems[0].bytes(),
        "key.pem": server.private_key_pem.bytes(),
        "ca.pem": authority.cert_pem.bytes(),
    }
    private = serialization.load_pem_private_key(contents["key.pem"], None)
    wrong = {
        "junk": b"junk",
        "foreign": foreign.private_key_pem.bytes(),
        "encrypted": private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ),
    }
    if content is None:
        del contents[file]
    else:
        contents[file] = wrong[content]
    for name, blob in contents.items():
        (tmp_path / name).write_bytes(blob)
    given = {"tls_cert": "cert.pem", "tls_key": "key.pem", "tls_client_ca": "ca.pem"}
    with pytest.raises(SettingsError, match=r"^\[service\] " + words):
        check_tls(ServiceSettings(models=("m",), **given), tmp_path)  # type: ignore[arg-type]


def test_without_certificates_there_is_nothing_to_check(tmp_path: Path) -> None:
    check_tls(ServiceSettings(models=("m",)), tmp_path)


class Connection:
    def __init__(self, cycle: Any) -> None:
        self.cycle = cycle
        self.cut = False
        self.unread = 0
        self.transport = self

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.cut = True


class Cycle:
    def __init__(self, *, complete: bool) -> None:
        self.response_complete = complete


def test_connections_that_do_not_get_on_are_cut_off() -> None:
    new, idle, busy = (
        Connection(None),
        Connection(Cycle(complete=True)),
        Connection(Cycle(complete=False)),
    )
    active = Connection(Cycle(complete=True))
    every = [new, idle, busy, active]
    sweeper = Sweeper(idle=10, busy=100)
    assert sweeper.sweep(every, 0) == 0
    active.cycle = Cycle(complete=True)
    assert sweeper.sweep(every, 9) == 0
    assert sweeper.sweep(every, 11) == 2
    assert [c.cut for c in every] == [True, True, False, False]
    assert sweeper.sweep([busy, active], 101) == 2
    assert busy.cut
    late = Connection(Cycle(complete=False))
    assert sweeper.sweep([late], 200) == 0
    late.cycle.response_complete = True  # after a long time; it has only just begun to rest
    assert sweeper.sweep([late], 230) == 0
    assert sweeper.sweep([late], 241) == 1
    reading = Connection(Cycle(complete=True))
    reading.unread = 1  # its answer is on the way
    assert sweeper.sweep([reading], 300) == 0
    assert sweeper.sweep([reading], 400) == 0
    assert sweeper.sweep([reading], 401) == 1


def save(root: Path, version: str, kind: type = Doubling) -> None:
    trivet.save(
        kind(),
        root / "models",
        name="ride",
        version=version,
        sample={"x": [1.0, 2.0], "note": ["a", None]},
    )


def test_fifty_new_versions_under_load_and_not_one_failed_request(tmp_path: Path) -> None:
    for version in ("1", "2"):
        save(tmp_path, version, Doubling if version == "1" else Tripling)
    source = Source("ride", "models/ride", trust=True)
    stop = threading.Event()
    seen: list[tuple[int, str]] = []

    def load(service: Service) -> None:
        with service.client() as client:
            while not stop.is_set():
                answer = ask(client, 7, "ride")
                seen.append((answer.status_code, answer.text))

    with Service(tmp_path, [source], reload_every=seconds(0.01)) as service:
        threads = [threading.Thread(target=load, args=(service,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        with service.client() as client:
            for turn in range(50):
                version = "21"[turn % 2]
                set_current(tmp_path / "models" / "ride", version)
                wait_until(lambda v=version: _default(client) == v)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
        service.until(lambda: service.counted("trivet_model_loads_total", outcome="loaded") == 51)
    assert {code for code, _ in seen} == {200}
    for _, text in seen:
        assert ('"version":"1"' in text) == ('"y":14.0' in text)


def _default(client: httpx.Client) -> str:
    told: str = client.get("/health/ready").json()["models"]["ride"]["default"]
    return told


def test_a_new_version_that_hangs_is_refused_and_the_next_one_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, kind in (("1", Doubling), ("2", Hanging), ("3", Tripling)):
        save(tmp_path, version, kind)
    source = Source("ride", "models/ride", trust=True)
    monkeypatch.setenv("TOYS_HANG", "1")
    with (
        Service(tmp_path, [source], reload_every=seconds(0.01), timeout=seconds(3)) as service,
        service.client() as client,
    ):
        set_current(tmp_path / "models" / "ride", "2")
        service.until(lambda: service.counted("trivet_model_loads_total", outcome="refused") == 1)
        assert _default(client) == "1"
        set_current(tmp_path / "models" / "ride", "3")
        wait_until(lambda: _default(client) == "3")
        assert ask(client, 7, "ride").json()["prediction"] == {"y": 21.0}


def test_a_signal_has_it_look_at_once(tmp_path: Path) -> None:
    save(tmp_path, "1")
    save(tmp_path, "2", Tripling)
    source = Source("ride", "models/ride", trust=True)
    with (
        Service(tmp_path, [source], reload_every=seconds(3000)) as service,
        service.client() as client,
    ):
        set_current(tmp_path / "models" / "ride", "2")
        service.supervisor.reload()
        service.until(lambda: _default(client) == "2")
        assert client.post("/predict/ride/versions/1", json={"x": 2}).json()["prediction"]["y"] == 4


COMMAND = [sys.executable, "-m", "trivet"]


def project(root: Path, more: str = "") -> None:
    (root / "trivet.toml").write_text(
        '[models.quick]\nuri = "support.service_toys:Doubling"\n'
        f'[service]\nmodels = ["quick"]\nport = 0\ngrpc = false\nlog = "none"\n{more}'
    )


def start(root: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*COMMAND, "--file", str(root), "serve", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if '"process' in line and "is ready" in line:
            break
    return process, "".join(lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_the_command_with_0(tmp_path: Path, number: signal.Signals) -> None:
    project(tmp_path, 'stop_delay = "0s"\n')
    process, told = start(tmp_path, "--workers", "2")
    assert "the service is open" in told
    assert "serving quick 0 on http://127.0.0.1:" in told
    process.send_signal(signal.SIGHUP)
    process.send_signal(number)
    _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, rest


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    project(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process, told = start(tmp_path, "--port", str(port))
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert f"[service] port: 127.0.0.1:{port} cannot be bound" in told


def test_processes_end_when_their_parent_is_gone(tmp_path: Path) -> None:
    project(tmp_path, 'stop_delay = "1200ms"\n')
    process, told = start(tmp_path)
    pid = int(told.rpartition('"process ')[0] and told.rsplit("process ", 1)[1].split()[0])
    process.kill()
    _, rest = process.communicate(timeout=PATIENCE)
    assert rest.count("parent process is gone") == 1
    wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists())

"""The service under bytes that are hardly HTTP, clients that stall or leave, and huge bodies."""

from __future__ import annotations

import datetime as dt
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from faults.places import short_or_soak
from support.mutations import any_bytes
from support.service_server import PATIENCE, Service
from trivet.current import Source
from trivet.hosts.service.protocols.oip_messages import MESSAGES, SERVICE

SEED = 20200704
MODELS = [
    Source("quick", "support.service_toys:Doubling"),
    Source("fare", "faults.fare:Fare"),
]
ROOM = 160 * 2**20
"""So much may a process grow by; the body that it reads has 32 MB at most, and is copied once."""

MB = 2**20
ROW = b'{"x": 4}'
CHUNKED = b"transfer-encoding: chunked"
CHUNKS = b'4\r\n{"x"\r\n4\r\n: 4}\r\n0\r\n\r\n'


def post(
    body: bytes = ROW, *headers: bytes, line: bytes = b"POST /predict/quick HTTP/1.1"
) -> bytes:
    told = [b"host: x", *headers]
    if not any(h.lower().startswith((b"content-length", b"transfer-enc")) for h in headers):
        told.append(b"content-length: %d" % len(body))
    return b"\r\n".join([line, *told, b"", body])


def at(line: bytes) -> bytes:
    return post(line=line)


GOOD = post()
CASES: dict[str, tuple[bytes, Sequence[int]]] = {
    "good": (GOOD, [200]),
    "two": (GOOD + GOOD, [200, 200]),
    "chunks": (post(CHUNKS, CHUNKED), [200]),
    "chunks cut short": (post(CHUNKS[:14], CHUNKED), [408]),
    "chunks without an end": (post(CHUNKS[:-5], CHUNKED), [408]),
    "a chunk's size that is none": (post(b"zz\r\n" + CHUNKS, CHUNKED), [400]),
    "a chunk's size of 68 bits": (post(b"1ffffffffffffffff\r\n" + CHUNKS, CHUNKED), [400]),
    "a chunk longer than told": (post(b'3\r\n{"x": 4}\r\n0\r\n\r\n', CHUNKED), [400]),
    "a chunk's extension": (post(CHUNKS.replace(b"4\r\n{", b"4;a=b\r\n{"), CHUNKED), [200]),
    "trailers": (post(CHUNKS[:-2] + b"x-a: b\r\n\r\n", CHUNKED), [200]),
    "a length too short": (post(ROW, b"content-length: 4"), [422, 400]),
    "a length too long": (post(ROW, b"content-length: 400"), [408]),
    "a length of many digits": (post(ROW, b"content-length: " + b"9" * 40), [400]),
    "a length of 63 bits": (post(ROW, b"content-length: %d" % (2**63 - 1)), [413]),
    "a length below nothing": (post(ROW, b"content-length: -8"), [400]),
    "a length that is a word": (post(ROW, b"content-length: eight"), [400]),
    "a length that is empty": (post(ROW, b"content-length:"), [400]),
    "two lengths": (post(ROW, b"content-length: 8", b"content-length: 4"), [400]),
    "a length and chunks": (post(CHUNKS, CHUNKED, b"content-length: 8"), [400]),
    "chunks and a length": (post(CHUNKS, b"content-length: 8", CHUNKED), [400]),
    "another encoding last": (post(CHUNKS, b"transfer-encoding: chunked, gzip"), [400]),
    "a space before the colon": (post(CHUNKS, b"transfer-encoding : chunked"), [400]),
    "a head of 70 KB": (post(ROW, b"x-a: " + b"y" * 70_000), [431]),
    "a head of 1 MB": (post(ROW, b"x-a: " + b"y" * MB), [431]),
    "a path of 1 MB": (at(b"POST /" + b"y" * MB + b" HTTP/1.1"), [431]),
    "3,000 headers": (post(ROW, *(b"x-%d: y" % i for i in range(3000))), [200]),
    "20,000 headers": (post(ROW, *(b"x-%d: y" % i for i in range(20_000))), [431]),
    "a header without a colon": (post(ROW, b"nonsense"), [400]),
    "a header without a name": (post(ROW, b": y"), [400]),
    "a header with a null byte": (post(ROW, b"x-a: a\0b"), [400]),
    "a header in two lines": (post(ROW, b"x-a: a", b" b"), [400]),
    "a header of other bytes": (post(ROW, b"x-request-id: \xff\xfe"), [200]),
    "lines without returns": (GOOD.replace(b"\r\n", b"\n"), [400]),
    "a bad one between good ones": (GOOD * 3 + b"NONSENSE\r\n\r\n" + GOOD, [200, 200, 200, 400]),
    "a method that is none": (at(b"FROB /predict/quick HTTP/1.1"), [400]),
    "connect": (post(b"", line=b"CONNECT example.org:443 HTTP/1.1"), [400]),
    "trace": (post(b"", line=b"TRACE /predict/quick HTTP/1.1"), [405]),
    "options of all": (post(b"", line=b"OPTIONS * HTTP/1.1"), [404]),
    "an absolute target": (at(b"POST http://x/predict/quick HTTP/1.1"), [200]),
    "an absolute target of nobody": (at(b"POST http:///predict/quick HTTP/1.1"), [400]),
    "a target without a slash": (at(b"POST predict/quick HTTP/1.1"), [400]),
    "dots": (at(b"POST /predict/../../etc/passwd HTTP/1.1"), [404]),
    "a null byte in the target": (at(b"POST /predict/qu\0ick HTTP/1.1"), [400]),
    "an escaped null byte": (at(b"POST /predict/qu%00ick HTTP/1.1"), [404]),
    "an escape that is none": (at(b"POST /predict/%zz HTTP/1.1"), [404]),
    "half an escape": (at(b"POST /predict/quick% HTTP/1.1"), [404]),
    "an escape that is no UTF-8": (at(b"POST /predict/%ff%ed%a0%80 HTTP/1.1"), [404]),
    "a query that is none": (at(b"POST /invocations?model=%zz&&=& HTTP/1.1"), [404]),
    "HTTP/1.0": (at(b"POST /predict/quick HTTP/1.0"), [200]),
    "HTTP/9.9": (at(b"POST /predict/quick HTTP/9.9"), [400]),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", [400]),
    "an upgrade to HTTP/2": (
        post(ROW, b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AA")
        + GOOD,
        [200, 200],
    ),
    "an upgrade in chunks": (
        post(CHUNKS, CHUNKED, b"connection: keep-alive, upgrade", b"upgrade: h2c") * 3,
        [200, 200, 200],
    ),
    "an upgrade in an encoding that is none": (
        GOOD + post(CHUNKS, b"transfer-encoding: #hunked", b"connection: upgrade", b"upgrade: h2c"),
        [200, 400],
    ),
    "an upgrade to a web socket": (
        post(b"", b"connection: upgrade", b"upgrade: websocket", line=b"GET /docs HTTP/1.1"),
        [200],
    ),
    "an upgrade of what is none": (
        post(b"zz", CHUNKED, b"connection: upgrade", b"upgrade: h2c"),
        [400],
    ),
    "a client that asks first": (post(ROW, b"expect: 100-continue"), [100, 200]),
    "one after the close": (post(ROW, b"connection: close") + GOOD, [200]),
    "TLS": (bytes.fromhex("16030100a5010000a10303") + bytes(100), [400]),
    "zeros": (bytes(1000), [400]),
    "nothing": (b"", []),
    "half a line": (b"POST /pre", []),
    "half a head": (b"POST /predict/quick HTTP/1.1\r\nhost: x\r\n", []),
}


def talk(service: Service, sent: bytes) -> tuple[list[int], list[bytes]]:
    """Send bytes and wait for the end that the service makes of it.

    Returns:
        The statuses, and the predictions among the answers.
    """
    got = b""
    with socket.create_connection(("127.0.0.1", service.supervisor.port), PATIENCE) as sock:
        try:
            sock.sendall(sent)
            while more := sock.recv(65536):
                got += more
        except (ConnectionResetError, BrokenPipeError):
            pass  # it does not read what it does not want; its last word may be lost with that
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", got)]
    return statuses, re.findall(rb'"prediction":(\{[^}]*\})', got)


def watched(service: Service) -> Callable[[], None]:
    """Return what makes sure that the processes are the same, ready, and have not grown."""
    pids = sorted(service.supervisor.pids)
    before = {pid: psutil.Process(pid).memory_info().rss for pid in pids}

    def look() -> None:
        assert talk(service, post(ROW, b"connection: close")) == ([200], [b'{"y":8.0}'])
        assert sorted(service.supervisor.pids) == pids
        grown = max(psutil.Process(pid).memory_info().rss - before[pid] for pid in pids)
        assert grown < ROOM, f"{grown / MB:.0f} MB more"

    return look


@pytest.fixture
def service(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Service]:
    """A service that does not wait long for what does not come."""
    waits: dict[str, Any] = {
        "timeout": dt.timedelta(seconds=3),
        "keep_alive": dt.timedelta(seconds=1),
    }
    with Service(tmp_path, MODELS, grpc=True, grpc_port=0, **waits) as one:
        yield one
    assert "Traceback" not in capfd.readouterr().err


def test_framing(service: Service) -> None:
    """Each connection also has an end: that of `talk` waits for it."""
    look = watched(service)
    with ThreadPoolExecutor(len(CASES)) as threads:
        found = threads.map(lambda case: talk(service, case[0]), CASES.values())
        wrong = {
            name: (statuses, list(expected))
            for (name, (_, expected)), (statuses, _) in zip(CASES.items(), found, strict=True)
            if statuses != list(expected) and not (expected == [431] and not statuses)
        }
    assert not wrong
    look()


MAY_BE = {100, 200, 400, 404, 405, 408, 413, 415, 422, 431}


@short_or_soak(150, 20_000)
def test_good_bytes_that_something_changed(service: Service, count: int) -> None:
    """What is asked before the change is answered, in order and rightly, whatever comes then."""
    draw = random.Random(SEED)
    sound = [sent for sent, _ in CASES.values() if sent and len(sent) < 4000]
    look = watched(service)
    told: Counter[int] = Counter()

    def one() -> tuple[bytes, list[bytes]]:
        xs = [draw.randrange(900) for _ in range(draw.randrange(4))]
        before = b"".join(post(b'{"x": %d}' % x) for x in xs)
        changed = any_bytes(draw, draw.choice(sound))
        return before + changed + draw.choice((b"", GOOD)), [b'{"y":%.1f}' % (2 * x) for x in xs]

    with ThreadPoolExecutor(32) as threads:
        for _ in range(max(1, count // 500)):
            cases = [one() for _ in range(min(count, 500))]
            answers = threads.map(lambda case: talk(service, case[0]), cases)
            for (sent, expected), (statuses, values) in zip(cases, answers, strict=True):
                assert set(statuses) <= MAY_BE, (statuses, sent)
                assert values[: len(expected)] == expected, (statuses, values, sent)
                told.update(statuses)
            look()
    print(f"\nseed {SEED}: {count} connections, answers {dict(told.most_common())}")


def test_clients_that_stall_or_leave(service: Service) -> None:
    look = watched(service)
    many = b'{"rows": [' + b", ".join([ROW] * 50_000) + b"]}"

    def drip(sent: bytes) -> list[int]:
        """Send a byte a tenth of a second until the service has enough of it."""
        with socket.create_connection(("127.0.0.1", service.supervisor.port), 0.1) as sock:
            got = b""
            for place in range(len(sent)):
                try:
                    sock.sendall(sent[place : place + 1])
                    got += sock.recv(1000)
                    break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            else:
                pytest.fail("it has all the time in the world")
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", got)]

    def leave(sent: bytes, after: int) -> None:
        """Go in the middle: of the request, or of the answer, of which some bytes are taken."""
        with socket.create_connection(("127.0.0.1", service.supervisor.port), PATIENCE) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(sent)
            if after:
                sock.recv(after)

    with ThreadPoolExecutor(16) as threads:
        slow = [
            threads.submit(drip, b"POST /predict/quick HTTP/1.1\r\nx-a: " + b"y" * 600),
            threads.submit(drip, post(b" " * 600, b"content-length: 600")),
        ]
        for sent, after in ((post(many)[:300_000], 0), (post(many), 0), (post(many), 100)) * 5:
            threads.submit(leave, sent, after).result()
        head, body = (each.result(PATIENCE) for each in slow)
    assert head == []
    assert body in ([408], [])  # it may be gone before its last word is read
    look()


PATHS = {
    "/predict/fare": "application/json",
    "/predict/fare/arrow": "application/vnd.apache.arrow.stream",
    "/v2/models/fare/infer": "application/json",
    "/v2/models/quick/versions/0/infer": "application/octet-stream",
    "/invocations": "text/csv",
}


def pour(service: Service, begin: bytes, unit: bytes, size: int) -> list[int]:
    """Send so much, or as much as is taken; return the status that it got, if it could be read."""
    with socket.create_connection(("127.0.0.1", service.supervisor.port), PATIENCE) as sock:
        got = b""
        try:
            sock.sendall(begin)
            for _ in range(size // len(unit)):
                sock.sendall(unit)
            got = sock.recv(1000)
        except ConnectionError:
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", got)]


@short_or_soak(40, 100)
def test_a_hundred_megabytes(service: Service, count: int) -> None:
    """Bodies of each protocol, told before and not; heads, trailers and a chunk's extension."""
    look, large = watched(service), count * MB
    begun = post(b"", CHUNKED)
    unasked = post(b"", CHUNKED, line=b"POST /nothing HTTP/1.1")
    unit = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
    endless = [
        (begun + CHUNKS[:-2], b"x-a: b\r\n" * 8192),
        (begun + CHUNKS[:-2] + b"x-a: ", b"y" * 65536),
        (unasked + CHUNKS[:-2], b"x-a: b\r\n" * 8192),
        (unasked + CHUNKS[:-2] + b"x-a: ", b"y" * 65536),
        (begun + b"4;", b"a" * 65536),
        (begun[:-2] + b"x-a: ", b"y" * 65536),
        (b"POST /", b"y" * 65536),
    ]
    for begin, more in endless:
        assert pour(service, begin, more, large) in ([], [431], [404], [404, 431])
        look()
    for path, kind in PATHS.items():
        line, told = f"POST {path} HTTP/1.1".encode(), f"content-type: {kind}".encode()
        assert pour(service, post(b"", CHUNKED, told, line=line), unit, large) in ([], [413])
        length = b"content-length: %d" % large
        assert pour(service, post(b"", length, told, line=line), b"[" * 65536, large) in ([], [413])
        look()
    with grpc.insecure_channel(f"127.0.0.1:{service.supervisor.grpc_port}") as channel:
        infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            infer(bytes(large), timeout=PATIENCE)
    look()


@short_or_soak(6, 30)
def test_bodies_that_would_be_many_times_as_large_in_memory(service: Service, count: int) -> None:
    """All of a size that is allowed, and each of a million parts and more."""
    look = watched(service)

    def filled(head: bytes, unit: bytes, tail: bytes) -> bytes:
        return head + unit * ((count * MB - len(head) - len(tail)) // len(unit)) + tail

    json, split = "application/json", b'{"dataframe_split":{"columns":["distance"],"data":['
    tensor = b'{"inputs":[{"name":"distance","datatype":"FP64","shape":[1],"data":['
    bodies: list[tuple[str, str, bytes]] = [
        ("/predict/fare", json, filled(b'{"rows":[', b"{},", b"{}]}")),
        ("/predict/fare", json, filled(b'{"rows":[', b"0,", b"0]}")),
        ("/predict/fare", json, filled(b'{"rows":[', b"null,", b"{}]}")),
        ("/predict/fare", json, filled(b"", b"[", b"")),
        ("/predict/fare", json, filled(b"", b'{"a":', b"")),
        ("/v2/models/fare/infer", json, filled(tensor, b"[],", b"[]]}]}")),
        ("/v2/models/fare/infer", json, filled(b'{"inputs":[', b"{},", b"{}]}")),
        ("/invocations?model=fare", json, filled(split, b"[],", b"[]]}}")),
        ("/invocations?model=fare", json, filled(b'{"inputs":[', b"[],", b"[]]}")),
        ("/invocations?model=fare", "text/csv", filled(b"distance\n", b"1\n", b"")),
        ("/invocations?model=fare", "text/csv", filled(b"", b",", b"")),
        ("/predict/fare/arrow", "application/vnd.apache.arrow.stream", bytes(count * MB)),
    ]
    with service.client() as client:
        for path, kind, body in bodies:
            answer = client.post(path, content=body, headers={"content-type": kind})
            # 408 where reading alone took longer than this service's second.
            assert answer.status_code in (400, 408, 413, 422), (path, body[:60], answer.text)
            look()
    request = MESSAGES["ModelInferRequest"]
    text = {"name": "zone", "datatype": "BYTES"}
    entries = 100_000 * count
    messages = [
        request(model_name="fare").SerializeToString() + b"\x2a\x00" * entries,
        request(
            model_name="fare", inputs=[text | {"contents": {"bytes_contents": [b""] * entries}}]
        ).SerializeToString(),
        b"\x2a" + b"\x80" * entries,
    ]
    with grpc.insecure_channel(f"127.0.0.1:{service.supervisor.grpc_port}") as channel:
        infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        for message in messages:
            with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
                infer(message, timeout=PATIENCE)
            look()

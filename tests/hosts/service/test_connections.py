"""The short way for small rows answers as the long one does, whatever the bytes' pace and order."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import uvloop

from support.service_server import PATIENCE, Service
from support.service_toys import RAISE
from trivet.current import Source
from trivet.hosts.service.connections import ACCEPTS, MAX_PIPELINED, shares

QUICK = Source("quick", "support.service_toys:Doubling")
SLOW = Source("slow", "support.service_toys:Thoughtful")
KEY = "let-me-in"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("one"), [QUICK, SLOW], max_body=1000) as service:
        yield service


def row(body: bytes, *headers: bytes, model: bytes = b"quick") -> bytes:
    told = b"".join(header + b"\r\n" for header in headers)
    head = b"POST /predict/%s HTTP/1.1\r\nhost: x\r\n%s" % (model, told)
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def read(sock: socket.socket, count: int = 1) -> list[tuple[int, bytes, bytes]]:
    """Return the status, head and body of so many answers."""
    found: list[tuple[int, bytes, bytes]] = []
    got = b""
    while len(found) < count:
        head, end, rest = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if end and (length is None or len(rest) >= int(length[1])):
            size = 0 if length is None else int(length[1])
            found.append((int(head[9:12]), head, rest[:size]))
            got = rest[size:]
            continue
        more = sock.recv(65536)
        assert more, (found, got)
        got += more
    assert not got
    return found


@pytest.fixture
def sock(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.supervisor.port), PATIENCE) as sock:
        yield sock


# A version in the address, or a header that says what is so anyway, goes the long way.
_BODIES = [
    b'{"x": 4}',
    b'{"x": 4, "x": 5}',
    b'{"x": 4, "other": [{}]}',
    b'{"x": 1e3, "note": "\\ud83d\\ude00"}',
    b'{"x": -1}',
    b'{"x": 1001}',
    b'{"x": NaN}',
    b'{"x": 1e999}',
    b'{"x": "4"}',
    b'{"x": 18446744073709551616}',
    b'{"x": null}',
    b"{}",
    b"",
    b"[]",
    b"nonsense",
    b"\xff\xfe",
    b"[" * 900,
    b'{"rows": [{"x": 4}, {"x": -1}]}',
    b'{"x": %d}' % RAISE,
    b'{"x": 4}' + b" " * 2000,
]


@pytest.mark.parametrize("body", _BODIES)
@pytest.mark.parametrize("model", [b"quick", b"slow"])
def test_both_ways_give_the_same_answer(sock: socket.socket, body: bytes, model: bytes) -> None:
    kind = b"content-type: application/json"
    given = b"x-request-id: mine"
    sock.sendall(row(body, kind, given, model=model))
    short = read(sock)[0]
    sock.sendall(row(body, kind + b"; charset=utf-8", given, model=model))
    long = read(sock)[0]

    def undated(answer: tuple[int, bytes, bytes]) -> tuple[int, list[bytes], bytes]:
        status, head, told = answer
        return status, sorted(line for line in head.split(b"\r\n") if b"date:" not in line), told

    assert undated(short) == undated(long)


def test_a_row_that_comes_in_pieces(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in row(b'{"x": 4}'):
        sock.sendall(bytes([byte]))
    assert b'"y":8.0' in read(sock)[0][2]


def test_a_client_that_asks_before_it_sends(sock: socket.socket) -> None:
    head, _, body = row(b'{"x": 4}', b"expect: 100-continue").partition(b"\r\n\r\n")
    sock.sendall(head + b"\r\n\r\n")
    assert read(sock)[0][0] == 100
    sock.sendall(body)
    assert b'"y":8.0' in read(sock)[0][2]


def test_a_body_in_chunks_and_one_connection_for_all(sock: socket.socket) -> None:
    chunked = b"POST /predict/quick HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    sock.sendall(chunked + b'4\r\n{"x"\r\n4\r\n: 4}\r\n0\r\n\r\n')
    assert b'"y":8.0' in read(sock)[0][2]
    sock.sendall(row(b'{"x": 5}') + row(b'{"x": -5}') + row(b'{"x": 6}'))
    assert [status for status, _, _ in read(sock, 3)] == [200, 422, 200]


def test_the_connection_is_closed_if_the_client_says_so(sock: socket.socket) -> None:
    sock.sendall(row(b'{"x": 4}', b"connection: close"))
    status, head, _ = read(sock)[0]
    assert (status, b"connection: close" in head) == (200, True)
    assert sock.recv(1) == b""


def test_a_client_that_does_not_wait(service: Service) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", service.supervisor.port), PATIENCE) as gone:
            gone.sendall(row(b'{"x": 4}', model=b"slow"))
    with service.client() as client:
        assert client.post("/predict/slow", json={"x": 1}).status_code == 200


def test_patience_is_kept_to(sock: socket.socket) -> None:
    sock.sendall(row(b'{"x": 4}', b"x-request-timeout: 0", model=b"slow"))
    assert read(sock)[0][0] == 504
    sock.sendall(row(b'{"x": 4}', b"x-request-timeout: soon"))
    assert read(sock)[0][0] == 400


def test_a_full_queue(sock: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("narrow")
    with Service(root, [SLOW], max_queue=1, max_batch=1) as narrow:
        socks = [
            socket.create_connection(("127.0.0.1", narrow.supervisor.port), PATIENCE)
            for _ in range(8)
        ]
        statuses: set[int] = set()
        while 503 not in statuses:
            for one in socks:
                one.sendall(row(b'{"x": 905}', model=b"slow"))  # it dawdles
            for one in socks:
                status, head, _ = read(one)[0]
                statuses.add(status)
                assert (status == 503) == (b"retry-after: 1" in head)
        for one in socks:
            one.close()
    assert statuses <= {200, 503}


def test_keys_are_asked_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Service(tmp_path_factory.mktemp("guarded"), [QUICK], api_keys=(KEY,)) as guarded:
        address = ("127.0.0.1", guarded.supervisor.port)
        with socket.create_connection(address, PATIENCE) as sock:
            sock.sendall(row(b'{"x": 4}'))
            assert read(sock)[0][0] == 401
            sock.sendall(row(b'{"x": 4}', b"x-api-key: " + KEY.encode()))
            assert read(sock)[0][0] == 200


def test_who_sends_requests_without_end_is_answered_one_after_the_other(service: Service) -> None:
    asked = 5000
    request = b"GET /nothing HTTP/1.1\r\nhost: x\r\nfilled: " + b"y" * 300 + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.supervisor.port), PATIENCE) as sock:
        sender = threading.Thread(target=sock.sendall, args=(request * asked,))
        sender.start()
        statuses = {status for status, _, _ in read(sock, asked)}
        sender.join()
    assert statuses == {404}


def test_more_requests_than_anyone_sends_at_once_are_not_kept(service: Service) -> None:
    got = b""
    with socket.create_connection(("127.0.0.1", service.supervisor.port), PATIENCE) as sock:
        with suppress(ConnectionError):  # the rest is not read
            sock.sendall(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n" * 100 * MAX_PIPELINED)
        with suppress(ConnectionError):
            while more := sock.recv(65536):
                got += more
    assert got.count(b"HTTP/1.1 404 ") < 100 * MAX_PIPELINED
    with service.client() as client:
        assert client.get("/health/live").status_code == 200


def test_a_burst_of_connections_is_taken_in_a_few_turns_of_the_loop() -> None:
    burst = 10 * ACCEPTS
    taken: list[asyncio.BaseTransport] = []

    class Taken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            taken.append(transport)

    async def turns(bound: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Taken, sock=sock) for sock in shares(bound)]
        with ExitStack() as clients:
            for _ in range(burst):  # they are through for the system, and wait for the loop
                clients.enter_context(socket.create_connection(bound.getsockname()))
            count = 0
            while len(taken) < burst:
                await asyncio.sleep(0)
                count += 1
        for transport in taken:
            transport.close()
        for server in servers:
            server.close()
        return count

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert uvloop.run(turns(bound)) <= 2 * burst / ACCEPTS

"""The small parts: lines, readiness, the project's folder."""

from __future__ import annotations

import fcntl
import http.server
import io
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import AlreadyUp, UpError
from trivet.up.board import FOLDER, State, Status, claimed, read
from trivet.up.lines import LONGEST, lines_of
from trivet.up.probe import answers


class Pieces(io.RawIOBase):
    """Bytes that come in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        taken, rest = piece[: len(buffer)], piece[len(buffer) :]
        buffer[: len(taken)] = taken
        if rest:
            self._pieces.insert(0, rest)
        return len(taken)


def read_lines(pieces: list[bytes]) -> list[str]:
    stream: Any = Pieces(pieces)
    return list(lines_of(io.BufferedReader(stream)))


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_lines_do_not_depend_on_the_pieces_that_they_come_in(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    found = read_lines(pieces)
    assert found == read_lines([whole])
    assert len(found) == len(whole.removesuffix(b"\n").split(b"\n")) * bool(whole)


def test_a_line_without_an_end_is_cut() -> None:
    found = read_lines([b"x" * (3 * LONGEST + 5), b"\r\n\xff\n"])
    assert [len(line) for line in found] == [LONGEST, LONGEST, LONGEST, 5, 1]
    assert found[-1] == "\N{REPLACEMENT CHARACTER}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/bad": 503, "/moved?x=1": 302}.get(self.path, 200))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["http", "https"])
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    if request.param == "https":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("somewhere.else").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"{request.param}://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_answers(served: str) -> None:
    assert answers(served, 30)
    assert answers(f"{served}/moved?x=1", 30)
    assert not answers(f"{served}/bad", 30)
    assert answers(f"tcp://{served.partition('//')[2]}", 30)


def test_what_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not answers(f"http://127.0.0.1:{port}/", 0.05)  # accepted, but never answered
    assert not answers(f"http://127.0.0.1:{port}/", 1)
    assert not answers(f"tcp://127.0.0.1:{port}", 1)


STATUS = Status(project="p", pid=os.getpid(), started=1.0, processes=(State(name="a"),))


def test_a_claimed_project_tells_and_is_refused_to_others(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    with claimed(tmp_path) as board:
        assert read(tmp_path) is None  # it has nothing to tell yet
        board.show(STATUS)
        assert read(tmp_path) == STATUS
        assert not STATUS.is_ready
        with pytest.raises(AlreadyUp, match=f"up already \\(process {os.getpid()}\\)"):
            claimed(tmp_path).__enter__()
    assert read(tmp_path) is None
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {".gitignore", "up.lock"}
    with claimed(tmp_path):
        pass


def test_what_a_killed_one_left_counts_for_nothing(tmp_path: Path) -> None:
    with claimed(tmp_path) as board:
        board.show(STATUS)
        left = (tmp_path / FOLDER / "up.json").read_bytes()
    (tmp_path / FOLDER / "up.json").write_bytes(left)
    assert read(tmp_path) is None
    with claimed(tmp_path) as board:
        assert read(tmp_path) is None
        board.show(Status(project="p", pid=2**22 + 1, started=1.0))  # its guard has the lock
        assert read(tmp_path) is None


def test_what_a_killed_one_started_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    with claimed(tmp_path) as guarded:
        guarded.show(Status(project="p", pid=2**22 + 1, started=1.0))

        def ended(what: str) -> None:
            told.append(what)
            fcntl.flock(guarded.lock, fcntl.LOCK_UN)

        with claimed(tmp_path, waits=ended):
            assert told == [f"process {2**22 + 1} was killed; waiting for what it started to end"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(UpError, match="make it writable"):
        claimed(tmp_path).__enter__()
    with pytest.raises(UpError, match="cannot be read"):
        read(tmp_path)

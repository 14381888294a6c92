"""What is run for a project, in which order, and what is refused before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from trivet.errors import SettingsError
from trivet.settings import Project, load_project
from trivet.up.plan import Port, Process, planned
from trivet.up.ports import taken

MODEL = '[models.m]\nuri = "models/m"\n'
BATCH = '[batch.b]\nmodel = "m"\nsource = "sqlite:///s.db"\nquery = "SELECT 1"\nkey = ["a"]\n'
SERVICE = '[service]\nmodels = ["m"]\n'


def project(root: Path, text: str) -> Project:
    (root / "trivet.toml").write_text(text)
    return load_project(root, {"TOKEN": "secret"})


def plan(root: Path, text: str, *names: str) -> dict[str, Process]:
    return {p.name: p for p in planned(project(root, text), names, trivet=("trivet",))}


def refused(root: Path, text: str, *names: str) -> str:
    with pytest.raises(SettingsError) as error:
        plan(root, text, *names)
    return str(error.value)


def test_the_parts_of_a_project(tmp_path: Path) -> None:
    found = plan(tmp_path, MODEL + BATCH + SERVICE)
    start = ("trivet", "--file", str(tmp_path / "trivet.toml"), "--log", "json")
    assert {name: process.command for name, process in found.items()} == {
        "service": (*start, "serve"),
        "schedule": (*start, "schedule"),
    }
    service = found["service"]
    assert service.ready == "http://127.0.0.1:8080/health/ready"
    assert service.url == "http://127.0.0.1:8080"
    assert [port.number for port in service.ports] == [8080, 8081]
    assert service.grace > 61  # stop_delay and twice stop_timeout


def test_a_stream_of_a_project(tmp_path: Path) -> None:
    text = MODEL + '[stream.tips]\nmodel = "m"\ntopic = "rides"\nkey = ["a"]\nmetrics_port = 9100\n'
    stream = plan(tmp_path, text)["stream-tips"]
    assert stream.command[-2:] == ("consume", "tips")
    assert [port.number for port in stream.ports] == [9100]
    assert plan(tmp_path, text.replace("metrics_port = 9100\n", ""))["stream-tips"].ports == ()


def test_the_dashboard_of_a_project(tmp_path: Path) -> None:
    text = (
        MODEL + SERVICE + '[dashboard]\nhost = "0.0.0.0"\nport = 9000\ntoken = "0123456789abcdef"\n'
    )
    *_, pages = planned(project(tmp_path, text), trivet=("trivet",), dashboard=True)
    assert (pages.name, pages.url) == ("dashboard", "http://127.0.0.1:9000")
    assert pages.ready == "http://127.0.0.1:9000/health"
    only = project(tmp_path, '[up.a]\ncommand = "a"\n')
    assert (
        len(planned(only, trivet=("trivet",), dashboard=True)) == 1
    )  # it would have nothing to show


@pytest.mark.parametrize(
    ("keys", "ready", "ports"),
    [
        ('host = "0.0.0.0"\ngrpc = false', "http://127.0.0.1:8080/health/ready", [8080]),
        ('host = "::"\ngrpc = false', "http://[::1]:8080/health/ready", [8080]),
        ("port = 0\ngrpc_port = 0", "", []),
        (
            'tls_cert = "c"\ntls_key = "k"\ngrpc = false',
            "https://127.0.0.1:8080/health/ready",
            [8080],
        ),
        (
            'tls_cert = "c"\ntls_key = "k"\ntls_client_ca = "a"\ngrpc = false',
            "tcp://127.0.0.1:8080",
            [8080],
        ),
    ],
)
def test_how_a_service_is_asked(tmp_path: Path, keys: str, ready: str, ports: list[int]) -> None:
    service = plan(tmp_path, f"{MODEL}{SERVICE}{keys}\n")["service"]
    assert service.ready == ready
    assert [port.number for port in service.ports] == ports


def test_a_command_of_the_project(tmp_path: Path) -> None:
    text = """
    [up.backend]
    command = "python -m backend --title 'two words'"
    ready = "https://localhost/health?deep=1"
    after = ["tips"]
    env = { TOKEN = "${TOKEN}" }
    stop_timeout = "3s"
    [up.tips]
    command = "tips"
    ready = "tcp://127.0.0.1:9999"
    once = true
    """
    found = plan(tmp_path, text)
    assert list(found) == ["tips", "backend"]  # each behind what it comes after
    backend = found["backend"]
    assert backend.command == ("python", "-m", "backend", "--title", "two words")
    assert backend.ports == (Port("[up.backend] ready", "localhost", 443),)
    assert (backend.env, backend.grace) == ({"TOKEN": "secret"}, 3)
    assert backend.url == "https://localhost"
    assert (found["tips"].once, found["tips"].url) == (True, "")


def test_some_of_them_come_with_what_they_need(tmp_path: Path) -> None:
    text = """
    [up.a]
    command = "a"
    [up.b]
    command = "b"
    after = ["a"]
    [up.c]
    command = "c"
    """
    assert list(plan(tmp_path, text, "b")) == ["a", "b"]


def test_what_is_refused(tmp_path: Path) -> None:
    assert "nothing to run" in refused(tmp_path, "")
    assert "did you mean 'backend'?" in refused(tmp_path, '[up.backend]\ncommand = "x"\n', "backnd")
    assert "[up.a] after: there is no process 'b'" in refused(
        tmp_path, '[up.a]\ncommand = "x"\nafter = ["b"]\n'
    )
    circle = '[up.a]\ncommand = "x"\nafter = ["b"]\n[up.b]\ncommand = "x"\nafter = ["a"]\n'
    assert "a after b after a: none of them can start first" in refused(tmp_path, circle)
    assert "rename it" in refused(tmp_path, f'{MODEL}{SERVICE}[up.service]\ncommand = "x"\n')


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('command = "sh \'x"', "close every quote"),
        ('command = " "', "write the program"),
        ('command = "x"\nready = "localhost:80"', "write a url"),
        ('command = "x"\nready = "tcp://localhost"', "write a url"),
        ('command = "x"\nready = "http://localhost:port"', "write a url"),
        ('command = "x"\nenv = { A = 1 }', "[up.a] env"),
        ('command = "x"\nredy = "x"', "did you mean 'ready'?"),
    ],
)
def test_a_section_that_cannot_be(tmp_path: Path, keys: str, words: str) -> None:
    assert words in refused(tmp_path, f"[up.a]\n{keys}\n")


def process(*ports: Port) -> Process:
    return Process(name="p", command=("x",), ports=ports)


def test_ports_in_use_are_named_with_who_has_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        [line] = taken([process(Port("[service] port", "127.0.0.1", number))])
    assert line.startswith(f"[service] port: 127.0.0.1:{number} cannot be bound: ")
    assert "(process " in line
    assert not taken([process(Port("[service] port", "127.0.0.1", number))])


def test_a_port_wanted_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    [line] = taken([process(Port("a", "127.0.0.1", number)), process(Port("b", "", number))])
    assert line == f"b: a is {number} as well; give one of them another port"


def test_an_address_of_another_machine() -> None:
    [line] = taken([process(Port("a", "no such host", 80))])
    assert "is no address of this machine" in line

"""A project with an action: customers in the source, offers by score, receivers of every kind."""

from __future__ import annotations

import datetime as dt
import http.server
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import tomli_w
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from support.deployments import Project, day, trips
from trivet.actions.action import Action, Surroundings
from trivet.brokers.base import Broker
from trivet.hosts.schedule import Interval
from trivet.settings import load_project

SELECT = """
SELECT trip_id AS customer_id, score FROM toy_scores
WHERE interval_start = $interval_start ORDER BY score DESC, trip_id
"""
CONTACTS = "SELECT customer_id, first_name, email FROM customers"
TEMPLATE = """Subject: An offer for {{ first_name }}

Dear {{ first_name }}, your score is **{{ score }}**.
"""


def no_broker() -> Broker:
    raise AssertionError("nobody asked for a broker")


@dataclass
class Campaign(Project):
    """A project whose toy scores are acted on."""

    action: dict[str, Any] = field(default_factory=dict)
    broker: Callable[[], Broker] = no_broker

    def __post_init__(self) -> None:
        super().__post_init__()
        with self.open_source() as db:
            db.execute("CREATE TABLE customers (customer_id BIGINT, first_name TEXT, email TEXT)")
            db.execute("CREATE TABLE unsubscribed (customer_id BIGINT)")

    def write(self, **more: Any) -> Any:
        file = super().write(**more)
        section = {
            "after": self.name,
            "select": SELECT,
            "key": ["customer_id"],
            "deliver": "file:outbox",
            "contacts": CONTACTS,
            "suppress": "SELECT customer_id FROM unsubscribed",
            "template": TEMPLATE,
            "rate": 100000,
            "retry_for": "0s",
            "retry_delay": "0s",
        } | self.action
        section = {key: value for key, value in section.items() if value is not None}
        with file.open("a", encoding="utf-8") as toml:
            toml.write("\n" + tomli_w.dumps({"action": {"offer": section}}))
        return file

    def set(self, **more: Any) -> None:
        """Change the section of the action; None leaves a key out."""
        self.action |= more
        self.write()

    def customers(self, *numbers: int, **changes: Any) -> None:
        """Add customers, named by their numbers."""
        with self.open_source() as db, db.transaction():
            for number in numbers:
                row = {
                    "customer_id": number,
                    "first_name": f"N{number}",
                    "email": f"c{number}@example.com",
                } | changes
                holes = ", ".join(f"${name}" for name in row)
                db.execute(f"INSERT INTO customers VALUES ({holes})", **row)

    def day(self, number: int, count: int = 5) -> list[int]:
        """Add a day's rows and their customers, and score it; return the customers, best first."""
        self.add(trips(number, count))
        ids = [1000 * number + i for i in range(count, 0, -1)]
        self.customers(*ids)
        self.score(number)
        return ids

    def acting(self, stop: threading.Event | None = None) -> Action:
        """Return the action as the command line would wire it, on a clock of our own."""
        project = load_project(self.write(), {})
        batch = project.batch[self.name]
        around = Surroundings(
            root=self.root,
            project="test",
            results=self.results,
            source=self.source,
            calendar=batch.calendar,
            delay=batch.delay,
            clock=lambda: self.now,
            stop=stop or self.stop,
            broker=self.broker,
        )
        action = Action(project.action["offer"], around)
        action.register()
        return action

    def groups(self, interval: Interval | None = None) -> dict[int, str]:
        """Return everybody's group, of all intervals or one."""
        rows = self.rows("SELECT interval_start, row_key, assignment FROM trivet_assignments")
        start = "" if interval is None else f"{interval.start:%Y-%m-%d}"
        return {
            msgspec.json.decode(row["row_key"])["customer_id"]: row["assignment"]
            for row in rows
            if str(row["interval_start"]).startswith(start)
        }

    def states(self) -> list[str]:
        """Return the states of the deliveries, by interval and place."""
        rows = self.rows("SELECT state FROM trivet_deliveries ORDER BY interval_start, place")
        return [row["state"] for row in rows]

    def reasons(self) -> list[str]:
        rows = self.rows("SELECT reason FROM trivet_deliveries ORDER BY interval_start, place")
        return [row["reason"] for row in rows]

    def files(self) -> list[Mapping[str, Any]]:
        """Return what lies in the outbox folder."""
        return [
            msgspec.json.decode(path.read_bytes())
            for path in sorted((self.root / "outbox").glob("[!.]*"))  # a draft is hidden
        ]


class Receiver:
    """A real HTTP server that keeps its requests, and answers as it is told."""

    def __init__(
        self, answers: Sequence[int] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        self.requests: list[tuple[Mapping[str, str], dict[str, Any]]] = []
        self.answers = list(answers)
        self._headers = headers or {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.requests.append((dict(self.headers), msgspec.json.decode(body)))
                self.send_response(status)
                for name, value in receiver._headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/offers"

    @property
    def keys(self) -> list[str]:
        """The idempotency keys, in the order in which they came."""
        return [headers["Idempotency-Key"] for headers, _ in self.requests]


class _Controller(Controller):
    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


class MailServer:
    """A real SMTP server that keeps its mails; `answers` are for addresses, `data` for mails."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.recipients: list[str] = []
        self.answers: dict[str, str] = {}
        self.data: list[str] = []
        self._controller = _Controller(self, hostname="127.0.0.1", port=0)

    async def handle_RCPT(  # noqa: N802
        self, _s: SMTP, _x: Session, envelope: Envelope, address: str, _o: list[str]
    ) -> str:
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _s: SMTP, _x: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self.data.pop(0) if self.data else "250 OK"
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(envelope.content)
            self.recipients += envelope.rcpt_tos
        return answer

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._controller.port}"


def interval_of(number: int) -> Interval:
    return Interval(day(number), day(number) + dt.timedelta(days=1))

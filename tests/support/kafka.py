"""A real Apache Kafka broker that the tests own: one node on free ports, removed at the end.

Its jars are fetched once, by Maven, into the folder ``.cache``: ``make kafka``.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
JARS = ROOT / ".cache" / "kafka"
HINT = "no Apache Kafka found: make kafka (it needs Java 17 and Maven)"

USER, PASSWORD = "trivet", "s3cret-Pa$s"
"""For the listener that asks; '$' on purpose: it is percent-encoded in urls."""

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": (
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"
    ),
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
    ),
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "2",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",
    "log.segment.bytes": "67108864",
    "message.max.bytes": "30000000",
}
_JAVA = ("-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


class Unavailable(Exception):
    """This machine has no Kafka, or no Java to run it."""


class KafkaServer:
    """One broker with its own folder; a context manager that removes it."""

    def __init__(self, java: tuple[str, ...] = _JAVA) -> None:
        if not (JARS / ".done").exists() or shutil.which("java") is None:
            raise Unavailable(HINT)
        self._java = java
        self._home = Path(tempfile.mkdtemp(prefix="trivet-kafka-"))
        self._log = self._home / "log"
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        try:
            self._start_somewhere()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def sasl_address(self) -> str:
        return f"127.0.0.1:{self._sasl_port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"

    def new_name(self, prefix: str = "topic") -> str:
        """Return a name that no topic or group has yet."""
        return f"{prefix}-{next(self._names)}-{secrets.token_hex(3)}"

    def log(self) -> str:
        """Return the end of the broker's log."""
        return self._log.read_text(errors="replace")[-6000:] if self._log.exists() else ""

    def start(self) -> None:
        """Start the broker and wait until it takes requests."""
        begun = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", self._home / "server.properties"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends the broker
            )
        deadline = time.monotonic() + 120
        while b"Kafka Server started" not in self._log.read_bytes()[begun:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(kill=True)
                raise RuntimeError(f"Kafka did not start:\n{self.log()}")
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """Stop the broker, in order or as in a crash."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def restart(self, *, kill: bool = True) -> None:
        """Stop and start again, at the same address."""
        self.stop(kill=kill)
        self.start()

    def remove(self) -> None:
        """Stop the broker and delete its files."""
        self.stop(kill=True)
        shutil.rmtree(self._home, ignore_errors=True)

    def _start_somewhere(self) -> None:
        for last in (False, False, True):  # another process may take a free port before we do
            self.port, self._sasl_port, controller = _free_ports(3)
            places = {
                "listeners": f"PLAINTEXT://{self.address},SASL_PLAINTEXT://{self.sasl_address},"
                f"CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"PLAINTEXT://{self.address},"
                f"SASL_PLAINTEXT://{self.sasl_address}",
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "log.dirs": str(self._home / "data"),
            }
            file = self._home / "server.properties"
            file.write_text("".join(f"{k}={v}\n" for k, v in (_SETTINGS | places).items()))
            try:
                self._format(file)
                return self.start()
            except RuntimeError:
                if last:
                    raise
                shutil.rmtree(self._home / "data", ignore_errors=True)
        return None

    def _format(self, file: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        done = subprocess.run(
            self._command("kafka.tools.StorageTool", "format", "-t", cluster, "-c", file),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"Kafka's storage was not formatted: {done.stdout}{done.stderr}")

    def _command(self, *words: str | Path) -> list[str | Path]:
        logged = "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"
        return ["java", *self._java, logged, "-cp", f"{JARS}/*", *words]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as probes:
        ports = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports

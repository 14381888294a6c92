"""A real Apache Kafka broker that the tests own: one node on free ports, removed at the end.

Its jars are fetched once, by Maven, into the folder ``.cache``: ``make kafka``.
"""

from __future__ import annotations

import base64
import shutil
import uuid
from pathlib import Path
from urllib.parse import quote

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from support.server import Server, Unavailable, free_ports

ROOT = Path(__file__).parents[2]
JARS = ROOT / ".cache" / "kafka"
HINT = "no Apache Kafka found: make kafka (it needs Java 17 and Maven)"

USER, PASSWORD = "trivet", "s3cret-Pa$s"
"""For the listener that asks, over TLS; '$' on purpose: it is percent-encoded in urls."""

GUEST = "guest"
"""Another user, with the same password: it may do what it is granted only."""

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": (
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL"
    ),
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl_ssl.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}" '
        f'user_{GUEST}="{PASSWORD}";'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:ANONYMOUS;User:{USER}",
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


class KafkaServer(Server):
    """One broker: a `Server`.

    Args:
        java: Options of the virtual machine.
    """

    def __init__(self, java: tuple[str, ...] = _JAVA) -> None:
        if not (JARS / ".done").exists() or shutil.which("java") is None:
            raise Unavailable(HINT)
        super().__init__("Kafka")
        self._java = java
        self._secure_port = 0
        try:
            self._certify()
            self.start_somewhere()
        except BaseException:
            self.remove()
            raise

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def secure_address(self) -> str:
        """Where it asks for a login, over TLS."""
        return f"127.0.0.1:{self._secure_port}"

    @property
    def authority(self) -> Path:
        """The certificate of who vouches for the broker."""
        return self._home / "authority.pem"

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"

    def secure_url(self, user: str = USER, password: str = PASSWORD, **more: str) -> str:
        """Return the url of the listener that asks for a login; more settings, or others."""
        asked = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.authority),
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": quote(password),
        } | {name.replace("_", "."): value for name, value in more.items()}
        told = "&".join(f"{name}={value}" for name, value in asked.items() if value)
        return f"kafka://{self.secure_address}?{told}"

    def settle(self) -> None:
        self.port, self._secure_port, controller = free_ports(3)
        open_to_clients = f"PLAINTEXT://{self.address},SASL_SSL://{self.secure_address}"
        places = {
            "listeners": f"{open_to_clients},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": open_to_clients,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self._home / "data"),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._home / "keys.pem"),
        }
        shutil.rmtree(self._home / "data", ignore_errors=True)
        lines = (f"{name}={value}\n" for name, value in (_SETTINGS | places).items())
        self._file.write_text("".join(lines))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.run(self._java_with("kafka.tools.StorageTool", "format", "-t", cluster, "-c"))

    def command(self) -> list[str | Path]:
        return self._java_with("kafka.Kafka")

    def is_ready(self, begun: int) -> bool:
        return b"Kafka Server started" in self._log.read_bytes()[begun:]

    @property
    def _file(self) -> Path:
        return self._home / "server.properties"

    def _java_with(self, *words: str) -> list[str | Path]:
        logged = "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"
        return ["java", *self._java, logged, "-cp", f"{JARS}/*", *words, self._file]

    def _certify(self) -> None:
        """Write down a key and a certificate, in the form that Kafka reads."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        given = authority.issue_cert("127.0.0.1")
        key = load_pem_private_key(given.private_key_pem.bytes(), None)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = b"".join(part.bytes() for part in given.cert_chain_pems)
        (self._home / "keys.pem").write_bytes(text + chain)

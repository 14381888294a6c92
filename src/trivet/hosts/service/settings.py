"""``[service]``: models behind an endpoint."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from trivet.results.rows import SERVICE, reserved

_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The service.

    Attributes:
        models: Names of ``[models]``, each with ``@VERSION`` behind it or without: without, its
            current version, and the next one as soon as it is current. The first answers
            ``/invocations``.
        host: The address to listen on.
        port: The port to listen on; 0 for any that is free.
        grpc: Whether the gRPC form of the Open Inference Protocol is served.
        grpc_port: Its port.
        workers: Processes.
        key: Columns carried beside the inputs, for lineage and actuals.
        max_batch: Rows that are scored in one call.
        max_queue: Rows that may wait for one model; beyond it a request is answered 503 at once.
        max_rows: Rows that one request may have.
        max_body: Bytes that a request's body may have.
        max_head: Bytes that a request's line and headers may have.
        max_connections: Connections of one process; beyond it a request is answered 503.
        timeout: How long a request without a deadline of its own may take, and a call of a model.
        keep_alive: How long an idle connection is kept, and how long a request's head may take.
        stop_delay: How long requests are still taken after a stop signal, while the service says
            that it is not ready.
        stop_timeout: How long requests under way may take after that.
        api_keys: One of them must come with each request; without any, the service is open.
        tls_cert: File with the server's certificate and its chain, PEM.
        tls_key: File with its private key, PEM.
        tls_client_ca: File with the authorities whose clients are let in, PEM (mutual TLS).
        cors_origins: Origins whose pages may call the service, ``*`` for all.
        access_log: Which requests are logged.
        log: Where predictions are logged.
        log_sample: Which share of the requests is logged.
        log_durability: What happens to requests while the log cannot keep up: their rows are
            dropped from the log and counted, or they wait.
        log_queue: Rows that may wait to be logged.
        reload_every: How often each process looks for a new current version.
    """

    models: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    grpc: bool = True
    grpc_port: int = 8081
    workers: int = 1
    key: tuple[str, ...] = ()
    max_batch: int = 256
    max_queue: int = 10_000
    max_rows: int = 100_000
    max_body: int = 32 * 2**20
    max_head: int = 64 * 2**10
    max_connections: int = 8192
    timeout: dt.timedelta = dt.timedelta(seconds=30)
    keep_alive: dt.timedelta = dt.timedelta(seconds=75)
    stop_delay: dt.timedelta = dt.timedelta(seconds=1)
    stop_timeout: dt.timedelta = dt.timedelta(seconds=30)
    api_keys: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    cors_origins: tuple[str, ...] = ()
    access_log: Literal["all", "errors", "none"] = "errors"
    log: Literal["results", "none"] = "results"
    log_sample: float = 1.0
    log_durability: Literal["drop", "block"] = "drop"
    log_queue: int = 100_000
    reload_every: dt.timedelta = dt.timedelta(seconds=1)

    def __post_init__(self) -> None:
        mistakes = [*self._mistakes(), *self._mistakes_of_access()]
        if mistakes:
            raise ValueError("\n".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        if not self.models:
            yield "models: name at least one of [models]"
        if len(set(self.models)) < len(self.models):
            yield "models: each name and version once"
        for name, least, most in (
            ("port", 0, 65_535),
            ("grpc_port", 0, 65_535),
            ("workers", 1, 1024),
            ("max_batch", 1, None),
            ("max_queue", 1, None),
            ("max_rows", 1, None),
            ("max_body", 1, None),
            ("max_head", 1024, None),
            ("max_connections", 1, None),
            ("log_queue", 1, None),
        ):
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                between = f"{least} or more" if most is None else f"a number from {least} to {most}"
                yield f"{name}: {between}"
        for name in self.key if self.log == "results" else ():
            if name.lower() in reserved(SERVICE):
                yield f"key: every row has a column {name!r} of its own; rename it"
        for name in ("timeout", "keep_alive", "reload_every"):
            if not getattr(self, name):
                yield f"{name}: more than nothing"
        if not 0 < self.log_sample <= 1:
            none = "" if self.log_sample else '; log = "none" logs nothing'
            yield f"log_sample: a share above 0, up to 1{none}"

    def _mistakes_of_access(self) -> Iterator[str]:
        if not all(self.api_keys):
            yield "api_keys: an empty key would let everyone in; remove it or set it"
        if bool(self.tls_cert) != bool(self.tls_key):
            yield "tls_cert: a certificate and its key go together; set tls_cert and tls_key"
        if self.tls_client_ca and not self.tls_cert:
            yield "tls_client_ca: clients can show certificates only with tls_cert set"
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                yield (
                    f"cors_origins: no browser sends the origin {origin!r}; write it with its "
                    'scheme and without a path, such as "https://app.example.com"'
                )

    @property
    def beside(self) -> tuple[tuple[str, str], ...]:
        """Columns that are kept beside the outputs, each behind the key that names it."""
        return tuple(("[service] key", name) for name in self.key if self.log == "results")

    def pinned(self) -> list[tuple[str, str | None]]:
        """Return `models` as names and versions, None for the current one."""
        parts = [entry.partition("@") for entry in self.models]
        return [(name, version or None) for name, _, version in parts]

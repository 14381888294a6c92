"""Sample rows through a running service, in every protocol, alone and in batches."""

from __future__ import annotations

import dataclasses
import http.client
import json
import logging
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import pyarrow as pa

from trivet.check.outcome import Outcome, Told, answers_of, told_in
from trivet.check.sample import nans, nulls, without
from trivet.contract import Model
from trivet.counts import CountsFolder
from trivet.current import Source
from trivet.errors import ModelError
from trivet.hosts.service.protocols.tensors import OF_FIELD
from trivet.hosts.service.server import Supervisor, bind
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.service.worker import Plan, grpc_is_there
from trivet.logs import JsonLines

START_SECONDS = 120.0
ANSWER_SECONDS = 120.0

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype to the member of a tensor's contents that carries it, as the protocol has it."""


class Part(NamedTuple):
    """What one request brought.

    Attributes:
        rows: A prediction by output for each row, None where there is none.
        problems: By row of the request.
        digest: The model's, as the answer tells it; empty if the protocol has no place for it.
    """

    rows: Sequence[Mapping[str, Any] | None]
    problems: Mapping[int, Told]
    digest: str


class Ask(Protocol):
    """Sends rows in one request."""

    def __call__(self, model: Model, name: str, rows: pa.RecordBatch, /) -> Part: ...


class Lane(NamedTuple):
    """One protocol.

    Attributes:
        name: What it is called in the table.
        ask: Sends rows in one request.
        partial: Whether a request may have good and bad rows; else one bad row refuses all.
        takes_null: Whether it can carry a null.
        takes_nan: Whether a NaN is one also where null is allowed, and does not stand for it.
    """

    name: str
    ask: Ask
    partial: bool = False
    takes_null: bool = True
    takes_nan: bool = True


class Running:
    """A service for the length of a check."""

    def __init__(self, port: int, grpc_port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        self._channel: Any = None
        if grpc_port:
            import grpc  # noqa: PLC0415 - only where the service speaks it

            self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")

    def lanes(self) -> list[Lane]:
        """Return the protocols that it speaks."""
        lanes = [
            Lane("records", self._records, partial=True),
            Lane("arrow", self._arrow, partial=True),
            Lane("oip rest", self._oip, takes_null=False, takes_nan=False),
            Lane("mlflow", self._mlflow, takes_nan=False),
        ]
        if self._channel is not None:
            lanes.insert(3, Lane("oip grpc", self._oip_grpc, takes_null=False, takes_nan=False))
        return lanes

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
        if self._channel is not None:
            self._channel.close()

    def _post(self, path: str, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
        self._http.request("POST", path, body, {"Content-Type": kind})
        answer = self._http.getresponse()
        return answer.status, answer.read()

    def _records(self, model: Model, name: str, rows: pa.RecordBatch) -> Part:
        found = [_spelled(row) for row in rows.to_pylist()]
        alone = len(found) == 1
        body = _json(found[0] if alone else {"rows": found})
        status, text = self._post(f"/predict/{name}", body)
        answer = _read(status, text)
        if status in (422, 500):
            return Part([None] * len(found), _by_row(answer["errors"]), "")
        if alone:
            return Part([answer["prediction"]], {}, answer["digest"])
        return Part(answer["predictions"], _by_row(answer.get("errors", ())), answer["digest"])

    def _arrow(self, model: Model, name: str, rows: pa.RecordBatch) -> Part:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows)
        body = sink.getvalue().to_pybytes()
        kind = "application/vnd.apache.arrow.stream"
        status, text = self._post(f"/predict/{name}/arrow", body, kind)
        if status != 200:
            raise _unexpected(status, text)
        table = pa.ipc.open_stream(text).read_all()
        meta = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        problems: dict[int, Told] = {}
        for row, told in enumerate(table["trivet_error"].to_pylist()):
            if told is not None:
                problems[row] = frozenset(
                    (p["field"], p["code"]) for p in msgspec.json.decode(told)
                )
        answers = table.drop_columns(["trivet_error"]).to_pylist()
        shown = [None if row in problems else _spelled(a) for row, a in enumerate(answers)]
        return Part(shown, problems, meta["trivet.digest"])

    def _oip(self, model: Model, name: str, rows: pa.RecordBatch) -> Part:
        tensors = [
            {
                "name": field.name,
                "datatype": OF_FIELD[field.type],
                "shape": [rows.num_rows],
                "data": [_spell(value) for value in rows.column(field.name).to_pylist()],
            }
            for field in model.inputs
        ]
        status, text = self._post(f"/v2/models/{name}/infer", _json({"inputs": tensors}))
        answer = _read(status, text)
        if status in (400, 500):
            return Part([None] * rows.num_rows, _told(answer["error"]), "")
        columns = {output["name"]: output["data"] for output in answer["outputs"]}
        return Part(_rows(columns, rows.num_rows), {}, answer["parameters"]["digest"])

    def _mlflow(self, model: Model, name: str, rows: pa.RecordBatch) -> Part:
        data = [[_spell(value) for value in row.values()] for row in rows.to_pylist()]
        body = _json({"dataframe_split": {"columns": rows.schema.names, "data": data}})
        status, text = self._post(f"/invocations?model={name}", body)
        answer = _read(status, text)
        if status in (400, 500):
            return Part([None] * rows.num_rows, _told(answer["message"]), "")
        found = answer["predictions"]
        names = model.outputs.names
        return Part([{names[0]: v} if len(names) == 1 else v for v in found], {}, "")

    def _oip_grpc(self, model: Model, name: str, rows: pa.RecordBatch) -> Part:
        import grpc  # noqa: PLC0415 - only where the service speaks it

        from trivet.hosts.service.protocols.oip_messages import MESSAGES, SERVICE  # noqa: PLC0415

        request = MESSAGES["ModelInferRequest"](model_name=name)
        for field in model.inputs:
            kind = OF_FIELD[field.type]
            tensor = request.inputs.add(name=field.name, datatype=kind, shape=[rows.num_rows])
            values = [_plain(value) for value in rows.column(field.name).to_pylist()]
            getattr(tensor.contents, _CONTENTS[kind]).extend(values)
        call: Any = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["ModelInferResponse"].FromString,
        )
        try:
            reply = call(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            told = told_in(str(error.details()))
            if not told:
                raise ModelError(f"gRPC answered {error.code()}: {error.details()}") from None
            return Part([None] * rows.num_rows, told, "")
        columns = {
            output.name: [
                value.decode() if isinstance(value, bytes) else value
                for value in getattr(output.contents, _CONTENTS[output.datatype])
            ]
            for output in reply.outputs
        }
        return Part(_rows(columns, rows.num_rows), {}, reply.parameters["digest"].string_param)


@contextmanager
def running(settings: ServiceSettings, sources: Sequence[Source], root: Path) -> Iterator[Running]:
    """Start a service of one process as it would be served, on free ports.

    It keeps no prediction log, and tells what this process would tell.

    Raises:
        ModelError: It did not get ready.
    """
    grpc = settings.grpc and grpc_is_there()
    changed = dataclasses.replace(
        settings,
        host="127.0.0.1",
        port=0,
        grpc=grpc,
        grpc_port=0,
        workers=1,
        log="none",
        api_keys=(),
        tls_cert="",
        tls_key="",
        tls_client_ca="",
        access_log="none",
    )
    with CountsFolder() as counts, tempfile.TemporaryDirectory() as empty:
        logger = logging.getLogger("trivet")
        plan = Plan(
            json=any(isinstance(handler.formatter, JsonLines) for handler in logger.handlers),
            level=logger.getEffectiveLevel(),
            settings=changed,
            sources=tuple(sources),
            root=root,
            results=f"sqlite:///{empty}/none.db",
            counts=counts,
        )
        supervisor = Supervisor(plan, bind(changed))
        failure: list[Exception] = []
        thread = threading.Thread(target=_run, args=(supervisor, failure), name="service")
        thread.start()
        try:
            ended = threading.Event()
            for _ in range(round(START_SECONDS / 0.02)):
                if supervisor.is_ready or not thread.is_alive():
                    break
                ended.wait(0.02)
            if failure:
                raise failure[0]
            if not supervisor.is_ready:
                raise ModelError(f"the service was not ready within {START_SECONDS:.0f} s")
            client = Running(supervisor.port, supervisor.grpc_port)
            try:
                yield client
            finally:
                client.close()
        finally:
            supervisor.stop()
            thread.join()


def send(
    lane: Lane, model: Model, name: str, rows: pa.RecordBatch, size: int, bad: set[int]
) -> Outcome:
    """Send rows, so many in a request.

    Args:
        lane: How.
        model: The model.
        name: What the service calls it.
        rows: The sample.
        size: Rows of a request.
        bad: Places of rows that are to be rejected. Where one of them has a whole request refused,
            they are sent only alone; a row with a null only where the protocol can say it.
    """
    left_out = set() if lane.takes_null else nulls(rows)
    if not lane.takes_nan:
        left_out |= nans(rows)
    if not lane.partial and size > 1:
        left_out = left_out | bad
    places, carried = without(rows, left_out)
    return _sent(lane, model, name, carried, places, size)


def _sent(
    lane: Lane, model: Model, name: str, rows: pa.RecordBatch, places: Sequence[int], size: int
) -> Outcome:
    answers: list[Mapping[str, Any] | None] = []
    problems: dict[int, Told] = {}
    digests = set()
    for start in range(0, rows.num_rows, size):
        part = lane.ask(model, name, rows.slice(start, size))
        answers += part.rows
        problems |= {places[start + row]: told for row, told in part.problems.items()}
        digests |= {part.digest} - {""}
    return Outcome(places, answers_of(model.outputs, answers), problems, frozenset(digests))


def _run(supervisor: Supervisor, failure: list[Exception]) -> None:
    try:
        supervisor.run()
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
        failure.append(error)


def _rows(columns: Mapping[str, Sequence[Any]], count: int) -> list[Mapping[str, Any]]:
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def _by_row(errors: Sequence[Mapping[str, Any]]) -> dict[int, Told]:
    found: dict[int, set[tuple[str, str]]] = {}
    for error in errors:
        found.setdefault(error.get("row", 0), set()).add((error.get("field", ""), error["code"]))
    return {row: frozenset(told) for row, told in found.items()}


def _spell(value: Any) -> Any:
    """Return a value as JSON carries it."""
    if isinstance(value, str | int | float | None):
        return value
    return value.isoformat()


def _spelled(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _spell(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Return a value as a tensor's contents carry it."""
    spelled = _spell(value)
    return spelled.encode() if isinstance(spelled, str) else spelled


def _json(body: object) -> bytes:
    """Write JSON; NaN and infinity, which it has no word for, as most writers do."""
    return json.dumps(body, ensure_ascii=False).encode()


def _read(status: int, text: bytes) -> Any:
    if status not in (200, 400, 422, 500):
        raise _unexpected(status, text)
    return msgspec.json.decode(text)


def _told(text: str) -> dict[int, Told]:
    told = told_in(text)
    if not told:
        raise ModelError(f"the service answered: {text[:300]}")
    return told


def _unexpected(status: int, text: bytes) -> ModelError:
    return ModelError(f"the service answered {status}: {text[:300].decode(errors='replace')}")

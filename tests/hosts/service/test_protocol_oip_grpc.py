"""The Open Inference Protocol over gRPC; its foreign clients are in test_foreign_clients.py."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.service_client import application
from support.service_models import BoundedModel, EchoModel, HeldModel
from trivet.contract import Model
from trivet.hosts.service import bodies
from trivet.hosts.service.app import App
from trivet.hosts.service.exchange import Context
from trivet.hosts.service.faults import HTTP
from trivet.hosts.service.protocols import oip_grpc
from trivet.hosts.service.protocols.oip_messages import MESSAGES, SERVICE
from trivet.testing import LinearModel

Code = grpc.StatusCode
Seen = list[tuple[str, Context, grpc.StatusCode, float]]


class Caller:
    """A client of our own, that can also send what is no message."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def raw(self, method: str, body: bytes, **more: Any) -> bytes:
        call: Any = self._channel.unary_unary(f"/{SERVICE}/{method}")
        reply: bytes = await call(body, **more)
        return reply

    async def streamed(self, method: str, parts: AsyncIterator[bytes]) -> bytes:
        """Send a body that has no end."""
        call: Any = self._channel.stream_unary(f"/{SERVICE}/{method}")
        reply: bytes = await call(parts)
        return reply

    async def __call__(self, method: str, parts: dict[str, Any] | None = None, **more: Any) -> Any:
        message = MESSAGES[f"{method}Request"](**(parts or {}))
        reply = await self.raw(method, message.SerializeToString(), **more)
        return MESSAGES[f"{method}Response"].FromString(reply)

    async def refused(self, *call: Any, **more: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self(*call, **more)
        return caught.value.code(), caught.value.details() or ""


@asynccontextmanager
async def serving(app: App, watch: oip_grpc.Watch | None = None) -> AsyncIterator[Caller]:
    def make(name: str, began: float) -> Context:
        return Context(app._settings, app._models, name, began, ready=app.ready)

    server = oip_grpc.server(make, watch)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Caller(channel)
    finally:
        await server.stop(None)


def run(
    check: Callable[[Caller], Awaitable[None]],
    app: App | None = None,
    watch: oip_grpc.Watch | None = None,
) -> None:
    async def whole() -> None:
        async with serving(app or standard(), watch) as call:
            await check(call)

    asyncio.run(whole())


def standard(**more: Any) -> App:
    models: list[Model] = [
        LinearModel(weights=(1.0, 3.0), version="1"),
        LinearModel(weights=(1.0, 2.0), version="2"),
        EchoModel(),
        EchoModel(name="open", nullable=True),
        BoundedModel(on=[13.0]),
    ]
    return application(models, key=("ride",), max_rows=1000, **more)


def tensor(name: str, member: str, values: Any, datatype: str = "FP64") -> dict[str, Any]:
    shape = [len(values)]
    return {"name": name, "datatype": datatype, "shape": shape, "contents": {member: values}}


GOOD = [tensor("x0", "fp64_contents", [1, 2.5]), tensor("x1", "fp32_contents", [10, 20], "FP32")]


def linear(*inputs: Any, **more: Any) -> dict[str, Any]:
    return {"model_name": "linear", "inputs": list(inputs), **more}


def test_every_kind_of_fault_has_a_status() -> None:
    assert set(oip_grpc.STATUS) == set(HTTP)


def test_server_and_models() -> None:
    async def check(call: Caller) -> None:
        assert (await call("ServerLive")).live
        assert (await call("ServerReady")).ready
        about = await call("ServerMetadata")
        assert about.name == "trivet"
        assert about.version
        assert list(about.extensions) == ["binary_tensor_data"]
        assert (await call("ModelReady", {"name": "linear"})).ready
        assert (await call("ModelReady", {"name": "linear", "version": "1"})).ready
        for parts in ({"name": "nobody"}, {"name": "linear", "version": "9"}):
            for method in ("ModelReady", "ModelMetadata"):
                assert (await call.refused(method, parts))[0] is Code.NOT_FOUND
        model = await call("ModelMetadata", {"name": "linear"})
        assert (model.name, model.platform, list(model.versions)) == (
            "linear",
            "trivet",
            ["1", "2"],
        )
        told = [(t.name, t.datatype, list(t.shape)) for t in (*model.inputs, *model.outputs)]
        assert told == [
            ("x0", "FP64", [-1]),
            ("x1", "FP64", [-1]),
            ("prediction", "FP64", [-1]),
        ]

    run(check)


def test_a_service_that_stops_is_not_ready() -> None:
    app = standard()
    app.ready = False

    async def check(call: Caller) -> None:
        assert (await call("ServerLive")).live
        assert not (await call("ServerReady")).ready
        assert not (await call("ModelReady", {"name": "linear"})).ready

    run(check, app)


def test_typed_contents() -> None:
    async def check(call: Caller) -> None:
        reply = await call("ModelInfer", linear(*GOOD, id="mine"))
        assert (reply.model_name, reply.model_version, reply.id) == ("linear", "2", "mine")
        assert reply.parameters["digest"].string_param == "(1.0, 2.0) 0.0"
        (output,) = reply.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("prediction", "FP64", [2])
        assert list(output.contents.fp64_contents) == [21.0, 42.5]
        assert not reply.raw_output_contents
        reply = await call("ModelInfer", linear(*GOOD, model_version="1"))
        assert list(reply.outputs[0].contents.fp64_contents) == [31.0, 62.5]

    run(check)


def test_raw_contents() -> None:
    async def check(call: Caller) -> None:
        inputs = [
            {"name": "x0", "datatype": "FP64", "shape": [2, 1]},
            {"name": "x1", "datatype": "INT8", "shape": [2]},
        ]
        data = [np.array([1.0, 2.5]).tobytes(), b"\x0a\x14"]
        reply = await call("ModelInfer", linear(*inputs, raw_input_contents=data))
        assert [np.frombuffer(raw).tolist() for raw in reply.raw_output_contents] == [[21.0, 42.5]]
        assert not reply.outputs[0].HasField("contents")

    run(check)


def test_every_type_there_and_back() -> None:
    data: list[tuple[str, str, str, list[Any]]] = [
        ("bool", "BOOL", "bool_contents", [True, False]),
        ("int8", "INT8", "int_contents", [-128, 127]),
        ("int16", "INT16", "int_contents", [-1, 1]),
        ("int32", "INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("int64", "INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("float32", "FP32", "fp32_contents", [0.5, -0.5]),
        ("float64", "FP64", "fp64_contents", [0.1, 1e300]),
        ("string", "BYTES", "bytes_contents", ["é".encode(), b""]),
        ("timestamp", "BYTES", "bytes_contents", [b"2026-01-01T00:00:00Z"] * 2),
        ("date", "BYTES", "bytes_contents", [b"2026-01-01", b"1999-12-31"]),
    ]
    inputs = [tensor(f"in_{t}", member, values, kind) for t, kind, member, values in data]

    async def check(call: Caller) -> None:
        reply = await call("ModelInfer", {"model_name": "echo", "inputs": inputs})
        for output, (t, kind, member, values) in zip(reply.outputs, data, strict=True):
            assert (output.name, output.datatype) == (f"out_{t}", kind)
            assert list(getattr(output.contents, member)) == values

    run(check)


def test_nulls_of_an_answer() -> None:
    async def check(call: Caller) -> None:
        asked = {
            "model_name": "open",
            "inputs": [tensor("in_int8", "uint_contents", [1], "UINT8")],
            "outputs": [{"name": "out_float64"}, {"name": "out_string"}, {"name": "out_int8"}],
        }
        floats, texts, whole = (await call("ModelInfer", asked)).outputs
        assert np.isnan(floats.contents.fp64_contents[0])
        assert list(texts.contents.bytes_contents) == [b""]
        assert list(whole.contents.int_contents) == [1]
        asked["outputs"] = [{"name": "out_date"}, {"name": "out_int16"}]
        code, told = await call.refused("ModelInfer", asked)
        assert code is Code.INVALID_ARGUMENT
        assert "'out_int16'" in told

    run(check)


@pytest.mark.parametrize(
    ("inputs", "more", "words"),
    [
        ([tensor("nope", "fp64_contents", [1.0, 1.0]), GOOD[1]], {}, ["'nope'"]),
        ([GOOD[0]], {}, ["'x1'", "missing"]),
        ([tensor("x0", "fp32_contents", [1, 2]), GOOD[1]], {}, ["'x0'", "fp64_contents"]),
        ([tensor("x0", "fp32_contents", [1, 2], "FP16"), GOOD[1]], {}, ["'x0'", "raw"]),
        ([tensor("x0", "bytes_contents", [b"a", b"b"], "BYTES"), GOOD[1]], {}, ["'x0'", "BYTES"]),
        ([tensor("x0", "bytes_contents", [b"\xff"], "BYTES"), GOOD[1]], {}, ["'x0'", "UTF-8"]),
        ([tensor("x0", "int_contents", [1, 300], "INT8"), GOOD[1]], {}, ["row 1", "x0", "INT8"]),
        ([tensor("x0", "fp64_contents", [1.0]), GOOD[1]], {}, ["'x1' of shape [2]", "rows"]),
        ([*GOOD, GOOD[0]], {}, ["'x0'", "twice"]),
        ([{**GOOD[0], "shape": [3]}, {**GOOD[1], "shape": [3]}], {}, ["'x0'", "2 values"]),
        (GOOD, {"outputs": [{"name": "nope"}]}, ["'nope'"]),
        (GOOD, {"raw_input_contents": [b"a"]}, ["raw_input_contents"]),
        (GOOD, {"raw_input_contents": [b"a", b"b"]}, ["'x0'", "contents"]),
        (
            [tensor("x0", "fp64_contents", [float("nan"), 1]), GOOD[1]],
            {},
            ["row 0: x0: not_finite"],
        ),
        ([], {}, ["no input tensors"]),
    ],
)
def test_what_does_not_fit_is_named(inputs: Any, more: Any, words: list[str]) -> None:
    async def check(call: Caller) -> None:
        code, told = await call.refused("ModelInfer", linear(*inputs, **more))
        assert code is Code.INVALID_ARGUMENT
        for word in words:
            assert word in told

    run(check)


def test_what_is_not_there_and_what_fails() -> None:
    seen: Seen = []

    async def check(call: Caller) -> None:
        code, _ = await call.refused("ModelInfer", {"model_name": "nobody"})
        assert code is Code.NOT_FOUND
        bad = [
            tensor("x0", "fp64_contents", [13.0]),
            tensor("n", "int_contents", [1], "INT32"),
            tensor("zone", "bytes_contents", [b"a"], "BYTES"),
        ]
        code, told = await call.refused("ModelInfer", {"model_name": "bounded", "inputs": bad})
        assert code is Code.INTERNAL
        assert "model_error" in told
        many = [{"name": name, "datatype": "FP64", "shape": [2000]} for name in ("x0", "x1")]
        code, told = await call.refused("ModelInfer", linear(*many))
        assert code is Code.INVALID_ARGUMENT
        assert "1000" in told
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.raw("RepositoryModelLoad", b"")
        assert caught.value.code() is Code.UNIMPLEMENTED

    def watch(*call: Any) -> None:
        seen.append(call)

    run(check, watch=watch)
    assert [(method, code) for method, _, code, _ in seen] == [
        ("ModelInfer", Code.NOT_FOUND),
        ("ModelInfer", Code.INTERNAL),
        ("ModelInfer", Code.INVALID_ARGUMENT),
    ]
    served = seen[1][1].served
    assert served is not None
    assert served.name == "bounded"


def test_a_long_status_is_cut() -> None:
    async def check(call: Caller) -> None:
        bad = [tensor("x0", "fp64_contents", [float("inf")] * 1000)]
        bad.append(tensor("x1", "fp64_contents", [1.0] * 1000))
        code, told = await call.refused("ModelInfer", linear(*bad))
        assert code is Code.INVALID_ARGUMENT
        assert len(told) <= oip_grpc.MAX_MESSAGE
        for letter, length in (("漢", 9), ("é", 6), ("😀", 12), ("%", 3)):
            bad = [tensor("in_date", "bytes_contents", [letter.encode() * 60] * 500, "BYTES")]
            asked = {"model_name": "open", "inputs": bad}
            code, told = await call.refused("ModelInfer", asked)
            assert code is Code.INVALID_ARGUMENT
            assert letter in told
            assert len(told) > oip_grpc.MAX_MESSAGE // length // 2

    run(check)


def test_a_message_beyond_the_limit() -> None:
    async def check(call: Caller) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.raw("ModelInfer", bytes(20_000))
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED

    run(check, standard(max_body=10_000))


def test_ids() -> None:
    async def check(call: Caller) -> None:
        given = (("x-request-id", "abc"),)
        assert (await call("ModelInfer", linear(*GOOD), metadata=given)).id == "abc"
        odd = (("x-request-id", "a" * 200),)
        made = (await call("ModelInfer", linear(*GOOD), metadata=odd)).id
        assert len(made) < 50
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call("ModelReady", {"name": "x"}, metadata=given)
        assert dict(caught.value.trailing_metadata() or ())["x-request-id"] == "abc"

    run(check)


def test_keys() -> None:
    app = standard(api_keys=("first", "second"))

    async def check(call: Caller) -> None:
        assert (await call("ServerLive")).live
        assert (await call("ServerReady")).ready
        for wrong in (
            (),
            (("x-api-key", "third"),),
            (("authorization", "Basic first"),),
            (("authorization", "Bearer"),),
        ):
            for method in ("ServerMetadata", "ModelInfer"):
                code, _ = await call.refused(method, metadata=wrong)
                assert code is Code.UNAUTHENTICATED
        for right in ((("x-api-key", "second"),), (("authorization", "bearer first"),)):
            assert (await call("ModelInfer", linear(*GOOD), metadata=right)).outputs

    run(check, app)


def test_nothing_is_read_of_a_call_without_a_key_or_a_use_for_a_body() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)
            await asyncio.sleep(0)

    async def check(call: Caller) -> None:
        for method in ("ModelInfer", "ServerMetadata"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.streamed(method, endless())
            assert caught.value.code() is Code.UNAUTHENTICATED
            assert "x-api-key" in (caught.value.details() or "")
        assert await call.streamed("ServerLive", endless()) == b"\x08\x01"

    seen: Seen = []
    run(check, standard(api_keys=("first",)), lambda *told: seen.append(told))
    assert [code for _, _, code, _ in seen] == [Code.UNAUTHENTICATED] * 2 + [Code.OK]


def test_calls_under_way_are_bounded() -> None:
    held = HeldModel(go=threading.Event())
    app = application([held], max_connections=2)
    app._models.find("held").batcher.quick = False
    stuck = {"model_name": "held", "inputs": [tensor("x0", "fp64_contents", [-1.0])]}

    async def check(call: Caller) -> None:
        waiting = [asyncio.create_task(call("ModelInfer", stuck)) for _ in range(3)]
        done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (one,) = done
        error = one.exception()
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is Code.RESOURCE_EXHAUSTED
        held.go.set()
        assert all(reply.outputs for reply in await asyncio.gather(*others))
        assert (await call("ModelInfer", stuck)).outputs

    run(check, app)


def test_bodies_under_way_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LEAST", 0)
    held = HeldModel(go=threading.Event())
    app = application([held], max_body=100_000)  # 800,000 together
    app._models.find("held").batcher.quick = False
    stuck = {"model_name": "held", "inputs": [tensor("x0", "fp64_contents", [-1.0])]}
    large = {**stuck, "model_version": "1", "id": "x" * 90_000}

    async def check(call: Caller) -> None:
        waiting = [asyncio.create_task(call("ModelInfer", large)) for _ in range(9)]
        done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (one,) = done
        error = one.exception()
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is Code.UNAVAILABLE
        assert "bodies" in (error.details() or "")
        held.go.set()
        assert all(reply.outputs for reply in await asyncio.gather(*others))
        assert (await call("ModelInfer", large)).outputs

    run(check, app)


@pytest.mark.parametrize(
    ("member", "value", "datatype"),
    [
        ("shape", 1, "FP64"),
        ("fp64_contents", 1.0, "FP64"),
        ("fp32_contents", 1.0, "FP32"),
        ("int64_contents", 2**40, "INT64"),
        ("bytes_contents", b"", "BYTES"),
    ],
)
def test_a_message_of_many_values_is_refused_unparsed(
    member: str, value: Any, datatype: str
) -> None:
    def many(count: int) -> dict[str, Any]:
        made = tensor("x0", member, [value] * count, datatype)
        if member == "shape":
            made |= {"shape": [value] * count, "contents": {}}
        return linear(made, id="x" * 70_000)

    async def check(call: Caller) -> None:
        code, told = await call.refused("ModelInfer", many(40_000))
        assert (code, told) == (
            Code.INVALID_ARGUMENT,
            "the message has too many tensors or values",
        )
        code, told = await call.refused("ModelInfer", many(9_000))
        assert code is Code.INVALID_ARGUMENT
        assert "tensor 'x0' " in told

    run(check)


def test_a_full_queue_and_the_callers_deadline() -> None:
    held = HeldModel(go=threading.Event())
    app = application([held], max_queue=1)
    app._models.find("held").batcher.quick = False
    stuck = {"model_name": "held", "inputs": [tensor("x0", "fp64_contents", [-1.0])]}

    async def check(call: Caller) -> None:
        began = time.monotonic()
        waiting = [asyncio.create_task(call.refused("ModelInfer", stuck, timeout=1.0))]
        await asyncio.sleep(0.2)
        waiting.append(asyncio.create_task(call.refused("ModelInfer", stuck, timeout=1.0)))
        await asyncio.sleep(0.2)
        code, told = await call.refused("ModelInfer", stuck)
        assert code is Code.UNAVAILABLE
        assert "come again" in told
        for code, _ in await asyncio.gather(*waiting):
            assert code is Code.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 20
        held.go.set()

    run(check, app)


def test_the_services_own_deadline() -> None:
    held = HeldModel(go=threading.Event())
    app = application([held])
    app._models.find("held").batcher.quick = False
    stuck = {"model_name": "held", "inputs": [tensor("x0", "fp64_contents", [-1.0])]}

    async def check(call: Caller) -> None:
        app._models.find("held").batcher.hang_after = 0.2
        assert (await call.refused("ModelInfer", stuck))[0] is Code.DEADLINE_EXCEEDED
        held.go.set()

    run(check, app)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


VALUES = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)
MEMBERS = st.sampled_from(["int_contents", "int64_contents", "fp64_contents", "fp32_contents"])
INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x0", "x1", "ride", "in_int8", "é"]),
        "datatype": st.sampled_from(["FP64", "INT32", "INT8", "UINT64", "BYTES", "FP16", "X"]),
        "shape": st.lists(st.integers(-1, 3) | st.integers(-(2**63), 2**63 - 1), max_size=3),
        "contents": st.dictionaries(MEMBERS, VALUES, max_size=2)
        | st.fixed_dictionaries({"bytes_contents": st.lists(st.binary(max_size=4), max_size=3)}),
    },
)
ASKED = st.fixed_dictionaries(
    {"model_name": st.sampled_from(["linear", "echo", "open", "bounded"])},
    optional={
        "inputs": st.lists(INPUT, max_size=3),
        "raw_input_contents": st.lists(st.binary(max_size=24), max_size=3),
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["prediction", "out_bool", ""])}),
            max_size=2,
        ),
    },
)
FUZZ = settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))


@FUZZ
@given(
    asked=st.lists(ASKED, max_size=20),
    bodies=st.lists(st.binary(max_size=100), max_size=20),
)
def test_any_message_is_answered(asked: list[dict[str, Any]], bodies: list[bytes]) -> None:
    good = [MESSAGES["ModelInferRequest"](**parts).SerializeToString() for parts in asked]
    deep = b"\x2a" + _varint(4) + struct.pack("<I", 7)

    async def check(call: Caller) -> None:
        for body in (*good, *bodies, deep, b"\x22" * 5000):
            code = await answered(call, body)
            assert code in (Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND), body

    run(check)


async def answered(call: Caller, body: bytes) -> grpc.StatusCode:
    try:
        await call.raw("ModelInfer", body)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Code.OK

"""Arrow IPC streams in and out."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.service_client import Answered, application, ask, send
from support.service_models import TYPES, BoundedModel, EchoModel
from trivet import parity
from trivet.contract import Model
from trivet.hosts.service.app import App
from trivet.hosts.service.protocols import arrow
from trivet.testing import LinearModel

PATH = "/predict/linear/arrow"
KIND = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def app() -> App:
    models: list[Model] = [
        LinearModel(weights=(1.0, 3.0), version="1"),
        LinearModel(weights=(1.0, 2.0), version="2"),
        EchoModel(),
        EchoModel(name="open", nullable=True),
        BoundedModel(on=[13.0]),
        LinearModel(name="arrow"),
    ]
    return application(models, key=("ride", "in_timestamp"), max_rows=20_000, max_body=2**22)


def stream(*batches: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    told = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, batches[0].schema, options=told) as writer:
        for batch in batches:
            writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def table(answer: Answered) -> pa.Table:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == KIND
    return pa.ipc.open_stream(answer.body).read_all()


def refused(answer: Answered, *words: str, status: int = 400) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], list(told)) == (status, ["type", "title", "status", "detail"])
    for word in words:
        assert word in told["detail"]


def rows(**columns: Any) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(values) for name, values in columns.items()})


GOOD = rows(x0=[1.0, 2.5], x1=[10.0, 20.0])


def test_rows(app: App) -> None:
    found = table(ask(app, PATH, stream(GOOD), x_request_id="mine"))
    assert found.to_pydict() == {"prediction": [21.0, 42.5], "trivet_error": [None, None]}
    assert found.schema.metadata == {
        b"trivet.model": b"linear",
        b"trivet.version": b"2",
        b"trivet.digest": b"(1.0, 2.0) 0.0",
        b"trivet.request_id": b"mine",
    }


def test_addresses(app: App) -> None:
    body = stream(GOOD)
    assert table(ask(app, "/predict/linear/versions/1/arrow", body))["prediction"][0].as_py() == 31
    assert (
        table(ask(app, "/predict/linear", body, content_type=KIND))["prediction"][0].as_py() == 21
    )
    found = table(ask(app, "/predict/linear/versions/1", body, content_type=KIND.upper() + "; a=b"))
    assert found["prediction"][0].as_py() == 31
    assert ask(app, "/predict/arrow", {"x0": 5}).json()["prediction"] == {"prediction": 5.0}
    assert table(ask(app, "/predict/arrow/arrow", stream(GOOD)))["prediction"][0].as_py() == 1
    refused(ask(app, "/predict/nobody/arrow", body), "'nobody'", status=404)
    refused(ask(app, "/predict/linear/versions/9/arrow", body), "'9'", status=404)
    refused(ask(app, PATH), "POST", status=405)
    assert arrow.route("POST", "/predict/a/b/c/d/arrow") is None
    assert arrow.route("POST", "/predict/a") is None
    assert arrow.route("POST", "/arrow") is None


def test_several_batches_other_columns_and_the_key(app: App) -> None:
    more = rows(ride=["a"], x1=[1], other=[[1]], x0=[2])
    found = table(ask(app, PATH, stream(more, rows(ride=["b"], x1=[3], other=[[2]], x0=[4]))))
    assert found["prediction"].to_pylist() == [4.0, 10.0]


def test_every_type_there_and_back(app: App) -> None:
    sent = parity.synthetic(EchoModel().inputs, 100)
    found = table(ask(app, "/predict/echo/arrow", stream(sent)))
    for t in TYPES:
        assert found[f"out_{t}"].combine_chunks().equals(sent.column(f"in_{t}"))


def test_rejected_rows_have_null_and_their_problems(app: App) -> None:
    sent = rows(
        x0=[1.0, -5.0, 13.0, 2.0, None],
        n=[1, 2**40, 1, 1, 1],
        x1=[None, 1.0, 1.0, 1.0, float("nan")],
        zone=["a", "b", "c", "d", "e"],
    )
    found = table(ask(app, "/predict/bounded/arrow", stream(sent)))
    assert found["mean"].to_pylist() == [2.5, None, None, 4.0, None]
    assert found["label"].to_pylist() == ["a", None, None, "d", None]
    texts = found["trivet_error"].to_pylist()
    assert texts[0] is texts[3] is None
    told = [json.loads(text or "[]") for text in texts]
    assert [(p["field"], p["code"]) for p in told[1]] == [("n", "type"), ("x0", "range")]
    assert [(p["field"], p["code"]) for p in told[2]] == [("", "model_error")]
    assert {(p["field"], p["code"]) for p in told[4]} == {("x0", "null"), ("x1", "not_finite")}


def test_columns_that_may_be_null_may_be_left_out(app: App) -> None:
    found = table(ask(app, "/predict/open/arrow", stream(rows(in_int8=[1, None]))))
    assert found["out_int8"].to_pylist() == [1, None]
    assert found["out_string"].to_pylist() == [None, None]


def test_dictionaries(app: App) -> None:
    zone = pa.array(["a", None, "b"]).dictionary_encode()
    x0 = pa.array([1.0, 2.0, 1.0]).dictionary_encode()
    sent = pa.record_batch(
        {"in_string": zone, "in_float64": x0, "in_date": [dt.date(2026, 1, 1)] * 3}
    )
    found = table(ask(app, "/predict/open/arrow", stream(sent, sent)))
    assert found["out_string"].to_pylist() == ["a", None, "b"] * 2
    assert found["out_float64"].to_pylist() == [1.0, 2.0, 1.0] * 2


def views(*texts: str | None) -> pa.RecordBatch:
    return pa.record_batch({"in_string": pa.array(texts, pa.string()).cast(pa.string_view())})


LONG = "longer than a view holds within"


def test_views(app: App) -> None:
    sent = views("a", None, LONG, "", "é").append_column("ride", pa.array(["a"] * 5))
    found = table(ask(app, "/predict/open/arrow", stream(sent.slice(1), sent)))
    assert found["out_string"].to_pylist() == [None, LONG, "", "é", "a", None, LONG, "", "é"]
    assert len(table(ask(app, "/predict/open/arrow", stream(sent.slice(0, 0), sent)))) == 5
    ride = pa.array(["a", LONG]).cast(pa.string_view())
    assert ask(app, PATH, stream(GOOD.append_column("ride", ride))).status == 200
    kind = pa.dictionary(pa.int64(), pa.string_view())
    inside = pa.DictionaryArray.from_arrays([0], pa.array(["a"]).cast(pa.string_view()))
    assert inside.type == kind
    refused(ask(app, "/predict/open/arrow", stream(rows(in_string=inside))), "'in_string'", "cast")


@pytest.mark.parametrize(
    "view",
    [(400, 0), (len(LONG), 1), (-1, 0)],
)
def test_views_of_what_is_not_there(app: App, view: tuple[int, int]) -> None:
    body = bytearray(stream(views(LONG)))
    place = body.index(struct.pack("<i", len(LONG)) + LONG[:4].encode())
    struct.pack_into("<i4sii", body, place, view[0], LONG[:4].encode(), view[1], 0)
    refused(ask(app, "/predict/open/arrow", bytes(body)), "Arrow IPC")


def test_views_of_no_text(app: App) -> None:
    body = stream(views(LONG)).replace(LONG.encode(), LONG[:-1].encode() + b"\xff")
    refused(ask(app, "/predict/open/arrow", body), "Arrow IPC")


def test_texts_that_stand_there_once_for_many_rows_are_bounded_together(app: App) -> None:
    """Sent in a body of 100 KB, they would take 100 MB: of one batch, or of many small ones."""
    long = pa.array(["a" * 2**16])
    view = long.cast(pa.string_view())
    many = pa.Array.from_buffers(
        pa.string_view(),
        1600,
        [None, pa.py_buffer(view.buffers()[1].to_pybytes() * 1600), *view.buffers()[2:]],
    )
    refused(ask(app, "/predict/open/arrow", stream(rows(in_string=many))), "once", status=413)
    few = pa.DictionaryArray.from_arrays([0] * 60, long)
    assert ask(app, "/predict/open/arrow", stream(rows(in_string=few))).status == 200
    batches = [rows(in_string=few)] * 2
    refused(ask(app, "/predict/open/arrow", stream(*batches)), "once", status=413)


def test_an_answer_scored_with_others_has_only_its_own_rows(app: App) -> None:
    async def together() -> list[Answered]:
        bodies = [stream(rows(x0=[float(i), float(i)], x1=[0.0, 0.0])) for i in range(5)]
        return await asyncio.gather(*(send(app, PATH, body) for body in bodies))

    for number, answer in enumerate(asyncio.run(together())):
        assert table(answer)["prediction"].to_pylist() == [number, number]


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_streams_are_refused(app: App, compression: str) -> None:
    for sent in (GOOD, pa.record_batch({"x0": pa.array([1.0] * 100).dictionary_encode()})):
        refused(ask(app, PATH, stream(sent, compression=compression)), "compressed")
    legacy = {"ARROW:experimental_compression": "lz4"}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, GOOD.schema) as writer:
        writer.write_batch(GOOD, custom_metadata=legacy)
    refused(ask(app, PATH, sink.getvalue().to_pybytes()), "compressed")


def test_what_is_no_stream(app: App) -> None:
    good = stream(GOOD)
    for body in (b"", b"abc", b"\xff" * 100, good[:100], good[:-40], good[8:], b'{"x0": 1}'):
        refused(ask(app, PATH, body), "Arrow IPC")
    huge = struct.pack("<Ii", 0xFFFFFFFF, 2**31 - 1) + b"\0" * 100
    refused(ask(app, PATH, huge), "Arrow IPC")
    refused(ask(app, PATH, stream(GOOD.slice(0, 0))), "no rows")
    file = pa.BufferOutputStream()
    with pa.ipc.new_file(file, GOOD.schema) as writer:
        writer.write_batch(GOOD)
    refused(ask(app, PATH, file.getvalue().to_pybytes()), "Arrow IPC")


def test_columns_that_do_not_fit(app: App) -> None:
    refused(ask(app, PATH, stream(rows(x0=[1.0]))), "x1")
    refused(ask(app, PATH, stream(rows(x0=["a"], x1=[1.0]))), "x0", "string", "float64")
    refused(ask(app, PATH, stream(rows(x0=[[1.0]], x1=[1.0]))), "x0", "list")
    twice = pa.RecordBatch.from_arrays([pa.array([1.0])] * 3, names=["x0", "x1", "x0"])
    refused(ask(app, PATH, stream(twice)), "'x0'", "twice")


def test_keys_that_no_log_could_write(app: App) -> None:
    good = pa.array([0, None], pa.timestamp("us"))
    assert ask(app, PATH, stream(GOOD.append_column("ride", good))).status == 200
    for kind in (pa.timestamp("us"), pa.timestamp("s", "UTC")):
        ride = pa.array([2**62, 0], pa.int64()).view(kind)
        refused(ask(app, PATH, stream(GOOD.append_column("ride", ride))), "'ride'", "cast")


def test_moments_beyond_the_calendar_are_problems_of_their_rows(app: App) -> None:
    moments = pa.array([0, 2**62], pa.int64()).view(pa.timestamp("us", "UTC"))
    found = table(ask(app, "/predict/open/arrow", stream(rows(in_timestamp=moments))))
    told = [json.loads(text or "[]") for text in found["trivet_error"].to_pylist()]
    assert [[(p["field"], p["code"]) for p in row] for row in told] == [
        [],
        [("in_timestamp", "type")],
    ]


def test_what_would_grow_is_refused(app: App) -> None:
    empty = pa.record_batch({"x0": pa.nulls(20_001), "x1": pa.nulls(20_001)})
    refused(ask(app, PATH, stream(empty)), "20000", status=413)
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int8)), ["a" * 100_000])
    refused(ask(app, "/predict/open/arrow", stream(rows(in_string=long))), "text", status=413)
    refused(ask(app, PATH, stream(*[GOOD] * 10_001)[: 2**22]), status=400)
    parts = [
        pa.record_batch({"in_string": pa.array([str(i)]).dictionary_encode()}) for i in range(150)
    ]
    refused(ask(app, "/predict/open/arrow", stream(*parts)), "dictionaries")


def test_offsets_outside_of_their_buffer(app: App) -> None:
    body = bytearray(stream(rows(in_string=["abc", "def"])))
    place = body.index(struct.pack("<3i", 0, 3, 6))
    for offsets in ((0, 3, 2**30), (0, -3, 6), (5, 3, 6)):
        body[place : place + 12] = struct.pack("<3i", *offsets)
        refused(ask(app, "/predict/open/arrow", bytes(body)), "Arrow IPC")
    text = bytearray(stream(rows(in_string=["abc", "def"])).replace(b"abcdef", b"ab\xff\xfeef"))
    refused(ask(app, "/predict/open/arrow", bytes(text)), "UTF8")


SENT = [
    stream(GOOD),
    stream(parity.synthetic(EchoModel().inputs, 3)),
    stream(pa.record_batch({"in_string": pa.array(["a", "b", "a"]).dictionary_encode()})),
    stream(GOOD, GOOD, compression="zstd"),
    stream(views("a", None, LONG)),
]
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def survives(answer: Answered) -> None:
    assert answer.status in (200, 400, 413), answer.body
    if answer.status != 200:
        answer.json()


@FUZZ
@given(body=st.binary(max_size=300), model=st.sampled_from(["linear", "open"]))
def test_any_bytes(app: App, body: bytes, model: str) -> None:
    survives(ask(app, f"/predict/{model}/arrow", body))
    survives(ask(app, f"/predict/{model}/arrow", b"\xff\xff\xff\xff" + body))


@FUZZ
@given(data=st.data(), model=st.sampled_from(["linear", "open", "echo"]))
def test_any_bytes_changed(app: App, data: st.DataObject, model: str) -> None:
    body = bytearray(data.draw(st.sampled_from(SENT)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 8))
    survives(ask(app, f"/predict/{model}/arrow", bytes(body[: len(body) - cut])))

"""The Open Inference Protocol over REST; its foreign clients are in test_foreign_clients.py."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.service_client import Answered, application, ask, send
from support.service_models import TYPES, BoundedModel, EchoModel, HeldModel
from trivet.contract import Model
from trivet.hosts.service.app import App
from trivet.testing import LinearModel

PATH = "/v2/models/linear/infer"


@pytest.fixture(scope="module")
def app() -> App:
    models: list[Model] = [
        LinearModel(weights=(1.0, 3.0), version="1"),
        LinearModel(weights=(1.0, 2.0), version="2"),
        EchoModel(),
        EchoModel(name="open", nullable=True),
        BoundedModel(on=[13.0]),
        LinearModel(name="one"),
    ]
    return application(models, key=("ride", "in_int8"), max_rows=1000, max_body=2**20)


def tensor(name: str, data: Any, datatype: str = "FP64", shape: Any = None) -> dict[str, Any]:
    shape = [len(data)] if shape is None else shape
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def linear(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), **more}


GOOD = (tensor("x0", [1, 2.5]), tensor("x1", [10, 20]))


def refused(answer: Answered, *words: str, status: int = 400) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert list(told) == ["error"]
    for word in words:
        assert word in told["error"], told


def binary(head: Any, *parts: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return b"".join([text, *parts]), {"Inference_Header_Content_Length": str(len(text))}


def post_binary(app: App, head: Any, *parts: bytes, path: str = PATH) -> Answered:
    body, headers = binary(head, *parts)
    return ask(app, path, body, **{name.lower(): value for name, value in headers.items()})


def opened(answer: Answered) -> tuple[Any, bytes]:
    size = int(answer.headers["inference-header-content-length"])
    return json.loads(answer.body[:size]), answer.body[size:]


def raw(name: str, data: bytes, datatype: str = "FP64", shape: Any = (2,)) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(shape),
        "parameters": {"binary_data_size": len(data)},
    }


class TestWithoutRows:
    def test_the_server(self, app: App) -> None:
        for path in ("/v2", "/v2/"):
            told = ask(app, path).json()
            assert told["name"] == "trivet"
            assert told["extensions"] == ["binary_tensor_data"]
            assert told["version"]

    def test_health(self, app: App) -> None:
        assert ask(app, "/v2/health/live").json() == {"live": True}
        assert ask(app, "/v2/health/ready").json() == {"ready": True}
        assert ask(app, "/v2/health/ready", method="HEAD").status == 200

    def test_a_service_that_stops_is_live_and_not_ready(self) -> None:
        app = application([LinearModel()])
        app.ready = False
        assert ask(app, "/v2/health/live").status == 200
        refused(ask(app, "/v2/health/ready"), status=503)
        refused(ask(app, "/v2/models/linear/ready"), status=503)

    def test_health_needs_no_key(self) -> None:
        app = application([LinearModel()], api_keys=("secret",))
        for path in ("/v2/health/live", "/v2/health/ready", "/ping"):
            assert ask(app, path).status == 200
        refused(ask(app, "/v2/models/linear"), status=401)
        assert ask(app, "/v2/models/linear", x_api_key="secret").status == 200

    def test_a_model_and_its_versions(self, app: App) -> None:
        told = ask(app, "/v2/models/linear").json()
        assert told == {
            "name": "linear",
            "versions": ["1", "2"],
            "platform": "trivet",
            "inputs": [
                {"name": "x0", "datatype": "FP64", "shape": [-1]},
                {"name": "x1", "datatype": "FP64", "shape": [-1]},
            ],
            "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [-1]}],
        }
        assert ask(app, "/v2/models/linear/versions/1").json() == told

    def test_readiness(self, app: App) -> None:
        told = {"name": "linear", "ready": True}
        assert ask(app, "/v2/models/linear/ready").json() == told
        assert ask(app, "/v2/models/linear/versions/1/ready").json() == told
        refused(ask(app, "/v2/models/nobody/ready"), "'nobody'", status=404)
        refused(ask(app, "/v2/models/linear/versions/9/ready"), "'9'", status=404)

    @pytest.mark.parametrize("path", ["/v2/x", "/v2/models", "/v2/models/linear/x", "/v2/a/b/c/d"])
    def test_other_paths(self, app: App, path: str) -> None:
        refused(ask(app, path), path, status=404)

    def test_paths_of_others(self, app: App) -> None:
        assert ask(app, "/v22").status == 404

    def test_methods(self, app: App) -> None:
        answer = ask(app, PATH)
        refused(answer, "POST", status=405)
        assert "POST" in answer.headers["allow"]
        refused(ask(app, "/v2", b"", method="POST"), "GET", status=405)


class TestJson:
    def test_rows(self, app: App) -> None:
        told = ask(app, PATH, linear(*GOOD, id="mine")).json()
        assert told == {
            "model_name": "linear",
            "model_version": "2",
            "id": "mine",
            "parameters": {"digest": "(1.0, 2.0) 0.0"},
            "outputs": [
                {"name": "prediction", "datatype": "FP64", "shape": [2], "data": [21.0, 42.5]}
            ],
        }

    def test_the_id_of_the_request_stands_in(self, app: App) -> None:
        answer = ask(app, PATH, linear(*GOOD), x_request_id="abc")
        assert answer.json()["id"] == answer.headers["x-request-id"] == "abc"

    def test_a_version(self, app: App) -> None:
        told = ask(app, "/v2/models/linear/versions/1/infer", linear(*GOOD)).json()
        assert told["model_version"] == "1"
        assert told["outputs"][0]["data"] == [31.0, 62.5]

    def test_columns_of_one(self, app: App) -> None:
        tensors = (tensor("x1", [[10], [20]], shape=[2, 1]), tensor("x0", [1, 2], shape=[2, 1]))
        assert ask(app, PATH, linear(*tensors)).json()["outputs"][0]["data"] == [21.0, 42.0]

    @pytest.mark.parametrize("data", [[1, 10, 2, 20], [[1, 10], [2, 20]]])
    def test_one_tensor_for_all_inputs(self, app: App, data: Any) -> None:
        told = ask(app, PATH, linear(tensor("input-0", data, "INT32", [2, 2])))
        assert told.json()["outputs"][0]["data"] == [21.0, 42.0]

    def test_numbers_of_other_types_fit_where_they_fit(self, app: App) -> None:
        told = ask(app, PATH, linear(tensor("x0", [7], "UINT64"), tensor("x1", [2.0], "INT8")))
        assert told.json()["outputs"][0]["data"] == [11.0]

    def test_every_type_there_and_back(self, app: App) -> None:
        data = {
            "bool": ("BOOL", [True, False]),
            "int8": ("INT8", [-128, 127]),
            "int16": ("INT16", [-1, 1]),
            "int32": ("INT64", [-(2**31), 2**31 - 1]),
            "int64": ("INT64", [-(2**63), 2**63 - 1]),
            "float32": ("FP32", [0.5, -0.5]),
            "float64": ("FP64", [0.1, 1e300]),
            "string": ("BYTES", ["é", ""]),
            "timestamp": ("BYTES", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00.000001+01:00"]),
            "date": ("BYTES", ["2026-01-01", "1999-12-31"]),
        }
        tensors = [tensor(f"in_{t}", values, kind) for t, (kind, values) in data.items()]
        told = ask(app, "/v2/models/echo/infer", linear(*tensors)).json()
        found = {output["name"]: output["data"] for output in told["outputs"]}
        for t in TYPES:
            if t != "timestamp":
                assert found[f"out_{t}"] == data[t][1]
        assert found["out_timestamp"] == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z"]

    def test_null_and_left_out_where_they_may_be(self, app: App) -> None:
        tensors = [tensor("in_int8", [None, 1], "INT8"), tensor("in_string", [None, "a"], "BYTES")]
        told = ask(app, "/v2/models/open/infer", linear(*tensors)).json()
        found = {output["name"]: output["data"] for output in told["outputs"]}
        assert found["out_int8"] == [None, 1]
        assert found["out_string"] == [None, "a"]
        assert found["out_date"] == [None, None]

    def test_the_key_is_carried_beside(self, app: App) -> None:
        for ride in (tensor("ride", ["a", "b"], "BYTES"), tensor("ride", [1, 2], "INT64")):
            assert ask(app, PATH, linear(*GOOD, ride)).status == 200
        data = np.array([1, 2], "<i8").tobytes()
        head = linear(*GOOD, raw("ride", data, "INT64"))
        assert post_binary(app, head, data).status == 200

    def test_only_the_outputs_that_are_asked_for(self, app: App) -> None:
        tensors = (
            tensor("x0", [1]),
            tensor("n", [1], "INT32"),
            tensor("x1", [None]),
            tensor("zone", ["a"], "BYTES"),
        )
        asked = linear(*tensors, outputs=[{"name": "label", "parameters": None}])
        told = ask(app, "/v2/models/bounded/infer", asked).json()
        assert [(o["name"], o["data"]) for o in told["outputs"]] == [("label", ["a"])]


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (linear(), ["no input tensors"]),
            (linear(tensor("nope", [1]), tensor("x1", [1])), ["'nope'", "x0, x1"]),
            (linear(tensor("x0", [1])), ["'x1'", "missing", "FP64"]),
            (linear(*GOOD, tensor("x0", [1, 2])), ["'x0'", "twice"]),
            (linear(tensor("x0", ["a"], "BYTES"), tensor("x1", [1])), ["'x0'", "BYTES", "FP64"]),
            (linear(tensor("x0", [True], "BOOL"), tensor("x1", [1])), ["'x0'", "BOOL"]),
            (linear(tensor("x0", [1], "FP16"), tensor("x1", [1])), ["'x0'", "binary"]),
            (linear(tensor("x0", [1], "BF16"), tensor("x1", [1])), ["'x0'", "BF16"]),
            (linear(tensor("x0", [1], shape=[2]), tensor("x1", [1, 2])), ["'x0'", "1 values", "2"]),
            (linear(tensor("x0", [1], shape=[1, 1, 1]), tensor("x1", [1])), ["'x0'", "[1, 1, 1]"]),
            (linear(tensor("x0", [], shape=[]), tensor("x1", [1])), ["'x0'", "[]"]),
            (linear(tensor("x0", [1, 2], shape=[1, 2]), tensor("x1", [1])), ["'x0'", "[1, 2]"]),
            (linear(tensor("x0", [], shape=[-1]), tensor("x1", [])), ["'x0'", "[-1]"]),
            (linear(tensor("x0", [1] * 9, shape=[1] * 9)), ["…"]),
            (
                linear(tensor("x0", [1]), tensor("x1", [1, 2])),
                ["'x0' of shape [1] and 'x1' of shape [2] differ"],
            ),
            (
                linear(tensor("x1", [1]), tensor("x0", [1, 2]), tensor("ride", [1, 2])),
                ["'x0' of shape [2] and 'x1' of shape [1]"],
            ),
            (
                linear(tensor("x0", [1, 2], shape=[3]), tensor("x1", [1, 2])),
                ["'x0' has 2 values; its shape [3] says 3"],
            ),
            (linear(tensor("a", [1] * 6, shape=[2, 3])), ["'a'", "[2, 3]", "[n, 1]", "or [n, 2]"]),
            (linear(tensor("a", [1, 1], shape=[-1, 2])), ["'a'", "[-1, 2]"]),
            (linear(tensor("x0", [[1, 2]], shape=[1, 1]), tensor("x1", [1])), ["'x0'", "row 0"]),
            (linear(tensor("x0", [[1], 2], shape=[2, 1]), tensor("x1", [1, 1])), ["'x0'", "row 1"]),
            (linear(tensor("x0", []), tensor("x1", [])), ["no rows"]),
            (linear(*GOOD, tensor("ride", [1, "a"], "INT64")), ["'ride'", "row 1"]),
            (linear(*GOOD, tensor("ride", [1, 2], "BF16")), ["'ride'", "BF16"]),
            (linear(*GOOD, outputs=[{"name": "nope"}]), ["'nope'", "prediction"]),
            (linear(*GOOD, outputs=[{"name": "prediction"}] * 2), ["'prediction'", "twice"]),
            ({"inputs": [{"name": "x0", "datatype": "FP64", "shape": [1]}]}, ["'x0'", "data"]),
            ({"inputs": [{"name": "x0", "datatype": 5, "shape": [1]}]}, ["'x0'", "datatype"]),
            ({"inputs": [{"datatype": "FP64"}]}, ["inputs[0]", "name"]),
            ({"inputs": ["x"]}, ["inputs[0]"]),
            ({"inputs": 5}, ["inputs"]),
            ({}, ["inputs"]),
        ],
    )
    def test_what_does_not_fit_is_named(
        self, app: App, body: dict[str, Any], words: list[str]
    ) -> None:
        refused(ask(app, PATH, body), *words)

    def test_rows_that_break_the_schema(self, app: App) -> None:
        tensors = (
            tensor("x0", [1, 5000, "x"]),
            tensor("n", [1, None, 2**40], "INT64"),
            tensor("x1", [None] * 3),
            tensor("zone", ["a", "b", 5], "BYTES"),
        )
        answer = ask(app, "/v2/models/bounded/infer", linear(*tensors))
        refused(answer, "row 1: x0: range", "row 1: n: null", "row 2: x0: type", "row 2: n: type")
        assert "row 2: zone: type" in answer.json()["error"]
        assert "row 0" not in answer.json()["error"]

    def test_numbers_are_held_against_their_datatype(self, app: App) -> None:
        cases: list[tuple[str, Any]] = [
            ("INT8", 128),
            ("UINT8", -1),
            ("UINT64", 2**64),
            ("UINT64", -1),
            ("INT64", 1.5),
            ("INT32", True),
            ("FP64", "1"),
            ("FP64", [1]),
        ]
        for datatype, value in cases:
            answer = ask(app, PATH, linear(tensor("x0", [value], datatype), tensor("x1", [1])))
            refused(answer, "row 0: x0: type", datatype)

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
    def test_numbers_that_are_none(self, app: App, value: str) -> None:
        body = json.dumps(linear(tensor("x0", [0]), tensor("x1", [1]))).replace("[0]", f"[{value}]")
        refused(ask(app, PATH, body), "row 0: x0")

    @pytest.mark.parametrize(("count", "words"), [(500, "and 400 more"), (1000, "and more")])
    def test_many_bad_rows_are_told_shortly(self, app: App, count: int, words: str) -> None:
        for datatype, value in (("FP64", "a"), ("INT64", 1.5)):
            bad = (tensor("x0", [value] * count, datatype), tensor("x1", [1] * count))
            answer = ask(app, PATH, linear(*bad))
            refused(answer, "row 99: x0: type", words)
            assert len(answer.body) < 10_000
        dates = linear(tensor("in_date", ["a"] * count, "BYTES"))
        refused(ask(app, "/v2/models/open/infer", dates), "row 99: in_date: type", words)

    def test_more_lists_than_rows_could_need(self, app: App) -> None:
        many = linear(tensor("x0", [[]] * 10_000), tensor("x1", [1]))
        refused(ask(app, PATH, many), "lists", status=413)
        refused(ask(app, PATH, b"[" * 100_000), "lists", status=413)

    def test_too_many_rows(self, app: App) -> None:
        refused(ask(app, PATH, linear(tensor("x0", [1], shape=[10**30]))), status=413)
        both = (tensor("x0", [1], shape=[10**9]), tensor("x1", [1], shape=[10**9]))
        refused(ask(app, PATH, linear(*both)), "1000", status=413)

    def test_not_json(self, app: App) -> None:
        for body in (b"", b"\xff", b"{", b"[" * 4000, b'{"inputs":' * 4000, b'"\\ud800"'):
            refused(ask(app, PATH, body))
        refused(
            ask(app, PATH, b'{"inputs":[{"name":"\xff","datatype":"FP64","shape":[1]}]}'), "JSON"
        )
        half = json.dumps(linear(tensor("x0", [1]), tensor("x1", [1]), id="\ud800"))
        refused(ask(app, PATH, half), "JSON")

    def test_who_is_not_there(self, app: App) -> None:
        refused(ask(app, "/v2/models/nobody/infer", linear(*GOOD)), "'nobody'", status=404)

    def test_a_model_that_raises(self, app: App) -> None:
        tensors = (
            tensor("x0", [13]),
            tensor("n", [1], "INT32"),
            tensor("zone", ["a"], "BYTES"),
        )
        answer = ask(app, "/v2/models/bounded/infer", linear(*tensors))
        refused(answer, "row 0: model_error", status=500)


class TestBinary:
    X0 = np.array([1, 2], "<f8").tobytes()
    X1 = np.array([10, 20], "<f4").tobytes()

    def test_in_and_out(self, app: App) -> None:
        head = linear(
            raw("x0", self.X0), raw("x1", self.X1, "FP32"), parameters={"binary_data_output": True}
        )
        answer = post_binary(app, head, self.X0, self.X1)
        assert answer.headers["content-type"] == "application/octet-stream"
        told, data = opened(answer)
        assert told["outputs"][0]["parameters"] == {"binary_data_size": 16}
        assert "data" not in told["outputs"][0]
        assert np.frombuffer(data, "<f8").tolist() == [21.0, 42.0]

    def test_without_its_header(self, app: App) -> None:
        for part in (self.X1, b"\xff" * 16, b"\0" * 16):
            body, _ = binary(linear(raw("x0", part), raw("x1", part)), part, part)
            refused(ask(app, PATH, body), "JSON", "Inference-Header-Content-Length")
        whole = post_binary(app, linear(raw("x0", self.X0)), self.X0)
        assert "Content-Length" not in whole.json()["error"]

    def test_mixed_with_json(self, app: App) -> None:
        head = linear(tensor("x1", [10, 20]), raw("x0", self.X0))
        answer = post_binary(app, head, self.X0)
        assert answer.json()["outputs"][0]["data"] == [21.0, 42.0]

    def test_an_output_may_differ_from_the_rest(self, app: App) -> None:
        head = linear(
            *GOOD,
            parameters={"binary_data_output": True},
            outputs=[{"name": "prediction", "parameters": {"binary_data": False}}],
        )
        assert ask(app, PATH, head).json()["outputs"][0]["data"] == [21.0, 42.5]

    @pytest.mark.parametrize("datatype", ["FP16", "FP32", "INT8", "UINT16", "INT64"])
    def test_one_tensor_for_all_inputs(self, app: App, datatype: str) -> None:
        numpy = datatype.lower().replace("fp", "float")
        data = np.array([[1, 10], [2, 20]], np.dtype(numpy)).tobytes()
        answer = post_binary(app, linear(raw("in", data, datatype, (2, 2))), data)
        assert answer.json()["outputs"][0]["data"] == [21.0, 42.0]
        refused(post_binary(app, linear(raw("in", data[1:], datatype, (2, 2))), data[1:]), "'in'")

    def test_texts_and_truths(self, app: App) -> None:
        texts = b"".join(struct.pack("<I", len(t)) + t for t in ("é".encode(), b""))
        head = linear(
            raw("in_string", texts, "BYTES"),
            raw("in_bool", b"\x01\x00", "BOOL"),
            parameters={"binary_data_output": True},
            outputs=[{"name": "out_string"}, {"name": "out_bool"}],
        )
        told, data = opened(
            post_binary(app, head, texts, b"\x01\x00", path="/v2/models/open/infer")
        )
        assert data == texts + b"\x01\x00"
        assert [o["parameters"]["binary_data_size"] for o in told["outputs"]] == [10, 2]

    def test_nan_is_null_where_null_may_be(self, app: App) -> None:
        data = np.array([np.nan, 1], "<f8").tobytes()
        head = linear(raw("in_float64", data), outputs=[{"name": "out_float64"}])
        answer = post_binary(app, head, data, path="/v2/models/open/infer")
        assert answer.json()["outputs"][0]["data"] == [None, 1.0]
        head["parameters"] = {"binary_data_output": True}
        _, back = opened(post_binary(app, head, data, path="/v2/models/open/infer"))
        assert np.isnan(np.frombuffer(back, "<f8")).tolist() == [True, False]
        head = linear(raw("x0", data), raw("x1", data))
        refused(post_binary(app, head, data, data), "row 0: x0: not_finite")

    @pytest.mark.parametrize("datatype", ["FP32", "FP64"])
    def test_nan_in_a_list_is_what_it_is_in_bytes(self, app: App, datatype: str) -> None:
        asked = linear(tensor("in_float64", [float("nan"), 1.0, None], datatype))
        answer = ask(app, "/v2/models/open/infer", asked)
        told = {output["name"]: output["data"] for output in answer.json()["outputs"]}
        assert told["out_float64"] == [None, 1.0, None]
        asked = linear(tensor("in_float64", [float("inf"), 1.0], datatype))
        refused(ask(app, "/v2/models/open/infer", asked), "row 0: in_float64: not_finite")
        asked = linear(tensor("x0", [float("nan"), 1.0], datatype), tensor("x1", [1, 2]))
        refused(ask(app, PATH, asked), "row 0: x0: not_finite")

    def test_nulls_that_bytes_cannot_say(self, app: App) -> None:
        asked = linear(
            tensor("in_float64", [1.0]),
            parameters={"binary_data_output": True},
            outputs=[{"name": "out_int8"}],
        )
        refused(ask(app, "/v2/models/open/infer", asked), "'out_int8'", "null")
        asked["outputs"] = [{"name": "out_string"}]
        _, data = opened(ask(app, "/v2/models/open/infer", asked))
        assert data == b"\0\0\0\0"

    @pytest.mark.parametrize(
        ("head", "parts", "words"),
        [
            ((raw("x0", X0), raw("x1", X0)), (X0, X0, b"more"), ["4 bytes"]),
            ((raw("x0", X0), raw("x1", X0)), (X0, X0[1:]), ["'x1'", "15"]),
            ((raw("x0", X0, shape=(3,)), raw("x1", X0, shape=(3,))), (X0, X0), ["'x0'", "24"]),
            ((raw("x1", X0), raw("x0", X0, shape=(3,))), (X0, X0), ["'x0'", "24"]),
            (
                (raw("x0", X0), raw("ride", b"\0" * 4, "BYTES", shape=(3,))),
                (X0, b"\0" * 4),
                ["'ride'", "row 1"],
            ),
            (
                (raw("x0", X0), raw("ride", b"\0" * 4, "BYTES", shape=(1,))),
                (X0, b"\0" * 4),
                ["'x0' of shape [2] and 'ride' of shape [1]"],
            ),
            (({**raw("x0", X0), "data": [1, 2]}, raw("x1", X0)), (X0,), ["'x0'", "both"]),
            (
                ({**raw("x0", X0), "parameters": {"binary_data_size": -1}},),
                (X0,),
                ["'x0'", "-1"],
            ),
            (
                ({**raw("x0", X0), "parameters": {"binary_data_size": True}},),
                (X0,),
                ["'x0'", "True"],
            ),
        ],
    )
    def test_sizes_that_do_not_fit(self, app: App, head: Any, parts: Any, words: list[str]) -> None:
        refused(post_binary(app, linear(*head), *parts), *words)

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"\x02\0\0\0a", ["row 0", "byte 6"]),
            (b"\x01\0\0", ["row 0"]),
            (b"\x01\0\0\0\xff" + b"\0\0\0\0", ["row 0", "UTF-8"]),
            (b"\0\0\0\0" * 3, ["12 bytes", "8"]),
            (b"\xff\xff\xff\xff" * 2, ["row 0"]),
        ],
    )
    def test_texts_that_do_not_fit(self, app: App, data: bytes, words: list[str]) -> None:
        head = linear(raw("in_string", data, "BYTES"))
        answer = post_binary(app, head, data, path="/v2/models/open/infer")
        refused(answer, "'in_string'", *words)

    @pytest.mark.parametrize("length", ["x", "-1", "", "99999", "9" * 40, "1e3"])
    def test_a_length_that_is_none(self, app: App, length: str) -> None:
        answer = ask(app, PATH, linear(*GOOD), inference_header_content_length=length)
        refused(answer, "Inference-Header-Content-Length")


class TestUnderLoad:
    def test_a_full_queue_and_a_deadline(self) -> None:
        async def check() -> None:
            held = HeldModel(go=threading.Event())
            app = application([held], max_queue=1)
            app._models.find("held").batcher.quick = False
            path = "/v2/models/held/infer"
            stuck = linear(tensor("x0", [-1]))
            began = time.monotonic()
            first = asyncio.create_task(send(app, path, stuck, x_request_timeout="0.3"))
            await asyncio.sleep(0.1)
            second = asyncio.create_task(send(app, path, stuck, x_request_timeout="0.3"))
            await asyncio.sleep(0)
            third = await send(app, path, stuck)
            refused(third, "come again", status=503)
            assert third.headers["retry-after"] == "1"
            refused(await first, status=504)
            refused(await second, status=504)
            assert time.monotonic() - began < 30
            held.go.set()

        asyncio.run(check())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["x0", "x1", "ride", "in_int8", "é", ""]) | st.text(max_size=4)
DATATYPES = st.sampled_from(["FP64", "FP32", "FP16", "INT8", "UINT64", "BOOL", "BYTES", "BF16"])
SHAPES = st.lists(st.integers(-1, 3) | st.integers(), max_size=3)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for member, strategy in (
        ("name", NAMES),
        ("datatype", DATATYPES),
        ("shape", SHAPES),
        ("data", st.lists(ANYTHING, max_size=3)),
        (
            "parameters",
            st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20)}) | st.none() | ANYTHING,
        ),
    ):
        if draw(st.integers(0, 5)):
            made[member] = draw(strategy | ANYTHING if draw(st.integers(0, 9)) == 0 else strategy)
    return made


def survives(answer: Answered) -> None:
    assert answer.status in (200, 400, 413), answer.body
    if answer.status != 200:
        assert answer.json()["error"]


FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


class TestFuzz:
    @FUZZ
    @given(body=st.binary(max_size=200), model=st.sampled_from(["linear", "echo", "open", "one"]))
    def test_any_bytes(self, app: App, body: bytes, model: str) -> None:
        survives(ask(app, f"/v2/models/{model}/infer", body))

    @FUZZ
    @given(
        inputs=st.lists(tensors(), max_size=3) | ANYTHING,
        more=st.dictionaries(st.sampled_from(["id", "parameters", "outputs"]), ANYTHING),
        tail=st.binary(max_size=40),
        cut=st.integers(-5, 5),
        model=st.sampled_from(["linear", "echo", "open", "one", "bounded"]),
    )
    def test_anything_of_about_the_right_shape(
        self, app: App, inputs: Any, more: Any, tail: bytes, cut: int, model: str
    ) -> None:
        text = json.dumps({"inputs": inputs, **more}).encode()
        length = str(len(text) + cut if cut < -3 else len(text))
        path = f"/v2/models/{model}/infer"
        survives(ask(app, path, text + tail, inference_header_content_length=length))


def test_values_beyond_counting() -> None:
    app = application([EchoModel(types=("string",))], max_rows=1000)

    def told(data: list[Any]) -> tuple[int, str]:
        inputs = [{"name": "in_string", "datatype": "BYTES", "shape": [1000], "data": data}]
        answer = ask(app, "/v2/models/echo/infer", {"inputs": inputs})
        return answer.status, "" if answer.status == 200 else answer.json()["error"]

    assert told(['a,b\\,"c,,,,'] * 1000) == (200, "")
    status, words = told(["x"] * 1500)
    assert status == 400
    assert "1500 values" in words
    for many in (["x"] * 4000, [1] * 4000, ['a"\\'] * 4000):
        status, words = told(many)
        assert status == 413
        assert "more than 3040 values" in words

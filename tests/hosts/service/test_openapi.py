"""The service described, and held to its description."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from support.service_client import application, ask
from support.service_models import BoundedModel, EchoModel
from trivet import parity
from trivet.contract import Model
from trivet.hosts.service.app import App
from trivet.hosts.service.openapi import example_of
from trivet.hosts.service.protocols.arrow import CONTENT_TYPE
from trivet.hosts.service.serving import Models
from trivet.json_schema import field_schema
from trivet.schema import Field
from trivet.testing import LinearModel


@pytest.fixture(scope="module")
def app() -> App:
    models: list[Model] = [
        LinearModel(version="1"),
        LinearModel(version="2"),
        BoundedModel(),
        EchoModel(nullable=True),
    ]
    return application(models, key=("ride", "x0"))


@pytest.fixture(scope="module")
def document(app: App) -> Any:
    return ask(app, "/openapi.json").json()


def test_it_is_openapi_31(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"]["bounded.row"])
    assert "/predict/linear" in document["paths"]
    assert "/predict/linear/versions/1" in document["paths"]


def test_the_examples_are_answered(app: App, document: Any) -> None:
    for path, item in document["paths"].items():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            answer = ask(app, path, example["value"])
            assert answer.status == 200, answer.body
            if path.startswith("/predict/"):
                name = item["post"]["operationId"].removeprefix("predict.")
                schema = document["components"] | {"$ref": f"#/schemas/{name}.answer"}
                text = json.dumps(schema).replace("#/components/", "#/")
                jsonschema.validate(answer.json(), json.loads(text))


def test_only_an_address_with_a_version_promises_it(document: Any) -> None:
    schemas = document["components"]["schemas"]
    current, pinned = (
        schemas[f"{name}.answer"]["oneOf"][0]["properties"] for name in ("linear", "linear.1")
    )
    assert current["version"] == {"type": "string", "examples": ["2"]}
    assert "const" not in json.dumps(schemas["linear.answer"])
    assert pinned["version"] == {"type": "string", "const": "1"}
    assert set(pinned["digest"]) == {"type", "const"}


def test_streams_and_the_wait_of_an_overload_are_described(document: Any) -> None:
    operation = document["paths"]["/predict/linear"]["post"]
    stream = "application/vnd.apache.arrow.stream"
    for part in (operation["requestBody"], operation["responses"]["200"]):
        assert list(part["content"]) == ["application/json", stream]
    assert operation["responses"]["503"]["headers"]["Retry-After"]["required"]
    assert "headers" not in operation["responses"]["504"]
    assert "/v2" in document["info"]["description"]


@pytest.mark.parametrize(
    ("field", "described"),
    [
        (Field(name="f", type="bool"), {"type": "boolean"}),
        (
            Field(name="f", type="int8", min=0),
            {"type": "integer", "format": "int8", "minimum": 0, "maximum": 127},
        ),
        (
            Field(name="f", type="float64", max=1.5, nullable=True),
            {"type": ["number", "null"], "format": "double", "maximum": 1.5},
        ),
        (
            Field(name="f", type="string", values=("a", "b"), nullable=True),
            {"type": ["string", "null"], "enum": ["a", "b", None]},
        ),
    ],
)
def test_a_field(field: Field, described: Any) -> None:
    assert field_schema(field) == described


def test_moments_have_bounds_that_people_read() -> None:
    import datetime as dt

    field = Field(name="f", type="date", min=dt.date(2020, 1, 1))
    assert field_schema(field) == {"type": "string", "format": "date", "x-minimum": "2020-01-01"}


def test_the_example_is_the_models_own() -> None:
    models = Models((), 256, 1000)
    served = models.add("m", LinearModel(), example={"x0": 42.0, "other": 1})
    assert example_of(served) == {"x0": 42.0}


def test_it_is_made_again_when_models_change() -> None:
    app = application([LinearModel(version="1")])
    before = ask(app, "/openapi.json").body
    assert ask(app, "/openapi.json").body == before
    app._models.add("linear", LinearModel(version="2"))
    assert "/predict/linear/versions/2" in ask(app, "/openapi.json").json()["paths"]


def test_keys_are_described() -> None:
    document = ask(
        application([LinearModel()], api_keys=("k",)), "/openapi.json", x_api_key="k"
    ).json()
    assert document["security"] == [{"key": []}, {"bearer": []}]
    assert document["paths"]["/health/live"]["get"]["security"] == []


def test_a_page_that_needs_nobody_else(app: App) -> None:
    page = ask(app, "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    text = page.body.decode()
    assert "http" not in text.replace('data-method="', "")
    assert "/predict/bounded" in text
    assert "at most 1000" in text
    assert "may be left out" in text
    assert ask(app, "/docs/try.js").headers["content-type"].startswith("text/javascript")


def test_names_cannot_write_into_the_page() -> None:
    class Sly(LinearModel):
        pass

    app = application([Sly(name="<script>alert(1)</script>")])
    assert "<script>alert" not in ask(app, "/docs").body.decode()


def streams(rows: int) -> bytes:
    """Write rows that each of the models can read: the columns of all of them."""
    batches = [parity.synthetic(model.inputs, rows) for model in _MODELS]
    columns = {name: b.column(name) for b in batches for name in b.schema.names}
    batch = pa.RecordBatch.from_pydict(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


_MODELS: list[Model] = [LinearModel(version="1"), BoundedModel(), EchoModel(nullable=True)]
_APP = application(_MODELS, key=("ride",), max_rows=50)
schemathesis.serializer.alias(CONTENT_TYPE.decode(), "application/octet-stream")
schemathesis.openapi.media_type(CONTENT_TYPE.decode(), st.integers(1, 50).map(streams))
_SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", _APP)
_SCHEMA.config.generation.update(allow_extra_parameters=False)  # any server takes unknown headers


@_SCHEMA.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_contradicts_the_description(case: Any) -> None:
    answer = case.call()
    if answer.status_code == 504:  # as asked: the caller had hardly any patience
        assert float(case.headers["X-Request-Timeout"]) < 1
    else:
        case.validate_response(answer)

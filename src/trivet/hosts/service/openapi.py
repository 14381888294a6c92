"""The service described: an OpenAPI 3.1 document made from the models' schemas, and a page.

The page is plain HTML with one small script of ours; it needs no other address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import msgspec

from trivet import parity
from trivet.hosts.service.exchange import Protocol, Reply
from trivet.hosts.service.faults import HTTP
from trivet.hosts.service.page import page
from trivet.hosts.service.protocols.arrow import CONTENT_TYPE as ARROW
from trivet.hosts.service.serving import Models, Served
from trivet.hosts.service.settings import ServiceSettings
from trivet.json_schema import plain, row_schema
from trivet.validation import CODES

_CSP = (
    b"default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

_OTHERS = (
    "Records and Arrow streams. The same models are served in two protocols that have descriptions "
    "of their own: the Open Inference Protocol, version 2, at /v2 (GET /v2/models/NAME tells a "
    "model's tensors), and MLflow's scoring protocol at POST /invocations."
)


class Pages:
    """The document and the page, made again when the models have changed."""

    def __init__(
        self, models: Models, settings: ServiceSettings, protocols: Sequence[Protocol] = ()
    ) -> None:
        self._models = models
        self._settings = settings
        self._extra = [p.openapi for p in protocols if hasattr(p, "openapi")]
        self._made = -1
        self._replies: dict[str, tuple[bytes, bytes]] = {}

    def reply(self, path: str) -> Reply:
        """Return the document, the page or its script."""
        if self._made != self._models.changes:
            made = self._models.changes
            described = document(self._models, self._settings)
            for extra in self._extra:
                _merge(described, extra(self._models, self._settings))
            self._replies = {
                "/openapi.json": (msgspec.json.encode(described), b"application/json"),
                "/docs": (page(described).encode(), b"text/html; charset=utf-8"),
                "/docs/try.js": (_SCRIPT.encode(), b"text/javascript; charset=utf-8"),
            }
            self._made = made
        body, kind = self._replies[path]
        return Reply(
            body,
            headers=[
                (b"content-type", kind),
                (b"content-security-policy", _CSP),
                (b"x-content-type-options", b"nosniff"),
            ],
        )


def document(models: Models, settings: ServiceSettings) -> dict[str, Any]:
    """Describe the service's own addresses and the records protocol."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _problem()}
    for family in models.families.values():
        default = family.versions[family.default]
        base = f"/predict/{family.name}"
        paths[base] = _predict(default, family.name, f"{family.name}, the version in use")
        _describe(schemas, default, family.name)
        for version, served in family.versions.items():
            name = f"{family.name}.{version}"
            paths[f"{base}/versions/{version}"] = _predict(
                served, name, f"{family.name}, version {version}"
            )
            _describe(schemas, served, name, pinned=True)
    paths |= _own_paths()
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Trivet service",
            "version": metadata.version("trivet"),
            "summary": "Predictions of " + ", ".join(models.families),
            "description": _OTHERS,
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if settings.api_keys:
        described["components"]["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        described["security"] = [{"key": []}, {"bearer": []}]
        for path in ("/health/live", "/health/ready"):
            paths[path]["get"]["security"] = []
    return described


def example_of(served: Served) -> dict[str, Any]:
    """Return an input row: the one that the model came with, or one that its schema allows."""
    model = served.model
    row = dict(served.example) or parity.synthetic(model.inputs, 1).to_pylist()[0]
    return {name: plain(value) for name, value in row.items() if name in model.inputs.names}


def _describe(schemas: dict[str, Any], served: Served, name: str, *, pinned: bool = False) -> None:
    """Describe what is sent to a model and what comes back.

    The version in use is another one tomorrow: only an address that names one promises it.
    """
    model = served.model
    beside = [n for n in served.reader.beside if n not in model.inputs.names]
    scored_by = {"model": model.name, "version": model.version, "digest": model.digest}
    lineage = {
        key: {"type": "string", **({"const": told} if pinned else {"examples": [told]})}
        for key, told in scored_by.items()
    }
    row = {"$ref": f"#/components/schemas/{name}.row"}
    prediction = {"$ref": f"#/components/schemas/{name}.prediction"}
    # Whatever a row of several is, the others are answered: it is told in errors, not refused.
    each = {"description": f"A row, see {name}.row; what is none is told in errors"}
    schemas[f"{name}.row"] = row_schema(model.inputs, beside)
    schemas[f"{name}.prediction"] = row_schema(model.outputs, closed=True)
    schemas[f"{name}.request"] = {
        "anyOf": [
            row,
            {
                "type": "object",
                "properties": {"rows": {"type": "array", "items": each, "minItems": 1}},
                "required": ["rows"],
                "additionalProperties": False,
            },
        ]
    }
    one = {"id": {"type": "string"}, **lineage, "prediction": prediction}
    many = {
        "ids": {"type": "array", "items": {"type": "string"}},
        **lineage,
        "predictions": {"type": "array", "items": {"oneOf": [prediction, {"type": "null"}]}},
    }
    errors = {"errors": {"type": "array", "items": _row_problem()}}
    schemas[f"{name}.answer"] = {
        "oneOf": [
            {"type": "object", "properties": one, "required": list(one)},
            {"type": "object", "properties": many | errors, "required": list(many)},
        ]
    }


def _predict(served: Served, name: str, summary: str) -> dict[str, Any]:
    key = {n: 17 for n in served.reader.beside if n not in served.model.inputs.names}
    row = key | example_of(served)
    parameters = [
        {
            "name": "X-Request-Id",
            "in": "header",
            "description": "The request's id; without it the service makes one",
            "schema": {"type": "string"},
        },
        {
            "name": "X-Request-Timeout",
            "in": "header",
            "description": "Seconds after which the answer is not wanted any more",
            "schema": {"type": "number", "minimum": 0},
        },
    ]
    return {
        "post": {
            "operationId": "predict." + name,
            "summary": f"Predict with {summary}",
            "parameters": parameters,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": f"#/components/schemas/{name}.request"},
                        "examples": {
                            "one": {"summary": "One row", "value": row},
                            "many": {"summary": "Several rows", "value": {"rows": [row, row]}},
                        },
                    },
                    **_stream("The inputs by name, and the columns of key"),
                },
            },
            "responses": {
                "200": {
                    "description": "The predictions; null where a row of several was rejected",
                    "content": {
                        "application/json": {
                            "schema": {"$ref": f"#/components/schemas/{name}.answer"}
                        },
                        **_stream(
                            "To a stream: the outputs, null where a row was rejected, and "
                            "trivet_error with its problems as JSON"
                        ),
                    },
                    "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
                },
                **_faults("bad_request", "too_large", "media_type", "bad_rows", "model", "busy"),
                **_faults("unauthorized", "slow", "late"),
            },
        }
    }


def _stream(description: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary", "description": description}
    return {ARROW.decode(): {"schema": schema}}


def _faults(*kinds: str) -> dict[str, Any]:
    later = {"description": "Seconds to wait", "schema": {"type": "integer"}, "required": True}
    return {
        str(HTTP[kind][0]): {
            "description": HTTP[kind][1],
            **({"headers": {"Retry-After": later}} if HTTP[kind][0] == 503 else {}),
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for kind in kinds
    }


def _own_paths() -> dict[str, Any]:
    ready = {
        "type": "object",
        "properties": {"status": {"const": "ok"}, "models": {"type": "object"}},
        "required": ["status"],
    }
    told = (
        ("/health/live", "Whether the process lives", "application/json", ready, ()),
        (
            "/health/ready",
            "Whether requests are wanted",
            "application/json",
            ready,
            ("not_ready",),
        ),
        (
            "/metrics",
            "Prometheus metrics of all processes",
            "text/plain",
            {"type": "string"},
            ("unauthorized",),
        ),
        (
            "/openapi.json",
            "This document",
            "application/json",
            {"type": "object"},
            ("unauthorized",),
        ),
    )
    return {
        path: {
            "get": {
                "operationId": "get." + path.strip("/").replace("/", "."),
                "summary": summary,
                "responses": {
                    "200": {"description": summary, "content": {kind: {"schema": schema}}},
                    **_faults("bad_request", *faults),
                },
            }
        }
        for path, summary, kind, schema, faults in told
    }


def _row_problem() -> dict[str, Any]:
    properties = {
        "row": {"type": "integer", "minimum": 0},
        "field": {"type": "string", "description": "empty: the row as a whole"},
        "code": {"type": "string", "enum": list(CODES)},
        "reason": {"type": "string"},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Problem details, RFC 9457",
        "properties": {
            "type": {"type": "string", "enum": [f"urn:trivet:{kind}" for kind in HTTP]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": _row_problem()},
        },
        "required": ["type", "title", "status", "detail"],
    }


def _merge(described: dict[str, Any], more: Mapping[str, Any]) -> None:
    described["paths"] |= more.get("paths", {})
    described["components"]["schemas"] |= more.get("schemas", {})


_SCRIPT = """"use strict";
for (const form of document.forms) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const area = form.querySelector("textarea"), out = form.querySelector("pre");
    const headers = {}, key = document.getElementById("key").value;
    if (area) headers["content-type"] = "application/json";
    if (key) headers["x-api-key"] = key;
    out.hidden = false;
    out.textContent = "...";
    try {
      const answer = await fetch(form.dataset.path,
        { method: form.dataset.method, headers, body: area ? area.value : undefined });
      let text = await answer.text();
      try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON */ }
      out.textContent = answer.status + " " + answer.statusText + "\\n" + text;
    } catch (error) { out.textContent = String(error); }
  });
}
"""

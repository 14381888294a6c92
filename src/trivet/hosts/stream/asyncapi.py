"""The streams described: an AsyncAPI 3 document of their topics and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from trivet.contract import Model
from trivet.hosts.stream.sending import DEAD_LETTER, PREDICTION, source_of
from trivet.hosts.stream.settings import StreamSettings
from trivet.json_schema import field_schema, row_schema
from trivet.validation import CODES

_TEXT = {"type": "string", "minLength": 1}


def document(
    title: str, streams: Sequence[StreamSettings], models: Mapping[str, Model], broker: str
) -> dict[str, Any]:
    """Return the document.

    Args:
        title: The project's name.
        streams: Its streams.
        models: Their models, by name.
        broker: The broker, without its secrets: ``kafka://host:9092`` or ``sqlite:///events.db``.
    """
    protocol, _, host = broker.partition("://")
    described: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": metadata.version("trivet")},
        "defaultContentType": "application/cloudevents+json",
        "servers": {
            "broker": {"host": host.strip("/"), "protocol": protocol},
        },
        "channels": {},
        "operations": {},
        "components": {"messages": {}},
    }
    for settings in streams:
        _describe(described, settings, models[settings.model])
    return described


def _describe(described: dict[str, Any], settings: StreamSettings, model: Model) -> None:
    name = settings.name
    beside = [n for n in (*settings.key, *settings.keep) if n not in model.inputs.names]
    data = row_schema(model.inputs, beside)
    data["required"] = [*data["required"], *(n for n in settings.key if n not in data["required"])]
    _add(described, settings.topic, "receive", f"{name}.event", _event(settings, data))
    types = {field.name: field_schema(field) for field in model.inputs}
    carried = {n: types.get(n, {"type": ["string", "number", "boolean", "null", "object", "array"]})
               for n in (*settings.key, *settings.keep)}  # fmt: skip
    if settings.output:
        result = row_schema(model.outputs)
        result["properties"] = carried | result["properties"]
        message = _prediction(settings, model, result)
        _add(described, settings.output, "send", f"{name}.prediction", message)
    if settings.dead_topic is not None:
        _add(described, settings.dead_topic, "send", f"{name}.deadletter", _dead_letter(settings))


def _add(
    described: dict[str, Any], topic: str, action: str, name: str, message: dict[str, Any]
) -> None:
    described["components"]["messages"][name] = message
    channel = described["channels"].setdefault(topic, {"address": topic, "messages": {}})
    channel["messages"][name] = {"$ref": f"#/components/messages/{name}"}
    reference = f"#/channels/{topic.replace('~', '~0').replace('/', '~1')}"
    described["operations"][name] = {
        "action": action,
        "channel": {"$ref": reference},
        "messages": [{"$ref": f"{reference}/messages/{name}"}],
    }


def _event(settings: StreamSettings, data: dict[str, Any]) -> dict[str, Any]:
    if settings.format == "json":
        for member in (settings.id_field, settings.time_field):
            if member:
                data["properties"].setdefault(member, {"description": "of the event"})
        if settings.id_field and settings.id_field not in data["required"]:
            data["required"].append(settings.id_field)
        return _message(f"What {settings.model} scores", "application/json", data)
    kind = {"type": "string", "enum": list(settings.types)} if settings.types else _TEXT
    return _message(f"What {settings.model} scores", "", _cloud_event(data, type=kind))


def _prediction(settings: StreamSettings, model: Model, data: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {
        "causeid": _TEXT,
        "causesource": _TEXT,
        "modelname": {"type": "string", "const": model.name},
        "modelversion": _TEXT,
        "modeldigest": _TEXT,
    }
    said = f"A prediction of {settings.model}"
    if settings.format == "json":
        lineage = {"id": _TEXT, **about}
        data["properties"]["trivet"] = {
            "type": "object",
            "properties": lineage,
            "required": list(lineage),
        }
        return _message(said, "application/json", data)
    source = {"type": "string", "const": source_of(settings.name)}
    kind = {"type": "string", "const": PREDICTION}
    return _message(said, "", _cloud_event(data, type=kind, source=source, **about))


def _dead_letter(settings: StreamSettings) -> dict[str, Any]:
    text = {"type": "string"}
    problem = {"field": text, "code": {"type": "string", "enum": list(CODES)}, "reason": text}
    number = {"type": "integer", "minimum": 0}
    members: dict[str, Any] = {
        "deployment": {"type": "string", "const": settings.name},
        "topic": text,
        "partition": number,
        "offset": number,
        "id": text,
        "source": text,
        "key": {"type": "object"},
        "problems": {
            "type": "array",
            "items": {"type": "object", "properties": problem, "required": list(problem)},
        },
        "event_key": {"type": ["string", "null"], "contentEncoding": "base64"},
        "event_value": {"type": ["string", "null"], "contentEncoding": "base64"},
        "event_bytes": number,
        "event_headers": {"type": "array", "items": {"type": "array", "items": text}},
    }
    data = {"type": "object", "properties": members, "required": list(members)}
    kind = {"type": "string", "const": DEAD_LETTER}
    source = {"type": "string", "const": source_of(settings.name)}
    said = f"An event that {settings.name} could not score"
    return _message(said, "", _cloud_event(data, type=kind, source=source))


def _cloud_event(data: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    required = {"specversion": {"type": "string", "const": "1.0"}, "id": _TEXT, "source": _TEXT}
    members = {**required, **attributes, "data": data}
    optional = {"time": {"type": "string", "format": "date-time"}, "subject": {"type": "string"}}
    return {
        "type": "object",
        "properties": members | optional,
        "required": list(members),
    }


def _message(title: str, content_type: str, payload: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"title": title, "payload": payload}
    return described | ({"contentType": content_type} if content_type else {})

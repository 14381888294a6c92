"""The AsyncAPI document: what AsyncAPI 3 asks of one, and schemas that real events fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support.streams import Stream, Tips, event, wait_until
from trivet.hosts.stream.asyncapi import document


def pointed(made: dict[str, Any], reference: str) -> Any:
    """Follow a reference, as a reader of the document does."""
    found: Any = made
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("form", ["cloudevents", "json"])
def test_the_document_holds_together_and_fits_real_events(tmp_path: Path, form: str) -> None:
    stream = Stream(tmp_path, f"sqlite:///{tmp_path}/events.db", f"sqlite:///{tmp_path}/results.db")
    stream.settings = {"output": "tipped", "format": form}
    stream.create()
    good, bad = event(1), event(2, fare=-1)
    if form == "json":
        good, bad = (json.dumps(json.loads(e)["data"]).encode() for e in (good, bad))
    stream.publish(good, bad)
    with stream.running() as running:
        wait_until(lambda: stream.count("trivet_dead_letters") == 1, [running])
        wait_until(lambda: stream.count() == 1, [running])

    settings = stream.made()
    made = document("shop", [settings], {"tip": Tips()}, "kafka://host:9092")
    made = json.loads(json.dumps(made))
    assert made["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= made["info"].keys()
    assert made["servers"]["broker"] == {"host": "host:9092", "protocol": "kafka"}
    assert {name: o["action"] for name, o in made["operations"].items()} == {
        "tips.event": "receive",
        "tips.prediction": "send",
        "tips.deadletter": "send",
    }
    topics = {"tips.event": "rides", "tips.prediction": "tipped", "tips.deadletter": "tips.dead"}
    for name, operation in made["operations"].items():
        channel = pointed(made, operation["channel"]["$ref"])
        assert channel["address"] == topics[name]
        [message] = operation["messages"]
        schema = pointed(made, pointed(made, message["$ref"])["$ref"])["payload"]
        jsonschema.Draft202012Validator.check_schema(schema)
        values = stream.read(topics[name])
        assert values
        for value in values:
            if value.get("data", value).get("fare") != -1:
                jsonschema.validate(value, schema)
    event_schema = made["components"]["messages"]["tips.event"]["payload"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(bad), event_schema)

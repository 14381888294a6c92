from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec
import pytest
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_binary,
    from_structured,
    to_binary,
    to_structured,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from trivet.brokers.base import Fetched, Headers
from trivet.events import STRUCTURED, CloudEvents, Mode, PlainJson, check_extensions

NOON = dt.datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=dt.UTC)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)


def fetched(*messages: tuple[bytes | None, Headers]) -> Fetched:
    values = [value for value, _ in messages]
    headers = [each for _, each in messages]
    places = range(len(messages))
    return Fetched(3, places, [None] * len(values), values, headers, [0] * len(values))


def bare(*values: bytes | None) -> Fetched:
    return Fetched(
        3, range(7, 7 + len(values)), [None] * len(values), values, None, [0] * len(values)
    )


@pytest.mark.parametrize("mode", ["structured", "binary"])
@given(id_=TEXT, source=TEXT, kind=TEXT, subject=st.none() | TEXT, number=st.integers(0, 2**53))
def test_what_is_encoded_is_decoded(
    mode: Mode, id_: str, source: str, kind: str, subject: str | None, number: int
) -> None:
    data = msgspec.json.encode({"n": number})
    written = CloudEvents(mode).encode(
        data, id=id_, source=source, type=kind, time=NOON, subject=subject
    )
    found = CloudEvents().decode(fetched(written), "t")
    assert (found.bad, list(found.places)) == ([], [0])
    assert [found.ids[0], found.sources[0], found.types[0]] == [id_, source, kind]
    assert (found.times[0], found.subjects[0]) == (NOON, subject)
    assert bytes(found.data[0]) == data


def test_the_sdk_reads_what_is_written() -> None:
    extensions = {"modelversion": "7"}
    told = {"id": "1", "source": "/s", "type": "t", "time": NOON, "subject": "x"}
    value, headers = CloudEvents().encode(b'{"n":1}', extensions=extensions, **told)  # type: ignore[arg-type]
    structured = from_structured(KafkaMessage(dict(headers), None, value), JSONFormat())
    value, headers = CloudEvents("binary").encode(b'{"n":1}', extensions=extensions, **told)  # type: ignore[arg-type]
    binary = from_binary(KafkaMessage(dict(headers), None, value), JSONFormat())
    for event in (structured, binary):
        assert event.get_id() == "1"
        assert event.get_source() == "/s"
        assert event.get_type() == "t"
        assert event.get_time() == NOON
        assert event.get_subject() == "x"
        assert event.get_data() == {"n": 1}
        assert event.get_extension("modelversion") == "7"


def test_what_the_sdk_writes_is_read() -> None:
    attributes = {
        "id": "1",
        "source": "/s",
        "type": "t",
        "specversion": "1.0",
        "time": NOON,
        "datacontenttype": "application/json",
    }
    event = CloudEvent(attributes, {"n": 1})
    for made in (to_structured(event, JSONFormat()), to_binary(event, JSONFormat())):
        headers = tuple(made.headers.items())
        found = CloudEvents().decode(fetched((made.value, headers)), "t")
        assert not found.bad
        assert [found.ids[0], found.sources[0], found.times[0]] == ["1", "/s", NOON]
        assert msgspec.json.decode(bytes(found.data[0])) == {"n": 1}


def test_both_modes_stand_side_by_side_and_the_bad_are_named() -> None:
    good, _ = CloudEvents().encode(b"1", id="a", source="s", type="t")
    binary = CloudEvents("binary").encode(b"2", id="b", source="s", type="t")
    found = CloudEvents().decode(
        fetched(
            (good, STRUCTURED),
            (b"\xff", ()),
            binary,
            (None, ()),
            (good, ()),
            (b"3", (("ce_specversion", b"1.0"), ("ce_id", b"x"))),
            (b"3", (*binary[1][1:], ("ce_specversion", b"0.3"))),
            (b"3", (("ce_specversion", b"1.0"), ("ce_id", b"\xff"))),
        ),
        "t",
    )
    assert list(found.places) == [0, 2, 4]
    assert list(found.ids) == ["a", "b", "a"]
    assert [bytes(data) for data in found.data] == [b"1", b"2", b"1"]
    reasons = dict(found.bad)
    assert set(reasons) == {1, 3, 5, 6, 7}
    assert "tombstone" in reasons[3]
    assert "ce_source is missing" in reasons[5]
    assert "'0.3', not 1.0" in reasons[6]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"{}",
        b'{"id":"1","source":"s","type":"t","specversion":"2.0"}',
        b'{"id":"","source":"s","type":"t","specversion":"1.0"}',
        b"[" * 100_000,
        b'{"id":"1","source":"s","type":"t","specversion":"1.0","time":"2026-01-01T00:00:00"}',
        b'{"id":"1","source":"s","type":"t","specversion":"1.0","data_base64":"*"}',
    ],
)
def test_what_is_no_cloudevent_is_told(value: bytes) -> None:
    found = CloudEvents().decode(bare(value), "t")
    assert [place for place, _ in found.bad] == [0]
    assert found.bad[0][1].startswith("not a CloudEvent: ")
    assert not found.ids


@given(st.lists(st.none() | st.binary(max_size=60)))
def test_no_bytes_break_the_reading(values: Sequence[bytes | None]) -> None:
    for format_ in (CloudEvents(), PlainJson(), PlainJson("id", "at")):
        found = format_.decode(bare(*values), "t")
        assert len(found.ids) + len(found.bad) == len(values)


def test_data_in_base64() -> None:
    value = b'{"id":"1","source":"s","type":"t","specversion":"1.0","data_base64":"eyJuIjoxfQ=="}'
    assert CloudEvents().decode(bare(value), "t").data[0] == b'{"n":1}'


def test_plain_json_without_fields_is_not_looked_at() -> None:
    found = PlainJson().decode(bare(b"anything", None), "rides")
    assert list(found.ids) == ["rides-3-7"]
    assert (list(found.sources), list(found.times)) == (["rides"], [None])
    assert [place for place, _ in found.bad] == [1]
    assert PlainJson().encode(b"x", id="1") == (b"x", ())


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        ('"2026-01-02T12:00:00.123456Z"', NOON),
        ('"2026-01-02T12:00:00.123456"', NOON),
        ("1767355200.5", NOON.replace(microsecond=500_000)),
        ("1767355200500", NOON.replace(microsecond=500_000)),
        ("null", None),
    ],
)
def test_plain_json_with_id_and_time(at: str, wanted: dt.datetime | None) -> None:
    text = f'{{"nr": 17, "at": {at}, "more": []}}'.encode()
    found = PlainJson("nr", "at").decode(bare(text), "rides")
    assert (list(found.ids), list(found.times), list(found.data)) == (["17"], [wanted], [text])


@pytest.mark.parametrize(
    "text",
    [b"{}", b'{"nr": 1.5}', b'{"nr": "1", "at": "noon"}', b'{"nr"', b'{"nr": "1", "at": 9e99}'],
)
def test_plain_json_without_its_fields_is_told(text: bytes) -> None:
    assert PlainJson("nr", "at").decode(bare(text), "t").bad[0][1].startswith("not an event: ")


def test_extensions_have_names_of_the_standards_form() -> None:
    check_extensions(["modelversion", "x1"])
    for name in ("Model", "a-b", "", "data", "x" * 21):
        with pytest.raises(ValueError, match="cannot be an extension"):
            check_extensions([name])

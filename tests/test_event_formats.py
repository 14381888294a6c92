"""Events written and read, held against the standard's own library."""

from __future__ import annotations

import datetime as dt
import json

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from hypothesis import given
from hypothesis import strategies as st

from trivet.brokers.base import Fetched, Headers
from trivet.events import CloudEvents, Mode, PlainJson, check_extensions

NOON = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


def fetched(*messages: tuple[bytes | None, Headers]) -> Fetched:
    values, headers = zip(*messages, strict=True)
    n = len(messages)
    return Fetched(3, range(10, 10 + n), [None] * n, values, headers, [0] * n)


@pytest.mark.parametrize("mode", ["structured", "binary"])
@given(name=WORDS, source=WORDS, kind=WORDS, subject=st.none() | WORDS, time=st.datetimes())
def test_what_is_written_is_read(
    mode: Mode, name: str, source: str, kind: str, subject: str | None, time: dt.datetime
) -> None:
    moment = time.replace(tzinfo=dt.UTC)
    codec = CloudEvents(mode)
    data = b'{"x":1}'
    message = codec.encode(data, id=name, source=source, type=kind, time=moment, subject=subject)
    found = codec.decode(fetched(message), "t")
    assert not found.bad
    assert list(found.places) == [0]
    assert (found.ids[0], found.sources[0], found.types[0]) == (name, source, kind)
    assert (found.times[0], found.subjects[0]) == (moment, subject)
    assert bytes(found.data[0]) == data


def test_the_standards_library_reads_what_is_written() -> None:
    value, headers = CloudEvents().encode(
        b'{"fare":12.5}',
        id="a",
        source="/taxi",
        type="ride",
        time=NOON,
        subject="7",
        extensions={"causeid": "b"},
    )
    told = {name: text.decode() for name, text in headers}
    event = from_structured_event(HTTPMessage(told, value))
    assert event.get_data() == {"fare": 12.5}
    assert (event.get_id(), event.get_source(), event.get_type()) == ("a", "/taxi", "ride")
    assert event.get_time() == NOON
    assert event.get_extension("causeid") == "b"


def test_binary_mode_follows_the_mapping_to_kafka() -> None:
    value, headers = CloudEvents("binary").encode(
        b"[1]", id="a", source="/taxi", type="ride", time=NOON
    )
    assert value == b"[1]"
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"a",
        "ce_source": b"/taxi",
        "ce_type": b"ride",
        "ce_time": b"2026-03-01T12:00:00Z",
        "content-type": b"application/json",
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"id":"","source":"s","type":"t","specversion":"1.0"}',
        b'{"id":"a","source":"s","type":"t","specversion":"0.3"}',
        b'{"id":"a","source":"s","type":"t"}',
        b'{"id":1,"source":"s","type":"t","specversion":"1.0"}',
        b'{"id":"a","source":"s","type":"t","specversion":"1.0","time":"2026-01-01T00:00:00"}',
        b'{"id":"a","source":"s","type":"t","specversion":"1.0","data_base64":"?"}',
        b'{"id":"a","source":"s","type":"t","specversion":"1.0","time":NaN}',
        b'{"id":1,"source":"s","type":"t","specversion":"1.0","data":NaN}',
        b'["NaN"',
        b"[NaN]",
    ],
)
def test_what_is_no_event_is_told_by_its_place(value: bytes | None) -> None:
    good = CloudEvents().encode(b"1", id="a", source="s", type="t")
    found = CloudEvents().decode(fetched(good, (value, ()), good), "t")
    assert list(found.places) == [0, 2]
    [(place, why)] = found.bad
    assert place == 1
    assert why.startswith("not a CloudEvent: ")


def test_binary_headers_that_are_missing_or_no_text_are_told() -> None:
    lacks: Headers = (("ce_specversion", b"1.0"), ("ce_id", b"a"))
    odd: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"\xff"),
        ("ce_source", b"s"),
        ("ce_type", b"t"),
    )
    found = CloudEvents().decode(fetched((b"1", lacks), (b"1", odd)), "t")
    assert [place for place, _ in found.bad] == [0, 1]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_has_no_word_for_are_left_to_the_reader_of_the_data(number: str) -> None:
    data = f'{{"fare": {number}, "zone": "caf\\u00e9"}}'
    text = f'{{"id":"a","source":"s","type":"t","specversion":"1.0","data":{data}}}'
    found = CloudEvents().decode(fetched((text.encode(), ())), "t")
    assert not found.bad
    assert (found.ids, found.sources) == (("a",), ("s",))
    assert [bytes(each).decode() for each in found.data] == [data]


def test_data_may_come_as_base64() -> None:
    value = b'{"id":"a","source":"s","type":"t","specversion":"1.0","data_base64":"eyJ4IjoxfQ=="}'
    [data] = CloudEvents().decode(fetched((value, ())), "t").data
    assert bytes(data) == b'{"x":1}'


def test_plain_json_has_a_place_for_an_id() -> None:
    found = PlainJson().decode(fetched((b'{"x":1}', ()), (None, ())), "rides")
    assert list(found.ids) == ["rides-3-10"]
    assert list(found.data) == [b'{"x":1}']
    assert found.bad == [(1, "not an event: it has no value (a tombstone)")]


@pytest.mark.parametrize(
    ("time", "moment"),
    [
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T12:00:00", NOON),
        (NOON.timestamp(), NOON),
        (NOON.timestamp() * 1000, NOON),
        (None, None),
    ],
)
def test_plain_json_reads_its_fields(time: object, moment: dt.datetime | None) -> None:
    codec = PlainJson("ride_id", "at")
    value = json.dumps({"ride_id": 7, "at": time}).encode()
    found = codec.decode(fetched((value, ())), "t")
    assert (list(found.ids), list(found.times)) == (["7"], [moment])
    assert codec.encode(b"{}") == (b"{}", ())


@pytest.mark.parametrize("value", [b"{}", b'{"ride_id":[]}', b'{"ride_id":"a","at":1e300}'])
def test_plain_json_tells_what_lacks_its_fields(value: bytes) -> None:
    [(place, _)] = PlainJson("ride_id", "at").decode(fetched((value, ())), "t").bad
    assert place == 0


@given(st.binary(max_size=200), st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9))))
def test_no_bytes_make_it_fail(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    for codec in (CloudEvents(), PlainJson("id", "time")):
        found = codec.decode(fetched((value, tuple(headers))), "t")
        assert len(found.places) + len(found.bad) == 1


def test_extensions_have_plain_names() -> None:
    check_extensions(["causeid"])
    for name in ("CauseId", "cause_id", "id", ""):
        with pytest.raises(ValueError, match=r"extension|attribute|name"):
            check_extensions([name])


def test_data_of_an_event_is_not_copied_into_objects() -> None:
    value, headers = CloudEvents().encode(b'{"x":1}', id="a", source="s", type="t")
    [data] = CloudEvents().decode(fetched((value, headers)), "t").data
    assert isinstance(data, msgspec.Raw)

"""`trivet.hosts.schedule`: intervals, their names, and which are due."""

from __future__ import annotations

import copy
import pickle
import time as stopwatch
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from trivet.errors import ScheduleError
from trivet.hosts.schedule import Interval, Schedule

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)

ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",  # changes by half an hour
    "Asia/Kathmandu",
    "America/Havana",  # the gap begins at midnight
    "America/St_Johns",  # the overlap crossed midnight until 2011
    "Pacific/Apia",  # a whole day skipped in 2011
    "Pacific/Kwajalein",  # a day repeated in 1969, one skipped in 1993
    "Africa/Casablanca",
)
EXPRESSIONS = (
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
    "@yearly",
    "30 2 * * *",
    "*/15 * * * *",
    "0,30 2,3 * * *",
    "0 */6 * * *",
    "*/20 0 * * 1-5",
    "59 23 L * *",
    "0 0 29 2 *",
    "15 6 1 1,4,7,10 *",
    "45 23 13 * FRI",
)


def at(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def naive(text: str) -> datetime:
    return at(text).replace(tzinfo=None)


def span(schedule: Schedule, first: str, last: str) -> list[Interval]:
    """The intervals that start on the local days from first up to last."""
    start = schedule.start_of(date.fromisoformat(first))
    return list(schedule.between(start, schedule.start_of(date.fromisoformat(last))))


def local_starts(schedule: Schedule, first: str, last: str) -> list[str]:
    zone = ZoneInfo(schedule.timezone)
    return [f"{i.start.astimezone(zone):%m-%dT%H:%M%z}" for i in span(schedule, first, last)]


schedules = st.builds(Schedule, st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES))
moments = st.one_of(
    st.datetimes(naive("1900-01-01"), naive("2100-01-01"), timezones=st.just(UTC)),
    st.builds(  # close to a change of some zone
        lambda day, seconds: at(day) + timedelta(seconds=seconds),
        st.sampled_from(
            [
                "1893-04-01",
                "1969-09-30",
                "1993-08-21",
                "2010-03-14",
                "2010-11-07",
                "2011-12-30",
                "2019-03-10",
                "2019-03-31",
                "2019-10-27",
                "2019-11-03",
                "2020-04-04",
                "2020-10-03",
                "2020-05-31",
                "2024-03-10",
                "2024-11-03",
            ]
        ),
        st.integers(-2 * 86_400, 2 * 86_400),
    ),
)


class TestInterval:
    def test_is_kept_in_utc_and_ordered(self) -> None:
        berlin = timezone(2 * HOUR)
        one = Interval(datetime(2020, 4, 1, tzinfo=berlin), datetime(2020, 4, 2, tzinfo=berlin))
        assert one.start.tzinfo is UTC
        assert one == Interval(at("2020-03-31T22:00"), at("2020-04-01T22:00"))
        assert one < Interval(at("2020-03-31T22:00"), at("2020-04-02T22:00"))
        assert len({one, copy.copy(one)}) == 1

    def test_must_end_after_it_starts(self) -> None:
        with pytest.raises(ScheduleError, match="must end after it starts"):
            Interval(at("2020-04-01"), at("2020-04-01"))

    def test_refuses_naive_datetimes(self) -> None:
        with pytest.raises(ScheduleError, match=r"2020-04-01T00:00:00 has no time zone"):
            Interval(naive("2020-04-01"), naive("2020-04-02"))

    def test_ended(self) -> None:
        interval = Interval(at("2020-04-01"), at("2020-04-02"))
        assert interval.ended(at("2020-04-02"))
        assert not interval.ended(at("2020-04-02") - TICK)
        assert not interval.ended(at("2020-04-02"), HOUR)
        assert interval.ended(at("2020-04-02T01:00"), HOUR)


class TestExpression:
    @pytest.mark.parametrize(
        ("expression", "problem"),
        [
            ("61 * * * *", "bad minute"),
            ("0 24 * * *", "bad hour"),
            ("0 0 30 2 *", "bad day-of-month"),
            ("0 0 * * MO", "bad day-of-week"),
            ("0 0 * *", "4 fields"),
            ("0 0 0 * * *", "6 fields.*no seconds"),
            ("", "0 fields"),
            ("@dayly", r"unknown name, did you mean @daily\?"),
            ("hourly", r"unknown name, did you mean @hourly\?"),
            ("zzz", "unknown name:"),
            ("0 0 */29 2 1#2", "never fires"),
        ],
    )
    def test_that_cannot_be_used_is_named_with_an_example(
        self, expression: str, problem: str
    ) -> None:
        with pytest.raises(ScheduleError, match=problem) as caught:
            Schedule(expression)
        assert repr(expression) in str(caught.value)
        assert "'15 6 * * 1-5'" in str(caught.value)

    @pytest.mark.timeout(20)
    def test_that_only_falls_in_the_gap_never_fires(self) -> None:
        """In New York 02:00 of the second Sunday of March has not existed since 2007."""
        with pytest.raises(ScheduleError, match="never fires in America/New_York"):
            Schedule("*/30 2 */1 3 0#2", "America/New_York")
        Schedule("*/30 2 */1 3 0#2", "Europe/Berlin")

    @given(st.text("0123456789*/-,#@LWadehilmnortuwy ", max_size=20))
    def test_garbage_is_a_schedule_error(self, text: str) -> None:
        try:
            schedule = Schedule(text)
        except ScheduleError:
            return
        assert schedule.interval_at(at("2020-01-01")).start <= at("2020-01-01")

    def test_names_ignore_case_and_space(self) -> None:
        start = at("2020-04-01")
        assert Schedule(" @Daily ").interval_at(start) == Schedule("@daily").interval_at(start)

    @pytest.mark.parametrize(
        ("zone", "hint"),
        [
            ("Europe/Berln", r", did you mean Europe/Berlin\?"),
            ("berlin", r", did you mean Europe/Berlin\?"),
            ("new york", r", did you mean America/New_York\?"),
            ("Europe", ""),
            ("../secret", ""),
            ("zzzzzz", ": write"),
        ],
    )
    def test_unknown_zone(self, zone: str, hint: str) -> None:
        with pytest.raises(ScheduleError, match=f"unknown time zone '{zone}'{hint}"):
            Schedule("@daily", zone)

    def test_is_a_value(self) -> None:
        schedule = Schedule("@daily", "Europe/Berlin")
        assert schedule == Schedule("@daily", "Europe/Berlin") != Schedule("@daily")
        assert repr(schedule) == "Schedule(expression='@daily', timezone='Europe/Berlin')"
        twin = pickle.loads(pickle.dumps(schedule))
        assert twin.named("2020-04-01") == schedule.named("2020-04-01")
        assert len({schedule, twin}) == 1


class TestDaylightSaving:
    @pytest.mark.parametrize(
        ("zone", "spring", "autumn", "counts"),
        [
            ("America/New_York", "2019-03-10", "2019-11-03", (23, 25)),
            ("Europe/Berlin", "2019-03-31", "2019-10-27", (23, 25)),
            ("Australia/Lord_Howe", "2019-10-06", "2020-04-05", (23, 24)),  # 02:00 is skipped
            ("Asia/Kathmandu", "2019-03-31", "2019-10-27", (24, 24)),
            ("UTC", "2019-03-31", "2019-10-27", (24, 24)),
        ],
    )
    def test_hourly(self, zone: str, spring: str, autumn: str, counts: tuple[int, int]) -> None:
        schedule = Schedule("@hourly", zone)
        for day, count in zip((spring, autumn), counts, strict=True):
            hours = span(schedule, day, str(date.fromisoformat(day) + DAY))
            assert len(hours) == count
            if zone != "Australia/Lord_Howe":
                assert {hour.end - hour.start for hour in hours} == {HOUR}

    @pytest.mark.parametrize(
        ("zone", "spring", "autumn", "change"),
        [
            ("America/New_York", "2019-03-10", "2019-11-03", HOUR),
            ("Europe/Berlin", "2019-03-31", "2019-10-27", HOUR),
            ("Australia/Lord_Howe", "2019-10-06", "2020-04-05", HOUR / 2),
            ("America/Havana", "2019-03-10", "2019-11-03", HOUR),
            ("Asia/Kathmandu", "2019-03-31", "2019-10-27", 0 * HOUR),
            ("UTC", "2019-03-31", "2019-10-27", 0 * HOUR),
        ],
    )
    def test_daily_and_quarters(
        self, zone: str, spring: str, autumn: str, change: timedelta
    ) -> None:
        for day, width in ((spring, DAY - change), (autumn, DAY + change)):
            daily = Schedule("@daily", zone).named(day)
            assert daily.end - daily.start == width
            quarters = list(Schedule("*/15 * * * *", zone).between(daily.start, daily.end))
            assert len(quarters) == width / (HOUR / 4)
            assert {quarter.end - quarter.start for quarter in quarters} == {HOUR / 4}

    @pytest.mark.parametrize(
        ("zone", "first", "last", "starts"),
        [
            (
                "America/New_York",
                "2019-03-09",
                "2019-03-12",
                ["03-09T02:30-0500", "03-10T03:00-0400", "03-11T02:30-0400"],
            ),
            (
                "Europe/Berlin",
                "2019-10-26",
                "2019-10-29",
                ["10-26T02:30+0200", "10-27T02:30+0200", "10-28T02:30+0100"],
            ),
            (
                "Australia/Lord_Howe",  # from 02:00 to 02:30
                "2019-10-05",
                "2019-10-08",
                ["10-05T02:30+1030", "10-06T02:30+1100", "10-07T02:30+1100"],
            ),
        ],
    )
    def test_half_past_two_fires_once(
        self, zone: str, first: str, last: str, starts: list[str]
    ) -> None:
        assert local_starts(Schedule("30 2 * * *", zone), first, last) == starts

    def test_two_matches_moved_to_the_end_of_the_gap_are_one(self) -> None:
        schedule = Schedule("0,30 2,3 * * *", "Europe/Berlin")
        starts = ["03-31T03:00+0200", "03-31T03:30+0200"]
        assert local_starts(schedule, "2019-03-31", "2019-04-01") == starts

    def test_an_overlap_across_midnight_keeps_its_order(self) -> None:
        """At 00:01 of 7 November the clock of St John's went back to 23:01."""
        schedule = Schedule("30 * * * *", "America/St_Johns")
        starts = [i.start for i in schedule.between(at("2010-11-07T01:00"), at("2010-11-07T06:00"))]
        assert starts == [at(f"2010-11-07T0{hour}:00") for hour in range(1, 6)]
        quarters = Schedule("*/15 * * * *", "America/St_Johns")
        starts = [i.start for i in quarters.between(at("2010-11-07T02:00"), at("2010-11-07T04:01"))]
        assert {b - a for a, b in pairwise(starts)} == {HOUR / 4}

    def test_a_day_that_never_was(self) -> None:
        """Apia went from 29 to 31 December 2011."""
        schedule = Schedule("@daily", "Pacific/Apia")
        starts = ["12-29T00:00-1000", "12-31T00:00+1400", "01-01T00:00+1400"]
        assert local_starts(schedule, "2011-12-29", "2012-01-02") == starts
        assert schedule.named("2011-12-30") == schedule.named("2011-12-31")

    @given(
        st.sampled_from([e for e in EXPRESSIONS if not e.startswith("@")]),
        st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Asia/Kathmandu"]),
        st.datetimes(naive("1980-01-01"), naive("2036-01-01"), timezones=st.just(UTC)),
    )
    def test_agrees_with_cronsim(self, expression: str, zone: str, moment: datetime) -> None:
        """In the zones that change by an hour in the night, `cronsim` forwards is right."""
        schedule = Schedule(expression, zone)
        start = schedule.interval_at(moment).end
        theirs = CronSim(expression, start.astimezone(ZoneInfo(zone)))
        ours = (i.start for i in schedule.between(start + TICK, at("8000-01-01")))
        expected = [fire.astimezone(UTC) for fire in islice(theirs, 40)]
        assert list(islice(ours, 40)) == expected


class TestWalking:
    @given(schedules, moments)
    def test_interval_at_contains_the_moment(self, schedule: Schedule, moment: datetime) -> None:
        interval = schedule.interval_at(moment)
        assert interval.start <= moment < interval.end
        assert schedule.interval_at(interval.start) == interval
        assert schedule.interval_at(interval.end - TICK) == interval
        assert schedule.interval_at(interval.end).start == interval.end

    @given(schedules, moments)
    def test_forwards_and_backwards_agree(self, schedule: Schedule, moment: datetime) -> None:
        walked = [schedule.interval_at(moment)]
        for _ in range(12):
            walked.append(schedule.next(walked[-1]))
            assert schedule.previous(walked[-1]) == walked[-2]
        for one, other in pairwise(walked):
            assert one.end == other.start
        assert list(schedule.between(walked[0].start, walked[-1].start)) == walked[:-1]

    @given(schedules, moments, st.timedeltas(timedelta(0), timedelta(days=20)))
    def test_between_covers_the_span(
        self, schedule: Schedule, moment: datetime, width: timedelta
    ) -> None:
        found = list(schedule.between(moment, moment + width))
        assert all(moment <= interval.start < moment + width for interval in found)
        if found:
            total = sum((i.end - i.start for i in found), timedelta(0))
            assert total == found[-1].end - found[0].start
            assert schedule.interval_at(moment - TICK).end == found[0].start
            assert found[-1].end >= moment + width

    def test_between_is_lazy(self) -> None:
        minutes = Schedule("* * * * *").between(at("2020-01-01"), at("8000-01-01"))
        assert next(minutes) == Interval(at("2020-01-01T00:00"), at("2020-01-01T00:01"))

    def test_rare_and_far(self) -> None:
        leap_sunday = Schedule("0 0 29 2 */7", "Europe/Berlin")
        assert leap_sunday.label(leap_sunday.interval_at(at("2020-01-01"))) == "2004"
        for year in ("1100", "8900"):
            assert leap_sunday.interval_at(at(f"{year}-06-01")).start < at(f"{year}-06-01")
            assert Schedule("* * * * *").interval_at(at(f"{year}-06-01"))

    @pytest.mark.parametrize("moment", ["0001-01-01", "9999-12-31T23:59:59", "9001-01-01"])
    def test_out_of_range(self, moment: str) -> None:
        with pytest.raises(ScheduleError, match="not one of 1000 to 9000"):
            Schedule("@daily").interval_at(at(moment))
        with pytest.raises(ScheduleError, match="not one of 1000 to 9000"):
            Schedule("@daily", "Europe/Berlin").start_of(naive(moment))


class TestNames:
    @pytest.mark.parametrize(
        ("expression", "zone", "name", "start"),
        [
            ("@monthly", "UTC", "2020-04", "2020-04-01"),
            ("@monthly", "UTC", "2020-04-15", "2020-04-01"),
            ("@monthly", "UTC", "2020-04-01T00:00:00+00:00", "2020-04-01"),
            ("@monthly", "UTC", " 2020-04-30T23:59:59.999999Z ", "2020-04-01"),
            ("@monthly", "Europe/Berlin", "2020-04", "2020-03-31T22:00"),
            ("@yearly", "UTC", "2020", "2020-01-01"),
            ("0 0 15 * *", "UTC", "2020-04", "2020-04-15"),
            ("@daily", "UTC", "2020-04-01", "2020-04-01"),
            ("@daily", "UTC", "2020-04-01T05", "2020-04-01"),
            ("@daily", "Europe/Berlin", "2020-03-31T22:00:00+00:00", "2020-03-31T22:00"),
            ("@daily", "Europe/Berlin", "2020-03-31T21:59Z", "2020-03-30T22:00"),
            ("@weekly", "UTC", "2020-04-01", "2020-03-29"),
            ("@hourly", "UTC", "2020-04-01T05", "2020-04-01T05:00"),
            ("@hourly", "UTC", "2020-04-01 05:30", "2020-04-01T05:00"),
            ("@hourly", "UTC", "2020-04-01T05+02:00", "2020-04-01T03:00"),
            ("@hourly", "UTC", "2020-04-01T05:00:00-0130", "2020-04-01T06:00"),
            ("@hourly", "Europe/Berlin", "2019-10-27T02:00", "2019-10-27T00:00"),
            ("@hourly", "Europe/Berlin", "2019-10-27T02", "2019-10-27T00:00"),
            ("@hourly", "Europe/Berlin", "2019-10-27T02:00+01:00", "2019-10-27T01:00"),
            ("@hourly", "Europe/Berlin", "2019-03-31T02", "2019-03-31T01:00"),  # in the gap
            ("30 2 * * *", "Europe/Berlin", "2019-03-31T02:30", "2019-03-31T01:00"),
        ],
    )
    def test_named(self, expression: str, zone: str, name: str, start: str) -> None:
        assert Schedule(expression, zone).named(name).start == at(start)

    @pytest.mark.parametrize(
        ("expression", "name", "message"),
        [
            ("@daily", "2020-04", r"30 intervals of '@daily' \(2020-04-01 .. 2020-04-30\)"),
            ("@monthly", "2020", r"12 intervals of '@monthly' \(2020-01 .. 2020-12\)"),
            ("@hourly", "2019-10-27", r"25 intervals of '@hourly' \(.*T00 .. .*T23\)"),
            ("* * * * *", "2020", r"more than 1000 .*\(2020-01-01T00:00 .. 2020-12-31T23:59\)"),
        ],
    )
    def test_that_names_several(self, expression: str, name: str, message: str) -> None:
        with pytest.raises(ScheduleError, match=f"^{name} names {message}: name one, or .*--from"):
            Schedule(expression, "Europe/Berlin").named(name)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "yesterday",
            "2020-13",
            "2020-02-30",
            "2020-04-01T24",
            "2020-04-01T05:60",
            "2020-04T05",
            "2020-04-01T05+99",
            "2020-04-01T05+01:99",
            "20200401",
            "٢٠٢٠",
            "0000",
        ],
    )
    def test_garbage_is_named_with_examples(self, name: str) -> None:
        with pytest.raises(ScheduleError, match="does not name an interval") as caught:
            Schedule("@daily").named(name)
        assert repr(name) in str(caught.value)
        assert "2020-04-01T05:00:00+00:00" in str(caught.value)

    @pytest.mark.parametrize("name", ["0001", "9999-12-31", "9000", "0001-01-01T00+05:00"])
    def test_out_of_range(self, name: str) -> None:
        with pytest.raises(ScheduleError, match="not one of 1000 to 9000"):
            Schedule("@yearly", "America/New_York").named(name)

    @given(st.text("0123456789-T:+Z. ", max_size=30))
    def test_any_text_is_an_interval_or_a_schedule_error(self, text: str) -> None:
        try:
            Schedule("@daily").named(text)
        except ScheduleError as error:
            assert str(error)  # noqa: PT017 - either way is right

    @pytest.mark.parametrize(
        ("expression", "moment", "label"),
        [
            ("@yearly", "2020-04-01T12:00", "2020"),
            ("@monthly", "2020-04-01T12:00", "2020-04"),
            ("@weekly", "2020-04-01T12:00", "2020-03-29"),
            ("@daily", "2020-04-01T12:00", "2020-04-01"),
            ("@daily", "2020-04-01T22:00", "2020-04-02"),
            ("30 2 * * *", "2020-04-01T12:00", "2020-04-01"),
            ("@hourly", "2020-04-01T03:00", "2020-04-01T05"),
            ("*/15 * * * *", "2020-04-01T03:20", "2020-04-01T05:15"),
            ("@hourly", "2019-10-27T00:00", "2019-10-27T02"),
            ("@hourly", "2019-10-27T01:00", "2019-10-27T02+01:00"),
            ("*/15 * * * *", "2019-10-27T01:15", "2019-10-27T02:15+01:00"),
        ],
    )
    def test_label(self, expression: str, moment: str, label: str) -> None:
        schedule = Schedule(expression, "Europe/Berlin")
        assert schedule.label(schedule.interval_at(at(moment))) == label

    def test_label_of_an_interval_of_another_schedule_is_its_start(self) -> None:
        day = Schedule("@daily").named("2020-04-01")
        assert Schedule("@hourly").label(day) == "2020-04-01T00:00:00+00:00"

    @given(schedules, moments)
    @example(Schedule("@hourly", "America/St_Johns"), at("2010-11-07T03:15"))
    @example(Schedule("@hourly", "Europe/Berlin"), at("1890-01-01T03:15"))
    def test_labels_are_read_back(self, schedule: Schedule, moment: datetime) -> None:
        interval = schedule.interval_at(moment)
        label = schedule.label(interval)
        assert schedule.named(label) == interval
        assert schedule.named_range(label, label) == [interval]


class TestRange:
    @pytest.mark.parametrize(
        ("expression", "first", "last", "labels"),
        [
            ("@monthly", "2020-01", "2020-03", ["2020-01", "2020-02", "2020-03"]),
            ("@monthly", "2020-01-15", "2020-02-15", ["2020-01", "2020-02"]),
            ("@monthly", "2020-01-15", "2020-01-20", ["2020-01"]),
            ("@daily", "2020-02-28", "2020-03-01", ["2020-02-28", "2020-02-29", "2020-03-01"]),
            ("@daily", "2020-02-28", "2020-02", ["2020-02-28", "2020-02-29"]),
            ("@hourly", "2020-04-01T05", "2020-04-01T06", ["2020-04-01T05", "2020-04-01T06"]),
            ("@hourly", "2019-10-27T02", "2019-10-27T02", ["2019-10-27T02"]),
            ("@hourly", "2019-03-31T02", "2019-03-31T02", ["2019-03-31T03"]),
        ],
    )
    def test_both_included(self, expression: str, first: str, last: str, labels: list[str]) -> None:
        schedule = Schedule(expression, "Europe/Berlin")
        found = schedule.named_range(first, last)
        assert [schedule.label(interval) for interval in found] == labels

    def test_a_whole_year_of_hours(self) -> None:
        assert len(Schedule("@hourly", "Europe/Berlin").named_range("2019", "2019")) == 8760

    def test_reversed(self) -> None:
        with pytest.raises(ScheduleError, match="--from 2020-03 lies after --to 2020-01"):
            Schedule("@monthly").named_range("2020-03", "2020-01")

    def test_empty(self) -> None:
        with pytest.raises(ScheduleError, match=r"no interval of '@weekly' .* in 2020-03-29"):
            Schedule("@weekly").named_range("2020-04", "2020-04-02")


class TestStartOf:
    def test_a_date_is_midnight_in_the_zone(self) -> None:
        berlin = Schedule("@daily", "Europe/Berlin")
        assert berlin.start_of(date(2019, 7, 1)) == at("2019-06-30T22:00")
        assert berlin.start_of(naive("2019-07-01T05:00")) == at("2019-07-01T03:00")
        assert berlin.start_of(at("2019-07-01T05:00")) == at("2019-07-01T05:00")
        assert berlin.start_of(date(2019, 7, 1)).tzinfo is UTC

    def test_a_midnight_that_is_skipped_or_repeated(self) -> None:
        havana = Schedule("@daily", "America/Havana")
        assert havana.start_of(date(2019, 3, 10)) == at("2019-03-10T05:00")
        assert havana.start_of(date(2019, 11, 3)) == at("2019-11-03T04:00")


class TestDue:
    START = at("2020-01-01")
    NOW = at("2020-01-05T00:30")

    def due(self, **changed: Any) -> list[str]:
        schedule = Schedule("@daily")
        asked: dict[str, Any] = {"start": self.START, "done": frozenset(), "limit": 100} | changed
        return [schedule.label(i) for i in schedule.due(asked.pop("now", self.NOW), **asked)]

    def test_all(self) -> None:
        everything = ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"]
        assert self.due() == everything
        assert self.due(limit=2) == everything[:2]
        assert self.due(limit=0) == []
        assert self.due(done={at("2020-01-01"), at("2020-01-03")}) == everything[1::2]
        assert self.due(start=self.START + TICK) == everything[1:]
        assert self.due(start=self.NOW) == []

    def test_delay(self) -> None:
        assert self.due(delay=HOUR)[-1] == "2020-01-03"
        assert self.due(delay=HOUR / 2)[-1] == "2020-01-04"
        assert self.due(now=at("2020-01-05"))[-1] == "2020-01-04"
        assert self.due(now=at("2020-01-05") - TICK)[-1] == "2020-01-03"

    def test_latest(self) -> None:
        assert self.due(catchup="latest") == ["2020-01-04"]
        assert self.due(catchup="latest", delay=HOUR) == ["2020-01-03"]
        assert self.due(catchup="latest", done={at("2020-01-04")}) == []
        assert self.due(catchup="latest", start=at("2020-01-05")) == []
        assert self.due(catchup="latest", now=at("2020-01-05")) == ["2020-01-04"]

    def test_none(self) -> None:
        assert self.due(catchup="none", since=self.NOW) == []
        assert self.due(catchup="none", since=at("2020-01-03T12:00")) == [
            "2020-01-03",
            "2020-01-04",
        ]
        assert self.due(catchup="none", since=at("2020-01-04")) == ["2020-01-04"]
        assert self.due(catchup="none", since=at("2019-01-01")) == self.due()
        with pytest.raises(ValueError, match="since"):
            self.due(catchup="none")

    @given(schedules, moments, st.timedeltas(timedelta(0), DAY), st.sets(st.integers(0, 20)))
    def test_agrees_with_the_definition(
        self, schedule: Schedule, now: datetime, delay: timedelta, skipped: set[int]
    ) -> None:
        start = now - 3 * DAY
        every = list(schedule.between(start, now))
        done = {interval.start for number, interval in enumerate(every) if number in skipped}
        expected = [i for i in every if i.ended(now, delay) and i.start not in done]
        assert schedule.due(now, start=start, done=done, limit=10_000, delay=delay) == expected

    def test_five_years_of_hours_are_fast(self) -> None:
        schedule = Schedule("@hourly", "Europe/Berlin")
        start, now = at("2019-01-01"), at("2024-01-01")
        everything = schedule.due(now, start=start, done=(), limit=100_000)
        assert len(everything) == (now - start) / HOUR
        done = {interval.start for interval in everything[:-1]}
        begin = stopwatch.process_time()
        assert schedule.due(now, start=start, done=done, limit=10) == everything[-1:]
        assert stopwatch.process_time() - begin < 1  # 0.1 s; five times that is a mistake

    @settings(max_examples=50)
    @given(schedules, moments, st.timedeltas(timedelta(0), 2 * DAY))
    def test_wake_at_the_next_that_becomes_due(
        self, schedule: Schedule, now: datetime, delay: timedelta
    ) -> None:
        wake = schedule.wake_at(now, delay)
        assert wake > now
        newest = schedule.previous(schedule.interval_at(wake - delay))
        assert newest.ended(wake, delay)
        assert not newest.ended(wake - TICK, delay)
        assume(wake - TICK > now)
        asked: dict[str, Any] = {"start": now - DAY, "done": (), "limit": 9999, "delay": delay}
        assert schedule.due(now, **asked) == schedule.due(wake - TICK, **asked)

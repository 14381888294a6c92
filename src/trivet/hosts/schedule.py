"""When the intervals of a batch deployment begin and end, and which of them are due.

An interval is the span between two consecutive fire times of a cron line. Pure arithmetic: the
clock is always passed in. `cronsim` tells which days and times match, on a clock that never
changes; this module places them in the schedule's zone, as Debian's cron does:

- A line whose minute or hour starts with ``*`` follows real time: it fires whenever the clock
  shows a match, so twice in a repeated hour and never in a skipped one.
- Any other line fires once a match: the first time in a repeated hour, at a gap's end if skipped.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from itertools import islice, pairwise, takewhile
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from trivet.errors import ScheduleError

Catchup = Literal["all", "latest", "none"]

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_HELP = f"write one of {', '.join(_ALIASES)}, or a cron line such as '15 6 * * 1-5'"
_EXAMPLES = "2020, 2020-04, 2020-04-01, 2020-04-01T05, 2020-04-01T05:30, 2020-04-01T05:00:00+00:00"
_NAME = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:[T ]"
    r"(?P<clock>\d\d(?::\d\d(?::\d\d(?:\.\d{1,6})?)?)?)"
    r"(?P<offset>Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d(?::?[0-5]\d)?)?)?)?)?)?",
    re.ASCII,
)
_CLOCK_UNITS = {2: timedelta(hours=1), 5: timedelta(minutes=1), 8: timedelta(seconds=1)}
_TICK, _MINUTE, _DAY = timedelta(microseconds=1), timedelta(minutes=1), timedelta(days=1)
_FOREVER = datetime(2040, 1, 1, tzinfo=UTC)  # from here on the rules of the zones stay the same
_MANY = 1000  # intervals that the message about an ambiguous name counts


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ScheduleError(f"{moment.isoformat()} has no time zone: pass an aware datetime")
    if not 1000 <= moment.year <= 9000:
        raise ScheduleError(f"the year of {moment.isoformat()} is not one of 1000 to 9000")
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """What a batch run covers: half open, ``[start, end)``, kept in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _utc(self.start))
        object.__setattr__(self, "end", _utc(self.end))
        if self.start >= self.end:
            raise ScheduleError(f"an interval must end after it starts: {self}")

    def ended(self, now: datetime, delay: timedelta = timedelta(0)) -> bool:
        """Whether it is over, and `delay` (for rows that arrive late) has passed since."""
        return self.end + delay <= now


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron line, or a name such as ``@daily``, that cuts time into intervals in a zone.

    A `ScheduleError` tells what cannot be understood, and that a line never fires.
    """

    expression: str
    timezone: str = "UTC"
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)
    _days: str = field(init=False, repr=False, compare=False)
    _times: tuple[timedelta, ...] = field(init=False, repr=False, compare=False)
    _real_time: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        minute, hour, *days = _cron_fields(self.expression)
        origin = datetime.combine(date(2000, 1, 1), time())
        ticks = (tick - origin for tick in CronSim(f"{minute} {hour} * * *", origin - _TICK))
        times = takewhile(lambda past: past < _DAY, ticks)
        object.__setattr__(self, "_zone", _zone(self.timezone))
        object.__setattr__(self, "_days", f"0 0 {' '.join(days)}")
        object.__setattr__(self, "_times", tuple(times))
        object.__setattr__(self, "_real_time", minute.startswith("*") or hour.startswith("*"))
        self._one(self._fires(_FOREVER))

    def interval_at(self, moment: datetime) -> Interval:
        """The interval that contains `moment`."""
        moment = _utc(moment)
        return Interval(self._one(self._fires(moment, back=True)), self._one(self._fires(moment)))

    def previous(self, interval: Interval) -> Interval:
        """The interval that ends where `interval` starts."""
        return self.interval_at(interval.start - _TICK)

    def next(self, interval: Interval) -> Interval:
        """The interval that starts where `interval` ends."""
        return self.interval_at(interval.end)

    def between(self, start: datetime, end: datetime) -> Iterator[Interval]:
        """The intervals whose start lies in ``[start, end)``, oldest first, made as asked for."""
        end = _utc(end)
        bounds = pairwise(self._fires(_utc(start) - _TICK))
        return (Interval(*pair) for pair in takewhile(lambda pair: pair[0] < end, bounds))

    def named(self, name: str) -> Interval:
        """The one interval that a year, month, day, hour, minute or instant names.

        That is the interval that starts within the period named or, if none does, the one that
        contains the period's beginning: the logical date that a scheduler passes works as it is.
        A name of several is a `ScheduleError` that counts them.
        """
        start, end = self._period(name)
        found = self._starts(start, end, _MANY + 1)
        if len(found) <= 1:
            return self.interval_at(found[0] if found else start)
        count = len(found) if len(found) <= _MANY else f"more than {_MANY}"
        ends = (self.label(self.interval_at(moment)) for moment in (found[0], end - _TICK))
        raise ScheduleError(
            f"{name} names {count} intervals of {self.expression!r} ({' .. '.join(ends)}): "
            "name one, or give the span to backfill with --from and --to"
        )

    def named_range(self, first: str, last: str) -> list[Interval]:
        """The intervals from the first that `first` names to the last that `last` names."""
        start, first_end = self._period(first)
        _, end = self._period(last)
        if end <= start:
            raise ScheduleError(f"--from {first} lies after --to {last}: exchange them")
        if not self._starts(start, first_end, 1):
            start = self.interval_at(start).start
        if found := list(self.between(start, end)):
            return found
        raise ScheduleError(
            f"no interval of {self.expression!r} starts between --from {first} and --to {last}: "
            f"they lie in {self.label(self.interval_at(start))}, name that one"
        )

    def start_of(self, day: date | datetime) -> datetime:
        """The moment in UTC of a date (its midnight) or a naive datetime of the schedule's zone."""
        if not isinstance(day, datetime):
            day = datetime.combine(day, time())
        moment = _utc(day if day.tzinfo else day.replace(tzinfo=self._zone))
        return moment if day.tzinfo else self._place(day)

    def label(self, interval: Interval) -> str:
        """The shortest name in the schedule's zone that `named` reads back as `interval`."""
        local = interval.start.astimezone(self._zone)
        naive = local.replace(tzinfo=None).isoformat()
        names = [naive[:length] for length in (4, 7, 10, 13, 16)]
        names += [local.isoformat(timespec=unit) for unit in ("hours", "minutes")]
        for name in names:
            start, end = self._period(name)
            found = self._starts(start, end, 2) or [start]
            if len(found) == 1 and self.interval_at(found[0]) == interval:
                return name
        return local.isoformat()

    def due(
        self,
        now: datetime,
        *,
        start: datetime,
        done: Container[datetime],
        limit: int,
        delay: timedelta = timedelta(0),
        catchup: Catchup = "all",
        since: datetime | None = None,
    ) -> list[Interval]:
        """The intervals to run now, oldest first, at most `limit`.

        They start at `start` or later, are not in `done` (the starts of those that need no run),
        and ended at least `delay` ago. `catchup` narrows them: ``latest`` to the newest that has
        ended, ``none`` to those that ended after `since`, the moment the scheduler began.
        """
        ended = _utc(now) - delay
        start = _utc(start)
        if catchup == "latest":
            start = max(start, self.previous(self.interval_at(ended)).start)
        elif catchup == "none":
            if since is None:
                raise ValueError('catchup="none" needs `since`')
            start = max(start, self.interval_at(since).start)
        bounds = takewhile(lambda pair: pair[1] <= ended, pairwise(self._fires(start - _TICK)))
        return [Interval(*pair) for pair in islice((p for p in bounds if p[0] not in done), limit)]

    def wake_at(self, now: datetime, delay: timedelta = timedelta(0)) -> datetime:
        """When to look again: the first moment after `now` at which an interval becomes due."""
        return self._one(self._fires(_utc(now) - delay)) + delay

    def _period(self, name: str) -> tuple[datetime, datetime]:
        """The span that a name tells; without an offset, a repeated hour is its first."""
        parts = _NAME.fullmatch(name.strip())
        try:
            if parts is None:
                raise ValueError("no date or time")
            day = date(int(parts["year"]), int(parts["month"] or 1), int(parts["day"] or 1))
            clock = time.fromisoformat((parts["clock"] or "00") + (parts["offset"] or ""))
        except ValueError as error:
            raise ScheduleError(
                f"{name!r} does not name an interval ({error}): write a period such as {_EXAMPLES}"
            ) from None
        moment = datetime.combine(day, clock)
        start = self.start_of(moment)
        if parts["clock"]:
            unit = _CLOCK_UNITS.get(len(parts["clock"]), _TICK)
            end = min(start + unit, self.start_of(moment + unit))
        elif parts["day"]:
            end = self.start_of(day + _DAY)
        elif parts["month"]:
            end = self.start_of((day + 31 * _DAY).replace(day=1))
        else:
            end = self.start_of(day.replace(year=day.year + 1))
        return start, max(end, start + _TICK)

    def _starts(self, start: datetime, end: datetime, limit: int) -> list[datetime]:
        return list(islice(takewhile(lambda fire: fire < end, self._fires(start - _TICK)), limit))

    def _fires(self, moment: datetime, *, back: bool = False) -> Iterator[datetime]:
        """The fire times after `moment`, oldest first; or back from it (included), newest first."""
        held: set[datetime] = set()  # not ready: the next day may fire between them
        today = datetime.combine(moment.astimezone(self._zone).date(), time())
        origin = today + _DAY + _TICK if back else today - _DAY - _TICK
        days = CronSim(self._days, origin, reverse=back)
        for day in takewhile(lambda day: 900 < day.year < 9100, days):
            held |= self._fires_on(day)
            edge = self._place(day, -1) if back else self._place(day + _DAY)
            ready = {fire for fire in held if (fire > edge if back else fire < edge)}
            held -= ready
            yield from sorted((fire for fire in ready if (fire <= moment) is back), reverse=back)

    def _fires_on(self, midnight: datetime) -> set[datetime]:
        """The fire times of one local day; a gap may carry them into the next."""
        start = self._place(midnight)
        if self._shown(midnight + _DAY) == [start + _DAY]:  # no clock change: the fast way
            return {start + past for past in self._times}
        if self._real_time:
            return {fire for past in self._times for fire in self._shown(midnight + past)}
        return {self._place(midnight + past) for past in self._times}

    def _shown(self, moment: datetime) -> list[datetime]:
        """The instants at which the zone's clock shows `moment`: one, or two, or none in a gap."""
        first = moment.replace(tzinfo=self._zone).astimezone(UTC)
        last = moment.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        return [] if first > last else sorted({first, last})

    def _place(self, moment: datetime, which: int = 0) -> datetime:
        """The first (or `which`) instant that shows a local time; the end of the gap if none."""
        while not (shown := self._shown(moment)):
            moment += _MINUTE
        return shown[which]

    def _one(self, fires: Iterator[datetime]) -> datetime:
        for fire in fires:
            return fire
        raise ScheduleError(f"schedule {self.expression!r} never fires in {self.timezone}: {_HELP}")


def _cron_fields(expression: str) -> list[str]:
    fields = _ALIASES.get(expression.strip().lower(), expression).split()
    problem = f"{len(fields)} fields, a cron line has 5 (minute hour day month weekday, no seconds)"
    if len(fields) == 1:
        near = get_close_matches("@" + expression.strip("@ ").lower(), _ALIASES, 1)
        problem = "unknown name" + "".join(f", did you mean {name}?" for name in near)
    try:
        if len(fields) == 5:
            CronSim(" ".join(fields), _FOREVER)
            return fields
    except CronSimError as error:
        problem = str(error).lower()
    raise ScheduleError(f"schedule {expression!r}: {problem}: {_HELP}")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # a folder of zones is an OSError
        zones = sorted(available_timezones())
        known = {zone.rpartition("/")[2].lower(): zone for zone in zones}
        known |= {zone.lower(): zone for zone in zones}
        near = get_close_matches(name.lower().replace(" ", "_"), known, 1)
        hint = "".join(f", did you mean {known[match]}?" for match in near)
        raise ScheduleError(
            f"unknown time zone {name!r}{hint}: write an IANA name such as Europe/Berlin"
        ) from None

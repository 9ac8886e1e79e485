"""Maintenance windows and blackouts: when VMs may be changed, by days, dates and hours in a time zone. Pure.

Times are local wall-clock time. When clocks go forward, skipped times do not occur; when they go back,
repeated times count twice. Standard library only. The rules of the zones are the machine's: the images that
functions run on have ``tzdata`` (stacks/google_22/run-packages.txt in GoogleCloudPlatform/buildpacks);
without it a window is an error at the start.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace  # noqa: TID251  as in settings, which is read without packages
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import groupby

from logmend import grammar

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY = 24 * 60
"""Minutes on the wall clock from one midnight to the next."""
HORIZON = 400
"""Days that are looked through for an opening: more than a year."""
REMEMBERED = 256
"""Sets of windows whose openings are remembered: those of labels that VMs have together, for a day each."""

_DATE = r"(?:([0-9]{4})-)?([0-9]{2})-([0-9]{2})"
_DATES = re.compile(rf"{_DATE}(?:\.\.{_DATE})?")
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)")

_Date = tuple[int, int, int]
"""Year (0: each year), month, day."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time: ``[label:KEY=VALUE] [DAYS] [DATES] [HH:MM-HH:MM] ZONE``, each part at most once.

    ``label`` is the label of the VMs that it applies to (None: any VM); ``days`` are from 0, Monday.
    ``begins`` and ``ends`` are minutes of the wall clock after the midnight at which its day begins; hours
    past midnight belong to the day on which they began.
    """

    text: str
    zone: str
    label: tuple[str, str] | None = None
    days: frozenset[int] = frozenset(range(7))
    dates: tuple[_Date, _Date] | None = None
    begins: int = 0
    ends: int = DAY

    def __str__(self) -> str:
        """Return it as it was written."""
        return self.text

    def concerns(self, labels: Mapping[str, str] | None) -> bool:
        """Return whether it is for a VM with these labels; None: they are not known yet."""
        return self.label is None or (labels is not None and labels.get(self.label[0]) == self.label[1])

    def contains(self, now: datetime) -> bool:
        """Return whether the wall clock of its zone shows a time in it."""
        local = now.astimezone(_zone(self.zone))
        minute, today = 60 * local.hour + local.minute, local.date()
        if self.on(today) and self.begins <= minute < self.ends:
            return True
        return self.on(today - timedelta(days=1)) and minute + DAY < self.ends

    def changes(self, day: date) -> Iterator[datetime]:
        """Yield every moment of a day (UTC) at which it may begin or end."""
        zone = _zone(self.zone)
        for local in (day + timedelta(days=offset) for offset in (-1, 0, 1)):
            midnight = datetime.combine(local, time(), zone)
            for minute in (0, self.begins, self.ends % DAY):
                wall = midnight + timedelta(minutes=minute)
                yield from (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
            next_midnight = midnight + timedelta(days=1)
            if midnight.utcoffset() != next_midnight.utcoffset():
                yield _shift(midnight.astimezone(UTC), next_midnight.astimezone(UTC), zone)

    def on(self, day: date) -> bool:
        """Return whether it begins on a day of its zone."""
        if day.weekday() not in self.days or self.dates is None:
            return day.weekday() in self.days
        (year, *first), (_, *last) = self.dates
        if year:
            return self.dates[0] <= (day.year, day.month, day.day) <= self.dates[1]
        here = [day.month, day.day]
        return first <= here <= last if first <= last else here >= first or here <= last


@dataclass(frozen=True, slots=True)
class Hours:
    """Windows for the same VMs, of which one has to be open. ``label`` says which VMs, as a window's does."""

    windows: tuple[Window, ...]

    @property
    def label(self) -> tuple[str, str] | None:
        """The label that all of them name."""
        return self.windows[0].label

    def __str__(self) -> str:
        """Return them as they were written."""
        return "; ".join(map(str, self.windows))


@dataclass(frozen=True, slots=True)
class Closed:
    """What keeps changes away now, and when it ends; None: not within :data:`HORIZON` days."""

    what: str
    opens: datetime | None

    def __str__(self) -> str:
        """Return it in words."""
        until = f"until {self.opens:%FT%TZ}" if self.opens else f"for the next {HORIZON} days"
        return f"{self.what}, {until}"


def closed(
    hours: Sequence[Hours],
    blackouts: Sequence[Window],
    labels: Mapping[str, str] | None,
    now: datetime,
    passed: Container[str] = (),
) -> Closed | None:
    """Return what is closed for a VM with these labels; None if nothing is.

    Each group of windows that applies to it has to be open, and there may be no blackout. While labels are
    not known (None), only windows for every VM count. Closings of :func:`each_closed` that are ``passed``, in
    words, are left out.
    """
    hours = [each for each in hours if each.windows[0].concerns(labels)]
    blackouts = [each for each in blackouts if each.concerns(labels)]
    if passed:
        hours = [each for each in hours if str(_alone([each], (), now)) not in passed]
        blackouts = [each for each in blackouts if str(_alone((), [each], now)) not in passed]
    return _alone(hours, blackouts, now)


def each_closed(hours: Sequence[Hours], blackouts: Sequence[Window], now: datetime) -> list[Closed]:
    """Return everything that is closed, to any VM or to those with a label, each by itself.

    In words it names this closing alone: once it has opened and closed again, they are others.
    """
    closings = [_alone([each], (), now) for each in hours] + [_alone((), [each], now) for each in blackouts]
    return [each for each in closings if each]


def _alone(hours: Sequence[Hours], blackouts: Sequence[Window], now: datetime) -> Closed | None:
    what = _what(hours, blackouts, now)
    return Closed(what, _opens(hours, blackouts, now)) if what else None


def _what(hours: Sequence[Hours], blackouts: Sequence[Window], now: datetime) -> str | None:
    for blackout in blackouts:
        if blackout.contains(now):
            return f"blackout {blackout}"
    for each in hours:
        if not any(window.contains(now) for window in each.windows):
            return f"outside {each}"
    return None


def _opens(hours: Sequence[Hours], blackouts: Sequence[Window], now: datetime) -> datetime | None:
    openings = _openings(tuple(hours), tuple(blackouts), now.astimezone(UTC).date())
    return next((each for each in openings if each > now), None)


@lru_cache(REMEMBERED)
def _openings(hours: tuple[Hours, ...], blackouts: tuple[Window, ...], today: date) -> tuple[datetime, ...]:
    """Return every mark of a day (UTC) at which nothing is closed, and the first of a later day.

    It is asked for each event: the answer is the same for the whole day, and a search through all the days
    may take a second.
    """
    every = [*blackouts, *(window for each in hours for window in each.windows)]
    openings = list[datetime]()
    for offset in range(HORIZON):
        day = today + timedelta(days=offset)
        if _closed_on(hours, blackouts, day):
            continue
        marks = sorted({mark for each in every for mark in each.changes(day) if mark.date() == day})
        opened = [mark for mark in marks if _what(hours, blackouts, mark) is None]
        if offset and opened:
            return (*openings, opened[0])
        openings += opened
    return tuple(openings)


def _closed_on(hours: Sequence[Hours], blackouts: Sequence[Window], day: date) -> bool:
    """Return whether a day (UTC) is known to have no opening, without a look at the clock.

    In other zones it is also the day before and the day after; hours go on from the day before.
    """
    before, *local = (day + timedelta(days=offset) for offset in (-2, -1, 0, 1))
    if any(each.begins == 0 and each.ends == DAY and all(map(each.on, local)) for each in blackouts):
        return True
    return any(not any(window.on(at) for window in each.windows for at in (before, *local)) for each in hours)


def _shift(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Find the second at which a zone's offset changes, between two moments at which it differs."""
    old = before.astimezone(zone).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        same = datetime.fromtimestamp(middle, zone).utcoffset() == old
        low, high = (middle, high) if same else (low, middle)
    return datetime.fromtimestamp(high, UTC)


def _zone(name: str) -> tzinfo:
    """Return a time zone; imported here, so a cold start without windows does not wait for it."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415  it asks how Python was built: milliseconds

    return ZoneInfo(name)


# As they are written


def spans(text: str) -> tuple[Window, ...]:
    """Parse windows with ``;`` between them; ValueError says which is wrong, and how."""
    windows = list[Window]()
    for number, part in enumerate(text.split(";"), 1):
        try:
            windows.append(_span(part))
        except ValueError as error:
            raise ValueError(f"window {number}: {error}") from None
    return tuple(windows)


def opening(text: str) -> tuple[Hours, ...]:
    """Parse windows as :func:`spans` does, and put those for the same VMs together."""
    ordered = sorted(spans(text), key=lambda each: each.label or ())
    return tuple(Hours(tuple(every)) for _, every in groupby(ordered, key=lambda each: each.label))


def _span(text: str) -> Window:
    *words, zone = grammar.text(text).split()
    try:
        _zone(zone)
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones, such as Europe
        raise ValueError(
            "expected an IANA time zone known to this machine at the end, such as Europe/Berlin"
        ) from None
    window, named = Window(" ".join([*words, zone]), zone), set[str]()
    for word in words:
        name, window = _with(window, word)
        if name in named:
            raise ValueError(f"it names {name} twice")
        named.add(name)
    return window


def _with(window: Window, word: str) -> tuple[str, Window]:
    if word.startswith("label:"):
        return "a label", replace(window, label=grammar.label(word.removeprefix("label:")))
    if match := _HOURS.fullmatch(word):
        begins, ends = _hours(*(int(each) if each else None for each in match.groups()))
        return "hours", replace(window, begins=begins, ends=ends)
    if match := _DATES.fullmatch(word):
        return "dates", replace(window, dates=_dates(*(int(each or 0) for each in match.groups())))
    days = frozenset(day for part in word.split(",") for day in _days(part))
    return "days", replace(window, days=days)


def _hours(
    hour: int | None, minute: int | None, to_hour: int | None, to_minute: int | None
) -> tuple[int, int]:
    begins = 60 * (hour or 0) + (minute or 0)
    ends = DAY if to_hour is None else 60 * to_hour + (to_minute or 0)
    if begins == ends:
        raise ValueError("its hours begin and end at the same time; leave them out for the whole day")
    return begins, ends if ends > begins else ends + DAY


def _dates(year: int, month: int, day: int, year_: int, month_: int, day_: int) -> tuple[_Date, _Date]:
    first, last = (year, month, day), (year_, month_, day_) if month_ else (year, month, day)
    if bool(first[0]) != bool(last[0]):
        raise ValueError("give the year in both dates or in neither")
    for each in (first, last):
        try:
            date(each[0] or 2000, *each[1:])
        except ValueError:
            raise ValueError("there is no such date") from None
    if first[0] and first > last:
        raise ValueError("its dates end before they begin")
    return first, last


def _days(part: str) -> list[int]:
    first, dash, last = part.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise ValueError(
            "expected [label:KEY=VALUE] [Mon-Fri] [2026-12-24..2027-01-02 or 12-24..01-02] [22:00-06:00] ZONE"
        )
    begin = DAYS.index(first)
    count = (DAYS.index(last) - begin) % 7 if dash else 0
    return [(begin + offset) % 7 for offset in range(count + 1)]

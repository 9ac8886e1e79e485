"""The charts of a report, as bars with lengths in percent: the page draws them itself, without a library."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from logmend.model.struct import Struct
from logmend.model.values import Lineage
from logmend_cli.report.data import Report

COLOURS = {
    "remediated": "#2f9e63",
    "reverted": "#6ebf9a",
    "nothing_to_do": "#9ccfb5",
    "planned": "#d6a419",
    "requested": "#2fa3b5",
    "parked": "#5f87c4",
    "refused": "#8d6cc9",
    "skipped": "#94a1b2",
    "unmatched": "#bcc5d0",
    "deferred": "#b8925a",
    "interrupted": "#c77f3f",
    "unverified": "#e58a1f",
    "rejected": "#b4436c",
    "failed": "#d64545",
    "controlled": "#7a8ea8",
}
"""One colour for each result, readable on white and on black; good is green, bad is red."""

LABEL = 48
"""Most characters shown of a bar's name."""


class Part(Struct, frozen=True):
    """One colour of a bar: what it counts, the number, in percent of the longest bar. ``tone`` is a class."""

    name: str
    tone: str
    count: int
    percent: float


class Bar(Struct, frozen=True):
    """One bar with its parts, in the order of the colours' table."""

    name: str
    total: int
    parts: tuple[Part, ...]


def funnel(report: Report) -> list[Bar]:
    """Return the events by how far they got."""
    return _bars([(step, Counter({step: count})) for step, count in report.funnel()], {})


def latencies(report: Report) -> list[Bar]:
    """Return the outcomes by duration."""
    return _bars([(name, Counter({"outcomes": count})) for name, count in report.histogram("total")], {})


def shares(rows: Sequence[tuple[str, Counter[str]]]) -> list[Bar]:
    """Return zones, groups or runbooks with the results of each, the busiest first."""
    return _bars(rows[::-1], {name: name for name in COLOURS})


def over_time(report: Report) -> list[Bar]:
    """Return the outcomes over time."""
    return _bars(_gapless(*report.buckets()), {name: name for name in COLOURS})


def causes(report: Report) -> list[Bar]:
    """Return the causes that were found over time, each in its own tone, the most frequent first."""
    size, buckets = report.cause_buckets()
    total = sum((counts for _, counts in buckets), Counter[str]())
    tones = {cause: f"tone-{number % 6}" for number, (cause, _) in enumerate(total.most_common())}
    return _bars(_gapless(size, buckets), tones)


def alike(report: Report) -> list[Bar]:
    """Return how many VMs have each cause and origin."""
    return _bars(
        [
            (f"{each.cause.replace('_', ' ')}: {_origin(each.made)}", Counter({"VMs": each.instances}))
            for each in report.alike()
        ],
        {},
    )


def legend(bars: Iterable[Bar]) -> list[Part]:
    """Return each kind of part that occurs, with its sum."""
    total, tones = Counter[str](), dict[str, str]()
    for part in (part for bar in bars for part in bar.parts):
        total[part.name] += part.count
        tones[part.name] = part.tone
    return [Part(name, tones[name], count, 0) for name, count in total.most_common()]


def _bars(rows: Sequence[tuple[str, Counter[str]]], tones: Mapping[str, str]) -> list[Bar]:
    longest = max((counts.total() for _, counts in rows), default=0) or 1

    def parts(counts: Counter[str]) -> Iterable[Part]:
        for key in (*tones, *(key for key in counts if key not in tones)):
            if counts[key]:
                percent = round(100 * counts[key] / longest, 2)
                yield Part(key[:LABEL], tones.get(key, "plain"), counts[key], percent)

    return [Bar(name[:LABEL], counts.total(), tuple(parts(counts))) for name, counts in rows]


def _gapless(size: int, buckets: Sequence[tuple[datetime, Counter[str]]]) -> list[tuple[str, Counter[str]]]:
    """Return every bucket from the first to the last, including empty ones, which show gaps."""
    if not buckets:
        return []
    counted = dict(buckets)
    begin, end = min(counted), max(counted)
    number = int((end - begin).total_seconds()) // size + 1
    moments = [begin + timedelta(seconds=size * each) for each in range(number)]
    shown = "%Y-%m-%d" if size >= 86_400 else "%Y-%m-%d %H:%M:%S"
    return [(at.astimezone(UTC).strftime(shown), counted.get(at, Counter())) for at in moments]


def _origin(made: Lineage) -> str:
    return (made.template or made.image or "by itself").rpartition("/")[2]

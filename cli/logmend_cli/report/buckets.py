"""Outcomes over time and by duration, grouped for charts."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from logmend.model.values import Outcome
from logmend_cli.output import duration_text

_BUCKETS = 48
_SIZES = (1, 5, 15, 60, 300, 900, 3600, 10_800, 21_600, 86_400, 7 * 86_400, 30 * 86_400)
_EDGES = tuple(step * 10**power for power in range(1, 8) for step in (1, 2, 5))


def moments(outcome: Outcome) -> Iterator[tuple[int, int]]:
    """Yield seconds, each with its number of events; for a count, only the first and the last are known."""
    last = int(outcome.at.timestamp())
    first = int(outcome.first_at.timestamp()) if outcome.first_at else last
    parts = min(outcome.count, _BUCKETS)
    for part in range(parts):
        share = outcome.count * (part + 1) // parts - outcome.count * part // parts
        yield first + (last - first) * part // max(parts - 1, 1) if parts > 1 else last, share


def in_buckets(over_time: Mapping[int, Counter[str]]) -> tuple[int, list[tuple[datetime, Counter[str]]]]:
    """Return the seconds of a bucket, and each bucket that is not empty; earlier times count as 1970."""
    if not over_time:
        return 1, []
    begin, end = max(min(over_time), 0), max(over_time)
    size = next((size for size in _SIZES if (end - begin) / size <= _BUCKETS), _SIZES[-1])
    merged = defaultdict[int, Counter[str]](Counter)
    for second, counts in over_time.items():
        merged[max(second, 0) // size * size].update(counts)
    return size, [(datetime.fromtimestamp(at, UTC), merged[at]) for at in sorted(merged)]


def histogram(values: Iterable[int]) -> list[tuple[str, int]]:
    """Return how many values, in milliseconds, are between 1-2-5 edges, from the shortest to the longest."""
    counts = Counter(bisect_left(_EDGES, value) for value in values)
    if not counts:
        return []
    return [(_between(slot), counts[slot]) for slot in range(min(counts), max(counts) + 1)]


def _between(slot: int) -> str:
    if slot == 0:
        return f"to {duration_text(_EDGES[0])}"
    if slot == len(_EDGES):
        return f"over {duration_text(_EDGES[-1])}"
    return f"to {duration_text(_EDGES[slot])}"

"""Ids that rise with time, spread over ranges and read as one list."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from logmend.adapters.stores import spread
from logmend.adapters.stores.spread import Found
from logmend.ports import Document

RISING = [f"m-{10**16 + number * 7}" for number in range(4000)]


def test_ids_that_follow_one_another_go_to_all_ranges_alike() -> None:
    """Each of the ranges takes an eighth, give or take, and comes back as the id that it was."""
    stored = [spread.name("intents", each) for each in RISING]
    assert [spread.original(each) for each in stored] == RISING
    parts = [[each for each in stored if each.startswith(f"%{number}~")] for number in range(spread.RANGES)]
    assert sum(map(len, parts)) == len(RISING)
    assert max(map(len, parts)) < len(RISING) / spread.RANGES * 1.2


def test_no_other_id_is_stored_as_one_that_is_spread() -> None:
    """Whatever a message or a person is called."""
    for odd in ("%3~m-1", "%", "%25", "..", "__x__", "m-1"):
        for collection in ("intents", "subjects"):
            assert spread.original(spread.name(collection, odd)) == odd
        assert not spread.is_spread(spread.name("subjects", odd))
        assert spread.is_spread(spread.name("intents", odd))


def test_the_bounds_of_a_range_hold_what_is_in_it_and_nothing_else() -> None:
    """Neither its neighbours nor ids that older versions stored as they are."""
    for number in range(spread.RANGES):
        first, end = spread.bounds(number)
        for each in RISING[:200]:
            stored = spread.name("intents", each)
            assert (first <= stored < end) is (spread.number(each) == number)
            assert not first <= each < end
    assert all(spread.name("intents", each) < spread.PLAIN < each for each in RISING[:200])


@pytest.mark.parametrize("limit", [1, 2, 10, 99, 500])
@pytest.mark.parametrize("sizes", [(0, 0, 0), (1, 0, 400), (50, 60, 70), (0, 500, 1), (3, 3, 3)])
def test_ranges_are_read_as_one_list_in_order(limit: int, sizes: tuple[int, ...]) -> None:
    """Page by page as many as were asked for, however unevenly they lie, and not much more is read."""
    chance = random.Random(limit)  # noqa: S311  it is to come again
    numbers = chance.sample(range(10_000), sum(sizes))
    kept = [sorted(numbers[sum(sizes[:n]) : sum(sizes[: n + 1])]) for n in range(len(sizes))]
    read = 0

    def part(own: Sequence[int]) -> spread.Fetch:
        async def page(last: Found | None, count: int) -> list[Found]:
            nonlocal read
            behind = [each for each in own if last is None or (each,) > last.order][:count]
            read += len(behind)
            return [Found((each,), str(each), Document({})) for each in behind]

        return page

    found = asyncio.run(spread.merged([part(each) for each in kept], limit))
    assert [each.order[0] for each in found] == sorted(numbers)[:limit]
    assert read <= 2 * limit + 3 * (limit**0.5 + 2) * len(sizes)

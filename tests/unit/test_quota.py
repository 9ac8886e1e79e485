"""Keeping to an API's quota, on a clock of the test's."""

import pytest

from logmend.adapters.google.compute_calls import PATIENCE
from logmend.adapters.google.quota import Quota
from logmend.errors import Transient
from logmend.stages.decide.commit import FRESH


class Clock:
    """A clock that moves when it is told to, or slept on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


async def test_no_wait_leaves_facts_too_old_to_enforce_on() -> None:
    """A VM and its group are read one after the other at the commit point, on facts of a few seconds."""
    assert FRESH.total_seconds() >= 2 * PATIENCE
    clock = Clock()
    quota, granted = Quota(10, now=clock, sleep=clock.sleep), 0
    for _ in range(2_000):
        try:
            await quota.take(PATIENCE)
            granted += 1
        except Transient:
            clock.now += 0.1
    assert granted >= 10 * int(clock.now / 60)
    assert 0 < max(clock.waits) <= FRESH.total_seconds() - 2


async def test_calls_that_belong_together_are_granted_or_refused_together() -> None:
    """What is refused has taken nothing, so that the quota gets free in time; the window always holds."""
    clock = Clock()
    quota = Quota(3, now=clock, sleep=clock.sleep)
    await quota.take(0.0, 2)
    clock.now = 10.0
    for _ in range(5):
        with pytest.raises(Transient) as caught:
            await quota.take(0.0, 2)
        assert caught.value.retry_after == 50.0
    await quota.take(0.0)
    clock.now = 60.0
    await quota.take(0.0, 2)
    with pytest.raises(Transient):
        await quota.take(0.0)


async def test_more_calls_than_there_are_places_take_them_all() -> None:
    """A listing of many zones is not refused for ever."""
    clock = Clock()
    quota = Quota(3, now=clock, sleep=clock.sleep)
    await quota.take(0.0, 40)
    clock.now = 59.0
    await quota.take(2.0, 40)
    assert clock.waits == [1.0]

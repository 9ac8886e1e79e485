"""The benchmarks can be run; what they measure is theirs to say (docs/performance.md)."""

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from bench import __main__ as runner
from bench import blast, ceilings
from bench.figures import Figure, Skipped, paired, plain, table

from logmend.adapters.stores import spread
from logmend.stages import decide


@pytest.mark.parametrize("name", runner.NAMES)
def test_every_benchmark_that_can_be_asked_for_is_there(name: str) -> None:
    """Importing one starts nothing; measuring is a generator's work. It says what a user gains."""
    assert inspect.isgeneratorfunction(runner.bench(name))
    assert runner.gains(name).endswith(".")


def test_a_ratio_is_the_median_of_the_pairs_and_held_against_its_aim() -> None:
    """Slow rounds of both sides cancel: each is compared with its neighbour."""
    slow = paired("b", "m", "a", [10, 200, 30], [10, 100, 20], most=1.3)
    assert (slow.ratio, slow.low, slow.high, slow.met) == (1.5, 1.0, 2.0, False)
    fast = paired("b", "m", "a", [8.0], [10.0], unit="/s", least=0.7)
    assert (fast.ratio, fast.met) == (0.8, True)


def test_the_table_has_a_line_for_each_figure_whether_it_could_be_measured_or_not() -> None:
    """A row that was skipped says why."""
    lines = table([paired("b", "m", "a", [1.0], [2.0]), plain("c", "skipped: the lab needs: root", "")])
    assert len(lines.splitlines()) == 4
    assert "skipped: the lab needs: root" in lines


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Skipped("the lab needs: root"), "skipped: the lab needs: root"),
        (ValueError("no such\nmachine"), "failed: ValueError: no such machine"),
    ],
)
def test_what_cannot_be_measured_ends_with_the_reason_and_ends_no_other(
    trouble: Exception, said: str
) -> None:
    """What was measured before stays, and each row says what a user gains."""

    def broken() -> Iterator[Figure]:
        yield plain("cost", "one", "1")
        yield plain("cost", "two", "2", gain="Something else.")
        raise trouble

    rows = list(runner.measured("cost", broken(), 600))
    assert [each.measure for each in rows] == ["one", "two", said]
    assert [each.gain for each in rows] == [runner.gains("cost"), "Something else.", runner.gains("cost")]
    assert all(
        f"| {each.gain} |" in line for each, line in zip(rows, table(rows).splitlines()[2:], strict=True)
    )


def asks_again() -> None:
    """Pass over whatever the system says, a time that is over among it, and ask again."""
    for _ in range(2):
        with suppress(OSError):
            time.sleep(2)


def is_called_back() -> None:
    """Hold a loop up in a callback, whose errors it only reports."""

    async def held_up() -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 2)
        await asyncio.sleep(0)

    asyncio.run(held_up())


@pytest.mark.parametrize("work", [asks_again, is_called_back])
def test_what_takes_too_long_is_ended_in_the_midst_of_what_passes_over_errors(
    work: Callable[[], None],
) -> None:
    """Without that its row would not be the last, but one of hours later."""

    def slow() -> Iterator[Figure]:
        work()
        yield plain("cost", "one", "1")

    (row,) = runner.measured("cost", slow(), 0.3)
    assert row.measure == "failed: Late: not done after 0 s"


def test_a_late_benchmark_says_how_long_it_took_in_all() -> None:
    """Not how long its last figure did."""
    with pytest.raises(runner.Late, match="not done after 600 s"), runner.bounded(0, 600):
        time.sleep(100)


def test_all_benchmarks_together_are_meant_to_stay_within_seventeen_minutes() -> None:
    """Each says how long it takes; a run of everything is to be done in twenty."""
    assert tuple(runner.SECONDS) == runner.NAMES
    assert sum(runner.SECONDS.values()) <= 17 * 60


def test_a_range_rises_if_what_is_new_lies_behind_all_that_was_there() -> None:
    """Message ids do, and those of one range that they are spread over; all ranges together do not."""
    whole, spread_out, part = ceilings.Range(), ceilings.Range(), ceilings.Range()
    for number in range(2_000):
        intent_id = f"m-{10**16 + number}"
        stored = spread.name("intents", intent_id)
        whole.add((intent_id,), new=True)
        spread_out.add((stored,), new=True)
        if stored.startswith("%3~"):
            part.add((stored,), new=True)
            part.add((stored,), new=False)
    assert (whole.rises, spread_out.rises, part.rises) == (True, False, True)
    assert part.writes == 2 * part.new < 2 * 2_000 / 6


@pytest.mark.parametrize("bounded", [True, False])
def test_a_small_storm_keeps_every_limit_and_one_without_limits_is_seen_to(
    monkeypatch: pytest.MonkeyPatch, *, bounded: bool
) -> None:
    """What ``blast`` counts on the VMs is nothing while limits hold, and more than that if none is asked."""
    if not bounded:
        monkeypatch.setattr(decide, "cohorts", lambda *_: ())
    came = asyncio.run(blast.storm(10))
    assert came["remediated"] == came["vms"] == came["enforcements"] == 10
    assert (came["wrong: limit exceeded"] == 0) is bounded
    assert came["wrong: out of its window, or frozen"] == 0

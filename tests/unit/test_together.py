"""Questions asked together: who waits, who shares a call, and whom a trouble concerns."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from logmend.adapters.google.together import Together

PACE = 0.01


class Asked:
    """Answers each key with its double; calls are kept and announced, and wait while ``open`` is not set."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.arrived: asyncio.Queue[None] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, int | Exception]:
        self.calls.append(list(keys))
        self.arrived.put_nowait(None)
        await self.open.wait()
        return {key: ValueError(key) if key < 0 else 2 * key for key in keys}


async def test_those_who_come_at_once_share_a_call() -> None:
    """One call for all, and each gets its own answer; the same question twice is one."""
    ask = Asked()
    together = Together(ask, pace=PACE)
    assert await asyncio.gather(*(together(key) for key in (1, 2, 3, 2))) == [2, 4, 6, 4]
    assert ask.calls == [[1, 2, 3]]


async def test_one_after_the_other_each_is_asked_at_once() -> None:
    """Whoever meets nobody never waits, however long the pace is."""
    ask = Asked()
    together = Together(ask, pace=3600)
    assert [await together(key) for key in (1, 2, 3)] == [2, 4, 6]
    assert ask.calls == [[1], [2], [3]]


async def test_those_who_come_while_one_is_asked_are_asked_next_and_do_not_wait_for_it() -> None:
    """A call that hangs holds up nobody else."""
    ask = Asked()
    together = Together(ask, pace=PACE)
    ask.open.clear()
    hung = asyncio.create_task(together(1))
    await ask.arrived.get()
    later = [asyncio.create_task(together(key)) for key in (2, 3)]
    await ask.arrived.get()
    assert ask.calls == [[1], [2, 3]]
    assert not hung.done()
    ask.open.set()
    assert await asyncio.gather(hung, *later) == [2, 4, 6]


async def test_a_question_is_not_answered_with_what_was_asked_before_it() -> None:
    """Facts at the commit point have to be read after the check, not before."""
    ask = Asked()
    together = Together(ask, pace=PACE)
    ask.open.clear()
    before = asyncio.create_task(together(1))
    await ask.arrived.get()
    after = asyncio.create_task(together(1))
    await ask.arrived.get()
    ask.open.set()
    await asyncio.gather(before, after)
    assert ask.calls == [[1], [1]]


async def test_one_bad_answer_is_one_callers() -> None:
    """The others of the same call get theirs."""
    together = Together(Asked(), pace=PACE)
    found = await asyncio.gather(*(together(key) for key in (1, -1, 2)), return_exceptions=True)
    assert (found[0], found[2]) == (2, 4)
    assert isinstance(found[1], ValueError)


async def test_what_the_call_raises_everybody_in_it_gets_and_the_next_is_asked_anew() -> None:
    """A failure is not kept."""
    answers = iter([RuntimeError("down"), None])

    async def ask(keys: Sequence[int]) -> Mapping[int, int | Exception]:
        if error := next(answers):
            raise error
        return dict.fromkeys(keys, 7)

    together = Together(ask, pace=PACE)
    found = await asyncio.gather(together(1), together(2), return_exceptions=True)
    assert [str(each) for each in found] == ["down", "down"]
    assert await together(1) == 7


async def test_a_caller_that_gives_up_takes_nobody_with_it() -> None:
    """The others still get their answers."""
    ask = Asked()
    together = Together(ask, pace=PACE)
    ask.open.clear()
    impatient, patient = asyncio.create_task(together(1)), asyncio.create_task(together(2))
    await ask.arrived.get()
    impatient.cancel()
    ask.open.set()
    assert await patient == 4


async def test_closing_ends_whoever_waits() -> None:
    """Nobody hangs at shutdown."""
    ask = Asked()
    together = Together(ask, pace=3600)
    ask.open.clear()
    asked = asyncio.create_task(together(1))
    await ask.arrived.get()
    waiting = asyncio.create_task(together(2))
    await asyncio.sleep(0)
    together.close()
    for each in (asked, waiting):
        with pytest.raises(asyncio.CancelledError):
            await each

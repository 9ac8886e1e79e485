"""The tick's question after a fix, over HTTP: the reader and the quota that the function is wired with."""

from datetime import timedelta

from tests.contract.http_fake import serving
from tests.fakes import REF, entry, push, world
from tests.logging_fake import FakeLogging

from logmend.model.enums import Mode
from logmend.model.struct import replace
from logmend.runbook import load_all
from logmend.settings import Settings
from logmend.silence import INGESTION, PERIOD, PERIODS, SETTLING
from logmend.stages import match
from logmend.tick import Ticker
from logmend.wiring import open_listener


async def test_the_wired_reader_confirms_silence_and_waits_out_a_refusal() -> None:
    """429 leaves the question for the next tick; then the log answers, in few requests."""
    fake = FakeLogging(refusals=[(429, {})])
    w = world(mode=Mode.ENFORCE, confirm_silence=True)
    await w.deliver(push(entry()))
    for minutes in (10, 20, 40, 50):
        at = w.clock.now() + timedelta(minutes=minutes)
        fake.entries.append(
            entry(at=at) | {"jsonPayload": {"message": "Mar  1 12:00:00 vm cron[7]: at work"}}
        )
    w.clock.tick(seconds=(SETTLING + PERIODS * PERIOD + INGESTION).total_seconds())
    router = match.Router(load_all())
    async with serving(fake.app) as url:
        listener = open_listener(replace(Settings(), logging_endpoint=url), lambda: router)
        ticker = Ticker(w.pipeline, w.ticker.queues, listener)
        assert (await ticker.run()).outcomes == {}
        assert fake.asked == []
        assert (await ticker.run()).outcomes == {"skipped": 1}
        await listener.entries.aclose()
    assert w.outcomes.results[-1] == "skipped:confirmed_silent"
    assert w.outcomes.written[-1].instance == REF
    assert len(fake.asked) == 1 + PERIODS
    assert {tuple(each.resource_names) for each in fake.asked} == {(f"projects/{REF.project_id}",)}

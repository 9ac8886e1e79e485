"""Outcomes as messages on a real Pub/Sub: each final one at least once, and no attempt fails for it."""

import json
import logging
import os

import pytest
from tests.contract.test_dead_letter import one
from tests.emulators import PUBSUB_PROJECT, Emulator, free_port
from tests.fakes import START, World, entry, push, world
from tests.unit.test_pipeline import ENFORCE

from logmend.adapters.google import outcome_topic
from logmend.adapters.google.outcome_topic import PAUSE, OutcomeTopic
from logmend.adapters.google.pubsub import Publisher, Subscription
from logmend.model.enums import Result
from logmend.model.state import Freeze
from logmend.model.struct import replace
from logmend.outcome import document


def feeding(w: World, feed: OutcomeTopic) -> World:
    """Give the same world, whose outcomes are published."""
    w.pipeline = replace(w.pipeline, recorder=replace(w.pipeline.recorder, feed=feed))
    w.ticker = replace(w.ticker, pipeline=w.pipeline)
    return w


async def all_of(subscription: Subscription, count: int) -> list[dict[str, str]]:
    """Pull until there are so many; give the attributes, in whatever order they came."""
    found: list[dict[str, str]] = []
    for _ in range(30):
        pulled = await subscription.pull(wait=3)
        found += [dict(each.delivery.attributes) for each in pulled]
        await subscription.acknowledge([each.ack_id for each in pulled])
        if len(found) >= count:
            break
    return found


async def test_a_final_outcome_is_a_message_whose_attributes_can_be_filtered_by(
    names: tuple[str, str], subscription: Subscription
) -> None:
    """The document whole, and what a subscription may ask for; what does not apply is left out."""
    feed = OutcomeTopic(names[0])
    w = feeding(world(**ENFORCE, owner_label="team"), feed)
    ref, facts = next(iter(w.fleet.facts_of.items()))
    w.fleet.facts_of[ref] = replace(facts, labels={"team": "web"})
    said = await w.deliver(push(entry()))
    assert said.result is Result.REMEDIATED
    message = await one(subscription)
    assert json.loads(message.data) == document.document(said)
    assert message.delivery.attributes == {
        "result": "remediated",
        "runbook": "workload-cert-refresh",
        "severity": "NOTICE",
        "owner": "web",
        "project": "demo-project",
        "zone": "us-west1-a",
        "outcome_id": said.outcome_id,
    }
    await feed.aclose()


async def test_what_is_not_final_is_not_published_and_uses_of_controls_are(
    names: tuple[str, str], subscription: Subscription
) -> None:
    """A parked event has an outcome yet to come; a freeze concerns everybody."""
    feed = OutcomeTopic(names[0])
    w = feeding(world(**ENFORCE), feed)
    await w.controls.freeze(Freeze("ann", START))
    await w.ticker.run()
    w.fleet.on_open = [TimeoutError("nobody answers")]
    assert (await w.deliver(push(entry()))).final
    published = await all_of(subscription, 2)
    assert [each.get("reason") for each in published if each["result"] == "controlled"] == ["freeze_set"]
    assert len(published) == 2
    await feed.aclose()


async def test_a_topic_that_is_missing_fails_nothing_and_each_outcome_is_counted(
    pubsub_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The VM is remediated, its outcome is in the log, and nothing of it is tried again for ever."""
    feed = OutcomeTopic(f"projects/{PUBSUB_PROJECT}/topics/never-made")
    w = feeding(world(**ENFORCE), feed)
    with caplog.at_level(logging.WARNING, outcome_topic.__name__):
        assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    (told,) = [each for each in caplog.records if each.name == outcome_topic.__name__]
    assert told.getMessage().startswith("not published: not_found: ")
    assert w.outcomes.results == ["remediated"]
    assert (await w.ticker.run()).emitted_again == 0
    await feed.aclose()


async def test_what_a_pubsub_that_was_away_did_not_take_is_published_by_the_tick(
    names: tuple[str, str],
    subscription: Subscription,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As if the process had died between the log and the topic: the ledger still lists it."""
    up = os.environ["PUBSUB_EMULATOR_HOST"]
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    passed = [0.0]
    away = OutcomeTopic(names[0], Publisher(timeout=0.5), clock=lambda: passed[0])
    w = feeding(world(**ENFORCE), away)
    passed[0] = 1000.0
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    await w.controls.freeze(Freeze("ann", START))
    w.clock.tick(minutes=5)
    assert (await w.ticker.run()).emitted_again == 1
    assert "not published: paused: " in caplog.text
    passed[0] += PAUSE + 1
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", up)
    back = OutcomeTopic(names[0])
    feeding(w, back)
    w.clock.tick(minutes=5)
    assert (await w.ticker.run()).emitted_again == 1
    assert sorted(each["result"] for each in await all_of(subscription, 2)) == ["controlled", "remediated"]
    w.clock.tick(minutes=5)
    assert (await w.ticker.run()).emitted_again == 0
    await away.aclose()
    await back.aclose()


async def test_an_outcome_that_comes_back_as_an_event_goes_round_only_once(
    names: tuple[str, str], subscription: Subscription
) -> None:
    """The function subscribed to the topic of outcomes by mistake: it says so, and publishes nothing more."""
    feed = OutcomeTopic(names[0])
    w = feeding(world(**ENFORCE), feed)
    await w.deliver(push(entry()))
    message = await one(subscription)
    await subscription.acknowledge([message.ack_id])
    said = await w.deliver(push(json.loads(message.data), "2"))
    assert (said.result, said.reason) == (Result.REJECTED, "own_entry")
    assert list(await subscription.pull(wait=1)) == []
    await feed.aclose()

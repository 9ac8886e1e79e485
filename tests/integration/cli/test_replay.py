"""`logmend replay` against the real Pub/Sub emulator: killed at any point, it loses and doubles nothing."""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1
from tests.emulators import PUBSUB_PROJECT, Emulator, pubsub_emulator
from tests.fakes import FakeFleet, KeptOutcomes, ManualClock, entry, incident, push, world

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.model.enums import INTERIM_RESULTS, Mode
from logmend.model.values import InstanceRef
from logmend.settings import Budget

__all__ = ["pubsub_emulator"]

ROOT = Path(__file__).resolve().parents[3]
MAIN = "from logmend_cli.main import main; main()"
VMS = [InstanceRef("demo-project", "us-west1-a", str(4_000_000_000_000_000_000 + n)) for n in range(6)]


@dataclass
class Letters:
    """A dead-letter subscription with its topic, and the function's topic with one subscription to see it."""

    dead: str
    letters: str
    topic: str
    seen: str
    state: Path
    publisher: pubsub_v1.PublisherClient
    subscriber: pubsub_v1.SubscriberClient

    def publish(self, *documents: Any, **attributes: str) -> list[str]:
        """Put documents into the dead letter; gives their message ids."""
        data = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents]
        extra: dict[str, Any] = dict(attributes)
        return [self.publisher.publish(self.dead, each, **extra).result(30) for each in data]

    def drain(self, subscription: str, least: int = 0) -> list[Any]:
        """Take every message of a subscription, once there are so many."""
        found: list[Any] = []
        ends = time.monotonic() + 120
        while True:
            waiting = len(found) < least and time.monotonic() < ends
            with contextlib.suppress(DeadlineExceeded):
                pulled = self.subscriber.pull(
                    subscription=subscription, max_messages=1000, timeout=20 if waiting else 1.5, retry=None
                )
                found += [each.message for each in pulled.received_messages]
                if ack_ids := [each.ack_id for each in pulled.received_messages]:
                    self.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
                    continue
            if not waiting:
                return found

    def command(self, *args: Any, code: str = MAIN, **settings: Any) -> subprocess.Popen[str]:
        """Start `logmend replay ARGS`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
        chosen = {"topic": self.topic} | settings
        return subprocess.Popen(
            [sys.executable, "-c", code, "replay", *map(str, args)],
            env=kept
            | {f"LOGMEND_{name.upper()}": str(value) for name, value in chosen.items()}
            | {"PYTHONPATH": str(ROOT / "functions"), "XDG_STATE_HOME": str(self.state)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: Any, status: int = 0, **settings: Any) -> str:
        """Run it to its end; gives what it printed."""
        ran = self.command(*args, **settings)
        out, err = ran.communicate(timeout=200)
        assert ran.returncode == status, out + err
        return out


@contextlib.contextmanager
def letters(folder: Path) -> Iterator[Letters]:
    """Give topics and subscriptions of one's own."""
    word = f"r{uuid.uuid4().hex}"
    names = [f"projects/{PUBSUB_PROJECT}/{kind}/{word}" for kind in ("topics", "subscriptions")]
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    (topic, subscription), tail = names, "-dead"
    pairs = ((topic + tail, subscription + tail), (topic, subscription))
    for topic, subscription in pairs:
        publisher.create_topic(name=topic)
        subscriber.create_subscription(name=subscription, topic=topic, ack_deadline_seconds=10)
    yield Letters(*pairs[0], *pairs[1], folder / "state", publisher, subscriber)
    for topic, subscription in pairs:
        subscriber.delete_subscription(subscription=subscription)
        publisher.delete_topic(topic=topic)
    subscriber.close()
    publisher.stop()


@pytest.fixture
def post(pubsub_emulator: Emulator, tmp_path: Path) -> Iterator[Letters]:
    """Give topics and subscriptions of this test's own."""
    with letters(tmp_path) as post:
        yield post


def fresh(ref: InstanceRef, **changes: Any) -> dict[str, Any]:
    """Give an entry of just now."""
    return entry(ref, at=datetime.now(UTC), **changes)


async def function(messages: list[Any], folder: Path) -> tuple[KeptOutcomes, FakeFleet]:
    """Deliver every message to the pipeline over one SQLite ledger, some twice, as Pub/Sub may."""
    fleet = FakeFleet(ManualClock(datetime.now(UTC)))
    for ref in VMS:
        fleet.add(ref)
    here = world(
        store=SqliteStore(folder / "ledger.sqlite"),
        clock=fleet.clock,
        fleet=fleet,
        mode=Mode.ENFORCE,
        disruption_budget=Budget(1000, timedelta(minutes=10)),
    )
    for each in [*messages, *messages[::3]]:
        body = push({}, each.message_id, at=each.publish_time, **dict(each.attributes))
        body["message"]["data"] = base64.b64encode(each.data).decode()
        await here.deliver(body)
    await here.ticker.run()
    await here.store.aclose()
    return here.outcomes, fleet


def finals(outcomes: KeptOutcomes) -> Counter[str]:
    """Count final outcomes by the original that they are about; an outcome emitted again is the same one."""
    every = {each.outcome_id: each for each in outcomes.written if each.result not in INTERIM_RESULTS}
    return Counter(each.replay_of or "" for each in every.values())


def taken_up(outcomes: KeptOutcomes) -> Counter[str]:
    """Count intents by original: two would mean that one event was taken for two."""
    return Counter(original for original, _ in {(o.replay_of or "", o.intent_id) for o in outcomes.written})


def test_explaining_a_subscription_takes_nothing_from_it(post: Letters) -> None:
    """What was pulled is there again at once, for the next command."""
    originals = post.publish(fresh(VMS[0]), fresh(VMS[1]), {"hello": "world"})
    for _ in range(2):
        said = json.loads(post.run("--subscription", post.letters, "--format", "json", status=1))
        assert sorted(each["replay_of"] for each in said["events"]) == sorted(originals)
        assert Counter(each["result"] for each in said["events"]) == {"planned": 2, "rejected": 1}
        assert {each["done"] for each in said["events"]} == {"explained"}
    assert post.drain(post.seen) == []


def test_what_is_published_keeps_its_attributes_and_names_its_original(post: Letters) -> None:
    """Byte for byte the same data; of what Pub/Sub reserves for itself nothing is sent."""
    document = fresh(VMS[0])
    (original,) = post.publish(document, colour="blue", CloudPubSubDeadLetterSourceDeliveryCount="10")
    post.run("--subscription", post.letters.rpartition("/")[2], "--project", PUBSUB_PROJECT, "--publish")
    (message,) = post.drain(post.seen, 1)
    assert json.loads(message.data) == document
    name = message.attributes.pop("logmend_replay_id")
    assert len(name) == 40
    assert dict(message.attributes) == {
        "colour": "blue",
        "CloudPubSubDeadLetterSourceDeliveryCount": "10",
        "logmend_replay_of": original,
    }
    assert post.drain(post.letters) == []


def test_what_would_come_to_nothing_stays_where_it_is(post: Letters) -> None:
    """Rejected and stale events are left, and said to be; `--all` publishes them as well."""
    post.publish(entry(VMS[0]), b"no event", fresh(VMS[1]))
    arguments = ("--subscription", post.letters, "--publish", "--format", "json")
    said = json.loads(post.run(*arguments, status=1))
    assert said["totals"] == {"left": 2, "published": 1}
    assert {each["reason"]: each["done"] for each in said["events"]} == {
        "stale": "left",
        "malformed": "left",
        None: "published",
    }
    assert len(post.drain(post.seen, 1)) == 1
    post.run(*arguments, "--all", status=1)
    assert len(post.drain(post.seen, 2)) == 2
    assert post.drain(post.letters) == []


def test_a_tick_in_a_dead_letter_is_dropped(post: Letters) -> None:
    """The scheduler has sent others since; replayed it would be one more, and untimely."""
    post.publish({"logmend": "tick"}, fresh(VMS[0]))
    said = json.loads(post.run("--subscription", post.letters, "--publish", "--all", "--format", "json"))
    assert said["totals"] == {"dropped": 1, "published": 1}
    assert len(post.drain(post.seen, 1)) == 1
    assert post.drain(post.letters) == []


def test_a_dead_letter_that_wraps_a_push_is_replayed_as_the_message_that_it_was(post: Letters) -> None:
    """The function keeps whole push bodies of what it could not decode: a later release may."""
    document = fresh(VMS[0])
    post.publish(
        push(document, "4711", colour="blue"), logmend_reason="bad_identity", logmend_message_id="4711"
    )
    post.run("--subscription", post.letters, "--publish")
    (message,) = post.drain(post.seen, 1)
    assert json.loads(message.data) == document
    assert message.attributes["logmend_replay_of"] == "4711"
    assert message.attributes["colour"] == "blue"


DYING = {
    "before publishing": ("Publisher.publish", False),
    "after publishing, before acknowledging": ("Publisher.publish", True),
    "at the acknowledgement": ("Subscription.acknowledge", False),
    "after the acknowledgement": ("Subscription.acknowledge", True),
}


def dying(where: str, after: bool, calls: int, module: str = "logmend.adapters.google.pubsub") -> str:
    """Give the command's code, ending itself as `kill -9` would at a call of ``where``."""
    kind, _, name = where.partition(".")
    return f"""
import inspect, os, signal
from {module} import {kind}
was, calls = {kind}.{name}, []
def die(given):
    # Acknowledging nothing is no step.
    if given != ([],):
        calls.append(1)
    if len(calls) == {calls}:
        os.kill(os.getpid(), signal.SIGKILL)
if inspect.iscoroutinefunction(was):
    async def instead(self, *args, **more):
        if not {after}: die(args)
        found = await was(self, *args, **more)
        if {after}: die(args)
        return found
else:
    def instead(self, *args, **more):
        if not {after}: die(args)
        found = was(self, *args, **more)
        if {after}: die(args)
        return found
{kind}.{name} = instead
{MAIN}"""


@pytest.mark.timeout(600)
async def test_a_dead_letter_is_replayed_exactly_once_wherever_the_command_dies(
    pubsub_emulator: Emulator, tmp_path: Path
) -> None:
    """Killed at the second such step, then run again: one final outcome and one fix for each original."""
    with contextlib.ExitStack() as stack:
        places = {where: stack.enter_context(letters(tmp_path / where)) for where in DYING}
        every = {where: dies(post, *DYING[where]) for where, post in places.items()}
        await asyncio.sleep(13)  # what the dead commands held comes again
        for where, post in places.items():
            originals, folder = every[where], tmp_path / where
            post.run("--subscription", post.letters, "--publish")
            told_twice = where in {"after publishing, before acknowledging", "at the acknowledgement"}
            messages = post.drain(post.seen, len(originals) + told_twice)
            folder.mkdir(exist_ok=True)
            outcomes, fleet = await function(messages, folder)
            assert finals(outcomes) == taken_up(outcomes) == dict.fromkeys(originals, 1), where
            assert [fleet.vms[ref.instance_id].changes for ref in VMS] == [1, 1, 1, 1, 0, 0], where
            assert post.drain(post.letters) == [], where
            assert len(messages) == len(originals) + told_twice, where


def dies(post: Letters, where: str, after: bool) -> list[str]:
    """Put four events into the dead letter, and have the command killed over them; gives their ids."""
    originals = post.publish(*(fresh(ref, insertId=f"i{n}") for n, ref in enumerate(VMS[:4])))
    killed = post.command("--subscription", post.letters, "--publish", code=dying(where, after, 2))
    _, err = killed.communicate(timeout=100)
    assert killed.returncode == -signal.SIGKILL, err
    return originals


async def test_killed_at_random_again_and_again_it_loses_and_doubles_nothing(
    post: Letters, tmp_path: Path
) -> None:
    """Entries and incidents of six VMs; three kills, then one run to the end."""
    pauses = [2 + secrets.randbelow(4000) / 1000 for _ in range(3)]
    documents = [fresh(VMS[n % 6], insertId=f"i{n}") for n in range(30)]
    now = int(datetime.now(UTC).timestamp())
    documents += [incident(VMS[n], incident_id=f"inc-{n}", started_at=now) for n in range(6)]
    originals = post.publish(*documents)
    arguments = ("--subscription", post.letters, "--publish", "--rate", "6")
    for pause in pauses:
        victim = post.command(*arguments)
        await asyncio.sleep(pause)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.communicate(timeout=100)
    await asyncio.sleep(13)
    said = post.run(*arguments, "--rate", "100")
    outcomes, fleet = await function(post.drain(post.seen, len(originals)), tmp_path)
    # Where an event has to wait (its VM is cooling down after the fix) it is parked: in the ledger, not lost.
    assert taken_up(outcomes) == dict.fromkeys(originals, 1), (pauses, said)
    assert set(finals(outcomes).values()) == {1}, pauses
    assert [fleet.vms[ref.instance_id].changes for ref in VMS] == [1] * 6
    assert post.drain(post.letters) == []


FILE_DYING = {
    "before publishing": ("Publisher.publish", False, "logmend.adapters.google.pubsub"),
    "before noting it": ("ReplayJournal.note", False, "logmend_cli.replay.journal"),
    "after noting it": ("ReplayJournal.note", True, "logmend_cli.replay.journal"),
}


@pytest.mark.parametrize("where", FILE_DYING)
async def test_a_file_is_replayed_exactly_once_wherever_the_command_dies(
    post: Letters, tmp_path: Path, where: str
) -> None:
    """It goes on where it was; once it is at its end, the same command is a new replay."""
    file = tmp_path / "entries.json"
    file.write_text(json.dumps([fresh(ref, insertId=f"i{n}") for n, ref in enumerate(VMS[:4])]))
    call, after, module = FILE_DYING[where]
    killed = post.command(file, "--publish", code=dying(call, after, 3, module))
    _, err = killed.communicate(timeout=150)
    assert killed.returncode == -signal.SIGKILL, err
    said = json.loads(post.run(file, "--publish", "--format", "json"))
    assert said["totals"]["done by the interrupted run"] == (3 if where == "after noting it" else 2)
    messages = post.drain(post.seen, 4)
    outcomes, fleet = await function(messages, tmp_path)
    assert finals(outcomes) == taken_up(outcomes) == {f"i{n}": 1 for n in range(4)}
    assert [fleet.vms[ref.instance_id].changes for ref in VMS[:4]] == [1] * 4
    again = json.loads(post.run(file, "--publish", "--format", "json"))
    assert again["totals"] == {"published": 4}
    names = {each.attributes["logmend_replay_id"] for each in post.drain(post.seen, 4)}
    assert names.isdisjoint(each.attributes["logmend_replay_id"] for each in messages)


def test_ctrl_c_ends_between_two_events_and_hands_the_others_back(post: Letters) -> None:
    """What it published is acknowledged; the rest is there at once, without waiting for a deadline."""
    originals = post.publish(*(fresh(VMS[0], insertId=f"i{n}") for n in range(40)))
    running = post.command("--subscription", post.letters, "--publish", "--rate", "3")
    assert running.stdout is not None
    lines = [running.stdout.readline() for _ in range(2)]
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=150)
    assert running.returncode == 1, err
    assert "stopped before the end; run it again to continue" in err
    assert "Traceback" not in err
    lines += [line for line in out.splitlines() if line.startswith("message ")]
    done = {line.split()[1] for line in lines}
    assert 2 <= len(done) < 40
    left = {each.message_id for each in post.drain(post.letters, 40 - len(done))}
    assert done | left == set(originals)
    assert not done & left
    assert {each.attributes["logmend_replay_of"] for each in post.drain(post.seen, len(done))} == done


async def test_an_order_is_written_once_under_the_operators_name_before_its_message_is_acknowledged(
    post: Letters, tmp_path: Path
) -> None:
    """Stale events, the command killed between writing and acknowledging, then run again."""
    originals = post.publish(*(entry(ref, insertId=f"i{n}") for n, ref in enumerate(VMS[:3])))
    state = f"sqlite:{tmp_path / 'ledger.sqlite'}"
    arguments = ("--subscription", post.letters, "--allow-stale", "--by", "sre@desk")
    killed = post.command(*arguments, code=dying("Subscription.acknowledge", False, 2), state=state)
    _, err = killed.communicate(timeout=150)
    assert killed.returncode == -signal.SIGKILL, err
    await asyncio.sleep(13)
    post.run(*arguments, state=state)
    ticks = [json.loads(each.data) for each in post.drain(post.seen, 1)]
    outcomes, fleet = await function([], tmp_path)
    assert finals(outcomes) == taken_up(outcomes) == dict.fromkeys(originals, 1)
    assert {each.requested_by for each in outcomes.written} == {"sre@desk"}
    assert {str(each.result) for each in outcomes.written} == {"remediated"}
    assert [fleet.vms[ref.instance_id].changes for ref in VMS[:3]] == [1] * 3
    assert post.drain(post.letters) == []
    assert ticks == [{"logmend": "tick"}], "one tick, from the run that came to its end"

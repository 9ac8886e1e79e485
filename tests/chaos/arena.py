"""One fault's stage: machines, a topic, whatever function processes there are, and the verdict.

The verdict believes nobody but the machines (their logs of changes), the outcomes' file and the ledger.
"""

import asyncio
import contextlib
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from tests.chaos.machines import OFF, PROJECT, RoughFleet, RoughMachine
from tests.contract.stores import counted_in, open_named
from tests.e2e.function_process import Function, function_process
from tests.e2e.post import Post
from tests.pusher import Pusher

from logmend.errors import Transient
from logmend.ledger import Queues
from logmend.ledger.documents import every, unpack
from logmend.model.enums import INTERIM_RESULTS
from logmend.model.state import Repeats, State
from logmend.ports import Document, Key, Store
from logmend_cli.pretend.entries import entry, incident, push
from logmend_cli.pretend.fleet import USER

DICE = random.Random()  # noqa: S311  decides when to strike, guards nothing
SETTLE = 150.0
"""Seconds without progress after which events without their end count as lost; most end within twenty."""
SHORT = {"attempt_deadline": "9s", "function_timeout": "10s", "lease": "11s"}
"""The shortest deadlines with which a busy machine still gets its work done."""
PATHS = ("syslog", "journald", "serial", "fluentd-text", "fluentd-json")


class Courier:
    """Delivers what waits in a subscription to the functions, until it is acknowledged.

    ``copies`` of each message are posted at once, up to ``jitter`` seconds late.
    """

    def __init__(self, post: Post, client: httpx.AsyncClient) -> None:
        self.targets: list[str] = []
        self.copies = 1
        self.jitter = 0.0
        self.timeout = 13.0
        self.deliveries = 0
        self._post, self._client = post, client
        self._pusher = Pusher(post.subscriber, post.push_subscription, self._all_posted, backoff=(0.5, 1.5))

    @property
    def refused(self) -> int:
        """How many deliveries were refused, or not answered."""
        return self._pusher.refused

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Deliver until left."""
        await asyncio.to_thread(self._post.subscribe)
        async with self._pusher.at_work():
            yield
            self.targets.clear()

    async def _all_posted(self, body: Mapping[str, Any]) -> int:
        return max(await asyncio.gather(*(self._posted(body) for _ in range(self.copies))))

    async def _posted(self, body: Mapping[str, Any]) -> int:
        self.deliveries += 1
        if self.jitter:
            await asyncio.sleep(DICE.uniform(0, self.jitter))
        if not self.targets:
            return 503
        target = DICE.choice(self.targets)
        try:
            return (await self._client.post(target, json=body, timeout=self.timeout)).status_code
        except httpx.HTTPError:
            return 502


@dataclass
class Event:
    """One message, and the machine that it is about."""

    message_id: str
    machine: RoughMachine


@dataclass
class Verdict:
    """What became of the events of one fault."""

    lost: list[str]
    doubled: list[str]
    untrue: list[str]
    results: dict[str, int]


class Arena:
    """See :func:`arena`."""

    def __init__(self, folder: Path, fleet: RoughFleet, courier: Courier, post: Post, state: str) -> None:
        self.folder, self.fleet, self.courier, self.post, self.state = folder, fleet, courier, post, state
        self.events: list[Event] = []
        self.store: Store = open_named(state)
        self.outcomes_file = folder / "outcomes.jsonl"
        self.counted: dict[str, str] = {}
        self._started = 0

    @asynccontextmanager
    async def function(
        self, *, outcomes: Path | None = None, state: str | None = None, **settings: Any
    ) -> AsyncIterator[Function]:
        """Run one more function process, to which deliveries go until it ends."""
        self._started += 1
        chosen: dict[str, Any] = {
            "mode": "enforce",
            "project": PROJECT,
            "state": state or self.state,
            "outcomes": f"file:{outcomes or self.outcomes_file}",
            "compute_endpoint": f"http://127.0.0.1:{self.fleet.compute_port}",
            "ssh_key": self.fleet.key_file,
            "ssh_user": USER,
            "ssh_port": self.fleet.ssh_port,
            "disruption_budget": "10000/1m",
            "breaker_minimum": 10000,
            "unreachable_tries": 50,  # a busy host is no reason to give a VM up
            "cooldown_remediated": "3s",
            "cooldown_nothing_to_do": "3s",
            "repeats": "counted",
            **SHORT,
        }
        async with function_process(
            self.folder / f"function-{self._started}", **(chosen | settings)
        ) as running:
            self.courier.targets.append(running.url)
            try:
                yield running
            finally:
                self.courier.targets.remove(running.url)

    async def tell(self, machines: Sequence[RoughMachine], *, incidents: bool = False) -> None:
        """Publish one event about each machine: its line, or an incident."""
        for machine in machines:
            document = (
                incident(machine.vm, f"inc-{machine.instance.instance_id}-{len(self.events)}")
                if incidents
                else entry(machine.vm, path=DICE.choice(PATHS))
            )
            await self.tell_that(document, machine)

    async def complain(self, number: int) -> list[RoughMachine]:
        """Add machines that are to be left alone, and say their line again and again: it is counted."""
        machines = await self.fleet.add(number)
        for machine in machines:
            machine.instance.labels["logmend"] = "off"
        await self.tell(machines * 4)
        return machines

    async def tell_that(self, document: Mapping[str, Any], machine: RoughMachine) -> Event:
        """Publish an event of one's own about a machine."""
        (message_id,) = await self.post.publish(document)
        self.events.append(Event(message_id, machine))
        return self.events[-1]

    def outcomes(self) -> list[dict[str, Any]]:
        """Every outcome so far, of every function."""
        reader = Function(None, 0, self.folder, "", self.outcomes_file, None)  # type: ignore[arg-type]
        return reader.outcomes()

    def finals(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Give the final outcomes of each message's own, by their ids."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for each in self.outcomes():
            if each["result"] not in INTERIM_RESULTS and each["message_id"] and not each["first_at"]:
                found.setdefault(each["message_id"], {})[each["outcome_id"]] = each
        return found

    def ends(self, events: Sequence[Event]) -> list[str]:
        """Say ``RESULT`` or ``RESULT: REASON`` of each end of these events: a final outcome, or a count."""
        finals = self.finals()
        alone = [_word(each) for event in events for each in finals.get(event.message_id, {}).values()]
        return alone + [self.counted[each.message_id] for each in events if each.message_id in self.counted]

    def open_events(self) -> list[Event]:
        """Events without a final outcome that the ledger did not count either, when it was read last."""
        ended = self.finals().keys() | self.counted.keys()
        return [each for each in self.events if each.message_id not in ended]

    async def settle(self, function: Function) -> None:
        """Deliver and tick until every event has its end, or no more get theirs: the verdict tells which."""
        ends, left = time.monotonic() + SETTLE, len(self.events)
        while (still := len(self.open_events())) and time.monotonic() < ends:
            if still < left:
                ends, left = time.monotonic() + SETTLE, still
            await asyncio.sleep(1)
            with contextlib.suppress(httpx.HTTPError, AssertionError, Transient):  # busy, frozen: once more
                self.counted = await counted_in(self.store)
                await self.make_due()
                await function.push(push({"logmend": "tick"}, f"tick-{uuid.uuid4().hex}"))

    async def settle_with_counts(self, function: Function, machines: Sequence[RoughMachine]) -> None:
        """Settle; let machines go on complaining until something of that is counted."""
        await self.settle(function)
        while not self.counted:
            await self.tell(machines)
            await self.settle(function)

    async def make_due(self) -> None:
        """Let the minutes pass that the ledger waits before it looks at something again."""
        future, now = datetime(9999, 1, 1, tzinfo=UTC), datetime.now(UTC)
        for queue in ("parked", "requested", "unverified"):
            for document_id, _ in await self.store.due("intents", queue, future, 500):
                await self._hasten(("intents", document_id), queue, now)

    async def _hasten(self, key: Key, queue: str, now: datetime) -> None:
        def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
            document = found.get(key)
            if document is None or document.queue != queue or document.due is None or document.due <= now:
                return {}, None
            return {key: Document(document.data, queue, now, document.expire_at)}, None

        await self.store.transact([key], step)

    async def stages(self) -> dict[str, int]:
        """Count the open events by where the ledger says that they stand."""
        found: dict[str, int] = {}
        finals = self.finals()
        async for record in Queues(self.store).records():
            if record.state is State.RUNNING:
                name = "enforcing" if record.committed else "looking"
            elif record.state is State.DONE and record.intent.message_id not in finals:
                name = "recording"
            else:
                continue
            found[name] = found.get(name, 0) + 1
        return found

    async def committed(self) -> set[str]:
        """Give the ids of the VMs that somebody has committed to change."""
        records = Queues(self.store).records()
        return {each.intent.instance.instance_id async for each in records if each.committed}

    def verdict(self, *, ledger_kept: bool = True) -> Verdict:
        """Compare what was claimed with what the machines show.

        ``ledger_kept`` False is for a ledger that was lost: then the same event may end twice in words, but
        still not in deeds.
        """
        finals, verdict = self.finals(), Verdict([], [], [], {})
        for each in self.events:
            mine, counted = finals.get(each.message_id, {}), self.counted.get(each.message_id)
            if counted is not None:
                verdict.results[counted] = verdict.results.get(counted, 0) + 1
            if not mine and counted is None:
                verdict.lost.append(f"{each.message_id} about {each.machine.instance.name}")
            if mine and counted is not None and ledger_kept:
                verdict.doubled.append(f"{each.message_id} was counted and ended as {sorted(mine)}")
            if len(mine) > 1 and ledger_kept:
                verdict.doubled.append(f"{each.message_id} ended as {sorted(mine)}")
            for outcome in mine.values():
                word = _word(outcome)
                verdict.results[word] = verdict.results.get(word, 0) + 1
                if (lie := _lie(outcome, each.machine)) is not None:
                    verdict.untrue.append(f"{each.message_id}: {word}, but {lie}")
        for machine in {id(each.machine): each.machine for each in self.events}.values():
            if len(changes := machine.changes()) > 1 and not machine.breaks:
                verdict.doubled.append(f"{machine.instance.name} was changed {len(changes)} times")
            if machine.overlaps():
                verdict.doubled.append(f"{machine.instance.name} was changed by two at once")
        return verdict

    async def sum_of_counts(self) -> int:
        """Sum up the counts that wait in the ledger for their time, and those that are told."""
        told: dict[str, int] = {}
        async for _, document in every(self.store, "repeats"):
            found = unpack(Repeats, document)
            told |= {each.outcome_id: each.count for each in found.untold}
            told |= {
                f"n-{each.latest.outcome_id}": each.count for each in found.tallies.values() if each.latest
            }
        return sum((told | {e["outcome_id"]: e["count"] for e in self.outcomes() if e["first_at"]}).values())

    async def left_in_ledger(self) -> list[str]:
        """Name what is still open in the ledger; nothing should be, once every event has its end.

        Nor should its counts sum up to more or less than the messages that it counted.
        """
        queues, end = Queues(self.store), datetime(9999, 1, 1, tzinfo=UTC)
        lists = ("parked", "requested", "unverified", "expired")
        left = [name for name in lists if await getattr(queues, name)(end, 10)]
        names, total = await counted_in(self.store), await self.sum_of_counts()
        return left + ([] if total == len(names) else [f"counts of {total} for {len(names)} messages"])


def _word(outcome: Mapping[str, Any]) -> str:
    return str(outcome["result"]) + (f": {outcome['reason']}" if outcome["reason"] else "")


def _lie(outcome: Mapping[str, Any], machine: RoughMachine) -> str | None:
    """Say what the machine shows against an outcome; None where it bears it out."""
    before, after = outcome["before"] or {}, outcome["after"] or {}
    match outcome["result"]:
        case "remediated":
            if machine.timer() != OFF:
                return f"its timer is {machine.timer()}"
            if not machine.changes():
                return "nothing was ever changed there"
            if (before.get("exit_code"), after.get("exit_code")) != (101, 100):
                return f"its evidence is {before.get('exit_code')} and {after.get('exit_code')}"
        case "nothing_to_do":
            if machine.timer() != OFF:
                return f"its timer is {machine.timer()}"
        case "planned" | "reverted":
            return "nobody asked for that"
        case _:
            pass
    return None


@asynccontextmanager
async def arena(folder: Path, state: str) -> AsyncIterator[Arena]:
    """Set up machines and topic over the ledger ``state``; run functions in it, and ask its verdict."""
    fleet = RoughFleet(folder / "fleet")
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None)) as client:
        post = await asyncio.to_thread(Post)
        try:
            courier = Courier(post, client)
            stage = Arena(folder, fleet, courier, post, state)
            async with fleet.running(), courier.at_work():
                yield stage
            await stage.store.aclose()
        finally:
            await asyncio.to_thread(post.close)


async def until(holds: Callable[[], bool], *, within: float = 120.0) -> None:
    """Wait until something holds; fail where it does not come to that."""
    ends = time.monotonic() + within
    while not holds():
        assert time.monotonic() < ends, "it never came to that"
        await asyncio.sleep(0.02)


def signalled(function: Function, how: int) -> None:
    """Signal a function's whole process group."""
    os.killpg(function.process.pid, how)

"""Stand-ins for our own ports, so that the pipeline can be driven through every turn without a network.

They are fakes of *our* protocols, never of Google's classes; the real adapters have contract suites.
"""

import asyncio
import base64
import functools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from logmend import catalog
from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Permanent
from logmend.ledger import Controls, Journal, Queues
from logmend.model.enums import Action, Result
from logmend.model.state import By
from logmend.model.struct import replace
from logmend.model.values import (
    Asked,
    Attempt,
    Delivery,
    Diagnosis,
    Evidence,
    Group,
    InstanceFacts,
    InstanceRef,
    Login,
    Outcome,
)
from logmend.pipeline import Pipeline
from logmend.ports import Store
from logmend.recorder import Recorder
from logmend.runbook import Runbook, load_all
from logmend.settings import Policies, RepeatsChoice, Settings, narrowed
from logmend.silence import Entries, Listener
from logmend.stages import decide, match
from logmend.tick import Ticker
from logmend.worker import Worker

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REF = InstanceRef("demo-project", "us-west1-a", "4775836342981993096")
ANN = By("ann", START)
COUNTED: Mapping[str, Any] = {"repeats": RepeatsChoice.COUNTED, "state": "sqlite:the-store-of-the-test"}
"""What counts, since the store outlives the world: a test may make another on it."""
LINE = "Error getting config status, workload certificates may not be configured: HTTP 404"


class ManualClock:
    """A clock that stands still until it is told."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def tick(self, **by: float) -> None:
        self._now += timedelta(**by)


@dataclass
class FakeVm:
    """A VM as its scripts see it. ``faulty`` is the truth; everything else bends what can be seen of it."""

    ref: InstanceRef = REF
    faulty: bool = True
    answers_as: str | None = None
    checks: int = 0
    enforcements: int = 0
    changes: int = 0
    on_check: list[Exception | Evidence | Callable[[], Any] | None] = field(default_factory=list)
    on_enforce: list[Exception | Evidence | Callable[[], Any] | None] = field(default_factory=list)
    fix_works: bool = True
    mark: str | None = None
    diagnosis: Diagnosis | Exception = field(default_factory=lambda: Diagnosis("unknown"))
    diagnoses: int = 0


@dataclass
class FakeFleet:
    """Compute and executor over a handful of VMs."""

    clock: ManualClock
    vms: dict[str, FakeVm] = field(default_factory=dict)
    facts_of: dict[str, InstanceFacts] = field(default_factory=dict)
    lookups: int = 0
    opened: int = 0
    on_facts: list[Exception] = field(default_factory=list)
    on_open: list[Exception | None] = field(default_factory=list)
    groups: dict[str, Group | None] = field(default_factory=dict)
    name: str = "ssh"

    def add(self, ref: InstanceRef = REF, **facts: Any) -> FakeVm:
        vm = self.vms[ref.instance_id] = FakeVm(ref)
        known = InstanceFacts(
            ref,
            name=f"vm-{ref.instance_id[-3:]}",
            status="RUNNING",
            project_metadata={},
            identity_certificate_enabled=False,
            partner_namespaces=(),
            internal_ip="10.0.0.2",
        )
        self.facts_of[ref.instance_id] = replace(known, **facts)
        return vm

    async def facts(self, ref: InstanceRef) -> InstanceFacts:
        self.lookups += 1
        if self.on_facts:
            raise self.on_facts.pop(0)
        if ref.instance_id not in self.facts_of:
            raise Permanent("instance_gone", "404")
        return self.facts_of[ref.instance_id]

    async def group(self, path: str, project_id: str) -> Group | None:
        """Give the group that a test made up, or the VMs that say they are of it, those that run well."""
        if path in self.groups:
            return self.groups[path]
        mine = {vm: each for vm, each in self.facts_of.items() if each.lineage.group == path}
        well = {vm for vm, each in mine.items() if each.status == "RUNNING"}
        return Group(len(mine), frozenset(mine), frozenset(well))

    async def set_label(self, facts: InstanceFacts, key: str, value: str | None) -> None:
        labels = {k: v for k, v in facts.labels.items() if k != key} | ({key: value} if value else {})
        self.facts_of[facts.ref.instance_id] = replace(facts, labels=labels)

    def __call__(self, facts: InstanceFacts, runbook: str) -> Sequence["FakeFleet | FakeAgents"]:
        return [self]

    def agent(self, name: str | None) -> "FakeAgents | None":
        return None

    async def aclose(self) -> None:
        return

    @asynccontextmanager
    async def open(
        self, facts: InstanceFacts, runbook: Runbook, action: Action
    ) -> AsyncIterator["FakeSession"]:
        self.opened += 1
        if self.on_open and (error := self.on_open.pop(0)) is not None:
            raise error
        yield FakeSession(self.vms[facts.ref.instance_id], action, self.clock)


@dataclass
class FakeAgents:
    """Compute's VMs with OS Config agents: a label and a report, one per VM and action."""

    fleet: FakeFleet
    reports: dict[tuple[str, Action], Attempt] = field(default_factory=dict)
    reported_at: dict[tuple[str, Action], datetime] = field(default_factory=dict)
    on_ready: list[Exception] = field(default_factory=list)
    on_withdraw: list[Exception] = field(default_factory=list)
    read_ahead: int = 0
    name: str = "osconfig"

    def says(self, action: Action, done: Attempt, ref: InstanceRef = REF) -> None:
        """Let the agent report, now."""
        self.reports[ref.instance_id, action] = done
        self.reported_at[ref.instance_id, action] = self.fleet.clock.now()

    def label(self, ref: InstanceRef = REF, runbook: str = "workload-cert-refresh") -> str | None:
        return self.fleet.facts_of[ref.instance_id].labels.get(f"logmend-{runbook}")

    async def ready(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> None:
        if self.on_ready:
            raise self.on_ready.pop(0)

    async def request(self, facts: InstanceFacts, runbook: Runbook, action: Action) -> None:
        await self.fleet.set_label(facts, f"logmend-{runbook.name}", action.value)

    async def prefetch(self, every: Sequence[Asked]) -> None:
        self.read_ahead += len(every)

    async def report(self, asked: Asked) -> Attempt | None:
        key = asked.instance.instance_id, asked.action
        return self.reports[key] if key in self.reports and self.reported_at[key] > asked.since else None

    async def withdraw(self, ref: InstanceRef, runbook: str) -> None:
        if self.on_withdraw:
            raise self.on_withdraw.pop(0)
        if ref.instance_id in self.fleet.facts_of:
            await self.fleet.set_label(self.fleet.facts_of[ref.instance_id], f"logmend-{runbook}", None)


@dataclass
class FakeAgentFleet(FakeFleet):
    """A fleet that is reached through OS Config agents; ``ssh_first`` tries ssh before, as ``auto`` does."""

    ssh_first: bool = False

    def __post_init__(self) -> None:
        self.agents = FakeAgents(self)

    def __call__(self, facts: InstanceFacts, runbook: str) -> Sequence[FakeFleet | FakeAgents]:
        return [self, self.agents] if self.ssh_first else [self.agents]

    def agent(self, name: str | None) -> FakeAgents | None:
        return self.agents if name == "osconfig" else None


@dataclass
class FakeSession:
    vm: FakeVm
    action: Action
    clock: ManualClock
    login: Login = field(default_factory=lambda: Login("published", "certificate"))

    async def check(self) -> Evidence:
        await asyncio.sleep(0)  # others get their turn, as they do while a real VM answers
        self.vm.checks += 1
        if (scripted := _next(self.vm.on_check)) is not None:
            return scripted
        wants_faulty = self.action is Action.REVERT
        code = 100 if self.vm.faulty is wants_faulty else 101
        left = {"mark": self.vm.mark} if self.vm.mark else {}
        return evidence(code, self.clock.now(), self.vm.answers_as or self.vm.ref.instance_id, **left)

    async def enforce(self, mark: str) -> Evidence:
        self.vm.enforcements += 1
        if self.vm.faulty is (self.action is not Action.REVERT):
            self.vm.mark = mark
            if self.vm.fix_works:
                self.vm.faulty = self.action is Action.REVERT
                self.vm.changes += 1
        if (scripted := _next(self.vm.on_enforce)) is not None:
            return scripted
        return evidence(100, self.clock.now(), None)

    async def diagnose(self, *, as_root: bool = False) -> Diagnosis:
        self.vm.diagnoses += 1
        if isinstance(self.vm.diagnosis, Exception):
            raise self.vm.diagnosis
        return self.vm.diagnosis


def _next(script: list[Any]) -> Evidence | None:
    if not script:
        return None
    item = script.pop(0)
    if isinstance(item, BaseException):
        raise item
    evidence_: Evidence | None = item() if callable(item) else item
    return evidence_


def evidence(
    code: int, at: datetime = START, instance_id: str | None = REF.instance_id, **more: str
) -> Evidence:
    return Evidence(code, ({"instance_id": instance_id} if instance_id else {}) | more, at)


@dataclass
class KeptOutcomes:
    """An outcome log that keeps what it is given; what was done to controls is kept apart."""

    written: list[Outcome] = field(default_factory=list)
    controlled: list[Outcome] = field(default_factory=list)
    on_write: list[Exception | None] = field(default_factory=list)

    async def write(self, outcome: Outcome) -> None:
        if self.on_write and (error := self.on_write.pop(0)) is not None:
            raise error
        of_event = outcome.result is not Result.CONTROLLED
        (self.written if of_event else self.controlled).append(outcome)

    async def aclose(self) -> None:
        return

    @property
    def results(self) -> list[str]:
        return [f"{o.result}:{o.reason}" if o.reason else str(o.result) for o in self.written]


@dataclass
class KeptDeadLetters:
    bodies: list[tuple[bytes, str]] = field(default_factory=list)

    async def publish(self, body: bytes, delivery: Delivery, reason: str) -> None:
        self.bodies.append((body, reason))


@dataclass
class World:
    """A whole application on fakes."""

    settings: Settings
    clock: ManualClock
    fleet: FakeFleet
    outcomes: KeptOutcomes
    dead_letters: KeptDeadLetters
    store: Store
    pipeline: Pipeline
    ticker: Ticker
    controls: Controls
    journal: Journal

    async def deliver(self, message: Mapping[str, Any] | bytes) -> Outcome:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        answered = await self.pipeline.handle(body, {"content-type": "application/json"})
        assert isinstance(answered, Outcome)
        return answered

    async def tick(self, **passed: float) -> None:
        """Let time pass, five minutes unless said otherwise, and a tick come."""
        self.clock.tick(**(passed or {"minutes": 5}))
        await self.ticker.run()


@functools.cache
def built_in() -> tuple[Mapping[str, Runbook], match.Router]:
    """Read the built-in runbooks and compile their filters once: nothing changes them, worlds are many."""
    found = load_all()
    loaded = MappingProxyType({name: catalog.among(each, found) for name, each in found.items()})
    return loaded, match.Router(loaded)


def world(
    *,
    store: Store | None = None,
    clock: ManualClock | None = None,
    fleet: FakeFleet | None = None,
    owner: str = "one",
    log: Entries | None = None,
    by_runbook: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> World:
    clock = clock or ManualClock()
    chosen = replace(Settings(), **settings)
    own = {name: narrowed(chosen, values) for name, values in (by_runbook or {}).items()}
    policies = Policies(chosen, own)
    fleet = fleet or FakeFleet(clock)
    if not fleet.vms:
        fleet.add()
    store = store or MemoryStore()
    loaded, router = built_in()
    budgets = {name: decide.budget(each, policies.of(name)) for name, each in loaded.items()}
    journal, controls = Journal(store, owner=owner, lease=chosen.lease, budgets=budgets), Controls(store)
    outcomes, dead_letters = KeptOutcomes(), KeptDeadLetters()
    worker = Worker(
        policies=policies,
        clock=clock,
        journal=journal,
        controls=controls,
        compute=fleet,
        executors=fleet,
    )
    pipeline = Pipeline(
        policies=policies,
        runbooks=loaded,
        router=lambda: router,
        clock=clock,
        journal=journal,
        worker=worker,
        recorder=Recorder(clock, journal, outcomes),
        dead_letter=dead_letters,
    )
    listener = Listener(log, router=lambda: router) if log else None
    ticker = Ticker(pipeline, Queues(store), listener)
    return World(chosen, clock, fleet, outcomes, dead_letters, store, pipeline, ticker, controls, journal)


def entry(ref: InstanceRef = REF, *, at: datetime = START, **changes: Any) -> dict[str, Any]:
    """Give a LogEntry as the Ops Agent's syslog receiver writes it."""
    return {
        "insertId": "abc123",
        "jsonPayload": {
            "message": f"Mar  1 12:00:00 vm gce_workload_cert_refresh[929]: 2026/03/01 12:00:00: {LINE}"
        },
        "resource": {
            "type": "gce_instance",
            "labels": {"project_id": ref.project_id, "zone": ref.zone, "instance_id": ref.instance_id},
        },
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "logName": f"projects/{ref.project_id}/logs/syslog",
    } | changes


def incident(ref: InstanceRef = REF, *, incident_id: str = "inc-1", **changes: Any) -> dict[str, Any]:
    """Give an incident of a policy that names our runbook."""
    return {
        "version": "1.2",
        "incident": {
            "incident_id": incident_id,
            "scoping_project_id": ref.project_id,
            "started_at": int(START.timestamp()),
            "state": "open",
            "resource": {
                "type": "gce_instance",
                "labels": {"project_id": ref.project_id, "zone": ref.zone, "instance_id": ref.instance_id},
            },
            "policy_name": "certificate line",
            "policy_user_labels": {"logmend-runbook": "workload-cert-refresh"},
        }
        | changes,
    }


def push(data: Any, message_id: str = "1", *, at: datetime = START, **attributes: str) -> dict[str, Any]:
    """Give the body with which Pub/Sub pushes ``data``."""
    text = data if isinstance(data, str) else json.dumps(data)
    return {
        "message": {
            "data": base64.b64encode(text.encode()).decode(),
            "messageId": message_id,
            "publishTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "attributes": attributes,
        },
        "subscription": "projects/demo-project/subscriptions/logmend-push",
    }

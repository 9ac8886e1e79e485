"""What stands around lab machines in the pipeline's tests: the Compute API, the function, an operator's hand.

The function is the real process; it reaches machines by the addresses that the pretend Compute API tells,
over real ssh with a real key. What happened on a machine is read from the machine itself.
"""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from logmend.adapters.stores.sqlite import SqliteStore
from logmend.ledger import Journal
from logmend.model.enums import Action, Origin
from logmend.model.struct import replace
from logmend.model.values import Intent, Source
from logmend.ports import Document, Key
from logmend.stages import decide
from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.fleet import free_port, serving
from logmend_cli.pretend.instance import PretendInstance
from tests.e2e.function_process import Function, function_process
from tests.lab import shipper
from tests.lab.machines import Machine, TimerState

RUNBOOK = "workload-cert-refresh"
OPERATOR = "sre@example.com"
DEADLINE = 150.0
"""Seconds; a test that waits so long has failed, and most of what pytest gives it is left."""


@dataclass
class Cloud:
    """The project that the machines are in. ``compute`` may be changed while it is served."""

    folder: Path
    compute: PretendCompute
    port: int
    key: Path
    user: str

    def instance(self, machine: Machine) -> PretendInstance:
        """Give what the Compute API says of a machine, to be changed."""
        return next(each for each in self.compute.instances if each.instance_id == machine.ref.instance_id)

    @property
    def shared(self) -> dict[str, str]:
        """Settings of functions that share a ledger and a file of outcomes."""
        return {
            "state": f"sqlite:{self.folder / 'shared.sqlite'}",
            "outcomes": f"file:{self.folder / 'shared.jsonl'}",
        }

    @asynccontextmanager
    async def function(self, name: str = "function", **settings: Any) -> AsyncIterator[Function]:
        """Run a function that reaches the machines; ``name`` is its folder, with its own ledger."""
        reach: dict[str, Any] = {
            "mode": "enforce",
            "project": "lab-project",
            "compute_endpoint": f"http://127.0.0.1:{self.port}",
            "ssh_key": self.key,
            "ssh_user": self.user,
        }
        async with function_process(self.folder / name, **(reach | settings)) as function:
            yield function


@asynccontextmanager
async def cloud(folder: Path, *machines: Machine) -> AsyncIterator[Cloud]:
    """Serve the Compute API for running machines, host keys in guest attributes; write the key file."""
    key = folder / "key"
    key.write_bytes(machines[0].client_key.export_private_key())
    key.chmod(0o600)
    project = machines[0].ref.project_id
    compute = PretendCompute([_instance(machine) for machine in machines], {project: {}})
    port = free_port()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(compute.app, port))
        yield Cloud(folder, compute, port, key, machines[0].user)


def host_key_of(machine: Machine) -> dict[str, str]:
    """Give a machine's host key as its guest agent publishes it in guest attributes."""
    kind, value = machine.host_key.split()[:2]
    return {f"hostkeys/{kind}": value}


def _instance(machine: Machine) -> PretendInstance:
    return PretendInstance(
        *(machine.ref.project_id, machine.ref.zone, machine.ref.instance_id, machine.name),
        internal_ip=machine.address,
        guest_attributes=host_key_of(machine),
    )


# From a line on the machine to a message


async def line(machine: Machine, shape: str = "ops agent, journald receiver") -> dict[str, Any]:
    """Ship the machine's latest complaint, waited for, as a push body with a message id of its own."""
    entries: list[dict[str, Any]] = []

    async def shipped() -> bool:
        entries.extend(await shipper.SHAPES[shape](machine))
        return bool(entries)

    await until(shipped)
    return shipper.pubsub_push(entries[-1], message_id=new_id())


def told_again(body: Mapping[str, Any], **attributes: str) -> dict[str, Any]:
    """Give the same entry in a message of its own."""
    message = body["message"]
    return shipper.pubsub_push(
        json.loads(base64.b64decode(message["data"])), message_id=new_id(), attributes=attributes
    )


def new_id() -> str:
    """Give a message id that looks like Pub/Sub's and is nobody else's."""
    return str(uuid.uuid4().int % 10**16)


def id_of(body: Mapping[str, Any]) -> str:
    """Give a push body's message id."""
    return str(body["message"]["messageId"])


def tick() -> dict[str, Any]:
    """Give the scheduler's message as Pub/Sub pushes it."""
    data = base64.b64encode(json.dumps({"logmend": "tick"}).encode()).decode()
    return {"message": {"data": data, "messageId": new_id()}}


# The operator's hand in the ledger


@asynccontextmanager
async def ledger(function: Function) -> AsyncIterator[SqliteStore]:
    """Open the function's ledger beside it, as an operator's command does."""
    store = SqliteStore(Path(function.state.removeprefix("sqlite:")))
    try:
        yield store
    finally:
        await store.aclose()


async def order(function: Function, machine: Machine, action: Action, runbook: str = RUNBOOK) -> str:
    """Write an operator's intent into the function's ledger; gives its id."""
    now = datetime.now(UTC)
    intent = Intent(
        intent_id=f"o-{new_id()}",
        runbook=runbook,
        action=action,
        instance=machine.ref,
        origin=Origin.OPERATOR,
        source=Source("operator", timestamp=now),
        created_at=now,
        event_time=now,
        requested_by=OPERATOR,
    )
    async with ledger(function) as store:
        assert await Journal(store, owner="test", lease=timedelta(minutes=1)).write(intent, now)
    return intent.intent_id


async def make_due(function: Function, intent_id: str) -> None:
    """Let the time until the tick's next look at an intent have passed.

    What runs detached on the VM is looked at from five minutes after it was started.
    """
    key: Key = ("intents", intent_id)

    def step(found: Mapping[Key, Document]) -> tuple[dict[Key, Document | None], None]:
        document = found[key]
        assert document.queue is not None, f"{intent_id} waits for nothing"
        now, data = datetime.now(UTC), dict(document.data)
        if data["state"] == "requested" and data["executor"] == "ssh":
            data["requested_at"] = (now - decide.RECHECK).isoformat()
        return {key: replace(document, data=data, due=now)}, None

    async with ledger(function) as store:
        await store.transact([key], step)


# What is true on the machine


@dataclass(frozen=True, slots=True)
class Standing:
    """How a machine stands as far as the runbook could change it; equal means untouched."""

    timer: TimerState
    units: str
    records: str
    as_root: int = field(metadata={"doc": "commands that were run through sudo"})


async def standing(machine: Machine) -> Standing:
    """Look at a machine from inside, without ssh."""
    await machine.synced()
    timer, units, records, sudo = await asyncio.gather(
        machine.timer_state(),
        machine.unit_checksums(),
        machine.run("cd /var/lib/logmend 2>/dev/null && sha256sum * 2>/dev/null; true"),
        machine.journal("SYSLOG_IDENTIFIER=sudo"),
    )
    as_root = sum("COMMAND=" in entry["MESSAGE"] for entry in sudo)
    return Standing(timer, units, records.out, as_root)


async def seen(machine: Machine) -> dict[str, str]:
    """Say in the words of the check's evidence how things are on the machine."""
    timer = await machine.timer_state()
    return {
        "unit": timer.load,
        "timer_enabled": timer.enabled,
        "timer_active": timer.active,
        "config_status": str(machine.metadata.config_status),
        "instance_id": machine.metadata.attributes["instance/id"],
    }


async def logins(machine: Machine) -> int:
    """Count the logins over ssh that the machine let in."""
    await machine.synced()
    entries = await machine.journal("_SYSTEMD_UNIT=ssh.service")
    return sum("Accepted publickey" in entry["MESSAGE"] for entry in entries)


WATCH = r"""#!/bin/sh
# Stands before the real systemctl: notes changes of units, and waits while /run/lab-hold-* is there.
note() { echo "$1 $$ $(date +%s.%N)" >>/var/log/lab-changes; }
hold() { while [ -e "/run/lab-hold-$1" ]; do sleep 0.05; done; }
case $* in
*--runtime*) ;;
disable\ * | enable\ *)
    note begin
    hold before
    /usr/bin/systemctl "$@"
    rc=$?
    hold after
    note end
    exit $rc
    ;;
show\ *) [ "$(id -u)" = 0 ] || hold check ;;
esac
exec /usr/bin/systemctl "$@"
"""
"""For ``/usr/local/bin/systemctl``, which sudo and login shells find first."""


async def watch(machine: Machine, *holds: str) -> None:
    """Have a machine note every change of a unit, and stop at ``holds``.

    ``before`` and ``after`` the change itself, or at the next ``check`` of a user who is not root.
    """
    await machine.run("cat >/usr/local/bin/systemctl", stdin=WATCH.encode())
    await machine.output("chmod 755 /usr/local/bin/systemctl")
    for each in holds:
        await machine.output(f"touch /run/lab-hold-{each}")


async def let_go(machine: Machine, hold: str) -> None:
    """Let what waits at a hold go on."""
    await machine.output(f"rm /run/lab-hold-{hold}")


async def changes(machine: Machine) -> list[str]:
    """Give what the machine noted of changes, in order: ``begin`` and ``end`` of each."""
    return [each.split()[0] for each in (await machine.run("cat /var/log/lab-changes")).out.splitlines()]


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is so; fail after DEADLINE."""
    ends = asyncio.get_running_loop().time() + DEADLINE
    while not await what():
        assert asyncio.get_running_loop().time() < ends, "it has not come to that"
        await asyncio.sleep(0.05)


async def until_given_up(machine: Machine, unit: str) -> None:
    """Wait until systemd starts a unit no more."""

    async def failed() -> bool:
        return (await machine.run(f"systemctl is-failed {unit}")).out.strip() == "failed"

    await until(failed)


async def until_listening(machine: Machine, port: int) -> None:
    """Wait until somebody listens on a port of the machine."""

    async def listening() -> bool:
        return bool((await machine.output(f"ss -Hltn sport = :{port}")).strip())

    await until(listening)


async def until_changing(machine: Machine) -> None:
    """Wait until a change has begun on the machine."""

    async def begun() -> bool:
        return "begin" in await changes(machine)

    await until(begun)


async def until_changed(machine: Machine) -> None:
    """Wait until every change that was begun on the machine has ended."""

    async def ended() -> bool:
        noted = await changes(machine)
        return bool(noted) and noted.count("begin") == noted.count("end")

    await until(ended)


async def until_off(machine: Machine) -> None:
    """Wait until the timer is off."""

    async def off() -> bool:
        return await machine.timer_state() == TimerState("loaded", "disabled", "inactive")

    await until(off)

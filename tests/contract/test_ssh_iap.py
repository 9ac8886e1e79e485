"""The ssh executor through IAP TCP forwarding; the relay encodes our reading of it (see relay.py)."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from tests.contract import relay
from tests.contract.machines import (
    FACTS,
    OTHER_KEY,
    SUDO,
    Pinned,
    Shell,
    executor,
    runbook,
    served,
)

from logmend.adapters.ssh.executor import SshExecutor
from logmend.adapters.ssh.routes import Iap
from logmend.errors import Permanent, Transient
from logmend.model.enums import Action
from logmend.model.struct import replace
from logmend.model.values import Evidence

PRIVATE = replace(FACTS, internal_ip=None, external_ip=None)
"""A VM that nothing can dial: only the relay reaches it."""


async def token() -> str:
    return "a-token"


def through(running: relay.Relay, **changes: object) -> SshExecutor:
    """Give the executor that goes through a relay."""
    return executor(22, route=Iap(token, url=running.url), **changes)


@pytest.fixture
def machine(tmp_path: Path) -> Shell:
    """Give a machine with a working sudo."""
    shell = Shell(tmp_path)
    shell.put("sudo", SUDO)
    return shell


async def check(over: SshExecutor, script: str = "echo a=1\nexit 101\n") -> Evidence:
    """Connect, check once, leave."""
    async with over.open(PRIVATE, runbook(script), Action.CHECK) as session:
        return await session.check()


async def test_a_private_vm_is_checked_and_mended_through_the_relay(machine: Shell, tmp_path: Path) -> None:
    """The same conversation as on a direct route; the VM goes by its name, and the token is asked for."""
    state = tmp_path / "fixed"
    book = runbook(f"[ -e {state} ] && exit 100\nexit 101\n", f"touch {state}\nexit 100\n")
    async with served(machine) as port, relay.running({"web-1": ("127.0.0.1", port)}) as running:
        async with through(running).open(PRIVATE, book, Action.ENFORCE) as session:
            codes = [each.exit_code for each in (await session.check(), await session.enforce())]
            codes.append((await session.check()).exit_code)
        await running.idle()
        assert codes == [101, 100, 100]
        assert running.faults == []
        assert len(running.requests) == 1


async def test_a_flood_through_the_relay_is_cut_off(machine: Shell) -> None:
    """Bounded on this route as well."""
    async with served(machine) as port, relay.running({"web-1": ("127.0.0.1", port)}) as running:
        assert (await check(through(running), "exec yes\n")).exit_code == -1


async def test_another_host_key_behind_the_relay_is_a_mismatch(machine: Shell) -> None:
    """The relay is not trusted with the VM's identity."""
    async with served(machine) as port, relay.running({"web-1": ("127.0.0.1", port)}) as running:
        with pytest.raises(Permanent, match=r"^host_key_mismatch"):
            await check(through(running, host_keys=Pinned((OTHER_KEY,))))
        await running.idle()


@pytest.mark.parametrize(
    ("behaviour", "kind", "reason"),
    [
        (relay.closes(4033), Permanent, "iap_not_authorized"),
        (relay.closes(4047), Permanent, "iap_instance_lookup_failed"),
        (relay.closes(4003), Transient, "unreachable"),
        (relay.drops_before_sid, Transient, "unreachable"),
        (relay.drops_after(30), Transient, "unreachable"),
        (relay.silent_before_sid, Transient, "unreachable"),
        (relay.silent_after_sid, Transient, "unreachable"),
        (relay.deaf_after_sid, Transient, "unreachable"),
    ],
    ids=["4033", "4047", "4003", "dropped", "dropped later", "silent", "silent later", "deaf"],
)
async def test_a_relay_that_does_not_let_us_in_says_why_in_bounded_time(
    machine: Shell, behaviour: relay.Behaviour, kind: type[Exception], reason: str
) -> None:
    """Each in the word that the operator finds in the documentation."""
    async with (
        served(machine) as port,
        relay.running({"web-1": ("127.0.0.1", port)}, behaviour) as running,
    ):
        patience = 1.5 if reason == "unreachable" else 50
        with pytest.raises(kind, match=f"^{reason}"):
            await asyncio.wait_for(check(through(running, connect_timeout=patience)), 60)
    assert machine.commands == []


@pytest.mark.parametrize(
    "behaviour",
    [relay.drops_after(6000), relay.closes(4033, after=6000), relay.long_closes(4010, after=6000)],
    ids=["dropped", "4033", "4010"],
)
async def test_a_tunnel_that_breaks_under_a_script_is_a_lost_connection(
    machine: Shell, behaviour: relay.Behaviour
) -> None:
    """Whatever code it breaks with: the script may have run, so nothing is final."""
    endless = "while :; do echo a=1; sleep 0.01; done\n"
    async with (
        served(machine) as port,
        relay.running({"web-1": ("127.0.0.1", port)}, behaviour) as running,
    ):
        with pytest.raises(Transient, match=r"^connection_lost"):
            await asyncio.wait_for(check(through(running), endless), 100)
    assert len(machine.commands) == 1


async def test_cancelling_closes_the_tunnel(machine: Shell) -> None:
    """Nothing is left on the relay's side either."""
    async with served(machine) as port, relay.running({"web-1": ("127.0.0.1", port)}) as running:
        task = asyncio.create_task(
            check(through(running, deadline=timedelta(seconds=30)), "sleep 20 >/dev/null 2>&1\n")
        )
        while not machine.commands:  # noqa: ASYNC110  polled in a test
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await running.idle()
        assert len(asyncio.all_tasks()) < 20

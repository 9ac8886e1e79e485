"""First contact: a VM that never published a host key is pinned over IAP, and only that key is believed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.contract import relay
from tests.contract.machines import (
    FACTS,
    HOST_KEY,
    OTHER_KEY,
    REF,
    SUDO,
    Now,
    Shell,
    executor,
    runbook,
    served,
)

from logmend.adapters.ssh.executor import SshExecutor
from logmend.adapters.ssh.host_keys import PinnedHostKeys, PublishedHostKeys
from logmend.adapters.ssh.routes import Iap
from logmend.adapters.stores.memory import MemoryStore
from logmend.adapters.stores.sqlite import SqliteStore
from logmend.errors import Permanent, Transient
from logmend.ledger import Contacts
from logmend.ledger.contacts import Pin
from logmend.model.enums import Action
from logmend.model.state import By
from logmend.wiring import open_host_keys

P256 = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
RSA = asyncssh.generate_private_key("ssh-rsa")


async def token() -> str:
    return "a-token"


class Attributes:
    """Guest attributes of one VM: what it published, or the error instead."""

    def __init__(self, published: dict[str, str] | None = None, error: Exception | None = None) -> None:
        self.published = published
        self.error = error

    async def guest_attributes(self, ref: object, path: str) -> dict[str, str]:
        del ref, path
        if self.error is not None:
            raise self.error
        if self.published is None:
            raise Permanent("not_found", "none")
        return self.published


def text(key: asyncssh.SSHKey) -> str:
    """Give a public key as it is pinned."""
    return " ".join(key.export_public_key().decode().split()[:2])


def published(key: asyncssh.SSHKey) -> dict[str, str]:
    """Give a key as a VM publishes it."""
    kind, value = text(key).split()
    return {kind: value}


class Fleet:
    """A ledger, what the VM published, and the executors of as many function instances as wanted."""

    def __init__(self, attributes: Attributes | None = None) -> None:
        self.store = MemoryStore()
        self.contacts = Contacts(self.store)
        self.attributes = attributes or Attributes()

    def keys(self, *, first_contact: bool = True) -> PinnedHostKeys:
        source = PublishedHostKeys(self.attributes)
        return PinnedHostKeys(source, self.contacts, Now(), first_contact=first_contact)

    def executor(self, running: relay.Relay) -> SshExecutor:
        return executor(22, route=Iap(token, url=running.url), host_keys=self.keys())


@asynccontextmanager
async def behind_iap(folder: Path, *keys: asyncssh.SSHKey) -> AsyncIterator[tuple[relay.Relay, Shell]]:
    """Serve a VM with those host keys behind the relay."""
    shell = Shell(folder)
    shell.put("sudo", SUDO)
    async with (
        served(shell, server_host_keys=list(keys)) as port,
        relay.running({"web-1": ("127.0.0.1", port)}) as running,
    ):
        yield running, shell


async def host_key_of(over: SshExecutor) -> str:
    """Check a VM, and give how its key was known."""
    async with over.open(FACTS, runbook("exit 101\n"), Action.CHECK) as session:
        assert (await session.check()).exit_code == 101
        return session.login.host_key


async def test_a_vm_that_never_published_a_key_is_pinned_at_first_contact(tmp_path: Path) -> None:
    """The pin is made without a login, and a new connection that requires it does the work, sudo included."""
    fleet, state = Fleet(), tmp_path / "fixed"
    book = runbook(
        f"[ -e {state} ] && exit 100\nexit 101\n", f"touch {state}\necho root=$AS_ROOT\nexit 100\n"
    )
    async with behind_iap(tmp_path, HOST_KEY) as (running, shell):
        async with fleet.executor(running).open(FACTS, book, Action.ENFORCE) as session:
            assert session.login.host_key == "first_seen"
            assert [(await session.check()).exit_code, (await session.enforce()).values["root"]] == [
                101,
                "yes",
            ]
        assert await host_key_of(fleet.executor(running)) == "pinned"
        await running.idle()
    assert len(running.requests) == 3, "one to see the key, one to work, one for the second attempt"
    assert len(shell.commands) == 3
    contact = await fleet.contacts.get(REF)
    assert contact.pin is not None
    assert contact.pin.key == text(HOST_KEY)
    [(name, document)] = await fleet.store.scan("contacts", None, 10)
    assert (name, document.expire_at) == (REF.instance_id, None), "a pin never expires by itself"


async def test_a_key_other_than_the_pinned_one_is_a_mismatch_and_no_second_pin(tmp_path: Path) -> None:
    """Also where the VM published the new key meanwhile: nothing replaces a pin in silence."""
    fleet = Fleet()
    await fleet.contacts.pin(REF, Pin(text(OTHER_KEY), datetime.now(UTC)))
    async with behind_iap(tmp_path, HOST_KEY, P256) as (running, shell):
        for fleet.attributes.published in (None, published(HOST_KEY)):
            with pytest.raises(Permanent, match="pinned") as caught:
                await host_key_of(fleet.executor(running))
            assert caught.value.reason == "host_key_mismatch"
    assert shell.commands == []
    assert (await fleet.contacts.get(REF)).pin is not None


async def test_published_keys_need_no_pin(tmp_path: Path) -> None:
    """What the VM said of itself counts more than what is seen on the way to it."""
    fleet = Fleet(Attributes(published(HOST_KEY)))
    async with behind_iap(tmp_path, HOST_KEY) as (running, _):
        assert await host_key_of(fleet.executor(running)) == "published"
        fleet.attributes.published = published(OTHER_KEY)
        with pytest.raises(Permanent, match="host_key_mismatch"):
            await host_key_of(fleet.executor(running))
    assert (await fleet.contacts.get(REF)).pin is None


async def test_an_organization_policy_against_guest_attributes_leads_to_pinning(tmp_path: Path) -> None:
    """Nobody there can publish anything."""
    fleet = Fleet(Attributes(error=Permanent("guest_attributes_disabled", "constraints/…")))
    async with behind_iap(tmp_path, HOST_KEY) as (running, _):
        assert await host_key_of(fleet.executor(running)) == "first_seen"


@pytest.mark.parametrize(
    "error", [Transient("compute_unavailable", "503"), Permanent("not_permitted", "no permission")]
)
async def test_what_could_not_be_looked_up_is_no_first_contact(tmp_path: Path, error: Exception) -> None:
    """Trouble of the API, or a missing permission, must not turn published keys into a pin."""
    fleet = Fleet(Attributes(error=error))
    async with behind_iap(tmp_path, HOST_KEY) as (running, _):
        with pytest.raises((Permanent, Transient)):
            await host_key_of(fleet.executor(running))
    assert running.requests == []


async def test_two_first_contacts_at_once_end_with_one_pin(tmp_path: Path) -> None:
    """Twenty instances, some of which an impostor answers: one pin, and only its key does any work."""
    fleet = Fleet()
    impostor = tmp_path / "impostor"
    impostor.mkdir()
    async with (
        behind_iap(tmp_path, HOST_KEY) as (running, shell),
        behind_iap(impostor, OTHER_KEY) as (lying, other),
    ):
        tried = await asyncio.gather(
            *(host_key_of(fleet.executor(lying if n % 2 else running)) for n in range(20)),
            return_exceptions=True,
        )
    pin = (await fleet.contacts.get(REF)).pin
    assert pin is not None
    winner, loser = (shell, other) if pin.key == text(HOST_KEY) else (other, shell)
    assert len(winner.commands) == 10
    assert loser.commands == []
    reasons = [each.reason for each in tried if isinstance(each, Permanent)]
    assert reasons == ["host_key_mismatch"] * 10
    assert [each for each in tried if isinstance(each, str)].count("first_seen") == 1


async def test_instances_that_share_a_file_agree_on_one_pin(tmp_path: Path) -> None:
    """Each with a connection of its own to the ledger; what each is told is what is there."""
    stores = [SqliteStore(tmp_path / "ledger.sqlite") for _ in range(8)]
    pins = [Pin(f"ssh-ed25519 {number}", datetime.now(UTC)) for number in range(8)]
    told = await asyncio.gather(
        *(Contacts(each).pin(REF, pin) for each, pin in zip(stores, pins, strict=True))
    )
    assert len(set(told)) == 1
    assert told[0] == (await Contacts(stores[0]).get(REF)).pin
    for each in stores:
        await each.aclose()


@pytest.mark.parametrize(
    ("keys", "pinned"), [((HOST_KEY, P256, RSA), P256), ((HOST_KEY, RSA), HOST_KEY), ((RSA,), RSA)]
)
async def test_the_pin_is_of_the_kind_that_a_host_keeps_longest(
    tmp_path: Path, keys: tuple[asyncssh.SSHKey, ...], pinned: asyncssh.SSHKey
) -> None:
    """P-256 outlives FIPS mode; a host that has RSA alone is pinned by that."""
    fleet = Fleet()
    async with behind_iap(tmp_path, *keys) as (running, _):
        assert await host_key_of(fleet.executor(running)) == "first_seen"
        assert await host_key_of(fleet.executor(running)) == "pinned"
    assert (await fleet.contacts.get(REF)).pin == Pin(text(pinned), (await fleet.contacts.get(REF)).pin.at)  # type: ignore[union-attr]


async def test_the_direct_route_pins_only_where_that_was_asked_for(tmp_path: Path) -> None:
    """An address says little about who answers there; a pin that was made over IAP holds all the same."""
    fleet = Fleet()
    shell = Shell(tmp_path)
    async with served(shell) as port:
        shy = executor(port, host_keys=fleet.keys(first_contact=False))
        with pytest.raises(Permanent, match="direct route") as caught:
            await host_key_of(shy)
        assert caught.value.reason == "host_key_unknown"
        assert shell.commands == []
        assert await host_key_of(executor(port, host_keys=fleet.keys())) == "first_seen"
        assert await host_key_of(shy) == "pinned"


async def test_a_forgotten_pin_stays_on_record_and_the_next_contact_is_a_first_one(tmp_path: Path) -> None:
    """Who took it back, when and why; then the new key is pinned."""
    fleet, when = Fleet(), datetime.now(UTC)
    old = await fleet.contacts.pin(REF, Pin(text(OTHER_KEY), when))
    assert await fleet.contacts.forget(REF, By("sre@example.com", when, "rebuilt")) == old
    assert await fleet.contacts.forget(REF, By("sre@example.com", when)) is None
    async with behind_iap(tmp_path, HOST_KEY) as (running, _):
        assert await host_key_of(fleet.executor(running)) == "first_seen"
    contact = await fleet.contacts.get(REF)
    assert contact.pin is not None
    assert contact.pin.key == text(HOST_KEY)
    [forgotten] = contact.forgotten
    assert (forgotten.pin, forgotten.by, forgotten.why) == (old, "sre@example.com", "rebuilt")


async def test_a_first_contact_with_nobody_is_unreachable_and_pins_nothing() -> None:
    """The same words as for a login."""
    fleet = Fleet()
    async with relay.running({}) as running:
        with pytest.raises((Transient, Permanent)) as caught:
            await host_key_of(fleet.executor(running))
    assert isinstance(caught.value, Transient | Permanent)
    assert caught.value.reason in ("iap_instance_lookup_failed", "unreachable")
    assert (await fleet.contacts.get(REF)).pin is None


async def test_a_first_contact_reads_nothing_of_the_hosts_ssh_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile home directory and agent make no difference."""
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "config").write_text("Host *\n  ProxyCommand false\n  HostKeyAlgorithms ssh-rsa\n")
    (home / "id_ed25519").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\ngarbage\n")
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no-agent"))
    fleet = Fleet()
    async with behind_iap(tmp_path, HOST_KEY) as (running, _):
        assert await host_key_of(fleet.executor(running)) == "first_seen"


@pytest.mark.parametrize(
    ("setting", "route", "pins"),
    [
        ("auto", "iap", True),
        ("auto", "direct", False),
        ("pinned", "direct", True),
        ("published", "iap", None),
    ],
)
def test_the_setting_says_who_may_pin(setting: str, route: Any, pins: bool | None) -> None:
    """``auto`` pins over IAP alone; ``published`` never."""
    from logmend.settings import Settings, SshRoute

    settings = Settings(ssh_host_keys=setting, ssh_route=SshRoute(route))
    found = open_host_keys(settings, Now(), Attributes(), Contacts(MemoryStore()))  # type: ignore[arg-type]
    assert getattr(found, "_first_contact", None) is pins

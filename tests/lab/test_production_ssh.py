"""SSH as production needs it, on real machines: OS Login credentials, pinned host keys, the IAP route.

The machine's sshd trusts the certificate authority of the OS Login fake, and asks its metadata server for
the keys of login profiles, as the guest agent's OS Login does. What carries the connection is our own relay.
"""

from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from logmend.model.enums import Action
from logmend.outcome import reasons
from tests.contract import oslogin_fake, relay
from tests.contract.oslogin_fake import ACCOUNT, USERNAME, FakeOsLogin
from tests.contract.test_access_token import endpoint, key_file  # noqa: F401  # fixtures
from tests.lab.cloud import Cloud, cloud, line, order, tick, told_again
from tests.lab.conftest import Boot
from tests.lab.machines import Machine, TimerState
from tests.lab.test_refusals import ROOT_ONLY

HOST_KEY_KINDS = ("ecdsa-sha2-nistp256", "ssh-ed25519", "ssh-rsa")
OFF = TimerState("loaded", "disabled", "inactive")
ON = TimerState("loaded", "enabled", "active")
PROFILE_KEYS = "oslogin/keys"
KEYS_COMMAND = f"""#!/bin/sh
# What google_authorized_keys does: ask the metadata server for the keys of a login profile.
exec curl -sf -m 5 -H Metadata-Flavor:Google http://metadata.google.internal/computeMetadata/v1/{PROFILE_KEYS}
"""
PRINCIPALS_COMMAND = """#!/bin/sh
# What google_authorized_principals does once OS Login has let a certificate's user in: it prints the name.
echo "$1"
"""
KEYS = """
AuthorizedKeysCommand /usr/bin/google_authorized_keys
AuthorizedKeysCommandUser root
"""
AUTHORITY = """
TrustedUserCAKeys /etc/ssh/oslogin-ca.pub
AuthorizedPrincipalsCommand /usr/bin/google_authorized_principals %u %k
AuthorizedPrincipalsCommandUser root
"""
GENERATIONS = {
    # What the guest agent writes into sshd_config, in its order (google_guest_agent/oslogin.go): OpenSSH 9.2
    # ignores an AuthorizedPrincipalsCommand that stands behind an AuthorizedKeysCommand.
    "2022: no authority": (KEYS, False, "imported_key"),
    "2023-05: an authority, and an OS Login without principals": (AUTHORITY + KEYS, False, "imported_key"),
    "2023-09: both": (AUTHORITY + KEYS, True, "certificate"),
    "2026-01: security keys, no authority": (
        KEYS.replace("google_authorized_keys\n", "google_authorized_keys_sk\n"),
        True,
        "imported_key",
    ),
}
"""Guests by age: their sshd_config, whether google_authorized_principals is there, and what lets us in."""
CURRENT = "2023-09: both"


@pytest.fixture
def oslogin() -> Iterator[FakeOsLogin]:
    """Run the OS Login fake."""
    with oslogin_fake.running() as fake:
        yield fake


async def login_machine(
    boot: Boot, oslogin: FakeOsLogin, *, admin: bool = True, guest: str = CURRENT, **options: Any
) -> Machine:
    """Boot a machine whose only way in is OS Login; ``admin`` is what osAdminLogin grants beyond osLogin."""
    config, principals, _ = GENERATIONS[guest]
    machine = await boot(
        files={
            "/etc/ssh/oslogin-ca.pub": oslogin.ca.export_public_key().decode(),
            "/etc/ssh/sshd_config.d/oslogin.conf": config,
            # The one with security keys gives service accounts their usual keys (authorized_keys_sk.cc).
            "/usr/bin/google_authorized_keys": KEYS_COMMAND,
            "/usr/bin/google_authorized_keys_sk": KEYS_COMMAND,
        }
        | ({"/usr/bin/google_authorized_principals": PRINCIPALS_COMMAND} if principals else {}),
        **options,
    )
    await machine.output("chmod 755 /usr/bin/google_*")
    await machine.output(f"useradd --create-home --shell /bin/sh {USERNAME}")
    if admin:
        await machine.output(f"echo '{USERNAME} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/oslogin")
    await machine.output("systemctl reload ssh")

    def imported(*arguments: str, **request: Any) -> tuple[int, Any]:
        answer = FakeOsLogin.import_key(oslogin, *arguments, **request)
        machine.metadata.attributes[PROFILE_KEYS] = "\n".join(each["key"] for each in oslogin.keys.values())
        return answer

    oslogin.import_key = imported  # type: ignore[method-assign]
    return machine


@asynccontextmanager
async def reachable(tmp_path: Path, machine: Machine, oslogin: FakeOsLogin, **relay_options: Any) -> Any:
    """Serve everything around a machine that only the relay reaches; gives cloud, relay and settings."""
    backends = {machine.name: (machine.address, machine.port)}
    async with cloud(tmp_path, machine) as around, relay.running(backends, **relay_options) as tunnel:
        around.instance(machine).internal_ip = None
        around.instance(machine).service_account = "vm@lab-project.iam.gserviceaccount.com"
        yield (
            around,
            tunnel,
            {
                "ssh_route": "iap",
                "iap_endpoint": tunnel.url,
                "oslogin_endpoint": oslogin.url,
                "service_account": ACCOUNT,
            },
        )


def function_of(around: Cloud, settings: dict[str, Any], **more: Any) -> Any:
    """Start a function without a key file: credentials come from OS Login."""
    return around.function(**(settings | {"ssh_key": None, "ssh_user": None} | more))


@pytest.mark.usefixtures("key_file")
async def test_a_private_machine_is_remediated_through_iap_with_a_certificate(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path
) -> None:
    """From a push to the fix: a certificate for this VM, the host key it published, the relay."""
    machine = await login_machine(boot, oslogin)
    async with reachable(tmp_path, machine, oslogin) as (around, tunnel, settings):
        async with function_of(around, settings) as function:
            answer = await function.push(await line(machine))
            assert (answer.status, answer.verdict) == (200, "remediated"), answer
        await tunnel.idle()
    assert await machine.timer_state() == OFF
    assert tunnel.faults == []
    assert len(tunnel.requests) == 1
    assert "sign" in oslogin.calls
    assert oslogin.keys == {}
    signed = next(body for call, body in zip(oslogin.calls, oslogin.bodies, strict=True) if call == "sign")
    assert signed["computeInstance"].endswith(f"/instances/{machine.ref.instance_id}")


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize("guest", GENERATIONS)
async def test_a_guest_of_any_age_that_never_published_a_host_key_is_remediated(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path, guest: str
) -> None:
    """From its line to the verified fix through the relay: the key of the first contact, what it lets in."""
    machine = await login_machine(boot, oslogin, guest=guest)
    async with reachable(tmp_path, machine, oslogin) as (around, tunnel, settings):
        around.instance(machine).guest_attributes = {}
        seen = await line(machine)
        async with function_of(around, settings) as function:
            answer = await function.push(seen)
            assert (answer.status, answer.verdict) == (200, "remediated"), answer
            [outcome] = function.outcomes(result="remediated")
            assert (outcome["host_key"], outcome["credential"]) == ("first_seen", GENERATIONS[guest][2])
        await tunnel.idle()
    assert await machine.timer_state() == OFF
    assert oslogin.keys == {}, "nothing is left in the login profile"


@pytest.mark.usefixtures("key_file")
async def test_a_running_machine_publishes_its_host_keys_by_the_command_that_we_advise(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path
) -> None:
    """What reasons and docs tell people to run there, run there; then the strictest setting lets us in."""
    machine = await login_machine(boot, oslogin)
    private = "/etc/ssh/ssh_host_ed25519_key"
    await machine.output(f"ssh-keygen -A && ssh-keygen -y -f {private} >{private}.pub")
    async with reachable(tmp_path, machine, oslogin) as (around, _, settings):
        around.instance(machine).guest_attributes = {}
        strict = settings | {"ssh_host_keys": "published"}
        seen = await line(machine)
        async with function_of(around, strict) as function:
            assert (await function.push(seen)).verdict == "failed: host_key_unknown"
        ran = await machine.run(reasons.PUBLISH, user=machine.user)
        assert (ran.rc, ran.err) == (0, "")
        published = machine.metadata.guest_attributes
        assert sorted(published) == [f"hostkeys/{kind}" for kind in HOST_KEY_KINDS]
        assert machine.host_key.split()[1] == published["hostkeys/ssh-ed25519"]
        around.instance(machine).guest_attributes = dict(published)
        async with function_of(around, strict, name="again") as function:
            answer = await function.push(told_again(seen))
            assert answer.verdict == "remediated", answer
            assert [each["host_key"] for each in function.outcomes()] == ["published"]


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize("how", ["REJECT", "DROP"])
@pytest.mark.parametrize("guest", [CURRENT, "2022: no authority"])
async def test_a_metadata_server_that_answers_root_alone_is_told_as_such(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path, guest: str, how: str
) -> None:
    """OS Login asked it as root to let us in; our login gets no answer: a firewall with an owner match."""
    machine = await login_machine(boot, oslogin, guest=guest)
    await machine.output(f"{ROOT_ONLY} {how}")
    async with reachable(tmp_path, machine, oslogin) as (around, _, settings):
        seen = await line(machine)
        async with function_of(around, settings) as function:
            answer = await function.push(seen)
            assert (answer.status, answer.verdict) == (200, "refused: metadata_root_only"), answer
    assert await machine.timer_state() == ON


@pytest.mark.usefixtures("key_file")
async def test_a_check_that_is_told_no_instance_there_fails_with_the_same_reason(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path
) -> None:
    """The Ops Agent's check sees how things are, and cannot say on which VM."""
    machine = await login_machine(boot, oslogin)
    await machine.output(f"{ROOT_ONLY} REJECT")
    there = reachable(tmp_path, machine, oslogin)
    async with there as (around, _, settings), function_of(around, settings) as function:
        intent = await order(function, machine, Action.CHECK, runbook="ops-agent")
        await function.push(tick())
        assert function.verdicts(intent_id=intent) == ["failed: metadata_root_only"]


@pytest.mark.usefixtures("key_file")
async def test_where_certificates_are_not_to_be_had_one_short_lived_key_serves_and_is_deleted(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path
) -> None:
    """The fallback: a key in the login profile, gone from it once the function has stopped."""
    machine = await login_machine(boot, oslogin)
    oslogin.fail("sign", 501, times=10)
    async with reachable(tmp_path, machine, oslogin) as (around, _, settings):
        async with function_of(around, settings) as function:
            answer = await function.push(await line(machine))
            assert answer.verdict == "remediated", answer
            assert len(oslogin.keys) == 1
        assert oslogin.keys == {}, "deleted at shutdown"
    assert await machine.timer_state() == OFF


@pytest.mark.usefixtures("key_file")
async def test_observing_takes_no_more_than_os_login(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path
) -> None:
    """Without osAdminLogin the check runs; enforcing says which role is missing."""
    machine = await login_machine(boot, oslogin, admin=False)
    async with reachable(tmp_path, machine, oslogin) as (around, _, settings):
        async with function_of(around, settings, mode="observe") as observing:
            seen = await line(machine)
            assert (await observing.push(seen)).verdict == "planned"
        async with function_of(around, settings, name="enforcing") as enforcing:
            answer = await enforcing.push(told_again(seen))
            assert answer.verdict == "failed: not_permitted"
            assert "roles/compute.osAdminLogin" in answer.said["detail"]
    assert await machine.timer_state() == ON


@pytest.mark.usefixtures("key_file")
@pytest.mark.parametrize(
    ("code", "status", "verdict"),
    [
        (4033, 200, "failed: iap_not_authorized"),
        (4047, 200, "failed: iap_instance_lookup_failed"),
        (4003, 503, "deferred: unreachable"),
        (4004, 503, "deferred: iap_reauthenticate"),
    ],
)
async def test_what_the_relay_says_is_the_reason_and_decides_the_acknowledgement(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path, code: int, status: int, verdict: str
) -> None:
    """A permanent no is acknowledged, a transient one is delivered again; the machine is not touched."""
    machine = await login_machine(boot, oslogin)
    refusing = reachable(tmp_path, machine, oslogin, behaviour=relay.closes(code))
    async with refusing as (around, _, settings), function_of(around, settings) as function:
        answer = await function.push(await line(machine))
        assert (answer.status, answer.verdict) == (status, verdict), answer
    assert await machine.timer_state() == ON


@pytest.mark.usefixtures("key_file")
async def test_a_rotated_host_key_is_a_mismatch_until_the_machine_publishes_it(
    boot: Boot, oslogin: FakeOsLogin, tmp_path: Path
) -> None:
    """Fail closed: no retry at once, no touch; and believed once the guest attribute says so."""
    machine = await login_machine(boot, oslogin)
    async with reachable(tmp_path, machine, oslogin) as (around, _, settings):
        published = dict(around.instance(machine).guest_attributes)
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[1]
        around.instance(machine).guest_attributes = dict.fromkeys(published, other)
        seen = await line(machine)
        async with function_of(around, settings) as function:
            answer = await function.push(seen)
            assert (answer.status, answer.verdict) == (200, "failed: host_key_mismatch")
        assert await machine.timer_state() == ON
        around.instance(machine).guest_attributes = published
        async with function_of(around, settings, name="again") as function:
            assert (await function.push(told_again(seen))).verdict == "remediated"

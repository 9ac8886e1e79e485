"""Units of every standing, and machines set up in ways of their own, under real systemds and curl."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from logmend_cli.machine.roots import RELEASES
from tests.lab.conftest import Boot
from tests.lab.disk import CREDENTIALS, TIMER
from tests.lab.machines import Machine, TimerState
from tests.lab.test_scripts_on_machines import OFF, ON, play, records

EVERY = (*RELEASES, "bullseye")
UNIT = f"/usr/lib/systemd/system/{TIMER}"
OPT_IN = "instance/attributes/enable-workload-certificate"
MARK = "0123456789abcdef0123456789abcdef"
LINKED = f"""
systemctl disable --now {TIMER}
mkdir -p /opt/agent
mv {UNIT} /opt/agent/
systemctl daemon-reload
systemctl enable --now /opt/agent/{TIMER}
"""
ALIAS = f"""
systemctl disable --now {TIMER}
mv {UNIT} /usr/lib/systemd/system/another.timer
sed -i 's/^WantedBy=.*/&\\nAlias={TIMER}/' /usr/lib/systemd/system/another.timer
echo Unit=gce-workload-cert-refresh.service >/tmp/unit
sed -i '/^\\[Timer\\]/r /tmp/unit' /usr/lib/systemd/system/another.timer
systemctl daemon-reload
systemctl enable --now another.timer
"""
STATIC = f"""
systemctl disable --now {TIMER}
sed -i '/^\\[Install\\]/,$d' {UNIT}
systemctl daemon-reload
systemctl start {TIMER}
"""
GENERATED = f"""
systemctl disable --now {TIMER}
mv {UNIT} /opt/{TIMER}
mkdir -p /etc/systemd/system-generators
cat >/etc/systemd/system-generators/agent <<'END'
#!/bin/sh
cp /opt/{TIMER} "$1/"
mkdir -p "$1/timers.target.wants"
ln -s ../{TIMER} "$1/timers.target.wants/"
END
chmod 755 /etc/systemd/system-generators/agent
systemctl daemon-reload
systemctl start {TIMER}
"""


@asynccontextmanager
async def nothing_changes(machine: Machine) -> AsyncIterator[None]:
    """Hold a machine's timer and records to what they were before."""
    before = await machine.timer_state(), await machine.output("ls -l /etc/systemd/system")
    yield
    assert (await machine.timer_state(), await machine.output("ls -l /etc/systemd/system")) == before
    assert await records(machine) == []


@pytest.mark.parametrize("release", EVERY)
@pytest.mark.parametrize("setup", [LINKED, ALIAS], ids=["linked", "alias"])
async def test_a_unit_that_disabling_would_delete_is_left_alone(boot: Boot, release: str, setup: str) -> None:
    """There would be no way back, and behind an alias the line would go on: enforcing refuses."""
    machine = await boot(release=release, period=0.5)
    await machine.output(setup)
    assert (await machine.timer_state()).enabled == "enabled"
    assert (await play(machine, "validate.sh")).code == 101
    async with nothing_changes(machine):
        refused = await play(machine, "enforce.sh", mark=MARK)
        assert (refused.code, refused.evidence) == (102, {"reason": "irreversible"}), refused.complaints

    await machine.output(f"systemctl disable -q {TIMER}")
    assert (await machine.run(f"systemctl enable {TIMER}")).rc != 0, "that is why"


@pytest.mark.parametrize("release", EVERY)
async def test_a_timer_that_is_enabled_until_the_next_boot_is_turned_off_and_given_back_as_that(
    boot: Boot, release: str
) -> None:
    """It takes --runtime, both ways; also where it is enabled in both places."""
    machine = await boot(release=release)
    await machine.output(f"systemctl disable -q {TIMER}; systemctl enable -q --runtime {TIMER}")
    was = TimerState("loaded", "enabled-runtime", "active")
    assert await machine.timer_state() == was
    assert (await play(machine, "validate.sh")).code == 101
    assert (await play(machine, "enforce.sh")).code == 100
    assert await machine.timer_state() == OFF
    assert (await play(machine, "validate.sh")).code == 100
    assert (await play(machine, "revert/enforce.sh")).code == 100
    assert await machine.timer_state() == was

    await machine.output(f"systemctl enable -q {TIMER}")
    assert (await play(machine, "enforce.sh")).code == 100
    assert await machine.timer_state() == OFF
    assert (await play(machine, "revert/enforce.sh")).code == 100
    assert await machine.timer_state() == ON


@pytest.mark.parametrize("release", EVERY)
@pytest.mark.parametrize("setup", [STATIC, GENERATED], ids=["static", "generated"])
async def test_a_unit_that_cannot_be_disabled_is_stopped_and_said_to_last_until_reboot(
    boot: Boot, release: str, setup: str
) -> None:
    """What nothing disables comes back at boot, if something wants it there; the evidence says so."""
    machine = await boot(release=release)
    await machine.output(setup)
    kind = (await machine.timer_state()).enabled
    assert kind == ("static" if setup is STATIC else "generated")
    assert (await play(machine, "validate.sh")).code == 101
    enforced = await play(machine, "enforce.sh")
    assert (enforced.code, enforced.evidence) == (100, {"changed": "yes"}), enforced.complaints
    assert await machine.timer_state() == TimerState("loaded", kind, "inactive")
    after = await play(machine, "validate.sh")
    assert (after.code, after.evidence["lasts"]) == (100, "until_reboot")
    assert (await play(machine, "revert/enforce.sh")).code == 100
    assert await machine.timer_state() == TimerState("loaded", kind, "active")
    if setup is GENERATED:
        await play(machine, "enforce.sh")
        await machine.reboot()
        assert (await machine.timer_state()).active == "active", "it is back"


@pytest.mark.parametrize("release", EVERY)
async def test_the_machines_own_metadata_has_the_last_word_on_opting_in(boot: Boot, release: str) -> None:
    """True in any case, and every answer but 404 and a value: both scripts refuse. False is no opt-in."""
    machine = await boot(release=release)
    scripts = ("validate.sh", "enforce.sh")
    async with nothing_changes(machine):
        for value in ("true", "TRUE", "True\n"):
            machine.metadata.attributes[OPT_IN] = value
            for script in scripts:
                refused = await play(machine, script)
                assert (refused.code, refused.evidence["reason"]) == (102, "opted_in")
        for status in (403, 500, 503):
            machine.metadata.statuses[OPT_IN] = status
            for script in scripts:
                refused = await play(machine, script)
                assert (refused.code, refused.evidence["reason"]) == (102, "config_status_unknown")
    machine.metadata.statuses.clear()
    machine.metadata.attributes[OPT_IN] = "FALSE"
    assert (await play(machine, "validate.sh")).evidence["opt_in"] == "FALSE"
    assert (await play(machine, "enforce.sh")).evidence == {"changed": "yes"}


@pytest.mark.parametrize("release", EVERY)
async def test_a_link_without_certificates_does_not_keep_a_machine_from_its_fix(
    boot: Boot, release: str
) -> None:
    """Agents of 20221104 to 20231009 leave that behind after a single 503; a certificate in it refuses."""
    machine = await boot(release=release)
    contents = "/run/secrets/workload-spiffe-contents-2026-03-01T12:00:00Z"
    await machine.output(
        f"mkdir -p {contents}; touch {contents}/config_status; ln -s {contents} {CREDENTIALS}"
    )
    assert (await play(machine, "validate.sh")).code == 101
    await machine.output(
        f"touch {contents}/ca_certificates.pem {contents}/certificates.pem {contents}/key.pem"
    )
    async with nothing_changes(machine):
        for script in ("validate.sh", "enforce.sh"):
            refused = await play(machine, script)
            assert (refused.code, refused.evidence["reason"]) == (102, "certificates_in_use")
    await machine.output(f"rm {contents}/*.pem")
    assert (await play(machine, "enforce.sh")).code == 100


async def test_neither_names_nor_a_users_curlrc_stand_between_a_script_and_the_metadata_server(
    boot: Boot,
) -> None:
    """A managed hosts file, a foreign proxy and a curlrc that forges an answer change nothing."""
    machine = await boot()
    await machine.output("echo 127.0.0.9 metadata.google.internal >/etc/hosts")
    forged = 'proxy = "http://127.0.0.9:3128"\\nuser-agent = "x"\\noutput = "/tmp/stolen"\\n'
    await machine.output(f"printf '{forged}' | tee /root/.curlrc >/home/{machine.user}/.curlrc")
    await machine.output("echo http_proxy=http://127.0.0.9:3128 >>/etc/environment")
    seen = await play(machine, "validate.sh")
    assert (seen.code, seen.evidence["instance_id"]) == (101, machine.ref.instance_id)
    assert (await play(machine, "enforce.sh")).evidence == {"changed": "yes"}
    assert (await play(machine, "revert/validate.sh")).evidence["instance_id"] == machine.ref.instance_id
    assert (await machine.run("ls /tmp/stolen")).rc != 0


async def test_what_a_login_may_not_look_into_is_not_called_empty(boot: Boot) -> None:
    """Folders of mode 700, and a record of ours that the login cannot see."""
    machine = await boot()
    await machine.output(
        f"mkdir -p {CREDENTIALS}; touch {CREDENTIALS}/certificates.pem; chmod 700 /run/secrets"
    )
    refused = await play(machine, "validate.sh")
    assert (refused.code, refused.evidence["reason"]) == (102, "unreadable")
    await machine.output("rm -r /run/secrets")
    assert (await play(machine, "enforce.sh", mark=MARK)).code == 100
    for folder in ("/var/lib/logmend", "/var/lib"):
        await machine.output(f"chmod 700 {folder}")
        refused = await play(machine, "revert/validate.sh")
        assert (refused.code, refused.evidence["reason"]) == (102, "unreadable")
        assert (await play(machine, "validate.sh")).code == 100
        await machine.output(f"chmod 755 {folder}")
    found = await play(machine, "revert/validate.sh")
    assert (found.code, found.evidence["mark"]) == (101, MARK)
    assert (await play(machine, "revert/enforce.sh")).code == 100

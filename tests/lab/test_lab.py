"""The lab itself: before anything is fixed, its machines show the fault as real ones do."""

import asyncio
import io
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable

import asyncssh
import pytest

from logmend_cli.machine import slots
from logmend_cli.machine.roots import RELEASES
from tests.lab import shipper
from tests.lab.cloud import until
from tests.lab.conftest import Boot
from tests.lab.disk import SERVICE, TIMER, Agent, Shell
from tests.lab.lab import Lab, things
from tests.lab.machines import Machine, TimerState
from tests.refresher import GATED_SINCE

Ship = Callable[[Machine], Awaitable[list[shipper.Entry]]]
LEAD = "Error getting config status, workload certificates may not be configured"
ASKED = f'{LEAD}: failed to GET "instance/gce-workload-certificates/config-status" from MDS with error'
GAVE_UP = (
    "request failed with status code: [404], error: [invalid response from metadata server, "
    "status code: 404, reason: workload certificate feature not enabled]"
)
METADATA = "http://metadata.google.internal/computeMetadata/v1"


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("20220927.00", "No workload identities found: HTTP 404"),
        ("20230913.00", f"{LEAD}: HTTP 404"),
        ("20231004.02", f"{ASKED}: error connecting to metadata server, status code: 404"),
        ("20260724.00", f"{ASKED}: giving up, retry policy returned false on error: {GAVE_UP}"),
    ],
)
@pytest.mark.parametrize("release", RELEASES)
async def test_every_release_shows_the_fault_in_the_words_of_every_agent(
    boot: Boot, release: str, agent: Agent, expected: str
) -> None:
    """The timer is enabled and active, and its program puts the line into the journal each period."""
    machine = await boot(release=release, agent=agent, opted_in=agent >= GATED_SINCE)
    said = (await machine.wait_for_line(more_than=1))[0]
    assert re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d: ", "", said) == expected
    assert await machine.timer_state() == TimerState("loaded", "enabled", "active")
    assert f"VERSION_CODENAME={release}" in await machine.output("cat /etc/os-release")
    entries = await machine.journal("SYSLOG_IDENTIFIER=gce_workload_cert_refresh")
    assert {entry["_SYSTEMD_UNIT"] for entry in entries} == {"gce-workload-cert-refresh.service"}
    assert {entry["PRIORITY"] for entry in entries} == {"6"}
    # journald looks a process up after it has written: where that was quicker, the field is absent.
    assert {entry.get("_COMM") for entry in entries} <= {"gce_workload_ce", None}


@pytest.mark.parametrize(
    ("agent", "period", "preset"),
    [
        ("20220927.00", "30min", "enabled"),
        ("20230913.00", "10min", "enabled"),
        ("20250327.01", "10min", "enabled"),
        ("20260724.00", "10min", "disabled"),
    ],
)
async def test_the_units_are_those_of_the_agents_package(
    boot: Boot, agent: Agent, period: str, preset: str
) -> None:
    """Period, type and preset are the package's; what shortens the period for tests stands beside them."""
    machine = await boot(agent=agent, timer="disabled")
    await machine.output(f"rm -r /etc/systemd/system/{TIMER}.d; systemctl daemon-reload")
    timers = await machine.output(f"systemctl show {TIMER} --property=TimersMonotonic")
    assert f"OnUnitActiveUSec={period} " in timers
    assert "OnBootUSec=5s " in timers
    service = await machine.output(f"systemctl show {SERVICE} --property=Type,UnitFileState")
    assert sorted(service.split()) == ["Type=oneshot", "UnitFileState=static"]
    await machine.output(f"systemctl preset {TIMER}")
    assert (await machine.timer_state()).enabled == preset


async def test_each_machine_hears_from_its_own_metadata_server(boot: Boot) -> None:
    """Three machines ask the same address and get three answers; without Google's header there is none."""
    told, wants, broken = await asyncio.gather(
        boot(config_status=404, instance_id="1111", timer="disabled"),
        boot(config_status=412, instance_id="2222", timer="disabled"),
        boot(config_status=500, instance_id="3333", timer="disabled"),
    )
    ask = "curl -s -m 60 -w ' %{http_code}' -H 'Metadata-Flavor: Google' " + METADATA
    status = f"{ask}/instance/gce-workload-certificates/config-status"
    assert await told.output(status) == "workload certificate feature not enabled 404"
    assert (await wants.output(status)).endswith(" 412")
    assert (await broken.output(status)).endswith(" 500")
    told.set_config_status(200)
    assert await told.output(status) == '{"partnerMetadataConfigsErrors": {}} 200'
    told.set_config_status(None)
    assert (await told.run(status.replace("-m 60", "-m 1"))).rc == 28
    for machine, instance_id in ((told, "1111"), (wants, "2222"), (broken, "3333")):
        assert await machine.output(f"{ask}/instance/id") == f"{instance_id} 200"
    assert await told.output(f"curl -s -o /dev/null -w '%{{http_code}}' {METADATA}/instance/id") == "403"


@pytest.mark.parametrize(
    ("timer", "expected"),
    [
        ("enabled", TimerState("loaded", "enabled", "active")),
        ("disabled", TimerState("loaded", "disabled", "inactive")),
        ("masked", TimerState("masked", "masked", "inactive")),
        ("absent", TimerState("not-found", "", "inactive")),
    ],
)
async def test_the_timer_stands_as_asked_for(boot: Boot, timer: str, expected: TimerState) -> None:
    """A machine can be had with its timer in each state, and only the enabled one starts the service."""
    machine = await boot(timer=timer)
    assert await machine.timer_state() == expected
    if timer == "enabled":
        await machine.starts_again()
    else:
        assert await machine.starts_in(periods=2) == 0


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
async def test_sh_is_the_shell_asked_for(boot: Boot, shell: Shell) -> None:
    """Commands of ours run under that shell, whether they come from outside or over ssh."""
    machine = await boot(shell=shell)
    assert (await machine.output("readlink -f /bin/sh")).strip() == f"/usr/bin/{shell}"
    async with machine.connect() as connection:
        ran = await connection.run("/bin/sh -c 'readlink /proc/$$/exe; true'", check=True)
    assert str(ran.stdout).strip() == f"/usr/bin/{shell}"


async def test_a_machine_is_reached_with_the_tests_key_and_proves_who_it_is(boot: Boot) -> None:
    """The host key is known in advance, another one is refused, and sudo is there only where asked for."""
    machine, other = await asyncio.gather(boot(), boot(sudo=False))
    async with machine.connect() as connection:
        ran = await connection.run("sudo -n id -u; uname -n", check=True)
    assert str(ran.stdout).split() == ["0", machine.name]
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with machine.connect(host_key=other.host_key):
            pass
    async with other.connect() as connection:
        ran = await connection.run("sudo -n true")
    assert ran.exit_status == 1


async def test_a_reboot_keeps_the_disk_and_loses_what_was_running(boot: Boot) -> None:
    """What was disabled stays so and what was only stopped runs again; so too after a loss of power."""
    machine = await boot()
    await machine.output(
        "systemctl stop gce-workload-cert-refresh.timer; echo kept >/var/lib/kept; touch /run/lost"
    )
    await machine.reboot()
    assert await machine.timer_state() == TimerState("loaded", "enabled", "active")
    assert await machine.output("cat /var/lib/kept") == "kept\n"
    assert (await machine.run("test -e /run/lost")).rc == 1
    await machine.output("systemctl disable --now gce-workload-cert-refresh.timer")
    await machine.reset()
    assert await machine.timer_state() == TimerState("loaded", "disabled", "inactive")


async def test_a_cut_network_is_silent_and_comes_back(boot: Boot) -> None:
    """Callers of a machine without network hear nothing; afterwards their open connection goes on."""
    machine = await boot()
    async with machine.connect() as connection:
        await machine.cut_network()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection(machine.address, machine.port), timeout=1)
        assert (await machine.run("true")).rc == 0
        await machine.restore_network()
        assert (await connection.run("uname -n", check=True)).stdout == f"{machine.name}\n"
    await machine.power_off()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection(machine.address, machine.port), timeout=1)


async def test_machines_boot_side_by_side_and_do_not_meet(boot: Boot) -> None:
    """Six machines at once have six addresses; a service stopped on one goes on running on the others."""
    machines = await asyncio.gather(*(boot(release=RELEASES[n % 2], timer="disabled") for n in range(6)))
    assert len({machine.address for machine in machines}) == len({machine.name for machine in machines}) == 6
    await machines[0].output("systemctl stop dbus.service ssh.service")
    states = [await machine.run("systemctl is-active ssh.service") for machine in machines]
    assert [state.out.strip() for state in states] == ["inactive", *["active"] * 5]
    machines[1].slot.clear()
    assert machines[1].slot.processes() == set()


async def test_the_line_is_shipped_in_every_shape_with_the_machines_identity(boot: Boot) -> None:
    """Journal, syslog file and console of one real machine give every documented shape of the same line."""
    machine = await boot(
        rsyslog=True, serial_console=True, agent="20231004.02", timezone="America/Los_Angeles"
    )
    await machine.wait_for_line(more_than=1)
    shipped: dict[str, shipper.Entry] = {}
    for shape, ship in shipper.SHAPES.items():

        async def there(shape: str = shape, ship: Ship = ship) -> bool:
            found = await ship(machine)
            if found:
                shipped[shape] = found[0]
            return bool(found)

        await until(there)  # rsyslog and the console come after the journal
    for entry in shipped.values():
        assert entry["resource"]["labels"]["instance_id"] == machine.ref.instance_id
    journald, syslog, text, fields, escaped, raw = shipped.values()
    assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d: Error getting", journald["jsonPayload"]["MESSAGE"])
    assert journald["severity"] == "INFO"
    pattern = (
        rf"\S+T\S+-0[78]:00 {machine.name} gce_workload_cert_refresh\[\d+\]: \d{{4}}/.* may not be configured"
    )
    assert re.match(pattern, syslog["jsonPayload"]["message"])
    assert text["textPayload"] == syslog["jsonPayload"]["message"]
    assert fields["jsonPayload"]["ident"] == "gce_workload_cert_refresh"
    assert fields["jsonPayload"]["message"].startswith("20")
    assert escaped["labels"]["is_text_escaped"] == "true"
    assert escaped["textPayload"].endswith("\\r\\n")
    assert '\\"instance/' in escaped["textPayload"]
    assert raw["textPayload"].endswith("\r\n")
    assert '"instance/' in raw["textPayload"]
    body = shipper.pubsub_push(escaped, message_id="1")
    assert body["message"]["attributes"] == {"logging.googleapis.com/timestamp": escaped["timestamp"]}


KILLED_RUN = """
import asyncio
from tests.lab.lab import Lab

async def run():
    machine = await Lab().boot()
    print(machine.slot.number, flush=True)
    await asyncio.sleep(600)

asyncio.run(run())
"""


async def test_a_killed_run_takes_its_machines_with_it(lab: Lab) -> None:
    """Nothing runs and no link is left soon after a test run was killed without a chance to tidy up."""
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED_RUN),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert run.stdout is not None
    number = int(await run.stdout.readline())
    slot = slots.Slot(number, io.StringIO())
    assert len(slot.processes()) > 5
    assert slot.has_link()
    gone = {(name, it) for name, it in things(slot) if name == "process" or name.endswith(slot.link)}
    run.kill()
    await run.wait()
    deadline = time.monotonic() + 150
    while things(slot) & gone and time.monotonic() < deadline:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.1)
    assert things(slot) & gone == set()
    taken = [slots.take()]
    while taken[-1].number < number:
        taken.append(slots.take())
    if taken[-1].number == number:  # else another run on this host has taken it, and cleared it
        assert not slot.folder.exists()
    for each in taken:
        each.release()

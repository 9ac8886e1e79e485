"""The ops-agent runbook's scripts on real machines: real systemd-run, dpkg and apt, a stand-in package.

The installer is fetched from a ``file:`` address, and the settling takes seconds: that is all that differs
from what runs on a VM. ``agent_installer`` and ``agent_package`` say what they stand for.
"""

from typing import Any

import pytest

from logmend import runbook
from logmend.errors import ConfigError
from logmend.model import evidence
from logmend_cli.machine.roots import RELEASES
from tests.lab import agent_package
from tests.lab.agent_installer import FILE, LIST, LOCAL
from tests.lab.agent_package import NAME
from tests.lab.cloud import until, until_given_up
from tests.lab.conftest import Boot
from tests.lab.machines import Machine

SETTLE = 4
SCRIPTS = runbook.load(runbook.BUILT_IN / "ops-agent", {"settle": str(SETTLE)}).scripts
STATE = "/var/lib/logmend/ops-agent"
FILES = {f"/opt/mirror/{FILE}": LOCAL}
COLLECTOR = "opentelemetry-collector"
UP = {"service": "active", "service_fluent_bit": "active", "service_opentelemetry_collector": "active"}


async def play(machine: Machine, script: str) -> tuple[int, dict[str, str], str]:
    """Run a script inside: checks as a user, the rest as root. Exit code, evidence and complaints."""
    text = script.replace("https://dl.google.com/cloudagents", "file:///opt/mirror")
    user = "root" if "flock" in script else "nobody"
    ran = await machine.run(["sh", "-s"], stdin=text.encode(), user=user, timeout=100)
    return ran.rc, dict(evidence.values(ran.out.encode())), ran.err


async def settled(machine: Machine) -> tuple[int, dict[str, str], str]:
    """Look until the detached unit is through."""
    said: tuple[int, dict[str, str], str]

    async def through() -> bool:
        nonlocal said
        said = await play(machine, SCRIPTS.validate)
        return said[1].get("state") != "installing"

    await until(through)
    return said


@pytest.fixture(params=RELEASES)
async def machine(boot: Boot, request: pytest.FixtureRequest) -> Any:
    """Boot a machine without the Ops Agent, next to a mirror with the stand-in."""
    return await boot(timer="disabled", files=FILES, release=request.param)


@pytest.fixture
async def running(machine: Machine) -> Machine:
    """Have the agent installed by somebody else, and up."""
    await agent_package.build(machine)
    ran = await agent_package.install(machine)
    assert ran.rc == 0, ran.err
    code, seen, error = await play(machine, SCRIPTS.validate)
    assert (code, {key: seen[key] for key in UP}) == (100, UP), error
    return machine


async def restarted(machine: Machine, part: str = COLLECTOR) -> None:
    """Start the agent anew, as systemd has it, and wait until it starts a part of it no more."""
    await machine.run(f"systemctl restart {NAME}")
    await until_given_up(machine, f"{NAME}-{part}")


async def started_again(machine: Machine, part: str) -> bool:
    """Say whether systemd itself has started a part anew."""
    return int(await machine.output(f"systemctl show -p NRestarts --value {NAME}-{part}")) > 0


async def half_configured(machine: Machine) -> bool:
    """Say whether the package's own script runs."""
    return "half-configured" in (await machine.run(f"dpkg -s {NAME}")).out


async def given_back(machine: Machine) -> tuple[int, dict[str, str], str]:
    """Revert, and look until it is done."""
    assert (await play(machine, SCRIPTS.revert_validate))[0] == 101
    assert (await play(machine, SCRIPTS.revert_enforce))[0] == 100
    said: tuple[int, dict[str, str], str]

    async def given() -> bool:
        nonlocal said
        said = await play(machine, SCRIPTS.revert_validate)
        return said[0] == 100

    await until(given)
    return said


async def test_the_agent_is_installed_started_and_given_back(machine: Machine) -> None:
    """Missing, at work, running; stopped and started again; removed by revert."""
    code, seen, error = await play(machine, SCRIPTS.validate)
    assert (code, seen["package"], seen["service"]) == (101, "absent", "inactive"), error
    code, seen, error = await play(machine, SCRIPTS.enforce)
    assert (code, seen["changed"]) == (100, "yes"), error
    code, seen, error = await settled(machine)
    assert (code, seen["package"], seen["service"]) == (100, "installed", "active"), error
    assert "succeeded (latest)" in await machine.output(f"cat {STATE}.log")
    assert not (await machine.run(f"ls -d /{FILE}")).out, "nothing is left in the root"
    assert (await play(machine, SCRIPTS.enforce))[1]["changed"] == "no"

    await machine.output("systemctl disable --now google-cloud-ops-agent")
    assert (await play(machine, SCRIPTS.validate))[0] == 101
    assert (await play(machine, SCRIPTS.enforce))[0] == 100
    assert (await settled(machine))[0] == 100
    assert "succeeded" not in await machine.output(f"cat {STATE}.log")

    code, seen, error = await given_back(machine)
    assert (code, seen.get("reverted")) == (100, "yes"), error
    code, seen, _ = await play(machine, SCRIPTS.validate)
    assert (code, seen["package"]) == (101, "absent")
    assert not (await machine.run(f"ls {LIST}")).out, "the repository came with us, and goes with us"


async def test_a_repository_that_was_there_before_us_stays(machine: Machine) -> None:
    """Its file is somebody else's, whatever is removed."""
    await machine.output(f"echo '# of a fleet' >{LIST}")
    await play(machine, SCRIPTS.enforce)
    assert (await settled(machine))[0] == 100
    assert (await given_back(machine))[0] == 100
    assert (await machine.run(f"ls {LIST}")).out
    assert (await play(machine, SCRIPTS.validate))[0] == 101


async def test_a_failed_installation_says_why_and_can_be_tried_again(machine: Machine) -> None:
    """Exit 1 with the installer's words until the deadline is over; then 101, and the next try succeeds."""
    await machine.output("touch /opt/fails")
    await play(machine, SCRIPTS.enforce)
    code, _, error = await settled(machine)
    assert code == 1
    assert "dpkg: error processing" in error, "the cause, which the installer's own last lines do not name"
    await machine.output(f"rm /opt/fails; touch -d '16 minutes ago' {STATE}.try")
    assert (await play(machine, SCRIPTS.validate))[0] == 101
    assert (await play(machine, SCRIPTS.enforce))[0] == 100
    assert (await settled(machine))[0] == 100


async def test_packages_that_cannot_be_asked_for_are_not_taken_for_absent(boot: Boot) -> None:
    """Exit 1, of this VM, whichever of the two does not answer: the agent may be there and well."""
    machine = await boot(timer="disabled", files=FILES)
    hangs = "printf '#!/bin/sh\nsleep 99\n' >/usr/bin/{0}; chmod +x /usr/bin/{0}"
    for tool in ("rpm", "dpkg"):
        await machine.output(f"rm -f /usr/bin/dpkg; {hangs.format(tool)}")
        code, seen, _ = await play(machine, SCRIPTS.validate)
        assert (code, seen) == (1, {"instance_id": machine.ref.instance_id}), tool


async def test_an_unreachable_repository_says_so(machine: Machine) -> None:
    """Nothing downloaded, nothing run."""
    await machine.output("rm -r /opt/mirror")
    await play(machine, SCRIPTS.enforce)
    code, _, error = await settled(machine)
    assert code == 1
    assert "curl:" in error


async def test_an_installation_cut_off_in_the_middle_is_completed(machine: Machine) -> None:
    """What a lost machine left half configured is no agent, and the next round configures it."""
    await machine.output("touch /opt/hangs")
    await play(machine, SCRIPTS.enforce)
    await until(lambda: half_configured(machine))
    code, seen, _ = await play(machine, SCRIPTS.validate)
    assert (code, seen["state"], seen["package"]) == (101, "installing", "absent")
    assert (await play(machine, SCRIPTS.enforce))[1]["changed"] == "no"
    await machine.reset()
    await machine.output(f"rm -f /opt/hangs; touch -d '16 minutes ago' {STATE}.try")
    assert (await play(machine, SCRIPTS.validate))[0] == 101
    assert (await play(machine, SCRIPTS.enforce))[0] == 100
    code, seen, error = await settled(machine)
    assert (code, seen["package"]) == (100, "installed"), error


async def hold_the_lock(machine: Machine) -> None:
    """Have somebody else's apt-get at work, in the middle of a package that does not end."""
    await agent_package.build(machine)
    await machine.output("touch /opt/hangs")
    await machine.output(f"systemd-run -q --unit=other apt-get install -y /opt/apt/{NAME}.deb")
    await until(lambda: half_configured(machine))


async def test_a_lock_that_somebody_elses_apt_holds_is_waited_for(machine: Machine) -> None:
    """Busy while it is held, and nothing was changed; then installed as ever."""
    await hold_the_lock(machine)
    code, seen, error = await play(machine, SCRIPTS.enforce)
    assert (code, seen) == (103, {"lock": "var/lib/dpkg/lock-frontend"}), error
    assert not (await machine.run(f"ls {STATE}.state {STATE}.mark {STATE}.try")).out
    await machine.output("rm /opt/hangs; systemctl stop other")
    code, seen, error = await play(machine, SCRIPTS.enforce)
    assert (code, seen["changed"]) == (100, "yes"), error
    code, seen, error = await settled(machine)
    assert (code, seen["package"], seen["service"]) == (100, "installed", "active"), error


async def test_a_lock_that_is_taken_after_the_look_is_busy_and_no_failed_installation(
    machine: Machine,
) -> None:
    """By dpkg's own word, in what the unit printed."""
    await hold_the_lock(machine)
    code, seen, error = await play(machine, SCRIPTS.enforce.replace("proc/locks", "dev/null"))
    assert (code, seen["changed"]) == (100, "yes"), error
    code, seen, error = await settled(machine)
    assert (code, seen.get("lock")) == (103, "taken"), error


async def test_a_legacy_agent_is_left_alone(machine: Machine) -> None:
    """A package of that name on the machine, and the runbook keeps away."""
    built = LOCAL.replace(NAME, "google-fluentd").replace(
        "Conflicts: stackdriver-agent, google-fluentd\n", ""
    )
    ran = await machine.run(["bash", "-s", "--", "--also-install"], stdin=built.encode())
    assert ran.rc == 0, ran.err
    code, seen, _ = await play(machine, SCRIPTS.validate)
    assert (code, seen["reason"]) == (102, "legacy_agent_present")


@pytest.mark.parametrize("part", agent_package.PARTS)
async def test_a_dead_sub_agent_under_an_active_parent_is_a_fault_and_is_started_again(
    running: Machine, part: str
) -> None:
    """The parent says nothing: active, while one of the two has failed for good."""
    program = "fluent-bit" if part == "fluent-bit" else "otelopscol"
    await running.output(f"mkdir /opt/dies; echo 0 >/opt/dies/{program}")
    await restarted(running, part)
    assert (await agent_package.status(running))["active"] == "active"
    code, seen, error = await play(running, SCRIPTS.validate)
    key = "service_" + part.replace("-", "_")
    assert (code, {each: seen[each] for each in UP}) == (101, UP | {key: "failed"}), error

    await running.output("rm -r /opt/dies")
    code, seen, error = await play(running, SCRIPTS.enforce)
    assert (code, seen["changed"]) == (100, "yes"), error
    code, seen, error = await settled(running)
    assert (code, {each: seen[each] for each in UP}) == (100, UP), error
    assert (await play(running, SCRIPTS.revert_validate))[0] == 100, "there is nothing to take back"


@pytest.mark.parametrize("seconds", [0, 2])
async def test_a_sub_agent_that_dies_again_is_still_faulty_with_its_last_lines(
    running: Machine, seconds: int
) -> None:
    """At its start or later: looking at once would call it up."""
    await running.output(f"mkdir /opt/dies; echo {seconds} >/opt/dies/otelopscol")
    if seconds:
        await running.run(f"systemctl restart {NAME}")
        await until(lambda: started_again(running, COLLECTOR))
    else:
        await restarted(running)
    code, seen, error = await play(running, SCRIPTS.validate)
    # Between two starts systemd itself calls it activating.
    dead = ("restarting", "activating") if seconds else ("failed",)
    assert (code, seen["service_opentelemetry_collector"] in dead) == (101, True), (seen, error)
    await play(running, SCRIPTS.enforce)
    code, seen, error = await settled(running)
    assert (code, seen["reason"]) == (1, "still_faulty"), error
    assert seen["service_fluent_bit"] == "active"
    assert f"bind: address already in use {NAME}-opentelemetry-collector Result=" in " ".join(error.split())


async def test_a_configuration_that_the_agent_refuses_is_told_in_its_own_words(running: Machine) -> None:
    """The parent itself fails then, and so does everything below."""
    await running.output(f"echo invalid >/etc/{NAME}/config.yaml")
    await restarted(running)
    code, seen, _ = await play(running, SCRIPTS.validate)
    assert (code, seen["service"]) == (101, "failed")
    await play(running, SCRIPTS.enforce)
    code, seen, error = await settled(running)
    assert (code, seen["reason"]) == (1, "still_faulty")
    assert "The agent config file is not valid." in error


async def test_what_was_started_again_long_ago_is_up(running: Machine) -> None:
    """The remedy of systemd itself worked: nothing is left to do."""
    slow = runbook.load(runbook.BUILT_IN / "ops-agent", {"settle": "600"}).scripts
    await running.output(f"systemctl kill {NAME}-fluent-bit")
    await until(lambda: started_again(running, "fluent-bit"))
    await until(lambda: agent_package.all_up(running))
    code, seen, _ = await play(running, slow.validate)
    assert (code, seen["service_fluent_bit"]) == (101, "restarting")

    async def up() -> bool:
        code, seen, _ = await play(running, SCRIPTS.validate)
        assert seen["service_fluent_bit"] in ("restarting", "active")
        return (code, seen["service_fluent_bit"]) == (100, "active")

    await until(up)


async def test_a_masked_sub_agent_is_somebodys_will(running: Machine) -> None:
    """Who wants metrics alone masks the other."""
    await running.output(f"systemctl mask --now {NAME}-fluent-bit")
    code, seen, _ = await play(running, SCRIPTS.validate)
    assert (code, seen["reason"]) == (102, "masked_by_others")


async def test_an_agent_of_the_extension_manager_is_left_alone(machine: Machine) -> None:
    """By the check as an unprivileged user, and by enforcing: a package beside it keeps it from starting."""
    await machine.output("mkdir -p /var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin")
    for script in (SCRIPTS.validate, SCRIPTS.enforce):
        code, seen, error = await play(machine, script)
        assert (code, seen["reason"]) == (102, "managed_by_plugin"), error
    assert (await agent_package.status(machine))["package"] == ""


async def test_a_version_that_googles_script_refuses_is_refused_by_us_before(machine: Machine) -> None:
    """The pattern of the parameter and the script's own word agree."""
    await machine.output(f"bash /opt/mirror/{FILE}")
    for version in ("latest", "2.*.*", "2.50.0", "2.50.*", "2.50", "2", "2.50.0~1", ""):
        ran = await machine.run(["bash", f"/opt/mirror/{FILE}", f"--version={version}"])
        try:
            runbook.load(runbook.BUILT_IN / "ops-agent", {"version": version})
        except ConfigError:
            assert ran.rc, version
        else:
            assert ran.rc == 0, version

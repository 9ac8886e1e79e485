"""``logmend runbook try --machine``: real machines for a runbook's author, and nothing of them stays."""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path

import pytest

from logmend_cli.machine import roots, slots
from logmend_cli.runbook import new
from tests.conftest import lacking
from tests.lab.lab import Lab, things

COMMAND = (sys.executable, "-c", "from logmend_cli.main import main; main()", "runbook", "try")
UNITS = ("--unit", "my-service.service=failed")


@pytest.fixture(autouse=True)
def root(lab: Lab) -> None:
    """Have the root there that the machines are made of; it may take minutes, or not be to be had."""
    try:
        roots.root(roots.RELEASES[0])
    except roots.UnavailableError as error:
        lacking(f"the lab: {error}")


async def started(folder: Path, *words: str) -> asyncio.subprocess.Process:
    """Start the command on the runbook in ``folder``."""
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        str(folder / "my-service"),
        *UNITS,
        "--machine",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def test_a_new_runbook_goes_there_and_back_on_a_real_machine(tmp_path: Path) -> None:
    """The unit fails and is started by systemd; what is prepared is there before the first check."""
    new.make("my-service", tmp_path)
    script = tmp_path / "my-service/validate.sh"
    script.write_text(script.read_text().replace("exit 100\n}", "cat /run/brought\nexit 100\n}"))
    (tmp_path / "prepare").write_text(". /etc/os-release\necho release=$VERSION_CODENAME >/run/brought\n")
    process = await started(tmp_path, "--prepare", str(tmp_path / "prepare"), "--format", "json")
    out, error = await process.communicate()
    steps = json.loads(out)
    assert process.returncode == 0, error
    assert [each["code"] for each in steps] == [101, 100, 100, 100, 101, 100, 100, 100]
    assert (steps[0]["values"]["service"], steps[2]["values"]["service"]) == ("failed", "active")
    assert (steps[2]["values"]["release"], steps[-1]["values"]["service"]) == ("bookworm", "inactive")


@pytest.mark.parametrize("stopped_by", [signal.SIGINT, signal.SIGTERM])
async def test_whoever_stops_it_leaves_nothing_behind(tmp_path: Path, stopped_by: signal.Signals) -> None:
    """In the middle of a script that would go on for an hour: the machine ends with the command."""
    new.make("my-service", tmp_path)
    script = tmp_path / "my-service/validate.sh"
    script.write_text(script.read_text().replace("exit 101", "echo host=$(cat /etc/hostname)\nexit 101"))
    (tmp_path / "my-service/enforce.sh").write_text("#!/bin/sh\nsleep 3600\n")
    process = await started(tmp_path)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    slot = slots.Slot(int(line.partition("host=lm")[2].split()[0]), io.StringIO())
    there = things(slot)
    assert {"process", str(slot.folder)} <= {name for name, _ in there}
    process.send_signal(stopped_by)
    _, error = await process.communicate()
    assert process.returncode == 128 + signal.SIGINT, error
    assert things(slot) & there == set()


async def test_where_no_namespaces_can_be_made_it_says_so(tmp_path: Path) -> None:
    """As in a container whose root is none: the kernel's word, exit status 2, and no machine."""
    new.make("my-service", tmp_path)
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin"),
        *(*COMMAND, str(tmp_path / "my-service"), "--machine"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert (process.returncode, out) == (2, b""), error
    assert b"cannot make a machine here: unshare: " in error

"""The two command lines that ever reach a VM, run by the shells that may stand behind ``/bin/sh`` there."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from tests.conftest import needs

from logmend.adapters.ssh import remote_script

SWALLOWERS = """cat
read line || echo read=nothing
ssh_like() { cat >/dev/null; }
ssh_like
echo last=yes
exit 102
"""


@pytest.fixture(params=["dash", "bash", "busybox"])
def sh(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a shell under the name ``sh``, as a distribution links it."""
    needs(commands=(request.param,))
    found = shutil.which(request.param)
    assert found
    (tmp_path / "sh").symlink_to(found)
    return tmp_path / "sh"


def run(
    command: str, script: str, shell: Path, mark: str = "", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command line as sshd does, with ``shell`` in the place of ``/bin/sh``."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [str(shell), "-c", command.replace("/bin/sh", str(shell))],
        input=f"{mark}\n{script}\n{remote_script._END}\n".encode(),
        capture_output=True,
        timeout=30,
        check=False,
        **options,
    )
    return done


def test_no_command_swallows_the_scripts_rest(sh: Path) -> None:
    """What ``sh -s`` under bash loses, this keeps."""
    done = run(remote_script.AS_USER, SWALLOWERS, sh)
    assert (done.returncode, done.stdout) == (102, b"logmend=begin\nread=nothing\nlast=yes\n")


def test_the_plain_way_really_loses_it() -> None:
    """The trap is real: this is why the script is read to its end before it runs."""
    needs(commands=("bash",))
    done = subprocess.run(
        ["bash", "-s"], input=SWALLOWERS.encode(), capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0
    assert b"exit 102" in done.stdout  # what `cat` printed is what should have run


def test_a_script_as_long_as_one_may_be_arrives(sh: Path) -> None:
    """1,024 characters, and four times that."""
    for size in (1024, 4096):
        script = ": " + "x" * (size - 13) + "\nexit 100\n"
        assert run(remote_script.AS_USER, script, sh).returncode == 100


def test_the_mark_is_the_scripts_one_argument(sh: Path) -> None:
    """And there is none where none is given: nothing of the script itself is taken for one."""
    for mark in ("0123456789abcdef0123456789abcdef", ""):
        done = run(remote_script.AS_USER, 'echo "$#:$1"\nexit 100\n', sh, mark)
        assert (done.returncode, done.stdout) == (100, f"logmend=begin\n1:{mark}\n".encode())


@pytest.mark.parametrize("mark", ["abc", "0" * 31, "0" * 33, "A" * 32, "$(id)" + "0" * 27, "0" * 32 + "\n"])
async def test_nothing_but_our_hex_digits_is_ever_a_mark(mark: str) -> None:
    """No text of an event could be passed to a script, whoever calls."""
    with pytest.raises(ValueError, match="32 hex digits"):
        await remote_script.run(cast("Any", None), remote_script.AS_ROOT, "exit 100\n", mark)


def test_a_here_document_and_an_open_quote_stay_the_scripts_own_affair(sh: Path) -> None:
    """An unfinished script is a syntax error of its own, not something that runs on."""
    assert run(remote_script.AS_USER, "cat <<EOT\na=1\nEOT\nexit 101\n", sh).returncode == 101
    assert run(remote_script.AS_USER, "echo 'open\nexit 100\n", sh).returncode not in (100, 101, 102)


def test_the_real_sudo_passes_the_script_on() -> None:
    """Root may always; what matters is that sudo hands standard input through."""
    needs(commands=("sudo",), root=True)
    done = run(remote_script.AS_ROOT, "id -u\n" + SWALLOWERS, Path("/bin/sh"))
    assert (done.returncode, done.stdout) == (102, b"logmend=begin\n0\nread=nothing\nlast=yes\n")


def test_the_real_sudos_refusal_is_told_from_a_script() -> None:
    """A user without the right: the script never began."""
    needs(commands=("sudo",), root=True)
    nobody = 65534
    done = run(
        remote_script.AS_ROOT,
        "exit 100\n",
        Path("/bin/sh"),
        user=nobody,
        group=nobody,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"sudo" in done.stderr

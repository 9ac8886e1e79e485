"""A runbook that is tried reaches nothing of the computer that it is tried on, whatever its scripts do."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.conftest import lacking, needs

from logmend import runbook
from logmend.errors import ConfigError
from logmend.runbook import BUILT_IN
from logmend_cli.main import logmend
from logmend_cli.runbook import new, trial

HOSTILE = """#!/bin/sh
# 100 101 instance_id= .mark
for each in /usr/bin/systemctl /bin/systemctl /usr/bin/dpkg /usr/bin/curl; do
  if [ -e $each ] && ! grep -q 'pretend' $each; then echo unfaked=$each; fi
done
if echo gone >@VICTIM@; then echo wrote=outside; fi
rm -rf @VICTIM@
if touch /usr/bin/mine /etc/../usr/mine; then echo wrote=usr; fi
[ ! -e @VICTIM@ ] || echo sees=file
[ ! -e /run/systemd ] || echo sees=systemd
[ ! -e /proc/@PID@ ] || echo sees=processes
grep -q eth /proc/net/dev && echo sees=network
kill -9 -1
exit 101
"""


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Skip, by name, where none can be made."""
    needs(commands=("unshare",), linux=True)
    try:
        trial.require()
    except ConfigError as error:
        lacking(str(error))


def test_a_new_runbook_goes_there_and_back(tmp_path: Path) -> None:
    """As it was begun; its own golden case is an event for it, a quote is none."""
    new.make("my-service", tmp_path)
    entry, quote = tmp_path / "entry.json", tmp_path / "quote.json"
    for file, case in ((entry, "failed"), (quote, "quoted-by-sudo")):
        kept = json.loads((tmp_path / f"my-service/cases/{case}.json").read_text())
        file.write_text(json.dumps(kept["event"]))
    options = ["runbook", "try", str(tmp_path / "my-service"), "--unit", "my-service.service=failed"]
    ran = CliRunner().invoke(
        logmend, [*options, "--event", str(entry), "--format", "json"], standalone_mode=False
    )
    steps = json.loads(ran.output)
    assert [each["code"] for each in steps] == [101, 100, 100, 100, 101, 100, 100, 100]
    assert all(each["good"] for each in steps)
    ran = CliRunner().invoke(logmend, [*options, "--event", str(quote)], standalone_mode=False)
    assert "unknown_variant" in str(ran.exception)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("workload-cert-refresh", "gce-workload-cert-refresh.timer=active"),
        ("google-guest-agent", "google-guest-agent.service=failed"),
    ],
)
def test_what_ships_goes_there_and_back(name: str, unit: str) -> None:
    """The very scripts."""
    found = runbook.load(BUILT_IN / name, {"settle": "0"} if name == "google-guest-agent" else {})
    assert [each for each in trial.run(found, [unit]) if not each.good] == []


def test_a_healthy_machine_is_no_trial(tmp_path: Path) -> None:
    """The check has to see the fault first, and the command says so by its exit status."""
    new.make("my-service", tmp_path)
    steps = list(trial.run(runbook.load(tmp_path / "my-service"), ["my-service.service=active"]))
    assert (steps[0].code, steps[0].good) == (100, False)


def test_the_last_check_has_to_answer_whatever_it_says(tmp_path: Path) -> None:
    """The fault may be back after the way back, or not; a check that breaks is no answer."""
    new.make("my-service", tmp_path)
    check = tmp_path / "my-service/validate.sh"
    breaks = "# 100 101 instance_id= .mark\necho >>/machine/n\nset -- $(wc -l </machine/n)\n"
    check.write_text(f"#!/bin/sh\n{breaks}case $1 in 1) exit 101 ;; 2) exit 100 ;; esac\nexit 1\n")
    steps = list(trial.run(runbook.load(tmp_path / "my-service"), ["my-service.service=failed"]))
    assert [(each.code, each.good) for each in steps if each.name == "check"] == [
        (101, True),
        (100, True),
        (1, False),
    ]


def test_whatever_a_script_does_nothing_outside_is_reached(tmp_path: Path) -> None:
    """By whole paths, by writing, by killing everything that it may."""
    made = tmp_path / "books"
    new.make("my-service", made)
    victim, bystander = tmp_path / "victim", subprocess.Popen(["sleep", "600"])
    try:
        victim.write_text("kept")
        text = HOSTILE.replace("@VICTIM@", str(victim)).replace("@PID@", str(bystander.pid))
        (made / "my-service/validate.sh").write_text(text)
        steps = list(trial.run(runbook.load(made / "my-service"), []))
        assert steps[0].values == {}, steps[0]
        assert victim.read_text() == "kept"
        assert bystander.poll() is None
        assert not Path("/usr/bin/mine").exists()
    finally:
        bystander.kill()
        bystander.wait()


def test_without_namespaces_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in on the PATH alone would be no protection."""
    monkeypatch.setattr(trial, "NAMESPACES", ("false",))
    with pytest.raises(ConfigError, match="nothing is run"):
        next(trial.run(runbook.load(BUILT_IN / "google-guest-agent"), []))

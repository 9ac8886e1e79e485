"""What diagnose.sh printed, read strictly: one declared cause, or unknown and why."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from logmend import runbook
from logmend.errors import ConfigError
from logmend.runbook import Runbook, diagnosis

SCRIPT = "#!/bin/sh\nexit 100\n"
CAUSES: list[dict[str, Any]] = [
    {"name": "disk_full", "concerns": "owner", "summary": "No room.", "next_step": "make room on {vm}"},
    {
        "name": "stopped",
        "concerns": "logmend",
        "summary": "Stopped.",
        "next_step": "start {instance}",
        "runbook": "mine",
    },
]
HEAD = b"instance_id=42\n"
GOOD = HEAD + b"evidence=disk: /var\nevidence=disk: /opt\ncause=disk_full\nconcerns=owner\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a runbook's folder with a diagnose.sh."""
    found = tmp_path / "mine"
    (found / "revert").mkdir(parents=True)
    for name in (*runbook.SCRIPT_FILES.values(), runbook.DIAGNOSE):
        (found / name).write_text(SCRIPT)
    return found


def load(folder: Path, *causes: dict[str, Any]) -> Runbook:
    """Load it with these causes."""
    content = {"name": "mine", "summary": "Mend mine."} | ({"causes": list(causes)} if causes else {})
    (folder / "runbook.yaml").write_text(yaml.safe_dump(content))
    return runbook.load_all(folder.parent)["mine"]


def problems(folder: Path, *causes: dict[str, Any]) -> str:
    """Say what is wrong."""
    with pytest.raises(ConfigError) as error:
        load(folder, *causes)
    return "\n".join(error.value.problems)


def test_a_declared_cause_comes_with_its_evidence_whose_it_is_and_what_to_do(folder: Path) -> None:
    """All that a person needs, from the script and from runbook.yaml."""
    found = diagnosis.decoded(load(folder, *CAUSES), "42", 100, GOOD, "")
    assert (found.cause, found.concerns, found.why) == ("disk_full", "owner", None)
    assert found.evidence == ("disk: /var", "disk: /opt")
    assert found.next_step == "make room on {vm}"
    stopped = diagnosis.decoded(
        load(folder, *CAUSES), "42", 100, HEAD + b"cause=stopped\nconcerns=logmend\n", ""
    )
    assert (stopped.concerns, stopped.runbook) == ("logmend", "mine")


@pytest.mark.parametrize(
    ("output", "code", "why"),
    [
        (GOOD, 0, "not_ended"),
        (GOOD, 1, "not_ended"),
        (GOOD.replace(b"=42", b"=43"), 100, "wrong_instance"),
        (GOOD.replace(b"=42", b"="), 100, "wrong_instance"),
        (b"cause=disk_full\nconcerns=owner\n", 100, "wrong_instance"),
        (HEAD, 100, "contradictory"),
        (GOOD + b"cause=stopped\n", 100, "contradictory"),
        (GOOD + b"cause=disk_full\n", 100, "contradictory"),
        (GOOD.replace(b"concerns=owner", b"concerns=fleet"), 100, "contradictory"),
        (GOOD.replace(b"concerns=owner\n", b""), 100, "contradictory"),
        (GOOD.replace(b"disk_full", b"disk_fill"), 100, "not_declared"),
        (GOOD.replace(b"disk_full", b"Disk Full; rm -rf"), 100, "not_declared"),
        (HEAD + b"cause=unknown\nreason=not_readable\n", 100, "not_readable"),
        (HEAD + b"cause=unknown\nreason=at_work\n", 100, "at_work"),
        (HEAD + b"cause=unknown\nreason=whatever\n", 100, "no_cause_fits"),
        (HEAD + b"cause=unknown\n", 100, "no_cause_fits"),
        (b"", 100, "wrong_instance"),
        (b"\xff\xfe\x00" * 5000, 100, "wrong_instance"),
    ],
)
def test_anything_else_is_unknown_and_says_why(folder: Path, output: bytes, code: int, why: str) -> None:
    """A script that says what it may not is not believed, and never guessed at."""
    found = diagnosis.decoded(load(folder, *CAUSES), "42", code, output, "sh: broken")
    assert (found.cause, found.why) == ("unknown", why)
    assert found.why in diagnosis.WHYS
    assert (found.concerns, found.next_step) == (None, "")


def test_an_undeclared_cause_is_shown(folder: Path) -> None:
    """Whoever wrote the script sees which word runbook.yaml lacks."""
    found = diagnosis.decoded(load(folder, *CAUSES), "42", 100, GOOD.replace(b"disk_full", b"disk_fill"), "")
    assert "disk_fill" in found.evidence[-1]
    assert found.evidence[:2] == ("disk: /var", "disk: /opt")


def test_evidence_is_bounded_and_holds_no_credentials(folder: Path) -> None:
    """A machine that nobody vouches for writes it, and it is shown and stored."""
    flood = HEAD + b"evidence=x\n" * 100 + b"cause=unknown\n"
    assert len(diagnosis.decoded(load(folder, *CAUSES), "42", 100, flood, "").evidence) == diagnosis.LINES
    secret = HEAD + b"evidence=proxy http://me:secret@proxy:3128\nevidence=\x1b[31mred\ncause=unknown\n"
    assert diagnosis.decoded(load(folder, *CAUSES), "42", 100, secret, "").evidence == (
        "proxy http://proxy:3128",
    )


def test_a_line_that_is_refused_may_name_a_cause_and_one_that_is_acted_on_may_not(folder: Path) -> None:
    """One of the list, or unknown; the VM of a line that is acted on is asked itself."""

    def described(**more: str) -> dict[str, Any]:
        return {"name": "full", "pattern": "^full", "verdict": "refuse", "reason": "no_room"} | more

    def wrong(variant: dict[str, Any]) -> str:
        content = {"name": "mine", "summary": "x", "filter": "full", "variants": [variant], "causes": CAUSES}
        (folder / "runbook.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigError) as error:
            runbook.load_all(folder.parent)
        return "\n".join(error.value.problems)

    assert "no such value 'disk_fill'; did you mean disk_full?" in wrong(described(cause="disk_fill"))
    acts = {"name": "full", "pattern": "^full", "verdict": "act", "cause": "disk_full"}
    assert "only what is refused names one" in wrong(acts)


def test_causes_and_the_script_come_together(folder: Path) -> None:
    """A list that nothing prints, or a script that may say nothing, is a mistake."""
    assert "one without the other" in problems(folder)
    (folder / runbook.DIAGNOSE).unlink()
    assert "one without the other" in problems(folder, *CAUSES)
    assert load(folder).scripts.diagnose == ""


def test_a_cause_is_declared_whole_and_once(folder: Path) -> None:
    """Whose it is, and the runbook where it is logmend's; no word twice, none of ours, no strange braces."""
    disk, stopped = CAUSES
    assert "names its runbook" in problems(folder, disk | {"runbook": "mine"})
    assert "names its runbook" in problems(folder, {k: v for k, v in stopped.items() if k != "runbook"})
    assert "no runbook yours" in problems(folder, stopped | {"runbook": "yours"})
    assert "is there already" in problems(folder, disk, disk)
    assert "is there already" in problems(folder, disk | {"name": "unknown"})
    assert "no braces but" in problems(folder, disk | {"next_step": "look at {secret}"})
    assert "no such value 'nobody'" in problems(folder, disk | {"concerns": "nobody"})


def test_the_digest_covers_it_and_what_has_none_keeps_its_own(folder: Path) -> None:
    """An outcome names exactly what was run; a runbook without diagnose.sh is what it was."""
    first = load(folder, *CAUSES).digest
    (folder / runbook.DIAGNOSE).write_text(SCRIPT + "# another\n")
    assert load(folder, *CAUSES).digest != first


def test_os_configs_limit_does_not_bind_it(folder: Path) -> None:
    """It goes over SSH only, so a long one keeps no runbook from OS Config."""
    (folder / runbook.DIAGNOSE).write_text(SCRIPT + "#" * 5000 + "\n")
    assert load(folder, *CAUSES).ssh_only == ""

"""`logmend approvals` and `logmend cancel` for many at once: what is meant, asked, done and told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.cli.conftest import Place
from tests.integration.cli.test_controls import OFF, ON, deliver

from logmend_cli.pretend.story import Story

Opened = Callable[[Callable[[Story], None]], Place]


@pytest.fixture
def planned(opened: Opened) -> Place:
    """Have five plans wait: two VMs of team red, three of blue."""

    def tell(story: Story) -> None:
        for number in range(5):
            story.machine(f"web-{number}", labels={"team": "red" if number < 2 else "blue"})

    place = opened(tell)
    for name in place.story.machines:
        assert deliver(place, name, mode="approve").result == "planned"
    return place


def states(place: Place) -> dict[str, str]:
    """Give the state of each VM's plan, by the VM's name."""
    return {each["name"]: each["state"] for each in place.json("approvals", "list", "--all")}


def test_the_table_shows_what_a_person_decides_on(planned: Place) -> None:
    """The VM's name, the evidence, how old and until when, and what will happen."""
    first = next(each for each in planned.json("approvals", "list") if each["name"] == "web-0")
    assert "timer_enabled=enabled" in first["evidence"]
    assert first["will"].startswith("check, enforce workload-cert-refresh (")
    assert first["labels"] == {"team": "red"}
    listed = ("approvals", "list", "--label-column", "team")
    assert planned.logmend(*listed, "--format", "csv").stdout.splitlines()[0].endswith(",label:team")
    chosen = planned.logmend("approvals", "list", "--format", "csv", outcome_labels="team").stdout
    assert chosen.splitlines()[0].endswith(",label:team")
    shown = planned.logmend(*listed).stdout
    assert ("team" in shown, "blue" in shown) == (True, True)
    assert all(word in shown for word in ("web-0", "config_status=404", "0 min", "what will happen"))


def test_many_are_approved_by_label_after_their_number_was_confirmed(planned: Place) -> None:
    """Anything but yes leaves all of them; one tick then does those that were meant."""
    asked = planned.logmend("approvals", "approve", "--label", "team=blue", stdin="n\n")
    assert (asked.exit_code, "approve 3 plans?" in asked.stderr, "web-4" in asked.stdout) == (1, True, True)
    assert set(states(planned).values()) == {"pending"}
    ran = planned.logmend("approvals", "approve", "--label", "team=blue", "--why", "CHG-7", "--yes")
    assert (ran.exit_code, ran.stdout.count("approved by"), ran.stdout.count("next tick")) == (0, 3, 1)
    assert planned.json("tick", mode="approve")["outcomes"] == {"remediated": 3}
    assert [planned.machine(f"web-{n}").timer() for n in range(5)] == [ON, ON, OFF, OFF, OFF]
    done = [json.loads(line) for line in (planned.folder / "outcomes.jsonl").read_text().splitlines()]
    assert {each["why"] for each in done if each["result"] == "remediated"} == {"CHG-7"}
    told = [each for each in planned.json("status")["controls"] if each["reason"] == "plan_approved"]
    assert len(told) == 3
    assert all("CHG-7" in each["detail"] for each in told)


def test_one_is_named_by_the_beginning_of_its_id_and_never_two(planned: Place) -> None:
    """A beginning that means several is refused with their ids, and none is decided on."""
    ids = [each["approval_id"] for each in planned.json("approvals", "list")]
    shortest = next(n for n in range(1, 13) if len({each[:n] for each in ids}) == len(ids))
    assert planned.logmend("approvals", "approve", ids[0][:shortest]).exit_code == 0
    both = planned.logmend("approvals", "approve", "", "--yes")
    assert (both.exit_code, "means 5: " in both.stderr) == (2, True)
    assert sorted(states(planned).values()) == ["approved"] + ["pending"] * 4


def test_a_file_of_ids_and_all_with_what_narrows_them(planned: Place, tmp_path: Path) -> None:
    """Lines, or what list printed; nothing selected is an error, not everything."""
    rows = planned.json("approvals", "list")
    lines, printed = tmp_path / "ids", tmp_path / "ids.json"
    lines.write_text(f"# reviewed\n{rows[0]['approval_id']} {rows[0]['name']}\n\n")
    printed.write_text(json.dumps(rows[1:2]))
    assert planned.logmend("approvals", "reject", "--from", lines, "--yes").exit_code == 0
    assert planned.logmend("approvals", "reject", "--from", printed, "--yes").exit_code == 0
    assert planned.logmend("approvals", "approve").exit_code == 2
    assert planned.logmend("approvals", "approve", "--label", "team").exit_code == 2
    assert planned.logmend("approvals", "approve", "--zone", "nowhere-1a", "--yes").stdout == "no such plan\n"
    assert planned.logmend("approvals", "approve", "--all", "--zone", "us-west1-a", "--yes").exit_code == 0
    assert sorted(states(planned).values()) == ["approved"] * 3 + ["rejected"] * 2


def test_what_list_printed_as_csv_names_plans_and_what_is_no_text_does_not(
    planned: Place, tmp_path: Path
) -> None:
    """Its heading is no id; a file that cannot be read is told as one."""
    table, binary = tmp_path / "ids.csv", tmp_path / "ids.bin"
    table.write_text("\ufeff" + planned.logmend("approvals", "list", "--format", "csv").stdout)
    binary.write_bytes(b"\xff\xfe\x00")
    ran = planned.logmend("approvals", "reject", "--from", table, "--yes")
    assert (ran.exit_code, ran.stdout.count("rejected by")) == (0, 5), ran.stderr
    unread = planned.logmend("approvals", "reject", "--from", binary, "--yes")
    assert (unread.exit_code, "ids.bin: cannot be read: it is not UTF-8" in unread.stderr) == (2, True)
    binary.write_text('[{"approval_id": "1"')
    torn = planned.logmend("approvals", "reject", "--from", binary, "--yes")
    assert (torn.exit_code, "(it is not JSON)" in torn.stderr) == (2, True)


@pytest.mark.parametrize("shape", ["csv", "json"])
def test_what_list_printed_names_the_orders_that_plans_became(
    planned: Place, tmp_path: Path, shape: str
) -> None:
    """`cancel` takes it as well: the plans that are approved have an order, those that wait have none."""
    assert planned.logmend("approvals", "approve", "--label", "team=red", "--yes").exit_code == 0
    listed = tmp_path / "plans"
    listed.write_text(planned.logmend("approvals", "list", "--all", "--format", shape).stdout)
    ran = planned.logmend("cancel", "--from", listed, "--yes")
    assert (ran.exit_code, ran.stdout.count("cancelled by")) == (0, 2), ran.output
    assert sorted(states(planned).values()) == ["pending"] * 3 + ["withdrawn"] * 2
    assert "intent" not in planned.logmend("approvals", "list", "--all").stdout


@pytest.mark.parametrize("nothing", ["", "# none yet\n\n", "approval_id,intent_id\n", "[]"])
def test_a_file_that_names_nothing_never_means_everything(
    planned: Place, tmp_path: Path, nothing: str
) -> None:
    """Whatever else narrows the choice; a script that found none decides on none."""
    listed = tmp_path / "none"
    listed.write_text(nothing)
    for command in (["approvals", "approve"], ["approvals", "reject"], ["cancel"]):
        for more in (["--all"], ["--runbook", "workload-cert-refresh"]):
            ran = planned.logmend(*command, "--from", listed, *more, "--yes")
            assert (ran.exit_code, "none: it contains no id" in ran.stderr) == (2, True), ran.output
    assert set(states(planned).values()) == {"pending"}


def test_approvals_are_withdrawn_until_they_are_acted_on(planned: Place) -> None:
    """Then they are not meant any more; one that is named says where it stands."""
    assert planned.logmend("approvals", "approve", "--all", "--yes").exit_code == 0
    assert planned.logmend("approvals", "withdraw", "--label", "team=red", "--yes").exit_code == 0
    assert planned.json("tick", mode="approve")["outcomes"] == {"remediated": 3}
    assert planned.logmend("approvals", "withdraw", "--all", "--yes").stdout == "no such plan\n"
    done = next(e for e in planned.json("approvals", "list", "--all") if e["state"] == "approved")
    late = planned.logmend("approvals", "withdraw", done["approval_id"])
    assert (late.exit_code, "order_in_hand" in late.stderr) == (1, True)
    assert [planned.machine(f"web-{n}").timer() for n in range(5)] == [ON, ON, OFF, OFF, OFF]


def test_a_rejected_vm_is_held_until_it_is_released(planned: Place) -> None:
    """The status says by whom; a plan is made again after the release."""
    assert planned.logmend("approvals", "reject", "--all", "--yes", "--by", "ann@desk").exit_code == 0
    said = deliver(planned, "web-0", mode="approve")
    assert (said.result, said.reason) == ("skipped", "declined")
    held = planned.json("status")["held"]
    assert len(held) == 5
    assert {(each["by"], each["identity"], each["until"]) for each in held} == {("ann@desk", "claimed", None)}
    assert all(each["held_by"].startswith("rejected by ann@desk") for each in held)
    assert planned.logmend("resume", "--instance", planned.ref("web-0")).exit_code == 0
    assert deliver(planned, "web-0", mode="approve").result == "planned"


def test_what_waits_is_cancelled_with_its_outcome(planned: Place) -> None:
    """Orders that a freeze parked; the rest goes on."""
    planned.logmend("freeze")
    for number in range(3):
        planned.json("run", planned.ref(f"web-{number}"), "--enforce", "--yes", "--by", "ann@desk")
    ended = ("--yes", "--by", "bob@desk", "--why", "no need")
    ran = planned.logmend("cancel", "--instance", planned.ref("web-0"), *ended)
    assert (ran.exit_code, ran.stdout.count("cancelled by bob@desk")) == (0, 1)
    told = [each for each in planned.json("export", "--changes") if each["reason"] == "cancelled"]
    assert [(each["kind"], each["by"], each["identity"], each["why"]) for each in told] == [
        ("control", "bob@desk", "claimed", "no need")
    ]
    planned.logmend("resume")
    planned.json("tick", mode="enforce")
    assert [planned.machine(f"web-{n}").timer() for n in range(3)] == [ON, OFF, OFF]
    assert planned.logmend("cancel", "--all", "--yes").stdout == "nothing waits\n"
    assert planned.logmend("cancel").exit_code == 2
    rows = planned.json("export", "--changes")
    assert len([each for each in rows if each["kind"] == "change"]) == 2


def test_what_no_longer_waits_keeps_nothing_else_from_being_cancelled(planned: Place) -> None:
    """It is told where it stands by now, and the exit status says that not all was done."""
    planned.logmend("freeze")
    for number in range(2):
        planned.json("run", planned.ref(f"web-{number}"), "--enforce", "--yes")
    first, second = (each["intent_id"] for each in planned.json("status")["waiting"])
    assert planned.logmend("cancel", first).exit_code == 0
    ran = planned.logmend("cancel", first, "o-typo", "no/id", second, "--by", "bob@desk")
    assert (ran.exit_code, ran.stdout) == (1, f"cancelled by bob@desk: {second}\n")
    assert f"{first}: it is done" in ran.stderr
    assert "o-typo: nothing with this id is waiting" in ran.stderr
    assert "no/id: nothing with this id is waiting" in ran.stderr
    assert planned.json("status")["waiting"] == []

"""VMs that are alike: what one repair of a template or an image is worth."""

import json
from datetime import UTC, datetime

from tests.unit.cli.conftest import Run, run
from tests.unit.cli.outcomes import lines, outcome

from logmend.model.enums import Result
from logmend.model.state import Fleet
from logmend.model.values import Diagnosis, InstanceRef, Lineage
from logmend_cli.alike import Causes
from logmend_cli.report import charts, page
from logmend_cli.report.data import Report
from logmend_cli.status.summing import Summing

__all__ = ["run"]

WEB = Lineage(
    "projects/1/zones/us-west1-a/instanceGroupManagers/web",
    "projects/1/global/instanceTemplates/web-v7",
    "debian-cloud/debian-11-bullseye",
)
ALONE = Lineage(image="debian-cloud/debian-12")
FULL = Diagnosis("disk_full", "owner", (), "make room on {instance}")
DNS = Diagnosis("dns_failing", "fleet", (), "check DNS")


def vm(number: int) -> InstanceRef:
    """Give another VM."""
    return InstanceRef("demo-project", "us-west1-a", str(number))


def fleet() -> list[object]:
    """Give outcomes of five VMs: three of a group, one of them remediated since, and two by themselves."""
    told = [outcome(n, Result.PLANNED, instance=vm(n), diagnosis=FULL, lineage=WEB) for n in (1, 2, 3)]
    told += [outcome(n, Result.FAILED, "x", instance=vm(n), diagnosis=DNS, lineage=ALONE) for n in (4, 5)]
    told.append(outcome(6, Result.REMEDIATED, instance=vm(3), lineage=WEB))
    return list(told)


def test_status_groups_vms_by_cause_group_template_and_image(run: Run) -> None:
    """Those that were remediated since are over; the place of the repair is named."""
    text = lines(*fleet())  # type: ignore[arg-type]
    found = json.loads(run("status", "-", "--format", "json", stdin=text).stdout)["alike"]
    assert [(each["cause"], each["instances"]) for each in found] == [("disk_full", 2), ("dns_failing", 2)]
    assert found[0]["template"] == WEB.template
    assert found[0]["next_step"] == (
        "make room on PROJECT/ZONE/ID; once for all: in projects/1/global/instanceTemplates/web-v7"
        " (image debian-cloud/debian-11-bullseye)"
    )
    assert "image of debian-cloud/debian-12" in found[1]["next_step"]
    shown = run("status", "-", stdin=text).stdout
    assert "Why the fault is there" in shown


def test_a_ledger_tells_outcomes_in_order_of_id_and_time_decides() -> None:
    """A VM that was remediated after its diagnosis is over, whichever of the two is met first."""
    found, over = fleet()[2], fleet()[-1]
    for order in ((found, over), (over, found)):
        summing = Summing(Fleet())
        for each in order:
            summing.outcome(each)  # type: ignore[arg-type]
        assert summing.state().alike == [], order


def test_the_latest_cause_of_a_vm_counts_in_any_order() -> None:
    """And what is done next is said by the latest outcome of its kind."""
    older = outcome(1, Result.FAILED, "x", instance=vm(1), diagnosis=FULL, lineage=ALONE)
    newer = outcome(2, Result.FAILED, "x", instance=vm(1), diagnosis=DNS, lineage=ALONE)
    for order in ((older, newer), (newer, older)):
        summing = Summing(Fleet())
        for each in order:
            summing.outcome(each)
        state = summing.state()
        assert [each.cause for each in state.alike] == ["dns_failing"], order
        assert [each.latest.outcome_id for each in state.causes] == [newer.outcome_id], order


def test_the_report_draws_causes_over_time_and_by_origin() -> None:
    """And without any cause there is no empty chart."""
    report = Report("here", datetime.now(UTC))
    for each in fleet():
        report.add(each)  # type: ignore[arg-type]
    assert {each.name for each in charts.legend(charts.causes(report))} == {"disk_full", "dns_failing"}
    assert charts.alike(report)[0].name == "disk full: web-v7"
    assert "what repairs them" in page.render(report)
    report.add(outcome(7, instance=vm(1)))
    for number in (2, 4, 5):
        report.add(outcome(number + 7, instance=vm(number)))
    assert not report.alike(), "all of them are remediated"
    assert charts.causes(report)
    assert "Why the fault is there, over time" in page.render(report), "what was found stays"
    bare = Report("here", datetime.now(UTC))
    bare.add(outcome())
    assert not charts.alike(bare)
    assert "what repairs them" not in page.render(bare)


def test_a_hundred_thousand_vms_of_one_template_are_one_row() -> None:
    """That is what the grouping is for."""
    causes = Causes()
    for number in range(100_000):
        causes.found(vm(number), "ops-agent", FULL, WEB)
        causes.found(vm(number), "ops-agent", FULL, WEB)
    (row,) = causes.rows()
    assert row.instances == 100_000


def test_a_cause_that_changes_counts_once() -> None:
    """The latest stands."""
    causes = Causes()
    causes.found(vm(1), "ops-agent", FULL, WEB)
    causes.found(vm(1), "ops-agent", DNS, WEB)
    assert [each.cause for each in causes.rows()] == ["dns_failing"]

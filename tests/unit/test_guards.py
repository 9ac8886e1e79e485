"""Which guards are asked, of whom and when: no runbook can leave an owner's no out."""

from typing import Any

import pytest
from tests.fakes import REF, World, entry, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend import decide, guards
from logmend.model import InstanceFacts, Proceed
from logmend.runbook import load_all
from logmend.settings import Settings
from logmend.values import replace

RUNBOOK = "workload-cert-refresh"


def bare(**changed: Any) -> World:
    """Give a world whose runbooks name no guard at all."""
    w = world(**ENFORCE, **changed)
    runbooks = {name: replace(each, guards=()) for name, each in load_all().items()}
    router = type(w.pipeline.router())(runbooks)
    return replace_pipeline(w, runbooks=runbooks, router=lambda: router)


def replace_pipeline(w: World, **changes: Any) -> World:
    """Change the pipeline of a world, and of its ticker."""
    w.pipeline = replace(w.pipeline, **changes)
    w.ticker = replace(w.ticker, pipeline=w.pipeline)
    return w


@pytest.mark.parametrize(
    ("facts", "chosen", "expected"),
    [
        ({"labels": {"logmend": "off"}}, {}, "refused:exempt"),
        ({"status": "TERMINATED"}, {}, "skipped:not_running"),
        ({}, {"scope_zones": ("us-west1-b",)}, "refused:out_of_scope"),
        ({}, {"scope_labels": (("env", "prod"),)}, "refused:out_of_scope"),
    ],
)
async def test_a_runbook_without_guards_overrides_no_owner_and_no_operator(
    facts: dict[str, Any], chosen: dict[str, Any], expected: str
) -> None:
    """Exemption, status and scope are asked in code, of an event and of a person's order."""
    w = bare(**chosen)
    w.fleet.add(REF, **facts)
    await w.deliver(push(entry()))
    await w.pipeline.work(operator())
    assert w.outcomes.results == [expected] * 2
    assert w.fleet.vms[REF.instance_id].enforcements == 0


async def test_a_runbook_without_guards_believes_no_other_projects_log() -> None:
    """An entry that is forged in another project is refused."""
    w = bare()
    assert (await w.deliver(push(entry(logName="projects/attackers-project/logs/syslog")))).reason == (
        "project_mismatch"
    )


def test_every_guard_of_every_runbook_is_asked_once() -> None:
    """Those that a runbook lists and that are asked anyway are not asked twice; its own come last."""
    assert guards.asked(()) == guards.ALWAYS
    assert guards.asked(("not_exempt", "not_this_timer")) == (*guards.ALWAYS, "not_this_timer")


def test_a_guard_that_lacks_facts_when_it_is_time_to_act_says_no() -> None:
    """Unknown is no licence."""
    facts = InstanceFacts(REF, "vm", "RUNNING")
    verdict = decide.guards(operator(), load_all()[RUNBOOK], facts, Settings())
    assert not isinstance(verdict, Proceed)
    assert verdict.reason == "opt_in_unknown"

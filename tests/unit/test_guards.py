"""Which guards are asked, of whom and when: no runbook can leave an owner's no out."""

from typing import Any

import pytest
from tests.fakes import REF, World, entry, evidence, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend import guards
from logmend.errors import Transient
from logmend.model.enums import Action, Result
from logmend.model.struct import replace
from logmend.model.values import Evidence, InstanceFacts, InstanceRef, Verdict
from logmend.runbook import load_all
from logmend.settings import Settings
from logmend.stages import decide

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
    assert verdict is not None
    assert verdict.reason == "opt_in_unknown"


# At the commit point


OBJECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"labels": {"logmend": "off"}}, "refused:exempt"),
    ({"status": "STOPPING"}, "skipped:not_running"),
    ({"metadata": {"enable-workload-certificate": "true"}}, "refused:opted_in"),
    ({"project_metadata": None}, "refused:opt_in_unknown"),
]


@pytest.mark.parametrize(("facts", "expected"), OBJECTIONS)
async def test_an_objection_during_the_check_is_heard(facts: dict[str, Any], expected: str) -> None:
    """Guards are asked again at the commit point, on facts that were read after the check began."""
    w = world(**ENFORCE)
    vm = w.fleet.vms[REF.instance_id]

    def object_while_looking() -> Evidence:
        known = w.fleet.facts_of[REF.instance_id]
        w.fleet.facts_of[REF.instance_id] = replace(known, **facts)
        return evidence(101, w.clock.now())

    vm.on_check = [object_while_looking]
    await w.deliver(push(entry()))
    assert w.outcomes.results == [expected]
    assert vm.enforcements == 0


async def test_a_vm_that_is_deleted_during_the_check_is_gone() -> None:
    """It is skipped, as if it had been gone before."""
    w = world(**ENFORCE)

    def delete() -> Evidence:
        w.fleet.facts_of.clear()
        return evidence(101, w.clock.now())

    w.fleet.vms[REF.instance_id].on_check = [delete]
    await w.deliver(push(entry()))
    assert w.outcomes.results == ["skipped:instance_gone"]


@pytest.mark.parametrize(("chosen", "lookups"), [({}, 1), (ENFORCE, 2)])
async def test_asking_again_costs_one_look_up_of_a_vm_that_is_enforced(
    chosen: dict[str, Any], lookups: int
) -> None:
    """And none of one that is only observed."""
    w = world(**chosen)
    await w.deliver(push(entry()))
    assert w.fleet.lookups == lookups


@pytest.mark.parametrize(("slow", "result"), [(1, "remediated"), (9, "deferred:compute_unavailable")])
async def test_facts_that_are_old_when_they_arrive_let_nothing_be_enforced(slow: int, result: str) -> None:
    """They are read again, and then the message comes again: five seconds, not what happened to be read."""
    w = world(**ENFORCE)
    real, vm = w.fleet.facts, w.fleet.vms[REF.instance_id]

    async def slowly(ref: InstanceRef) -> InstanceFacts:
        found = await real(ref)
        w.clock.tick(seconds=slow if vm.checks else 0)
        return found

    w.fleet.facts = slowly  # type: ignore[method-assign]
    await w.deliver(push(entry()))
    assert w.outcomes.results == [result]
    assert vm.enforcements == (1 if slow < 5 else 0)


async def test_trouble_with_the_second_look_up_is_waited_out() -> None:
    """Nothing was enforced, so that the message may come again."""
    w = world(**ENFORCE)
    real, vm = w.fleet.facts, w.fleet.vms[REF.instance_id]

    async def away(ref: InstanceRef) -> InstanceFacts:
        if vm.checks:
            raise Transient("compute_unavailable")
        return await real(ref)

    w.fleet.facts = away  # type: ignore[method-assign]
    assert (await w.deliver(push(entry()))).result is Result.DEFERRED
    w.fleet.facts = real  # type: ignore[method-assign]
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    assert vm.enforcements == 1


def test_a_policys_agent_is_left_alone_but_for_taking_back_what_was_ours() -> None:
    """The label's value names a template's version: any counts."""
    facts = InstanceFacts(REF, "web-1", "RUNNING", labels={guards.AGENT_POLICY: ""})
    known = guards.Basis(REF, None, facts, Settings())
    said = guards.no_agent_policy(known)
    assert isinstance(said, Verdict)
    assert (said.result, said.reason) == (Result.REFUSED, "managed_by_policy")
    assert isinstance(guards.no_agent_policy(replace(known, action=Action.REVERT)), guards.Passed)
    assert isinstance(guards.no_agent_policy(replace(known, facts=None)), guards.Pending)
    assert isinstance(guards.no_agent_policy(replace(known, facts=replace(facts, labels={}))), guards.Passed)

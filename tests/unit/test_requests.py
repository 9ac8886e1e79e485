"""Work handed to OS Config agents: asked for by a label, closed by a report, never called fixed without."""

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import (
    ANN,
    REF,
    FakeAgentFleet,
    FakeAgents,
    ManualClock,
    World,
    entry,
    evidence,
    incident,
    push,
    world,
)
from tests.unit.test_pipeline import operator

from logmend.errors import Permanent, Transient
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import Freeze, State
from logmend.model.struct import replace
from logmend.model.values import Attempt, Evidence, InstanceRef, Outcome, Trouble
from logmend.settings import ExecutorChoice


def agents_world(*, ssh_first: bool = False, **settings: Any) -> tuple[World, FakeAgents]:
    clock = ManualClock()
    fleet = FakeAgentFleet(clock, ssh_first=ssh_first)
    fleet.add(metadata={"enable-osconfig": "TRUE"}, service_account="vm@example.com")
    chosen = {"mode": Mode.ENFORCE, "executor": ExecutorChoice.OSCONFIG} | settings
    return world(clock=clock, fleet=fleet, **chosen), fleet.agents


def by_agent(code: int) -> Evidence:
    return evidence(code, seen_by="osconfig_agent")


def fixed(after: Evidence | None = None, instance_id: str | None = None) -> Attempt:
    said = evidence(100, instance_id=instance_id, changed="yes")
    return Attempt(
        "osconfig", before=by_agent(101), enforced=True, enforcement=said, after=after or by_agent(100)
    )


async def ask(w: World, body: dict[str, Any] | None = None) -> Outcome:
    return await w.deliver(push(body or entry()))


async def test_a_request_is_closed_as_remediated_by_its_report_and_the_label_is_gone() -> None:
    """Label, report, outcome; nobody logged in."""
    w, agents = agents_world()
    assert (await ask(w)).result is Result.REQUESTED
    assert agents.label() == "enforce"
    await w.tick()
    assert w.outcomes.results == ["requested"]
    agents.says(Action.ENFORCE, fixed())
    await w.tick()
    assert w.outcomes.results == ["requested", "remediated"]
    last = w.outcomes.written[-1]
    assert last.before is not None
    assert last.after is not None
    assert (last.executor, last.before.exit_code, last.after.exit_code) == ("osconfig", 101, 100)
    assert agents.label() is None
    assert w.fleet.opened == 0
    await w.tick()
    assert w.outcomes.results == ["requested", "remediated"]


async def test_a_report_from_before_the_request_proves_nothing() -> None:
    """However good it looks."""
    w, agents = agents_world()
    agents.says(Action.ENFORCE, fixed())
    w.clock.tick(seconds=1)
    await ask(w)
    await w.tick()
    assert w.outcomes.results == ["requested"]
    assert agents.label() == "enforce"


async def test_a_revert_goes_the_same_way_and_is_called_reverted() -> None:
    """Its own label value, its own assignment."""
    w, agents = agents_world()
    assert (await w.pipeline.work(operator(Action.REVERT))).result is Result.REQUESTED
    assert agents.label() == "revert"
    w.clock.tick(minutes=1)
    agents.says(Action.REVERT, fixed())
    await w.tick()
    assert w.outcomes.results == ["requested", "reverted"]
    assert agents.label() is None


LEAVE = evidence(102, instance_id=None, reason="certificates_in_use")
CASES = [
    (Attempt("osconfig", before=by_agent(100)), "nothing_to_do"),
    (Attempt("osconfig", before=LEAVE), "refused:certificates_in_use"),
    (Attempt("osconfig", before=evidence(1, instance_id=None)), "failed:script_error"),
    (fixed(by_agent(101)), "failed:still_faulty"),
    (fixed(LEAVE), "unverified:certificates_in_use"),
    (fixed(evidence(1)), "unverified:check_failed"),
    (fixed(instance_id="999"), "unverified:no_evidence"),
    (replace(fixed(), enforcement=evidence(100, instance_id=None)), "unverified:no_evidence"),
    (replace(fixed(), after=None), "unverified:no_second_check"),
    (replace(fixed(), enforcement=evidence(1, instance_id=None), after=None), "unverified:script_error"),
    (replace(fixed(), enforcement=LEAVE, after=None), "refused:certificates_in_use"),
    (Attempt("osconfig", before=evidence(102, instance_id="999")), "failed:wrong_instance"),
    (Attempt("osconfig", trouble=Trouble(False, "no_agent_detected")), "failed:no_agent_detected"),
    (Attempt("osconfig", trouble=Trouble(False, "agent_too_old")), "failed:agent_too_old"),
    (Attempt("osconfig", trouble=Trouble(False, "not_running")), "skipped:not_running"),
]


@pytest.mark.parametrize(("done", "result"), CASES, ids=[f"{n}-{said}" for n, (_, said) in enumerate(CASES)])
async def test_every_other_report_has_its_own_name_and_closes_the_request(done: Attempt, result: str) -> None:
    """None of them is a fix, and each takes the label away."""
    w, agents = agents_world()
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, done)
    await w.tick()
    assert w.outcomes.results == ["requested", result]
    assert agents.label() is None


@pytest.mark.parametrize(
    ("done", "waits_for"),
    [
        (None, "no_report"),
        (Attempt("osconfig", before=by_agent(101)), "not_enforced"),
        (Attempt("osconfig", trouble=Trouble(True, "task_timeout")), "task_timeout"),
    ],
)
async def test_what_may_still_come_is_waited_for_and_then_unverified(
    done: Attempt | None, waits_for: str
) -> None:
    """The label is gone with the deadline."""
    w, agents = agents_world()
    await ask(w)
    w.clock.tick(minutes=1)
    if done:
        agents.says(Action.ENFORCE, done)
    await w.tick(hours=1)
    assert w.outcomes.results == ["requested"]
    assert agents.label() == "enforce"
    await w.tick(hours=1)
    assert w.outcomes.results == ["requested", f"unverified:{waits_for}"]
    assert agents.label() is None


async def test_an_unverified_request_is_looked_at_with_a_check_and_nothing_more() -> None:
    """The look is a request of its own kind; silence ends in unverifiable."""
    w, agents = agents_world(unverified_looks=1)
    await ask(w)
    await w.tick(hours=2)
    assert w.outcomes.results[-1] == "unverified:no_report"
    await w.tick()
    assert agents.label() == "check"
    assert w.outcomes.results[-1] == "requested"
    w.clock.tick(minutes=1)
    await w.tick(hours=2)
    assert w.outcomes.results[-1] == "failed:unverifiable"
    assert agents.label() is None


async def test_a_check_after_a_silent_request_that_still_sees_the_fault_is_no_failed_fix() -> None:
    """The agent was to enforce, and nothing shows that it began to."""
    w, agents = agents_world()
    await ask(w)
    await w.tick(hours=2)
    await w.tick()
    w.clock.tick(minutes=1)
    agents.says(Action.CHECK, Attempt("osconfig", before=by_agent(101)))
    await w.tick()
    assert w.outcomes.results[-1] == "failed:not_enforced"


async def test_compliance_is_no_fix_once_an_earlier_report_showed_the_fault() -> None:
    """What enforced it is not on record: a person, or a run whose report was replaced."""
    w, agents = agents_world()
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, Attempt("osconfig", before=by_agent(101)))
    await w.tick()
    agents.says(Action.ENFORCE, Attempt("osconfig", before=by_agent(100)))
    await w.tick()
    assert w.outcomes.results == ["requested", "unverified:no_evidence"]


async def test_enforcing_that_failed_is_told_by_the_next_look() -> None:
    """As over ssh: still faulty after a script that ended with an error."""
    w, agents = agents_world()
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, replace(fixed(), enforcement=evidence(1, instance_id=None), after=None))
    await w.tick()
    await w.tick()
    assert agents.label() == "check"
    w.clock.tick(minutes=1)
    agents.says(Action.CHECK, Attempt("osconfig", before=by_agent(101)))
    await w.tick()
    assert w.outcomes.results == ["requested", "unverified:script_error", "requested", "failed:script_error"]


@pytest.mark.parametrize(("code", "result"), [(101, "planned"), (100, "nothing_to_do")])
async def test_observing_asks_for_a_check(code: int, result: str) -> None:
    """Nothing that could change the VM is asked for."""
    w, agents = agents_world(mode=Mode.OBSERVE)
    await ask(w)
    assert agents.label() == "check"
    w.clock.tick(minutes=1)
    agents.says(Action.CHECK, Attempt("osconfig", before=by_agent(code)))
    await w.tick()
    assert w.outcomes.results == ["requested", result]
    assert agents.label() is None


async def test_detached_work_that_the_agent_started_is_closed_by_a_later_report() -> None:
    """Each run replaces the report of the one before; the ledger keeps what it showed."""
    w, agents = agents_world()
    await w.pipeline.work(replace(operator(), runbook="ops-agent"))
    assert agents.label(runbook="ops-agent") == "enforce"
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed(by_agent(101)))
    await w.tick()
    assert w.outcomes.results == ["requested"]
    agents.says(Action.ENFORCE, Attempt("osconfig", before=by_agent(100)))
    await w.tick()
    assert w.outcomes.results == ["requested", "remediated"]
    assert agents.label(runbook="ops-agent") is None


@pytest.mark.parametrize("body", [entry(), incident()], ids=["repeating", "incident"])
async def test_a_freeze_takes_the_label_and_parks_and_the_request_is_made_again(body: dict[str, Any]) -> None:
    """Whatever its source: what was asked for once is not said again by anyone."""
    w, agents = agents_world()
    await ask(w, body)
    await w.controls.freeze(Freeze("sre", w.clock.now()))
    await w.tick()
    assert w.outcomes.results == ["requested", "parked:frozen"]
    assert agents.label() is None
    await w.tick()
    await w.tick()
    assert w.outcomes.results == ["requested", "parked:frozen"]
    await w.controls.resume(ANN)
    await w.tick()
    assert w.outcomes.results == ["requested", "parked:frozen", "requested"]
    assert agents.label() == "enforce"
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    await w.tick()
    assert w.outcomes.results[-1] == "remediated"


async def test_a_freeze_does_not_wait_for_the_next_look() -> None:
    """The first tick after it takes every label, also of what was asked for a moment ago."""
    w, agents = agents_world()
    await ask(w)
    await w.controls.freeze(Freeze("sre", w.clock.now()))
    await w.tick(seconds=1)
    assert agents.label() is None
    assert w.outcomes.results == ["requested", "parked:frozen"]


async def test_a_frozen_instance_loses_its_label_and_no_other_does() -> None:
    """The kill switch for one VM."""
    w, agents = agents_world()
    other = InstanceRef(REF.project_id, REF.zone, "42")
    w.fleet.add(other)
    await ask(w)
    await w.deliver(push(entry(other), "2"))
    await w.controls.freeze_instance(REF, "workload-cert-refresh", Freeze("sre", w.clock.now()))
    await w.tick()
    assert (agents.label(), agents.label(other)) == (None, "enforce")


async def test_what_was_done_before_a_freeze_is_told_in_it() -> None:
    """A freeze hides no report."""
    w, agents = agents_world()
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    await w.controls.freeze(Freeze("sre", w.clock.now()))
    await w.tick()
    assert w.outcomes.results == ["requested", "remediated"]
    assert agents.label() is None


async def test_an_outcome_waits_for_its_label_to_go() -> None:
    """Else the agent would go on enforcing for a request that nobody remembers."""
    w, agents = agents_world()
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    agents.on_withdraw.append(Transient("compute_unavailable", "503"))
    await w.tick()
    assert w.outcomes.results == ["requested"]
    await w.tick()
    assert w.outcomes.results == ["requested", "remediated"]
    assert agents.label() is None


async def test_a_label_that_may_not_be_removed_is_told() -> None:
    """The outcome stands, and names what is left."""
    w, agents = agents_world()
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    agents.on_withdraw.append(Permanent("not_permitted", "compute.instances.setLabels"))
    await w.tick()
    assert w.outcomes.results[-1] == "remediated"
    assert "compute.instances.setLabels" in w.outcomes.written[-1].detail


async def test_a_vm_that_is_gone_is_told_by_its_look() -> None:
    """No label to remove, no report to come."""
    w, agents = agents_world()
    await ask(w)
    w.fleet.facts_of.clear()
    await w.tick()
    assert w.outcomes.results == ["requested", "skipped:instance_gone"]
    del agents


@pytest.mark.parametrize("point", ["after_label", "after_commit"])
async def test_a_crash_around_the_label_is_taken_over_without_a_second_request(point: str) -> None:
    """The report of the first label closes the request that the takeover finished."""
    w, agents = agents_world()

    class CrashError(BaseException):
        pass

    real = agents.request

    async def crashing(*args: Any) -> None:
        if point == "after_label":
            await real(*args)
        raise CrashError

    agents.request = crashing  # type: ignore[assignment,method-assign]
    with pytest.raises(CrashError):
        await ask(w)
    agents.request = real  # type: ignore[method-assign]
    w.clock.tick(minutes=1)
    if point == "after_label":
        agents.says(Action.ENFORCE, fixed())
    await w.tick(minutes=11)
    assert w.outcomes.results[:2] == ["interrupted", "requested"]
    if point == "after_commit":
        assert agents.label() == "enforce"
        agents.says(Action.ENFORCE, fixed())
        await w.tick()
    assert w.outcomes.results[2:] == ["remediated"]
    assert agents.label() is None


async def test_a_precondition_that_does_not_hold_is_told_by_name() -> None:
    """Nothing was labelled, nothing waits."""
    w, agents = agents_world()
    agents.on_ready.append(Permanent("assignment_missing", "no assignment in us-west1-a"))
    assert (await ask(w)).reason == "assignment_missing"
    assert agents.label() is None


async def test_a_full_budget_halts_before_the_label() -> None:
    """A repeating source says it again."""
    w, agents = agents_world()
    budget = w.settings.disruption_budget
    limited = replace(budget, count=1)
    w2, agents2 = agents_world(disruption_budget=limited)
    other = InstanceRef(REF.project_id, REF.zone, "42")
    w2.fleet.add(other)
    await ask(w2)
    said = await w2.deliver(push(entry(other), "2"))
    assert (said.result, said.reason) == (Result.SKIPPED, "budget_exhausted")
    assert agents2.label(other) is None
    del w, agents


async def test_many_open_requests_cost_a_look_up_each_and_no_write_while_nothing_is_new() -> None:
    """What is out is read ahead together and left where it is, unless its owner objects by now."""
    w, agents = agents_world(
        disruption_budget=replace(agents_world()[0].settings.disruption_budget, count=999)
    )
    for number in range(100, 140):
        ref = InstanceRef(REF.project_id, REF.zone, str(number))
        w.fleet.add(ref)
        await w.deliver(push(entry(ref), str(number)))
    looked = w.fleet.lookups
    before = await w.journal.record("m-100")
    await w.tick()
    assert agents.read_ahead == 40
    assert w.fleet.lookups == looked + 40
    assert await w.journal.record("m-100") == before
    assert before is not None
    assert before.state is State.REQUESTED


class TestAuto:
    async def test_an_unreachable_vm_is_handed_to_its_agent(self) -> None:
        """At the first try, before anything was enforced."""
        w, agents = agents_world(ssh_first=True, executor=ExecutorChoice.AUTO)
        w.fleet.on_open = [Transient("unreachable", "timed out")]
        assert (await ask(w)).result is Result.REQUESTED
        assert agents.label() == "enforce"

    async def test_a_vm_that_answers_is_not(self) -> None:
        """Seconds are better than an hour."""
        w, agents = agents_world(ssh_first=True, executor=ExecutorChoice.AUTO)
        assert (await ask(w)).result is Result.REMEDIATED
        assert agents.label() is None

    async def test_without_an_agent_there_is_no_route(self) -> None:
        """Said at once: there is nothing left to try."""
        w = world(mode=Mode.ENFORCE, executor=ExecutorChoice.AUTO)
        w.fleet.on_open = [Transient("unreachable", "timed out")]
        said = await ask(w)
        assert (said.result, said.reason) == (Result.FAILED, "no_route")

    async def test_trouble_after_enforcing_does_not_move_on(self) -> None:
        """Two ways at once would be two changes."""
        w, agents = agents_world(ssh_first=True, executor=ExecutorChoice.AUTO)
        w.fleet.vms[REF.instance_id].on_enforce = [Transient("unreachable", "gone")]
        assert (await ask(w)).result is Result.UNVERIFIED
        assert agents.label() is None


async def test_a_follow_up_is_an_intent_and_an_outcome_of_its_own() -> None:
    """By setting; the first request's outcome does not wait for it."""
    w, agents = agents_world(follow_up=True)
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    await w.tick()
    assert w.outcomes.results == ["requested", "remediated", "requested"]
    assert [each.runbook for each in w.outcomes.written] == [
        "workload-cert-refresh",
        "workload-cert-refresh",
        "ops-agent",
    ]
    assert agents.label(runbook="ops-agent") == "enforce"
    assert w.settings.request_deadline == timedelta(hours=2)


@pytest.mark.parametrize("turned", ["guard", "ready"])
async def test_a_takeover_that_is_turned_away_takes_the_dead_attempts_label(turned: str) -> None:
    """The owner opted in meanwhile, or the assignment is gone: the agent must not go on."""
    w, agents = agents_world()

    class CrashError(BaseException):
        pass

    real = agents.request

    async def crashing(*args: Any) -> None:
        await real(*args)
        raise CrashError

    agents.request = crashing  # type: ignore[assignment,method-assign]
    with pytest.raises(CrashError):
        await ask(w)
    assert agents.label() == "enforce"
    if turned == "guard":
        facts = w.fleet.facts_of[REF.instance_id]
        opted_in = dict(facts.metadata) | {"enable-workload-certificate": "true"}
        w.fleet.facts_of[REF.instance_id] = replace(facts, metadata=opted_in)
    else:
        agents.on_ready.append(Permanent("assignment_missing"))
    await w.tick(minutes=11)
    assert w.outcomes.results[-1] in ("refused:opted_in", "failed:assignment_missing")
    assert agents.label() is None


async def test_a_mode_that_was_lowered_takes_the_label() -> None:
    """The mode is the ceiling, also of what was asked for before."""
    w, agents = agents_world()
    await ask(w)
    lower = world(store=w.store, clock=w.clock, fleet=w.fleet, owner="two", mode=Mode.OBSERVE)
    await lower.tick()
    assert lower.outcomes.results == ["refused:observe_mode"]
    assert agents.label() is None


async def test_a_runbook_that_is_gone_takes_its_label_along() -> None:
    """A version without it knows the label's name all the same."""
    w, agents = agents_world()
    await ask(w)
    less = world(store=w.store, clock=w.clock, fleet=w.fleet, owner="two", mode=Mode.ENFORCE)
    less.pipeline = replace(less.pipeline, runbooks={})
    less.ticker = replace(less.ticker, pipeline=less.pipeline)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    await less.tick()
    assert less.outcomes.results == ["refused:unknown_runbook"]
    assert agents.label() is None


# What an owner or operator says while a request is out

OBJECTIONS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"labels": {"logmend": "off"}}, {}, "refused:exempt"),
    ({"metadata": {"enable-workload-certificate": "true"}}, {}, "refused:opted_in"),
    ({"labels": {"env": "test"}}, {"scope_labels": (("env", "prod"),)}, "refused:out_of_scope"),
    ({"status": "TERMINATED"}, {}, "skipped:not_running"),
]


def change(w: World, facts: dict[str, Any]) -> None:
    """Let an owner change what Compute says of the VM; our label stays where it is."""
    known = w.fleet.facts_of[REF.instance_id]
    labels = {**known.labels, **facts.get("labels", {})}
    metadata = {**known.metadata, **facts.get("metadata", {})}
    changed = replace(known, **(facts | {"labels": labels, "metadata": metadata}))
    w.fleet.facts_of[REF.instance_id] = changed


@pytest.mark.parametrize(("facts", "chosen", "expected"), OBJECTIONS)
async def test_taking_a_vm_out_withdraws_what_its_agent_was_asked_for(
    facts: dict[str, Any], chosen: dict[str, Any], expected: str
) -> None:
    """The next tick takes the label away and says why, long before the request is overdue."""
    w, agents = agents_world(**chosen)
    change(w, {"labels": dict(chosen.get("scope_labels", ()))})
    assert (await ask(w)).result is Result.REQUESTED
    w.clock.tick(minutes=1)
    change(w, facts)
    await w.tick(seconds=1)
    assert agents.label() is None
    assert w.outcomes.results == ["requested", expected]
    assert "the request is withdrawn" in w.outcomes.written[-1].detail


@pytest.mark.parametrize(("facts", "chosen", "expected"), OBJECTIONS)
async def test_what_was_done_before_an_owner_objected_is_told(
    facts: dict[str, Any], chosen: dict[str, Any], expected: str
) -> None:
    """A report of the fix counts, whatever was said since: it is the truth."""
    w, agents = agents_world(**chosen)
    change(w, {"labels": dict(chosen.get("scope_labels", ()))})
    await ask(w)
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    change(w, facts)
    await w.tick()
    assert w.outcomes.results == ["requested", "remediated"], expected


async def test_an_owner_is_asked_again_once_compute_answers() -> None:
    """While it does not, the request stays out and the tick says that it could not ask."""
    w, agents = agents_world()
    await ask(w)
    change(w, {"labels": {"logmend": "off"}})
    w.fleet.on_facts = [Transient("compute_unavailable")]
    w.clock.tick(minutes=5)
    assert (await w.ticker.run()).errors == {"compute_unavailable": 1}
    assert agents.label() == "enforce"
    await w.tick()
    assert (agents.label(), w.outcomes.results[-1]) == (None, "refused:exempt")


async def test_an_objection_between_the_first_look_and_the_label_leaves_no_label() -> None:
    """The commit point asks on facts of its own."""
    w, agents = agents_world()

    async def ready(*_: object) -> None:
        change(w, {"labels": {"logmend": "off"}})

    agents.ready = ready  # type: ignore[assignment,method-assign]
    outcome = await ask(w)
    assert (outcome.result, outcome.reason) == (Result.REFUSED, "exempt")
    assert agents.label() is None


async def test_a_request_for_a_look_costs_no_look_up() -> None:
    """It changes nothing, so that nobody has to be asked again."""
    w, agents = agents_world(mode=Mode.OBSERVE)
    await ask(w)
    looked = w.fleet.lookups
    await w.tick()
    assert w.fleet.lookups == looked
    assert agents.label() == "check"

"""Why a VM has its fault, in the outcome: asked after a check that saw it, and never at its cost."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import REF, World, entry, evidence, incident, push, world
from tests.unit.test_pipeline import operator
from tests.unit.test_requests import agents_world, fixed

from logmend import catalog
from logmend.diagnose import Diagnosed
from logmend.errors import Transient
from logmend.ledger.documents import pack, subject_key
from logmend.model.enums import Action, Mode
from logmend.model.state import By, Subject
from logmend.model.struct import replace
from logmend.model.values import Diagnosis, Outcome
from logmend.outcome import document, reasons
from logmend.ports import Document
from logmend.settings import Lone
from logmend_cli import diagnose as asking
from logmend_cli.alike import Causes

FULL = Diagnosis("disk_full", "owner", ("disk: /var",), "make room on {instance}")
MINE = Diagnosis("not_installed", "logmend", (), "install it: {instance}", "ops-agent")
OF_A_GROUP = {
    "created-by": "projects/123/zones/us-west1-a/instanceGroupManagers/web",
    "instance-template": "projects/123/global/instanceTemplates/web-v7",
}


def alert() -> dict[str, Any]:
    """Give an alert that names the runbook with causes."""
    return push(incident(policy_user_labels={"logmend-runbook": "ops-agent"}))


def vm_of(w: World, found: Diagnosis | Exception = FULL) -> Any:
    """Give the VM, which would say this."""
    vm = w.fleet.vms[REF.instance_id]
    vm.diagnosis = found
    return vm


def made(w: World, **metadata: str) -> None:
    """Have Compute say of what the VM is made."""
    known = w.fleet.facts_of[REF.instance_id]
    licenses = ("debian-cloud/debian-11-bullseye",)
    w.fleet.facts_of[REF.instance_id] = replace(known, metadata=metadata, licenses=licenses)


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.APPROVE])
async def test_a_plan_says_why_the_fault_is_there(mode: Mode) -> None:
    """In observe mode too, and what to do about it comes before what this runbook would."""
    w = world(mode=mode)
    vm = vm_of(w)
    outcome = await w.deliver(alert())
    assert (outcome.result, outcome.diagnosis) == ("planned", FULL)
    assert vm.diagnoses == 1
    written = document.document(outcome)
    assert (written["cause"], written["cause_concerns"]) == ("disk_full", "owner")
    assert written["cause_evidence"] == ["disk: /var"]
    assert written["next_step"].startswith(f"make room on {REF}; then: ")
    assert outcome.detail_and_cause.endswith("; cause disk_full (owner): disk: /var")
    assert document.labels(outcome)["cause"] == "disk_full"
    assert document.from_json(written) == outcome


async def test_a_cause_that_this_runbook_remediates_changes_no_next_step() -> None:
    """It is the plan itself."""
    w = world()
    vm_of(w, MINE)
    outcome = await w.deliver(alert())
    assert "install it" not in reasons.next_step(outcome)


async def test_a_remediated_vm_is_not_asked_and_a_healthy_one_neither() -> None:
    """There is no fault to explain."""
    w = world(mode=Mode.ENFORCE)
    vm = vm_of(w)
    vm.on_check = [evidence(101), evidence(100)]
    outcome = await w.deliver(alert())
    assert (outcome.result, outcome.diagnosis, vm.diagnoses) == ("remediated", None, 0)
    healthy = world()
    vm = vm_of(healthy)
    vm.faulty = False
    assert (await healthy.deliver(alert())).diagnosis is None
    assert vm.diagnoses == 0


async def test_a_failed_enforcement_says_why() -> None:
    """The second check ends with an error, and the cause stands beside it."""
    w = world(mode=Mode.ENFORCE)
    vm = vm_of(w)
    vm.on_check = [evidence(101), evidence(1)]
    outcome = await w.deliver(alert())
    assert (outcome.result, outcome.reason, outcome.diagnosis) == ("failed", "script_error", FULL)


async def test_what_is_still_at_work_is_not_asked() -> None:
    """A detached installation holds the lock itself: that is no cause."""
    w = world(mode=Mode.ENFORCE)
    vm = vm_of(w)
    vm.fix_works = False
    outcome = await w.deliver(alert())
    assert (outcome.result, outcome.diagnosis, vm.diagnoses) == ("requested", None, 0)


@pytest.mark.parametrize("trouble", [Transient("connection_lost", "gone"), TimeoutError(), ValueError("x")])
async def test_trouble_while_asking_changes_nothing_of_the_outcome(trouble: Exception) -> None:
    """The plan stands; its cause is unknown, and says so."""
    w = world()
    vm_of(w, trouble)
    outcome = await w.deliver(alert())
    assert outcome.result == "planned"
    assert outcome.diagnosis is not None
    assert (outcome.diagnosis.cause, outcome.diagnosis.why) == ("unknown", "not_reached")


async def test_a_runbook_without_causes_asks_nothing() -> None:
    """The other built-in one logs in for its check alone."""
    w = world()
    vm = vm_of(w)
    outcome = await w.deliver(push(incident()))
    assert (outcome.result, outcome.diagnosis, vm.diagnoses) == ("planned", None, 0)
    assert document.document(outcome)["cause"] is None
    assert "cause" not in document.labels(outcome)


async def test_a_slow_answer_costs_the_attempt_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up in time, before the attempt's own deadline."""
    from tests.fakes import FakeSession

    async def never(self: FakeSession, *, as_root: bool = False) -> Diagnosis:
        await asyncio.sleep(3600)
        raise AssertionError(self, as_root)

    monkeypatch.setattr("logmend.stages.act.DIAGNOSIS", 0.05)
    monkeypatch.setattr(FakeSession, "diagnose", never)
    outcome = await world().deliver(alert())
    assert (outcome.result, outcome.diagnosis and outcome.diagnosis.why) == ("planned", "not_reached")


async def test_a_vm_of_a_group_names_the_template_and_the_image() -> None:
    """The fault comes back with each new VM, so that is where it is repaired."""
    w = world()
    made(w, **OF_A_GROUP)
    vm_of(w)
    step = reasons.next_step(await w.deliver(alert()))
    assert "for every VM of projects/123/zones/us-west1-a/instanceGroupManagers/web: repair template" in step
    assert "instanceTemplates/web-v7 and image debian-cloud/debian-11-bullseye" in step


def test_a_diagnosis_of_such_a_vm_names_them_as_well() -> None:
    """On demand too, unless nothing is known that they would repair."""
    w = world()
    made(w, **OF_A_GROUP)
    facts = w.fleet.facts_of[REF.instance_id]
    step = asking.document(Diagnosed(REF, FULL, facts))["next_step"]
    assert step.startswith(f"make room on {REF}; for every VM of projects/123/zones/us-west1-a/instanceGroup")
    assert "instanceTemplates/web-v7 and image debian-cloud/debian-11-bullseye" in step
    assert (
        asking.document(Diagnosed(REF, Diagnosis("unknown", why="not_readable"), facts))["next_step"] is None
    )


async def test_a_remediation_of_such_a_vm_is_said_to_last_until_it_is_recreated() -> None:
    """In a note, and the place in the next step."""
    w = world(mode=Mode.ENFORCE, groups_of_one=Lone.ENFORCE)
    made(w, **OF_A_GROUP)
    outcome = await w.deliver(push(incident()))
    assert outcome.result == "remediated"
    assert any("lasts until projects/123/zones/us-west1-a/instance" in note for note in outcome.notes)
    assert "repair template" in reasons.next_step(outcome)
    read: Outcome = document.from_json(document.document(outcome))
    assert read.lineage == outcome.lineage


async def test_metadata_that_is_no_path_of_a_group_is_not_repeated() -> None:
    """Whoever may write a VM's metadata writes nothing into a next step."""
    w = world(mode=Mode.ENFORCE)
    made(w, **{"created-by": "somebody; rm -rf /", "instance-template": "$(reboot)"})
    outcome = await w.deliver(push(incident()))
    assert (outcome.lineage.group, outcome.lineage.template) == (None, None)
    step = reasons.next_step(outcome)
    assert "rm -rf" not in step
    assert "reboot" not in step


# What the line itself says of the cause


def health(code: str) -> dict[str, Any]:
    """Give the entry that a health check's code becomes (ops-agent, internal/healthchecks)."""
    said = f"[API Check] Result: FAIL, Error code: {code}, Failure: it says so, Solution: see there"
    log = f"projects/{REF.project_id}/logs/ops-agent-health"
    return push(entry(logName=log, jsonPayload={"code": code, "message": said}))


CODES = {
    "LogApiPermissionErr": ("permission_denied", "owner"),
    "TelMetricsApiPermissionErr": ("permission_denied", "owner"),
    "MonApiScopeErr": ("scope_missing", "owner"),
    "TelApiDisabledErr": ("api_disabled", "owner"),
    "MonApiConnErr": ("no_egress", "fleet"),
    "LogApiUnauthenticatedErr": ("unknown", None),
    "MetaApiConnErr": ("unknown", None),
    "OtelMetricsPortErr": ("unknown", None),
    "LogPipelineErr": ("unknown", None),
    "NobodyKnowsErr": ("unknown", None),
}
"""Each fatal code of the agent's, or one of each kind, and one that it may have tomorrow."""


@pytest.mark.parametrize("code", CODES)
async def test_what_the_agent_says_of_itself_names_the_cause(code: str) -> None:
    """In the outcome, the metric's label, the next step and the sums, though nobody logs in."""
    w = world(mode=Mode.ENFORCE)
    vm = vm_of(w)
    outcome = await w.deliver(health(code))
    cause, concerns = CODES[code]
    assert (outcome.result, outcome.reason, vm.diagnoses) == ("refused", "agent_cannot_write", 0)
    written = document.document(outcome)
    assert (written["cause"], written["cause_concerns"]) == (cause, concerns)
    assert written["cause_why"] == ("not_declared" if cause == "unknown" else None)
    assert document.labels(outcome)["cause"] == cause
    assert "the VM itself was not asked" in outcome.detail_and_cause
    assert code not in document.line(outcome), "nothing of an event's text"
    step = f"logmend diagnose --runbook ops-agent {REF}"
    assert step in written["next_step"]
    assert written["next_step"].startswith("to ask the VM") == (cause == "unknown")
    causes = Causes()
    causes.outcome(document.from_json(written))
    assert [(each.cause, each.instances) for each in causes.rows()] == [(cause, 1)]
    assert await w.pipeline.journal.record("m-1") is None, "and nothing is remembered of the VM"


async def test_an_entry_in_another_projects_log_names_no_cause() -> None:
    """Whoever wrote it does not speak for this VM."""
    said = {"code": "MonApiScopeErr", "message": "[API Check] Result: FAIL, Error code: MonApiScopeErr"}
    forged = entry(logName="projects/other-project/logs/ops-agent-health", jsonPayload=said)
    outcome = await world().deliver(push(forged))
    assert (outcome.result, outcome.diagnosis) == ("refused", None)


# What another runbook remediates goes first

GONE = Diagnosis("apt_source_gone", "logmend", (), "comment it out: {instance}", "apt-source-gone")


async def through(w: World) -> list[str]:
    """Deliver the alert and let ticks run until nothing waits; gives each verdict after its runbook."""
    await w.deliver(alert())
    for _ in range(4):
        w.clock.tick(seconds=3600)
        await w.ticker.run()
    return [
        f"{each.runbook} {each.result}{f':{each.reason}' if each.reason else ''}"
        for each in w.outcomes.written
        if each.result not in ("parked", "requested")
    ]


async def test_what_stops_a_runbook_is_remediated_first_by_its_own_and_then_it_comes_again() -> None:
    """One chain of three intents, each with its outcome; nothing of the first was begun."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    vm = vm_of(w, GONE)
    said = await through(w)
    assert said == [
        "ops-agent skipped:goes_first",
        "apt-source-gone remediated",
        "ops-agent nothing_to_do",
    ]
    first, then, again = (each for each in w.outcomes.written if each.result not in ("parked", "requested"))
    assert (first.diagnosis, first.committed) == (GONE, False)
    assert (then.intent_id, again.intent_id) == (f"f-{first.intent_id}", f"f-f-{first.intent_id}")
    assert vm.enforcements == 1


async def test_what_went_first_does_not_do_so_twice() -> None:
    """The cause is still told after it: the runbook is tried all the same, and the chain ends."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    vm = vm_of(w, GONE)
    vm.on_check = [None, None, None, lambda: setattr(vm, "faulty", True)]
    said = await through(w)
    assert said == [
        "ops-agent skipped:goes_first",
        "apt-source-gone remediated",
        "ops-agent remediated",
    ]
    assert vm.enforcements == 2


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        pytest.param({"mode": Mode.ENFORCE}, GONE, id="nobody opted in"),
        pytest.param({"mode": Mode.OBSERVE, "follow_up": True}, GONE, id="nothing may be changed"),
        pytest.param({"mode": Mode.ENFORCE, "follow_up": True}, MINE, id="its own"),
        pytest.param({"mode": Mode.ENFORCE, "follow_up": True}, FULL, id="for a person"),
    ],
)
async def test_nothing_goes_first_without_consent_leave_and_a_runbook_for_it(
    settings: dict[str, Any], found: Diagnosis
) -> None:
    """Otherwise it is as it was: planned, or tried."""
    w = world(**settings)
    vm_of(w, found)
    assert (await w.deliver(alert())).reason != "goes_first"


async def test_the_cause_of_what_is_stopped_at_the_last_moment_is_asked_for_once() -> None:
    """It was asked for before the commit point, to know what goes first; nothing was changed since."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    vm = vm_of(w)

    def exempted() -> None:
        w.fleet.add(REF, labels={"logmend": "off"})
        w.fleet.vms[REF.instance_id] = vm

    vm.on_check = [exempted]
    outcome = await w.deliver(alert())
    assert (outcome.reason, outcome.diagnosis) == ("exempt", FULL)
    assert vm.diagnoses == 1


def ordered(w: World, after: dict[str, str]) -> None:
    """Have runbooks name in ``after`` which one goes first."""
    books = {name: replace(each, after=after.get(name)) for name, each in w.pipeline.runbooks.items()}
    w.pipeline = replace(
        w.pipeline, runbooks={name: catalog.among(each, books) for name, each in books.items()}
    )
    w.ticker = replace(w.ticker, pipeline=w.pipeline)


async def test_a_runbook_that_comes_after_others_waits_for_each_in_turn() -> None:
    """A chain: the first is remediated first, and each comes again once the one before it is through."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    ordered(w, {"ops-agent": "google-guest-agent", "google-guest-agent": "apt-source-gone"})
    assert await through(w) == [
        "ops-agent skipped:goes_first",
        "google-guest-agent skipped:goes_first",
        "apt-source-gone remediated",
        "google-guest-agent nothing_to_do",
        "ops-agent nothing_to_do",
    ]
    assert w.fleet.vms[REF.instance_id].enforcements == 1


async def test_what_was_well_a_moment_ago_is_looked_at_again_for_the_one_that_waits() -> None:
    """Its cooldown would leave the other one waiting for hours; its own failures still do."""
    w = world(mode=Mode.ENFORCE, follow_up=True, cooldown_nothing_to_do=timedelta(days=7))
    ordered(w, {"ops-agent": "apt-source-gone"})
    vm = w.fleet.vms[REF.instance_id]
    vm.faulty = False
    looked = push(incident(policy_user_labels={"logmend-runbook": "apt-source-gone"}), message_id="2")
    assert (await w.deliver(looked)).result == "nothing_to_do"
    vm.faulty = True
    assert (await through(w))[1:] == [
        "ops-agent skipped:goes_first",
        "apt-source-gone remediated",
        "ops-agent nothing_to_do",
    ]


async def test_what_goes_first_and_fails_is_told_to_the_one_that_waits() -> None:
    """It says who went first and what came of that, touches nothing, and a person can go on."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    ordered(w, {"ops-agent": "apt-source-gone"})
    vm = w.fleet.vms[REF.instance_id]
    vm.fix_works = False
    assert await through(w) == [
        "ops-agent skipped:goes_first",
        "apt-source-gone failed:still_faulty",
        "ops-agent failed:first_failed",
    ]
    first, last = w.outcomes.written[0], w.outcomes.written[-1]
    assert first.detail == "apt-source-gone: ops-agent comes after it"
    assert last.detail.startswith("apt-source-gone went first and ended failed: still_faulty; enforced, but")
    assert (last.committed, vm.enforcements) == (False, 1)
    step = reasons.next_step(last)
    assert step.endswith(f"then: logmend run {REF} --runbook ops-agent --enforce")
    subjects = {each.runbook: each async for each in w.ticker.queues.subjects()}
    assert subjects["apt-source-gone"].failures == 1
    assert subjects["ops-agent"].failures == 0, "it was not tried"
    assert subjects["ops-agent"].cooldown is None
    vm.fix_works = True
    order = replace(operator(), runbook="ops-agent")
    assert (await w.pipeline.work(order)).result == "remediated"


async def test_a_chain_whose_first_link_fails_ends_with_a_word_from_each() -> None:
    """No link waits for ever, and none is told twice."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    ordered(w, {"ops-agent": "google-guest-agent", "google-guest-agent": "apt-source-gone"})
    w.fleet.vms[REF.instance_id].fix_works = False
    assert await through(w) == [
        "ops-agent skipped:goes_first",
        "google-guest-agent skipped:goes_first",
        "apt-source-gone failed:still_faulty",
        "google-guest-agent failed:first_failed",
        "ops-agent failed:first_failed",
    ]
    assert "apt-source-gone went first and ended failed: still_faulty" in w.outcomes.written[-1].detail
    assert {each.state async for each in w.ticker.queues.records()} == {"done"}


@pytest.mark.parametrize("how", ["refused", "posing", "turned away", "cancelled", "turned off", "gone"])
async def test_however_the_first_one_ends_the_other_is_told(how: str) -> None:
    """By the VM, at its admission, by a person, by a new deployment, or with the VM itself."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    ordered(w, {"ops-agent": "apt-source-gone"})
    vm = w.fleet.vms[REF.instance_id]
    assert (await w.deliver(alert())).reason == "goes_first"
    ended = {
        "refused": "refused: other_source",
        "posing": "refused: leave_alone",
        "turned away": "skipped: reverted",
        "cancelled": "skipped: cancelled",
        "turned off": "refused: unknown_runbook",
        "gone": "skipped: instance_gone",
    }[how]
    match how:
        case "refused":
            vm.on_check = [evidence(102, reason="other_source")]
        case "posing":
            vm.on_check = [evidence(102, reason="goes_first")]
        case "turned away":
            key = subject_key(REF, "apt-source-gone")
            held = Document(pack(Subject(REF, "apt-source-gone", held=True)))
            await w.store.transact([key], lambda _: ({key: held}, None))
        case "cancelled":
            by = By("ann", w.clock.now())
            await w.pipeline.journal.cancel("f-m-1", by, w.pipeline.policies.general)
        case "turned off":
            left = {k: v for k, v in w.pipeline.runbooks.items() if k != "apt-source-gone"}
            w.pipeline = replace(w.pipeline, runbooks=left)
            w.ticker = replace(w.ticker, pipeline=w.pipeline)
        case _:
            w.fleet.facts_of.pop(REF.instance_id)
    for _ in range(3):
        w.clock.tick(seconds=3600)
        await w.ticker.run()
    last = w.outcomes.written[-1]
    result = "refused" if ended.startswith("refused") else "skipped"
    assert (last.runbook, last.result, last.reason) == ("ops-agent", result, "first_failed")
    assert last.detail.startswith(f"apt-source-gone went first and ended {ended}")


async def test_a_check_that_prints_logmends_own_reason_begins_no_other_runbook() -> None:
    """Nobody opted in, and only logmend itself leaves a VM to another runbook: the check has said no."""
    w = world(mode=Mode.ENFORCE)
    ordered(w, {"ops-agent": "apt-source-gone"})
    w.fleet.vms[REF.instance_id].on_check = [evidence(102, reason="goes_first")]
    outcome = await w.deliver(alert())
    assert (outcome.result, outcome.reason) == ("refused", "leave_alone")
    assert [each.intent.intent_id async for each in w.ticker.queues.records()] == ["m-1"]


async def test_an_agent_is_asked_for_what_goes_first_before_anything_else() -> None:
    """By OS Config nothing is known of the fault before: the label of the one that waits is never set."""
    w, agents = agents_world(follow_up=True)
    ordered(w, {"workload-cert-refresh": "google-guest-agent"})
    assert (await w.deliver(push(entry()))).reason == "goes_first"
    assert agents.label() is None
    await w.tick()
    assert agents.label(runbook="google-guest-agent") == "enforce"
    w.clock.tick(minutes=1)
    agents.says(Action.ENFORCE, fixed())
    await w.tick()
    assert agents.label() == "enforce"


async def test_a_person_and_a_vm_that_is_not_opted_in_get_what_they_asked_for() -> None:
    """No detour: an order is what it says, and nobody opted in."""
    for opted_in, ask in ((True, "person"), (False, "event")):
        w = world(mode=Mode.ENFORCE, follow_up=opted_in)
        ordered(w, {"ops-agent": "apt-source-gone"})
        order = replace(operator(), runbook="ops-agent")
        said = await (w.pipeline.work(order) if ask == "person" else w.deliver(alert()))
        assert (said.runbook, said.result) == ("ops-agent", "remediated")


async def taken_over(w: World, begun: Any) -> Outcome:
    """Let an attempt die once it is committed, and have another process finish its intent."""
    with pytest.raises(asyncio.CancelledError):
        await w.deliver(begun)
    w.clock.tick(minutes=40)
    before = len(w.outcomes.written)
    await w.ticker.run()
    return next(each for each in w.outcomes.written[before:] if each.result != "interrupted")


@pytest.mark.parametrize("by", ["diagnosis", "after"])
async def test_what_may_have_begun_is_not_skipped_for_another(by: str) -> None:
    """It is finished, whatever would go first by now: skipped says that nothing was done."""
    w = world(mode=Mode.ENFORCE, follow_up=True)
    vm = vm_of(w, MINE)
    vm.fix_works = False

    def dies() -> None:
        vm.diagnosis = GONE
        if by == "after":
            ordered(w, {"ops-agent": "apt-source-gone"})
        raise asyncio.CancelledError

    vm.on_enforce = [dies]
    said = await taken_over(w, alert())
    assert (said.runbook, said.reason, said.committed) == ("ops-agent", None, True)
    assert vm.enforcements == 2


async def test_what_an_agent_may_have_begun_is_not_skipped_for_another() -> None:
    """Its label may have been set before the attempt died: it is asked again, and waited for."""
    w, agents = agents_world(follow_up=True)
    real = agents.request

    async def dies(*asked: Any) -> None:
        await real(*asked)
        ordered(w, {"workload-cert-refresh": "google-guest-agent"})
        agents.request = real  # type: ignore[method-assign]
        raise asyncio.CancelledError

    agents.request = dies  # type: ignore[method-assign, assignment]
    said = await taken_over(w, push(entry()))
    assert (said.result, agents.label()) == ("requested", "enforce")

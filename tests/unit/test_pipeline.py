"""The pipeline on fakes of our own ports: each result, and that nothing is lost or done twice."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.fakes import (
    ANN,
    COUNTED,
    REF,
    START,
    FakeFleet,
    ManualClock,
    entry,
    evidence,
    incident,
    push,
    world,
)

from logmend.errors import Permanent, Transient
from logmend.model.enums import Action, Mode, Origin, Result
from logmend.model.state import By, Freeze
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent, Source
from logmend.outcome import ack

SAID = "Error getting config status, workload certificates may not be configured: HTTP 404"
ENFORCE: dict[str, Any] = {"mode": Mode.ENFORCE}


def operator(action: Action = Action.ENFORCE, intent_id: str = "o-1") -> Intent:
    return Intent(
        intent_id=intent_id,
        runbook="workload-cert-refresh",
        action=action,
        instance=REF,
        origin=Origin.OPERATOR,
        source=Source("operator"),
        created_at=START,
        requested_by="sre@example.com",
    )


class TestObserve:
    async def test_a_faulty_vm_is_looked_at_and_only_planned(self) -> None:
        """Observe mode runs the read-only check and changes nothing."""
        w = world()
        outcome = await w.deliver(push(entry()))
        vm = w.fleet.vms[REF.instance_id]
        assert (outcome.result, vm.checks, vm.enforcements) == (Result.PLANNED, 1, 0)

    async def test_a_line_of_another_host_is_told_as_such(self) -> None:
        """The VM that shipped it is looked at; the outcome names the host, and only if it is not the VM."""
        w = world()
        name = w.fleet.facts_of[REF.instance_id].name
        for number, (host, told) in enumerate(
            [("web-77", True), (name, False), (f"{name}.c.p.internal", False)]
        ):
            text = f"Sep  2 04:27:51 {host} gce_workload_cert_refresh[9]: {SAID}"
            raw = entry(at=w.clock.now()) | {"jsonPayload": {"message": text}}
            outcome = await w.deliver(push(raw, str(number), at=w.clock.now()))
            assert outcome.result is Result.PLANNED
            assert (f"the line names host web-77, not this VM ({name})" in outcome.detail) == told
            w.clock.tick(hours=25)

    async def test_a_day_of_complaints_costs_one_look(self) -> None:
        """A VM that says it every ten minutes is looked at once a day, and each event is told of."""
        w = world(**COUNTED)
        for number in range(143):
            await w.deliver(push(entry(at=w.clock.now()), str(number), at=w.clock.now()))
            w.clock.tick(minutes=10)
        assert w.fleet.vms[REF.instance_id].checks == 1
        await w.tick(hours=3)
        assert sum(each.count for each in w.outcomes.written) == 143
        assert w.outcomes.results == ["planned", "skipped:cooling_down", "skipped:cooling_down"]

    async def test_a_cooldown_from_observing_does_not_hold_back_enforcing(self) -> None:
        """Turning enforcement on does not have to wait a day."""
        seen = world()
        await seen.deliver(push(entry(), "1"))
        acting = world(store=seen.store, fleet=seen.fleet, clock=seen.clock, **ENFORCE)
        assert (await acting.deliver(push(entry(), "2"))).result is Result.REMEDIATED

    async def test_an_operators_order_is_refused(self) -> None:
        """The mode is the ceiling for everyone."""
        w = world()
        outcome = await w.pipeline.work(operator())
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "observe_mode")
        assert w.fleet.opened == 0


class TestEnforce:
    async def test_a_fix_needs_the_fault_before_and_its_absence_after(self) -> None:
        """The outcome carries both pieces of evidence."""
        w = world(**ENFORCE)
        outcome = await w.deliver(push(entry()))
        assert outcome.result is Result.REMEDIATED
        assert outcome.before is not None
        assert outcome.after is not None
        assert (outcome.before.exit_code, outcome.after.exit_code) == (101, 100)
        assert w.fleet.vms[REF.instance_id].changes == 1

    async def test_enforcing_that_was_never_begun_is_a_failure_and_no_riddle(self) -> None:
        """A refused sudo changed nothing: failed, not unverified."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].on_enforce = [Permanent("not_permitted", "sudo")]
        w.fleet.vms[REF.instance_id].fix_works = False
        outcome = await w.deliver(push(entry()))
        assert (outcome.result, outcome.reason) == (Result.FAILED, "not_permitted")

    async def test_a_healthy_vm_is_left_alone(self) -> None:
        """The desired state needs no enforcement."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].faulty = False
        assert (await w.deliver(push(entry()))).result is Result.NOTHING_TO_DO

    async def test_the_vms_own_no_is_final(self) -> None:
        """Exit 102 refuses with the script's reason."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].on_check = [evidence(102, reason="certificates_in_use")]
        outcome = await w.deliver(push(entry()))
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "certificates_in_use")

    async def test_another_vm_behind_the_address_stops_the_attempt(self) -> None:
        """Nothing is enforced on a machine that is not the one that is meant."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].answers_as = "999"
        outcome = await w.deliver(push(entry()))
        assert (outcome.result, outcome.reason) == (Result.FAILED, "wrong_instance")
        assert w.fleet.vms[REF.instance_id].enforcements == 0

    async def test_a_vm_that_does_not_say_who_it_is_is_not_touched(self) -> None:
        """Evidence without an instance id is no evidence."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].on_check = [evidence(101, instance_id=None)]
        outcome = await w.deliver(push(entry()))
        assert (outcome.result, outcome.reason) == (Result.FAILED, "no_evidence")

    async def test_a_fix_that_does_not_take_is_a_failure(self) -> None:
        """Enforced and still faulty is never called remediated."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].fix_works = False
        outcome = await w.deliver(push(entry()))
        assert (outcome.result, outcome.reason) == (Result.FAILED, "still_faulty")

    @pytest.mark.parametrize("code", [0, 1, 99, 255])
    async def test_a_second_check_that_errs_is_unverified_until_it_answers(self, code: int) -> None:
        """Unverified is looked at again by the tick, with the old evidence before."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].on_check = [evidence(101), evidence(code)]
        assert (await w.deliver(push(entry()))).result is Result.UNVERIFIED
        w.clock.tick(minutes=6)
        await w.ticker.run()
        final = w.outcomes.written[-1]
        assert final.result is Result.REMEDIATED
        assert final.before is not None
        assert final.before.exit_code == 101
        assert w.fleet.vms[REF.instance_id].enforcements == 1

    async def test_what_stays_unverified_fails_in_the_end(self) -> None:
        """A VM that never answers again is handed to a person."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].on_check = [evidence(101), *[Transient("unreachable")] * 9]
        await w.deliver(push(entry()))
        for _ in range(5):
            w.clock.tick(minutes=6)
            await w.ticker.run()
        assert w.outcomes.results[-1] == "failed:unverifiable"
        assert w.outcomes.results.count("failed:unverifiable") == 1

    @pytest.mark.parametrize(
        ("facts", "expected"),
        [
            ({"metadata": {"enable-workload-certificate": "TRUE"}}, "refused:opted_in"),
            ({"project_metadata": {"enable-workload-certificate": "true"}}, "refused:opted_in"),
            ({"identity_certificate_enabled": True}, "refused:opted_in"),
            ({"partner_namespaces": ("iam.googleapis.com",)}, "refused:opted_in"),
            ({"project_metadata": None}, "refused:opt_in_unknown"),
            ({"identity_certificate_enabled": None}, "refused:opt_in_unknown"),
            ({"labels": {"logmend": "off"}}, "refused:exempt"),
            ({"status": "TERMINATED"}, "skipped:not_running"),
        ],
    )
    async def test_a_guard_says_no_before_anyone_logs_in(
        self, facts: dict[str, object], expected: str
    ) -> None:
        """No connection is opened to a VM whose owner would object."""
        w = world(**ENFORCE)
        w.fleet.add(REF, **facts)
        await w.deliver(push(entry()))
        assert w.outcomes.results == [expected]
        assert w.fleet.opened == 0

    async def test_an_entry_in_another_projects_log_is_refused(self) -> None:
        """Labels can be forged; the log's project cannot be written to by just anyone."""
        w = world(**ENFORCE)
        forged = entry(logName="projects/attackers-project/logs/syslog")
        assert (await w.deliver(push(forged))).reason == "project_mismatch"

    async def test_an_unknown_vm_is_skipped(self) -> None:
        """A VM that is gone cannot be fixed; nothing is lost."""
        w = world(**ENFORCE)
        gone = InstanceRef(REF.project_id, REF.zone, "77")
        assert (await w.deliver(push(entry(gone)))).reason == "instance_gone"

    async def test_lookup_forbidden_is_refused(self) -> None:
        """Unknown facts mean no."""
        w = world(**ENFORCE)
        w.fleet.on_facts = [Permanent("opt_in_unknown", "403")]
        outcome = await w.deliver(push(entry()))
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "opt_in_unknown")


class TestDelivery:
    async def test_redelivery_of_a_finished_message_emits_the_same_outcome_and_acts_on_nothing(self) -> None:
        """Byte for byte the same, however late."""
        w = world(**ENFORCE)
        first = await w.deliver(push(entry()))
        w.clock.tick(days=3)
        w.fleet.vms[REF.instance_id].faulty = True
        again = await w.deliver(push(entry()))
        assert again == first
        assert w.fleet.vms[REF.instance_id].enforcements == 1

    async def test_the_same_message_many_times_at_once_has_one_effect(self) -> None:
        """Other deliveries of it are answered so that they come again."""
        w = world(**ENFORCE)
        answers = await asyncio.gather(*(w.deliver(push(entry())) for _ in range(20)))
        assert w.fleet.vms[REF.instance_id].enforcements == 1
        assert {o.result for o in answers} <= {Result.REMEDIATED, Result.DEFERRED}
        assert (await w.deliver(push(entry()))).result is Result.REMEDIATED

    async def test_other_messages_for_a_vm_in_hand_are_duplicates(self) -> None:
        """One look serves a burst from one VM."""
        w = world(**ENFORCE)
        await asyncio.gather(*(w.deliver(push(entry(), str(n))) for n in range(10)))
        assert w.fleet.vms[REF.instance_id].enforcements == 1
        assert sorted(set(w.outcomes.results)) in (
            ["remediated", "skipped:duplicate"],
            ["remediated", "skipped:cooling_down", "skipped:duplicate"],
        )

    async def test_stale_on_first_sight_only(self) -> None:
        """An old entry is skipped when it is new to us; a redelivered one keeps its turn."""
        w = world(**ENFORCE)
        old = entry(at=START - timedelta(hours=2))
        assert (await w.deliver(push(old, "old"))).reason == "stale"
        w.fleet.on_open = [Transient("unreachable")]
        assert (await w.deliver(push(entry(), "new"))).result is Result.DEFERRED
        w.clock.tick(hours=3)
        assert (await w.deliver(push(entry(), "new"))).result is Result.REMEDIATED

    async def test_an_unreachable_vm_is_tried_again_and_then_fails(self) -> None:
        """Three tries, each answered so that the message comes again but the last."""
        w = world(**ENFORCE)
        w.fleet.on_open = [Transient("unreachable")] * 3
        results = [await w.deliver(push(entry())) for _ in range(3)]
        assert [o.result for o in results] == [Result.DEFERRED, Result.DEFERRED, Result.FAILED]
        assert [ack.status(o.result) for o in results] == [503, 503, 200]

    async def test_an_api_that_is_away_does_not_use_up_the_vms_tries(self) -> None:
        """Only the VM's own silence counts towards unreachable."""
        w = world(**ENFORCE)
        w.fleet.on_facts = [Transient("compute_unavailable")] * 5
        w.fleet.on_open = [Transient("unreachable")]
        results = [(await w.deliver(push(entry()))).result for _ in range(7)]
        assert results == [Result.DEFERRED] * 6 + [Result.REMEDIATED]

    async def test_a_quota_that_is_used_up_parks_the_vm_and_never_counts_as_its_failure(self) -> None:
        """The message is answered for and the tick comes back to it; the VM keeps all its tries."""
        w = world(**ENFORCE)
        used_up = Transient("rate_limited", "1500 calls in 60 s are used", retry_after=30.0)
        w.fleet.on_facts = [used_up] * 5
        outcome = await w.deliver(push(incident()))
        assert (outcome.result, outcome.reason) == (Result.PARKED, "retry")
        assert ack.status(outcome.result) == 200
        w.fleet.on_open = [used_up] * 5  # as the relay's 429 is
        for _ in range(12):
            await w.tick(hours=2)
        told = [each.result for each in w.outcomes.written]
        assert told[-1] is Result.REMEDIATED
        assert Result.FAILED not in told

    async def test_lines_that_come_again_do_not_wait_for_a_quota_one_by_one(self) -> None:
        """Each is skipped and answered for, without a cooldown; one that finds a place is remediated."""
        w = world(**ENFORCE)
        w.fleet.on_facts = [Transient("rate_limited", "1500 calls in 60 s are used", retry_after=30.0)] * 6
        for number in range(6):
            outcome = await w.deliver(push(entry(at=w.clock.now()), f"line {number}"))
            assert (outcome.result, outcome.reason) == (Result.SKIPPED, "rate_limited")
            assert ack.status(outcome.result) == 200
            await w.tick(minutes=10)
        assert w.fleet.lookups == 6, "nothing of it waits for the tick"
        last = await w.deliver(push(entry(at=w.clock.now()), "last"))
        assert last.result is Result.REMEDIATED

    async def test_garbage_is_rejected_acknowledged_and_kept(self) -> None:
        """What can never be decoded goes to the dead letter with its reason."""
        w = world()
        outcome = await w.deliver(b"\xff\xfe not json")
        assert (outcome.result, ack.status(outcome.result)) == (Result.REJECTED, 200)
        assert w.dead_letters.bodies == [(b"\xff\xfe not json", "malformed")]

    async def test_an_outcome_that_cannot_be_logged_is_not_acknowledged_and_not_lost(self) -> None:
        """The VM is fixed once; the outcome is written when the log is back."""
        w = world(**ENFORCE)
        w.outcomes.on_write = [Transient("outcome_log_unavailable")]
        assert (await w.deliver(push(entry()))).result is Result.DEFERRED
        assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
        assert w.fleet.vms[REF.instance_id].enforcements == 1

    async def test_an_operators_outcome_that_could_not_be_logged_is_emitted_by_the_tick(self) -> None:
        """No message stands behind it, so the tick does it."""
        w = world(**ENFORCE)
        w.outcomes.on_write = [Transient("outcome_log_unavailable")]
        with pytest.raises(Transient):
            await w.pipeline.work(operator())
        await w.ticker.run()
        assert w.outcomes.results == ["remediated"]

    async def test_an_unclassified_error_is_never_an_acknowledgement(self) -> None:
        """A bug of ours has the message delivered again."""
        w = world(**ENFORCE)
        w.fleet.on_facts = [ZeroDivisionError()]
        outcome = await w.deliver(push(entry()))
        assert (outcome.result, outcome.reason) == (Result.DEFERRED, "internal_error")
        assert (await w.deliver(push(entry()))).result is Result.REMEDIATED


class TestIncidents:
    async def test_a_second_notification_of_an_incident_is_a_duplicate(self) -> None:
        """Whatever its message id."""
        w = world(**ENFORCE)
        assert (await w.deliver(push(incident(), "1"))).result is Result.REMEDIATED
        assert (await w.deliver(push(incident(), "2"))).reason == "duplicate"

    async def test_an_incident_is_parked_in_a_freeze_and_done_after_it(self) -> None:
        """It would not be said again, so it waits."""
        w = world(**ENFORCE)
        await w.controls.freeze(Freeze("sre", START))
        assert (await w.deliver(push(incident()))).result is Result.PARKED
        w.clock.tick(minutes=10)
        await w.ticker.run()
        assert w.outcomes.results == ["parked:frozen"]
        await w.controls.resume(ANN)
        w.clock.tick(minutes=10)
        await w.ticker.run()
        assert w.outcomes.results == ["parked:frozen", "remediated"]

    async def test_closed_and_test_notifications_are_answered_kindly(self) -> None:
        """Neither acts."""
        w = world(**ENFORCE)
        assert (await w.deliver(push(incident(state="closed")))).reason == "incident_closed"
        assert (await w.deliver(push({**incident(), "version": "test"}, "2"))).reason == "test_notification"


class TestCrash:
    async def test_a_crash_before_enforcing_is_interrupted_and_done_again(self) -> None:
        """The lease runs out, the next delivery takes its own message up."""
        first = world(**ENFORCE)
        first.fleet.vms[REF.instance_id].on_check = [asyncio.CancelledError()]  # type: ignore[list-item]
        with pytest.raises(asyncio.CancelledError):
            await first.deliver(push(entry()))
        second = world(store=first.store, fleet=first.fleet, clock=first.clock, owner="two", **ENFORCE)
        assert (await second.deliver(push(entry()))).result is Result.DEFERRED
        first.clock.tick(minutes=11)
        assert (await second.deliver(push(entry()))).result is Result.REMEDIATED
        assert second.outcomes.results == ["deferred:in_hand", "interrupted", "remediated"]

    async def test_a_crash_after_the_fix_and_before_the_record_ends_as_remediated(self) -> None:
        """From the evidence stored before enforcing and a clean look now; nothing is enforced twice."""
        first = world(**ENFORCE)
        vm = first.fleet.vms[REF.instance_id]
        vm.on_enforce = [asyncio.CancelledError()]  # type: ignore[list-item]
        with pytest.raises(asyncio.CancelledError):
            await first.deliver(push(entry()))
        first.clock.tick(minutes=11)
        second = world(store=first.store, fleet=first.fleet, clock=first.clock, owner="two", **ENFORCE)
        await second.ticker.run()
        final = second.outcomes.written[-1]
        assert second.outcomes.results == ["interrupted", "remediated"]
        assert final.before is not None
        assert final.after is not None
        assert (final.before.exit_code, final.after.exit_code) == (101, 100)
        assert vm.changes == vm.enforcements == 1

    async def test_a_newcomer_finishes_the_dead_attempt_first(self) -> None:
        """The old intent ends under its own id; then the newcomer is judged anew."""
        first = world(**ENFORCE)
        vm = first.fleet.vms[REF.instance_id]
        vm.on_enforce = [asyncio.CancelledError()]  # type: ignore[list-item]
        with pytest.raises(asyncio.CancelledError):
            await first.deliver(push(entry(), "old"))
        first.clock.tick(minutes=11)
        second = world(store=first.store, fleet=first.fleet, clock=first.clock, owner="two", **ENFORCE)
        newcomer = await second.deliver(push(entry(at=first.clock.now()), "new", at=first.clock.now()))
        assert newcomer.reason == "cooling_down"
        assert [(o.message_id, str(o.result)) for o in second.outcomes.written] == [
            ("old", "interrupted"),
            ("old", "remediated"),
            ("new", "skipped"),
        ]

    async def test_a_stale_owner_can_neither_enforce_nor_record(self) -> None:
        """An attempt that wakes up after its lease finds a higher fence and stops."""
        clock = ManualClock()
        slow = world(clock=clock, **ENFORCE)
        fast = world(store=slow.store, fleet=slow.fleet, clock=clock, owner="two", **ENFORCE)
        vm = slow.fleet.vms[REF.instance_id]
        asleep, wake = asyncio.Event(), asyncio.Event()

        async def sleepy_facts(ref: InstanceRef) -> object:
            asleep.set()
            await wake.wait()
            return await FakeFleet.facts(slow.fleet, ref)

        worker = replace(slow.pipeline.worker, compute=_Compute(sleepy_facts))  # type: ignore[arg-type]
        slow.pipeline = replace(slow.pipeline, worker=worker)
        sleeper = asyncio.create_task(slow.deliver(push(entry(), "slow")))
        await asleep.wait()
        clock.tick(minutes=11)
        await fast.deliver(push(entry(at=clock.now()), "fast", at=clock.now()))
        vm.faulty = True
        wake.set()
        late = await sleeper
        assert (late.result, late.reason) == (Result.DEFERRED, "superseded")
        assert vm.enforcements == 1


class _Compute:
    def __init__(self, facts: object) -> None:
        self.facts = facts


class TestLimits:
    async def test_the_budget_is_never_exceeded_and_the_rest_is_said_again(self) -> None:
        """Entries beyond the budget are skipped: their VMs will complain again."""
        w = world(**ENFORCE)
        budget = w.settings.disruption_budget.count
        refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + n)) for n in range(budget + 15)]
        for ref in refs:
            w.fleet.add(ref)
        await asyncio.gather(*(w.deliver(push(entry(ref), f"m{n}")) for n, ref in enumerate(refs)))
        assert sum(vm.enforcements for vm in w.fleet.vms.values()) == budget
        assert w.outcomes.results.count("skipped:budget_exhausted") == 15

    async def test_a_full_budget_is_known_and_costs_no_login(self) -> None:
        """At 100,000 VMs each complaint would log in for nothing; an order of a person's still looks."""
        w = world(**ENFORCE)
        budget = w.settings.disruption_budget
        refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + n)) for n in range(budget.count + 15)]
        for ref in refs:
            w.fleet.add(ref)
        for n, ref in enumerate(refs):
            await w.deliver(push(entry(ref), f"m{n}"))
        assert w.outcomes.results.count("skipped:budget_exhausted") == 15
        assert w.fleet.opened == budget.count + 1, "one found it full"
        assert w.fleet.lookups == 2 * w.fleet.opened, "before the look, and at the commit point"
        held = await w.deliver(push(incident(refs[-1]), "incident"))
        assert (held.result, held.reason) == (Result.PARKED, "budget_exhausted")
        assert w.fleet.opened == budget.count + 1
        said = await w.pipeline.work(replace(operator(), instance=refs[-1]))
        assert (said.result, said.reason) == (Result.PARKED, "budget_exhausted")
        assert said.before is not None
        w.clock.tick(seconds=budget.window.total_seconds() / 10)
        await w.deliver(push(entry(refs[-2], at=w.clock.now()), "later", at=w.clock.now()))
        assert w.fleet.opened == budget.count + 3, "asked again after a tenth of the window"
        w.clock.tick(seconds=budget.window.total_seconds())
        mended = await w.deliver(push(entry(refs[-2], at=w.clock.now()), "free", at=w.clock.now()))
        assert mended.result is Result.REMEDIATED

    async def test_incidents_beyond_the_budget_are_parked_and_drained_within_it(self) -> None:
        """Nothing is lost, and no window holds more than the budget."""
        w = world(**ENFORCE)
        budget = w.settings.disruption_budget
        refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + n)) for n in range(budget.count * 2 + 5)]
        for ref in refs:
            w.fleet.add(ref)
        for n, ref in enumerate(refs):
            await w.deliver(push(incident(ref, incident_id=f"i{n}"), f"m{n}"))
        for _ in range(30):
            before = sum(vm.enforcements for vm in w.fleet.vms.values())
            w.clock.tick(minutes=5)
            await w.ticker.run()
            assert sum(vm.enforcements for vm in w.fleet.vms.values()) - before <= budget.count
        assert sum(vm.enforcements for vm in w.fleet.vms.values()) == len(refs)

    async def test_the_breaker_opens_on_distinct_failing_vms_and_closes_by_hand(self) -> None:
        """Five VMs that all fail stop the runbook; only resume lets it go on."""
        w = world(**ENFORCE)
        refs = [InstanceRef(REF.project_id, REF.zone, str(1000 + n)) for n in range(7)]
        for ref in refs:
            w.fleet.add(ref).fix_works = False
        for n, ref in enumerate(refs):
            await w.deliver(push(entry(ref), f"m{n}"))
        assert w.outcomes.results[:5] == ["failed:still_faulty"] * 5
        assert w.outcomes.results[5:] == ["skipped:breaker_open"] * 2
        await w.controls.resume(ANN, runbook="workload-cert-refresh")
        await w.deliver(push(entry(refs[5]), "again"))
        assert w.outcomes.results[-1] == "failed:still_faulty"

    async def test_one_vm_failing_often_does_not_open_the_breaker(self) -> None:
        """The ratio is of distinct VMs."""
        w = world(**ENFORCE, needs_human_after=100)
        w.fleet.vms[REF.instance_id].fix_works = False
        for n in range(8):
            await w.deliver(push(entry(at=w.clock.now()), f"m{n}", at=w.clock.now()))
            w.clock.tick(days=2)
        assert set(w.outcomes.results) == {"failed:still_faulty"}

    async def test_repeated_failure_is_left_to_a_person_and_said_once(self) -> None:
        """The cooldown grows, then automatic events stop until resume."""
        w = world(**ENFORCE)
        w.fleet.vms[REF.instance_id].fix_works = False
        for n in range(6):
            await w.deliver(push(entry(at=w.clock.now()), f"m{n}", at=w.clock.now()))
            w.clock.tick(days=2)
        assert w.outcomes.results == ["failed:still_faulty"] * 3 + ["skipped:needs_human"] * 3
        assert [o.notes for o in w.outcomes.written].count(("first_needs_human",)) == 1

    async def test_a_relapse_after_a_fix_is_counted_and_escalated(self) -> None:
        """Only a live check that sees the fault again counts."""
        w = world(**ENFORCE)
        vm = w.fleet.vms[REF.instance_id]
        for n in range(6):
            vm.faulty = True
            await w.deliver(push(entry(at=w.clock.now()), f"m{n}", at=w.clock.now()))
            w.clock.tick(days=1)
        assert w.outcomes.results == ["remediated"] * 3 + ["skipped:needs_human"] * 3
        assert vm.enforcements == 3

    async def test_a_frozen_instance_alone_is_left_alone(self) -> None:
        """Others go on."""
        w = world(**ENFORCE)
        other = InstanceRef(REF.project_id, REF.zone, "1001")
        w.fleet.add(other)
        await w.controls.freeze_instance(REF, "workload-cert-refresh", Freeze("sre", START))
        assert (await w.deliver(push(entry(), "1"))).reason == "frozen"
        assert (await w.deliver(push(entry(other), "2"))).result is Result.REMEDIATED

    async def test_a_freeze_between_check_and_enforcing_is_seen_at_the_commit_point(self) -> None:
        """The last moment counts."""
        w = world(**ENFORCE)
        vm = w.fleet.vms[REF.instance_id]
        frozen = Freeze("sre", START)

        async def slow_check() -> object:
            await w.controls.freeze(frozen)
            return evidence(101)

        session_check = vm.on_check
        del session_check
        original = w.fleet.open

        def freezing(*args: object) -> object:
            return _Freezing(original(*args), slow_check)  # type: ignore[arg-type]

        w.fleet.open = freezing  # type: ignore[method-assign, assignment]
        assert (await w.deliver(push(entry()))).reason == "frozen"
        assert vm.enforcements == 0


class _Freezing:
    def __init__(self, inner: object, check: object) -> None:
        self._inner, self._check = inner, check

    async def __aenter__(self) -> object:
        session = await self._inner.__aenter__()  # type: ignore[attr-defined]
        session.check = self._check
        return session

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)  # type: ignore[attr-defined]


class TestPeople:
    async def test_approve_mode_plans_and_waits(self) -> None:
        """Approving re-checks and acts, and the outcome says who."""
        w = world(mode=Mode.APPROVE)
        planned = await w.deliver(push(entry()))
        assert planned.result is Result.PLANNED
        assert planned.approval_id is not None
        await w.controls.approve(planned.approval_id, By("sre@example.com", w.clock.now()))
        await w.ticker.run()
        done = w.outcomes.written[-1]
        assert (done.result, done.requested_by) == (Result.REMEDIATED, "sre@example.com")
        assert done.approval_id == planned.approval_id

    async def test_an_approval_counts_once_though_many_click_at_once(self) -> None:
        """One click wins; the others are told so."""
        w = world(mode=Mode.APPROVE)
        planned = await w.deliver(push(entry()))
        assert planned.approval_id
        clicks = await asyncio.gather(
            *(w.controls.approve(planned.approval_id, By(f"p{n}", w.clock.now())) for n in range(5)),
            return_exceptions=True,
        )
        assert sum(isinstance(click, Intent) for click in clicks) == 1
        assert {e.reason for e in clicks if isinstance(e, Permanent)} == {"approval_decided"}
        await w.ticker.run()
        assert w.fleet.vms[REF.instance_id].enforcements == 1

    async def test_an_approved_plan_is_checked_again(self) -> None:
        """A VM that opted in meanwhile is not touched."""
        w = world(mode=Mode.APPROVE)
        planned = await w.deliver(push(entry()))
        assert planned.approval_id
        await w.controls.approve(planned.approval_id, By("sre", w.clock.now()))
        w.fleet.add(REF, metadata={"enable-workload-certificate": "true"})
        await w.ticker.run()
        assert w.outcomes.results[-1] == "refused:opted_in"

    async def test_an_expired_plan_cannot_be_approved(self) -> None:
        """Evidence grows old."""
        w = world(mode=Mode.APPROVE)
        planned = await w.deliver(push(entry()))
        assert planned.approval_id
        w.clock.tick(days=2)
        with pytest.raises(Permanent, match="approval_expired"):
            await w.controls.approve(planned.approval_id, By("sre", w.clock.now()))

    async def test_revert_restores_and_holds_off_automatic_events_until_resume(self) -> None:
        """What a person undid is not done again by itself."""
        w = world(**ENFORCE)
        vm = w.fleet.vms[REF.instance_id]
        await w.deliver(push(entry(), "1"))
        assert (await w.pipeline.work(operator(Action.REVERT))).result is Result.REVERTED
        assert vm.faulty
        w.clock.tick(days=2)
        assert (await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))).reason == "reverted"
        await w.controls.resume_instance(REF, "workload-cert-refresh", ANN)
        assert (await w.deliver(push(entry(at=w.clock.now()), "3"))).result is Result.REMEDIATED

    async def test_an_operators_order_ignores_cooldowns(self) -> None:
        """Quiet time binds automatic intents only."""
        w = world(**ENFORCE)
        await w.deliver(push(entry()))
        w.fleet.vms[REF.instance_id].faulty = True
        assert (await w.pipeline.work(operator())).result is Result.REMEDIATED

    async def test_an_operators_order_waits_out_a_transient_error(self) -> None:
        """No message would bring it back, so it is parked with a time."""
        w = world(**ENFORCE)
        w.fleet.on_open = [Transient("unreachable")]
        parked = await w.pipeline.work(operator())
        assert (parked.result, parked.reason) == (Result.PARKED, "retry")
        w.clock.tick(minutes=6)
        await w.ticker.run()
        assert w.outcomes.results[-1] == "remediated"

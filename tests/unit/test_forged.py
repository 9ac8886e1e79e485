"""What an event says of itself is never remembered of the VM that it names."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.fakes import REF, START, World, entry, evidence, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend.model.enums import Mode, Origin, Result
from logmend.model.state import Subject
from logmend.model.struct import replace
from logmend.model.values import Attempt, Evidence, InstanceRef, Intent, Latency, Outcome, Verdict
from logmend.outcome.reasons import ABOUT, REASONS, About
from logmend.settings import Settings
from logmend.stages import decide, outcomes

RUNBOOK = "workload-cert-refresh"
OTHER = InstanceRef(REF.project_id, REF.zone, "1001")
VMS = (REF, OTHER)


def forged(kind: str, w: World, ref: InstanceRef) -> dict[str, Any]:
    """Give an event that names a genuine VM and whose forgery shows in itself."""
    now = w.clock.now()
    match kind:
        case "project":
            return entry(ref, at=now, logName="projects/attackers-project/logs/syslog")
        case "organization":
            return entry(ref, at=now, logName="organizations/123456/logs/syslog")
        case "own":
            return entry(ref, at=now, logName=f"projects/{ref.project_id}/logs/logmend")
        case "core_plugin":
            return entry(ref, at=now, logName=f"projects/{ref.project_id}/logs/GCEGuestAgent")
        case "identity":
            labels = {"project_id": ref.project_id, "zone": ref.zone, "instance_id": "0" + ref.instance_id}
            return entry(ref, at=now, resource={"type": "gce_instance", "labels": labels})
        case "variant":
            return entry(ref, at=now, jsonPayload={"message": "gce_workload_cert_refresh: HTTP 404"})
        case "stale_incident":
            return incident(ref, started_at=int((now - timedelta(days=2)).timestamp()))
        case _:
            return entry(ref, at=now - timedelta(days=2))


FORGERIES = (
    "project",
    "organization",
    "own",
    "core_plugin",
    "identity",
    "variant",
    "stale",
    "stale_incident",
)


@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_forged_entry_a_minute_does_not_silence_a_vm(kind: str) -> None:
    """The genuine line is acted on as if nothing had been forged, and the forger leaves nothing behind."""
    w = world(**ENFORCE)
    for minute in range(5):
        await w.deliver(push(forged(kind, w, REF), f"forged-{minute}", at=w.clock.now()))
        w.clock.tick(minutes=1)
    assert await w.controls.subject(REF, RUNBOOK) is None
    assert w.fleet.lookups == 0
    genuine = await w.deliver(push(entry(at=w.clock.now()), "genuine", at=w.clock.now()))
    assert genuine.result is Result.REMEDIATED


async def test_a_stale_forgery_claims_no_incident() -> None:
    """The real notification of the same incident is not called a duplicate."""
    w = world(**ENFORCE)
    assert (await w.deliver(push(forged("stale_incident", w, REF), "forged"))).reason == "stale"
    assert (await w.deliver(push(incident(), "genuine"))).result is Result.REMEDIATED


async def test_an_event_from_outside_the_scope_is_refused_without_a_look() -> None:
    """Project and zone are in the event: Compute is not asked about a VM that is not ours to touch."""
    w = world(**ENFORCE, scope_projects=("another-project",))
    assert (await w.deliver(push(entry()))).reason == "out_of_scope"
    assert (w.fleet.lookups, await w.controls.subject(REF, RUNBOOK)) == (0, None)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["genuine", "incident", *FORGERIES]),
        st.sampled_from(range(len(VMS))),
        st.integers(0, 40 * 60),
    ),
    max_size=14,
)


async def play(steps: Sequence[tuple[str, int, int]], mode: Mode, *, with_forged: bool) -> dict[str, Outcome]:
    """Deliver events at their times; give what became of the genuine ones."""
    w = world(mode=mode)
    w.fleet.add(OTHER)
    told: dict[str, Outcome] = {}
    for number, (kind, vm, wait) in enumerate(steps):
        w.clock.tick(seconds=wait)
        now, ref, name = w.clock.now(), VMS[vm], f"m{number}"
        if kind in FORGERIES:
            if with_forged:
                await w.deliver(push(forged(kind, w, ref), name, at=now))
            continue
        if kind == "incident":
            event = incident(ref, incident_id=f"inc-{number // 3}", started_at=int(now.timestamp()))
        else:
            event = entry(ref, at=now)
            w.fleet.vms[ref.instance_id].faulty = True
        told[name] = _comparable(await w.deliver(push(event, name, at=now)))
    return told


def _comparable(outcome: Outcome) -> Outcome:
    """Leave out what is another each time: how long it took, and the mark that enforcing leaves."""

    def unmarked(seen: Evidence | None) -> Evidence | None:
        if seen is None:
            return None
        return replace(seen, values={key: value for key, value in seen.values.items() if key != "mark"})

    return replace(outcome, latency=Latency(), before=unmarked(outcome.before), after=unmarked(outcome.after))


@pytest.mark.parametrize("mode", list(Mode))
@given(steps=STEPS)
@examples(60)
async def test_genuine_events_fare_as_if_nothing_had_been_forged(
    mode: Mode, steps: list[tuple[str, int, int]]
) -> None:
    """For any sequence of both, whatever the mode."""
    assert await play(steps, mode, with_forged=True) == await play(steps, mode, with_forged=False)


def test_every_reason_says_what_it_tells_of() -> None:
    """A new reason cannot be left out of the table, nor an old one stay in it."""
    assert set(ABOUT) == set(REASONS)


@pytest.mark.parametrize("result", list(Result))
def test_only_what_was_learned_of_the_vm_cools_it_down(result: Result) -> None:
    """Whatever the reason, also one that nobody knows; failures are counted by the same rule."""
    chosen, intent = Settings(mode=Mode.ENFORCE), _intent()
    for reason in (*REASONS, "a_reason_of_nobody"):
        outcome = outcomes.of_intent(intent, Verdict(result, reason), chosen, START)
        after = decide.aftermath(intent, outcome, chosen)(Subject(REF, RUNBOOK))
        if ABOUT.get(reason) is not About.VM:
            assert (after.cooldown, after.failures) == (None, 0), reason
        elif result in (Result.REFUSED, Result.FAILED):
            assert after.cooldown is not None, reason


@pytest.mark.parametrize(("code", "cooled"), [(102, True), (100, False), (1, False)])
def test_a_runbooks_own_reason_counts_if_the_vm_gave_it(code: int, cooled: bool) -> None:
    """A user's runbook has reasons that no table knows; the VM's own no is known by its exit code."""
    settings_, intent = Settings(), _intent()
    said = Attempt("ssh", before=evidence(code))
    outcome = outcomes.of_intent(
        intent, Verdict(Result.REFUSED, "kernel_pinned"), settings_, START, attempt=said
    )
    after = decide.aftermath(intent, outcome, settings_)(Subject(REF, RUNBOOK))
    assert (after.cooldown is not None) is cooled


def _intent() -> Intent:
    return replace(operator(), origin=Origin.LOG_ENTRY, requested_by=None)

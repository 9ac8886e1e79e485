"""What explain says is what the pipeline does: both are asked about the same events and facts."""

import json
from typing import Any

import pytest
from tests.fakes import LINE, REF, START, FakeFleet, ManualClock, entry, incident, push, world
from tests.unit.corpus import names, value

from logmend import catalog, explain
from logmend.model.enums import Mode, Result
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts, InstanceRef, Tick, Undecodable
from logmend.settings import Settings
from logmend.stages import decode, identify
from logmend_cli.scan.groups import Groups

EVENTS = [("entries", name) for name in names("entries")] + [
    ("incidents", name) for name in names("incidents")
]
RUNBOOKS = catalog.load(Settings())


async def both(raw: Any, settings: Settings, **facts: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Give result, reason, runbook and variant of the pipeline's outcome, and of the explanation."""
    body = json.dumps(push(raw, at=START)).encode()
    delivery, event = decode.request(body, {})
    assert not isinstance(event, Tick | Undecodable)
    at = explain.own_time(delivery, event)
    clock = ManualClock(at)
    fleet = FakeFleet(clock)
    named = identify.event(event)
    known: InstanceFacts | None = None
    if isinstance(named, InstanceRef):
        fleet.add(named, **facts)
        known = fleet.facts_of[named.instance_id]
    w = world(clock=clock, fleet=fleet, mode=settings.mode, scope_projects=settings.scope_projects)
    outcome = await w.deliver(body)
    said = explain.event(delivery, event, explain.Rules.of(RUNBOOKS, settings), known)
    assert said.verdict is not None
    return (
        (outcome.result, outcome.reason, outcome.runbook, outcome.variant),
        (
            said.verdict.result,
            said.verdict.reason,
            said.runbook.name if said.runbook else None,
            said.variant.name if said.variant else None,
        ),
    )


@pytest.mark.parametrize(("kind", "name"), EVENTS)
async def test_every_fixture_ends_as_it_is_explained(kind: str, name: str) -> None:
    """The faulty VM stands ready; in observe mode the pipeline goes as far as explain can see."""
    done, said = await both(value(kind, name), Settings())
    if done[1] == "bad_identity":  # the outcome of what cannot be identified names no runbook
        done = done[:2] + said[2:]
    assert said == done


@pytest.mark.parametrize(("kind", "name"), [*EVENTS, ("odd", "refused in words, and names no VM")])
def test_a_scan_says_of_every_fixture_what_explain_says(kind: str, name: str) -> None:
    """Both read an event in one place, so that the first reason to turn it away is the same."""
    odd = entry(jsonPayload={"message": f"gce_workload_cert_refresh: {LINE.replace('404', '412')}"})
    odd["resource"] = {"type": "gce_instance", "labels": {}}
    event = decode.document(odd if kind == "odd" else value(kind, name))
    rules = explain.Rules.of(RUNBOOKS, Settings())
    groups = Groups(rules)
    groups.add(None, event)
    said = explain.event(None, event, rules).verdict
    assert said is not None
    found = {(each.verdict.result, each.verdict.reason) for each in groups.judged({}, rules.policies)}
    found |= {(Result(result), reason) for result, reason in groups.turned_away}
    found |= {(Result.UNMATCHED, None)} if groups.unmatched else set()
    assert found == {(said.result, said.reason)}


FACTS: dict[str, dict[str, Any]] = {
    "fine": {},
    "stopped": {"status": "TERMINATED"},
    "exempt": {"labels": {"logmend": "off"}},
    "opted in": {"metadata": {"enable-workload-certificate": "true"}},
    "opted in by project": {"project_metadata": {"enable-workload-certificate": "TRUE"}},
    "identity": {"identity_certificate_enabled": True},
    "partner": {"partner_namespaces": ("iam.googleapis.com",)},
    "project unknown": {"project_metadata": None, "unknown": {"project_metadata": "403"}},
    "exempt and opted in": {
        "labels": {"logmend": "off"},
        "metadata": {"enable-workload-certificate": "true"},
    },
    "stopped and exempt": {"status": "STOPPED", "labels": {"logmend": "off"}},
}


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize("raw", [entry(), incident()], ids=["entry", "incident"])
@pytest.mark.parametrize("scope", [(), ("elsewhere",)], ids=["everywhere", "elsewhere"])
async def test_the_first_reason_is_the_same_with_every_fact(
    raw: dict[str, Any], facts: str, scope: tuple[str, ...]
) -> None:
    """Which guard speaks first is decided in one place."""
    done, said = await both(raw, replace(Settings(), scope_projects=scope), **FACTS[facts])
    assert said == done


async def test_in_enforce_mode_planned_becomes_a_verified_fix() -> None:
    """`planned` is the promise that nothing known forbids acting."""
    done, said = await both(entry(), replace(Settings(), mode=Mode.ENFORCE))
    assert (done[0], said[0]) == (Result.REMEDIATED, Result.PLANNED)


def test_explaining_asks_nothing_of_the_vm_or_the_ledger() -> None:
    """A pure function: same values in, same values out, and no port to reach out by."""
    rules = explain.Rules.of(RUNBOOKS, Settings())
    event = decode.document(entry())
    assert explain.event(None, event, rules) == explain.event(None, event, rules)
    facts = InstanceFacts(REF, "vm", "RUNNING", identity_certificate_enabled=False, project_metadata={})
    assert explain.event(None, event, rules, facts).pending == ()

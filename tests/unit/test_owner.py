"""The owner that a VM's label names is in outcomes, and counted by status."""

from tests.fakes import REF, entry, push, world
from tests.unit.test_pipeline import ENFORCE

from logmend.model.struct import replace
from logmend.outcome import document
from logmend_cli.summing import Summing


async def test_an_outcome_names_the_owner_also_if_the_vm_was_not_looked_up() -> None:
    """As the VM was last seen; a label that is gone is forgotten with the next look."""
    w = world(**ENFORCE, owner_label="team")
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels={"team": "payments"})
    said = await w.deliver(push(entry()))
    assert document.document(said)["owner"] == "payments"
    again = await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))
    assert (again.reason, again.owner) == ("cooling_down", "payments")
    w.fleet.facts_of[REF.instance_id] = facts
    w.clock.tick(days=2)
    later = await w.deliver(push(entry(at=w.clock.now()), "3", at=w.clock.now()))
    assert (later.reason, later.owner) == (None, None)


async def test_status_counts_by_owner() -> None:
    """A VM once; without the setting nobody's name is told."""
    for key, owners in (("team", [("payments", 1)]), (None, [])):
        w = world(**ENFORCE, owner_label=key)
        facts = w.fleet.facts_of[REF.instance_id]
        w.fleet.facts_of[REF.instance_id] = replace(facts, labels={"team": "payments"})
        await w.deliver(push(entry()))
        summing = Summing(await w.controls.fleet())
        async for subject in w.ticker.queues.subjects():
            summing.subject(subject)
            summing.subject(replace(subject, runbook="ops-agent"))
        found = summing.state().document()["owners"]
        assert [(each["owner"], each["instances"]) for each in found] == owners

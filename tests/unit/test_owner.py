"""The owner that a VM's label names, and other chosen labels, are in outcomes and counted by status."""

import pytest
from tests.fakes import REF, entry, push, world
from tests.unit.test_pipeline import ENFORCE

from logmend.errors import ConfigError
from logmend.model.enums import Result
from logmend.model.struct import replace
from logmend.model.values import InstanceRef
from logmend.outcome import document
from logmend.settings import Settings
from logmend_cli.status.summing import Summing


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


async def test_an_outcome_tells_the_labels_that_were_chosen_and_no_other() -> None:
    """As the VM was last seen, cut to a label's length: what Compute says is not trusted to be short."""
    w = world(**ENFORCE, outcome_labels=("env", "team", "tier"))
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels={"env": "x" * 99, "team": "web", "key": "no"})
    said = await w.deliver(push(entry()))
    assert said.labels == {"env": "x" * 63, "team": "web"}
    assert document.document(said)["instance"]["labels"] == said.labels
    again = await w.deliver(push(entry(at=w.clock.now()), "2", at=w.clock.now()))
    assert (again.reason, again.labels) == ("cooling_down", said.labels)
    fewer = world(store=w.store, clock=w.clock, fleet=w.fleet, **ENFORCE, outcome_labels=("team",))
    later = await fewer.deliver(push(entry(at=w.clock.now()), "3", at=w.clock.now()))
    assert (later.reason, later.labels) == ("cooling_down", {"team": "web"}), "what is not chosen any more"


@pytest.mark.parametrize(
    ("text", "told"),
    [("Team", "no VM can carry"), (",".join("abcdefghi"), "at most 8"), ("env,env", "duplicate")],
)
def test_labels_that_no_vm_has_or_too_many_stop_the_start(text: str, told: str) -> None:
    """Each is kept in the ledger and in every outcome."""
    with pytest.raises(ConfigError, match=told):
        Settings.from_environment({"LOGMEND_OUTCOME_LABELS": text})


async def test_status_counts_by_each_label_with_and_without_a_ledger() -> None:
    """A VM once, with those that need a person and those that failed."""
    w = world(**ENFORCE, outcome_labels=("env",))
    facts = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(facts, labels={"env": "prod"})
    said = await w.deliver(push(entry()))
    summing = Summing(await w.controls.fleet())
    async for subject in w.ticker.queues.subjects():
        summing.subject(subject)
        summing.subject(replace(subject, runbook="ops-agent", last_result=Result.FAILED, needs_human=True))
    row = {"value": "prod", "instances": 1, "needs_human": 1, "failed": 1}
    assert summing.state().document()["labels"] == {"env": [row]}
    alone = Summing()
    alone.outcome(said)
    assert alone.state().document()["labels"] == {"env": [row | {"needs_human": 0, "failed": 0}]}
    other = InstanceRef(REF.project_id, REF.zone, "42")
    for instance, labels in ((REF, said.labels), (other, {}), (other, {"team": "web"})):
        alone.outcome(replace(said, outcome_id=f"{instance}{labels}", instance=instance, labels=labels))
    without = row | {"value": None, "needs_human": 0, "failed": 0}
    assert alone.state().document()["labels"]["env"][1:] == [without], "and one that has no such label"


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

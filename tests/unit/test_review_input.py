"""What anyone may write into an entry or an attribute does not reach outcomes beyond what can be bounded."""

import json

import pytest
from tests.fakes import REF, entry, incident, push, world

from logmend.outcome import document

LONG = "x" * 100_000


@pytest.mark.parametrize("name", ["y" * 2000, "forged\nresult=remediated", "a b", ""])
async def test_the_link_to_an_original_is_an_id_or_nothing(name: str) -> None:
    """Whoever may publish may set the attribute; free text has no place in an outcome."""
    w = world()
    outcome = await w.deliver(push(entry(), logmend_replay_of=name))
    assert outcome.replay_of is None
    linked = await w.deliver(push(entry(), "2", logmend_replay_of="123456789"))
    assert linked.replay_of == "123456789"


async def test_a_forged_log_name_does_not_fill_the_outcome() -> None:
    """An outcome that is too large could not be recorded; a stranger's text is told in part."""
    w = world()
    for number, name in enumerate((LONG, f"projects/{LONG}/logs/syslog", f"projects/p/logs/{LONG}")):
        await w.deliver(push(entry(logName=name, insertId=LONG), str(number)))
    await w.deliver(push(incident(incident_id=LONG), "9"))
    assert w.outcomes.written[0].instance == REF
    assert max(len(json.dumps(document.document(each))) for each in w.outcomes.written) < 10_000

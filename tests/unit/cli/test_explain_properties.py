"""Whatever it is asked about, explain answers: one of few results, in the documented shape."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.fakes import LINE, entry, incident

from logmend import catalog, explain
from logmend.settings import Settings
from logmend.stages import decode

RULES = explain.Rules.of(catalog.load(Settings()), Settings())
RESULTS = {"planned", "unmatched", "rejected", "refused", "skipped"}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    *("logName", "resource", "jsonPayload", "textPayload", "timestamp", "labels", "insertId", "severity"),
    *("incident", "version", "message", "data", "specversion", "logmend", "protoPayload", "receiveTimestamp"),
]


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Give an event with some of its keys replaced by anything."""
    event = draw(st.sampled_from([entry(), incident(), {"message": entry()}]))
    keys = st.sampled_from(KEYS)
    return event | draw(
        st.dictionaries(keys, values | st.sampled_from([LINE, {"message": LINE}]), max_size=3)
    )


@given(st.lists(damaged() | values, min_size=1, max_size=3))
@examples(150)
def test_any_document_gets_an_answer(documents: list[Any]) -> None:
    """Never an exception, always every key, and JSON that can be printed."""
    for delivery, event, _ in decode.any_shape(json.dumps(documents).encode()):
        said = explain.document(explain.event(delivery, event, RULES))
        assert json.loads(json.dumps(said)) == said
        assert len(said) == 11
        assert said["result"] in RESULTS or (said["event"] == "tick" and said["result"] is None)
        assert (said["action"] is not None) is (said["result"] == "planned")
        assert said["result"] != "planned" or said["instance"] is not None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
@examples(150)
def test_nothing_but_the_programs_own_line_is_planned(text: str) -> None:
    """Anything before the line on a line of its own program's makes it another line."""
    said = explain.event(None, decode.document(entry(jsonPayload={"message": f"{text}x {LINE}"})), RULES)
    assert said.result is not None
    assert said.result.value in ("unmatched", "refused")

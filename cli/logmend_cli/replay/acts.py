"""What a replay does with an event: explain it, publish it again, or request it in the operator's name."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from logmend import explain
from logmend.errors import Permanent
from logmend.explain import Explanation, Rules
from logmend.model.enums import Result
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.model.values import Incident, InstanceRef, Intent, LogEntry
from logmend.stages import intents
from logmend.stages.intents import REPLAY_ID
from logmend_cli.replay.events import REPLAY_OF, Replayable

if TYPE_CHECKING:
    from logmend.adapters.google.pubsub import Publisher
    from logmend.ledger import Journal


class Done(Struct, frozen=True):
    """What was done with an event: ``explained``, ``published``, ``ordered``, or ``left`` and why.

    ``covered``: what was done with another event of the same VM covers this one as well. ``as_`` is the id
    of the new message or the intent.
    """

    what: str
    as_: str | None = None
    why: str = ""


class Handler(Protocol):
    """Deals with one event."""

    async def __call__(self, each: Replayable, explanation: Explanation | None, replay_id: str) -> Done:
        """Deal with the event; a second time under the same ``replay_id`` has no further effect."""
        ...


async def explained(each: Replayable, explanation: Explanation | None, replay_id: str) -> Done:
    """Do nothing more: the event is already explained."""
    del each, explanation, replay_id
    return Done("explained")


class Publish(Struct, frozen=True):
    """Publish events again, with their attributes and the link to their original.

    A pulled message is left if publishing would use it up in vain, because it would be rejected or skipped
    for its age. ``everything`` publishes those as well.
    """

    publisher: "Publisher"
    topic: str
    everything: bool

    async def __call__(self, each: Replayable, explanation: Explanation | None, replay_id: str) -> Done:
        """Publish it; to the function, the same ``replay_id`` is the same event."""
        if each.data is None:
            return Done("left", why="it contains nothing to publish")
        if explanation is not None and not self.everything:
            reason = explanation.verdict.reason if explanation.verdict else None
            if explanation.result is Result.REJECTED:
                return Done("left", why="would be rejected again; --all publishes it")
            if reason == "stale" and each.ack_id is not None:
                return Done(
                    "left",
                    why="would be skipped because of its age; --allow-stale requests it, --all publishes it",
                )
        attributes = dict(each.attributes) | {REPLAY_OF: each.original, REPLAY_ID: replay_id}
        try:
            return Done("published", await self.publisher.publish(self.topic, each.data, attributes))
        except Permanent as error:
            if error.reason != "invalid_request":
                raise
            return Done("left", why=f"Pub/Sub did not accept it: {error.detail}")


class Order(Struct, frozen=True):
    """Write an operator's request to the ledger in place of an event, however old that is."""

    journal: "Journal"
    by: str

    async def __call__(self, each: Replayable, explanation: Explanation | None, replay_id: str) -> Done:
        """Write it once, and record who asks."""
        now = datetime.now(UTC)
        if (intent := _intent(each, explanation, now)) is None:
            return Done("left", why="nothing to request")
        order = intents.of_replay(intent, replay_id, each.original, self.by, now)
        await self.journal.write(order, now)
        return Done("ordered", order.intent_id)


def _intent(each: Replayable, explanation: Explanation | None, now: datetime) -> Intent | None:
    if each.record is not None:
        return each.record.intent
    if explanation is None or subject(explanation) is None:
        return None
    assert explanation.runbook is not None
    assert explanation.instance is not None
    assert isinstance(each.event, LogEntry | Incident)
    delivery = explanation.delivery
    return intents.of_event(
        delivery, each.event, explanation.runbook, explanation.variant, explanation.instance, now
    )


_Subject = tuple[str, InstanceRef]
"""A runbook and a VM."""


def subject(explanation: Explanation | None) -> _Subject | None:
    """Return the runbook and the VM of an event that would be processed if it were not too old; else None."""
    if (
        explanation is None
        or explanation.verdict is None
        or explanation.runbook is None
        or explanation.instance is None
    ):
        return None
    if explanation.result is not Result.PLANNED and explanation.verdict.reason != "stale":
        return None
    return explanation.runbook.name, explanation.instance


def judged(each: Replayable, rules: Rules, now: datetime) -> Explanation | None:
    """Explain an event as of now; return None if only the ledger knows it."""
    return None if each.record is not None else explain.event(each.delivery, each.event, rules, None, now)


def document(each: Replayable, explanation: Explanation | None, done: Done) -> JsonObject:
    """Return the JSON document of one event's replay: what ``explain`` says, and what was done."""
    known = explain.document(explanation) if explanation is not None else dict.fromkeys(_KEYS)
    if each.record is not None:
        intent = each.record.intent
        known |= {"event": intent.source.kind, "runbook": intent.runbook, "variant": intent.variant}
        known["instance"] = {
            "project_id": intent.instance.project_id,
            "zone": intent.instance.zone,
            "instance_id": intent.instance.instance_id,
        }
        known["action"] = intent.action.value
    return known | {
        "where": each.where,
        "replay_of": each.original,
        "done": done.what,
        "as": done.as_,
        "why": done.why or None,
    }


_KEYS = (
    "event", "runbook", "variant", "instance", "result", "reason", "pending_guards", "conditions", "guards",
    "action", "executor",
)  # fmt: skip

"""Make the intent that an event becomes."""

from datetime import datetime

from logmend.model import Action, Delivery, Incident, InstanceRef, Intent, LogEntry, Origin, Source
from logmend.runbook import Runbook, Variant


def source(event: LogEntry | Incident) -> Source:
    """Say where an event came from."""
    match event:
        case LogEntry():
            return Source(
                "log_entry", event.log_name, event.insert_id, event.timestamp or event.receive_timestamp
            )
        case Incident():
            return Source("incident", timestamp=event.started_at, incident_id=event.incident_id)


def of_event(
    delivery: Delivery,
    event: LogEntry | Incident,
    runbook: Runbook,
    variant: Variant | None,
    instance: InstanceRef,
    now: datetime,
) -> Intent:
    """Order the VM that an event names to be looked after with the runbook that matched.

    Only a fresh entry of a runbook that says so repeats itself; an incident or a replayed entry does not.
    """
    entry = event if isinstance(event, LogEntry) else None
    said = source(event)
    return Intent(
        intent_id=f"m-{delivery.message_id}",
        runbook=runbook.name,
        action=Action.ENFORCE,
        instance=instance,
        origin=Origin.LOG_ENTRY if entry else Origin.INCIDENT,
        source=said,
        created_at=now,
        event_time=said.timestamp or delivery.publish_time,
        line_time=entry.line_time if entry else None,
        message_id=delivery.message_id,
        variant=variant.name if variant else None,
        repeats=entry is not None and runbook.repeats is not None and delivery.replay_of is None,
        replay_of=delivery.replay_of,
    )

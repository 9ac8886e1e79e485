"""The values that pass through the pipeline. All are frozen, without behaviour beyond names and text."""

from logmend.model.values.attempt import (
    UNKNOWN,
    Asked,
    Attempt,
    Concerns,
    CredentialKind,
    Diagnosis,
    Evidence,
    HostKeySource,
    Login,
    Trouble,
)
from logmend.model.values.event import (
    Delivery,
    Event,
    Incident,
    LogEntry,
    Source,
    Tick,
    Undecodable,
    log_id_of,
)
from logmend.model.values.instance import Group, InstanceFacts, InstanceRef, Lineage
from logmend.model.values.intent import Intent, Plan, Verdict
from logmend.model.values.outcome import Latency, Outcome

__all__ = [
    "UNKNOWN",
    "Asked",
    "Attempt",
    "Concerns",
    "CredentialKind",
    "Delivery",
    "Diagnosis",
    "Event",
    "Evidence",
    "Group",
    "HostKeySource",
    "Incident",
    "InstanceFacts",
    "InstanceRef",
    "Intent",
    "Latency",
    "Lineage",
    "LogEntry",
    "Login",
    "Outcome",
    "Plan",
    "Source",
    "Tick",
    "Trouble",
    "Undecodable",
    "Verdict",
    "log_id_of",
]

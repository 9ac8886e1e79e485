"""What a person sees of a plan. Pure."""

from datetime import datetime

from logmend.model.state import Approval
from logmend.outcome import document as outcome_json
from logmend.stages import intents
from logmend.wiring import Application

COLUMNS = {
    "approval_id": "approval",
    "state": "state",
    "name": "VM",
    "instance": "instance",
    "owner": "owner",
    "will": "what will happen",
    "evidence": "evidence",
    "age": "age",
    "expires_at": "expires",
    "decided_by": "by (claimed)",
}


def state_of(approval: Approval, now: datetime) -> str:
    """Return the state of a plan; after its time it is expired, even if no tick has noted it yet."""
    return "expired" if approval.state == "pending" and approval.expires_at <= now else approval.state


def row(approval: Approval, app: Application, now: datetime) -> dict[str, object]:
    """Return what a person sees of a plan: the VM, the evidence, and what will happen."""
    intent, approved = approval.intent, approval.state == "approved"
    runbook = app.pipeline.runbooks.get(intent.runbook)
    summary = f" ({runbook.summary})" if runbook else ""
    seen = approval.plan.evidence if approval.plan else {}
    return {
        "approval_id": approval.approval_id,
        "intent_id": intents.approved_id(approval.approval_id) if approved else None,
        "state": state_of(approval, now),
        "name": approval.name,
        "instance": str(intent.instance),
        "labels": dict(approval.labels),
        "owner": app.settings.owner_of(approval.labels),
        "runbook": intent.runbook,
        "action": intent.action.value,
        "will": f"check, {intent.action} {intent.runbook}{summary}, check",
        "evidence": ", ".join(f"{key}={value}" for key, value in seen.items() if value is not None),
        "age": f"{max(0, round((now - approval.created_at).total_seconds() / 60))} min",
        "created_at": approval.created_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(timespec="seconds"),
        "before": dict(approval.before.values) if approval.before else None,
        "decided_by": approval.decided_by,
        "identity": outcome_json.CLAIMED if approval.decided_by else None,
        "decided_at": approval.decided_at.isoformat() if approval.decided_at else None,
    }

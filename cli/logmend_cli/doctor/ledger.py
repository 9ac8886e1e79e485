"""What can go wrong with the ledger and with the tick that processes what waits in it. Pure."""

from datetime import timedelta

from logmend.model.state import Fleet
from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, WARN, Check, Facts

TICK_LATE = timedelta(minutes=16)
"""Three missed ticks, like the alert ``missed_tick``."""
DAMAGE = 20
"""Most faults of the ledger that are named in one line."""


def ledger(facts: Facts) -> Check:
    """See that the ledger answers, and whether anything is frozen or a breaker is open."""
    name, fleet = "ledger", facts.ledger
    if not isinstance(fleet, Fleet):
        kind, _, where = facts.ledger_state.partition(":")
        project, _, database = where.partition("/")
        absent = kind == "firestore" and "not_found" in fleet
        repair = (
            f"gcloud firestore databases create --database={database or '(default)'} --project={project}"
            f" --location={facts.place.region} --type=firestore-native"
        )
        named = "no ledger is named" in fleet
        return Check(name, UNKNOWN if named else FAIL, fleet, repair if absent else None)
    if fleet.frozen:
        evidence = f"frozen by {fleet.frozen.by} at {fleet.frozen.at:%FT%TZ}: {fleet.frozen.why}"
        return Check(name, WARN, evidence, "logmend resume")
    if fleet.frozen_runbooks:
        one = next(iter(fleet.frozen_runbooks))
        return Check(
            name, WARN, f"frozen: {', '.join(fleet.frozen_runbooks)}", f"logmend resume --runbook {one}"
        )
    if fleet.breakers:
        one, breaker = next(iter(fleet.breakers.items()))
        evidence = f"the breaker of {one} is open: {breaker.failing} of {breaker.seen} VMs failed"
        return Check(name, WARN, evidence, f"logmend resume --runbook {one}")
    return Check(name, OK, f"{facts.ledger_state} answers; nothing is frozen")


def damage(facts: Facts) -> Check:
    """See that every lease, place and document of the ledger is usable."""
    name = "ledger's documents"
    if not isinstance(facts.ledger, Fleet):
        return Check(name, UNKNOWN, facts.ledger)
    evidence = [f"repaired {each.where}: {each.what}" for each in facts.repaired]
    evidence += [f"{each.where}: {each.what}" for each in facts.damage]
    if not facts.damage:
        return Check(name, OK, "; ".join(evidence) or "every lease and place has its intent")
    shown = "; ".join(evidence[:DAMAGE]) + (
        f"; and {len(evidence) - DAMAGE} more" if len(evidence) > DAMAGE else ""
    )
    repairable = any(each.repairable for each in facts.damage)
    repair = f"logmend doctor --project {facts.place.project} --repair-ledger" if repairable else None
    lost = any(not each.repairable for each in facts.damage)
    return Check(name, FAIL if lost else WARN, shown, repair)


def scheduler(facts: Facts) -> Check:
    """See that the scheduler's job publishes ticks to the topic."""
    name, place, reply = "scheduler", facts.place, facts["job"]
    at = f"--project={place.project} --location={place.region}"
    if reply.absent:
        repair = (
            f"gcloud scheduler jobs create pubsub {place.name}-tick {at} --schedule='*/5 * * * *'"
            f' --time-zone=Etc/UTC --topic={place.name} --message-body=\'{{"logmend":"tick"}}\''
        )
        return Check(name, FAIL, f"there is no job {place.name}-tick: parked work is not processed", repair)
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    job = reply.body
    if job.get("state") != "ENABLED":
        return Check(
            name,
            FAIL,
            f"the job is {job.get('state')}",
            f"gcloud scheduler jobs resume {place.name}-tick {at}",
        )
    target = (job.get("pubsubTarget") or {}).get("topicName")
    if target != place.topic:
        repair = f"gcloud scheduler jobs update pubsub {place.name}-tick {at} --topic={place.name}"
        return Check(name, FAIL, f"the job publishes to {target}, not to {place.topic}", repair)
    status = job.get("status") or {}
    if status.get("code"):
        evidence = f"its last run failed: {status.get('message') or status['code']}"
        return Check(name, FAIL, evidence, f"gcloud scheduler jobs run {place.name}-tick {at}")
    return Check(name, OK, f"{job.get('schedule')}, last run {job.get('lastAttemptTime', 'not yet')}")


def last_tick(facts: Facts) -> Check:
    """Check when a tick last finished, which proves that scheduler, topic, function and ledger work."""
    name = "last tick"
    if not isinstance(facts.ledger, Fleet):
        return Check(name, UNKNOWN, facts.ledger)
    at = facts.ledger.last_tick
    if at is None:
        return Check(name, WARN, "none yet", "logmend tick")
    age = facts.now - at
    evidence = f"at {at:%FT%TZ}, {int(age.total_seconds())} s ago"
    return Check(name, FAIL, evidence, "logmend tick") if age > TICK_LATE else Check(name, OK, evidence)

"""What can go wrong from the function to the VM: facts in, checks out. Pure."""

from collections.abc import Iterator
from datetime import timedelta

from logmend import permissions
from logmend.model.enums import Mode
from logmend.model.state import Fleet
from logmend.settings import Settings
from logmend_cli.apis import Reply
from logmend_cli.doctor import routes, vms
from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, WARN, Check, Facts, dicts
from logmend_cli.doctor.gather import vm_accounts

TICK_LATE = timedelta(minutes=16)
"""Three ticks missed: as the alert ``missed_tick``."""
DAMAGE = 20
"""Things amiss in the ledger that are named in one line."""


def function_to_vm(facts: Facts) -> Iterator[Check]:
    """Check the function, what it remembers by, and its ways to VMs."""
    yield function(facts)
    yield settings(facts)
    yield mode(facts)
    yield limits(facts)
    yield ledger(facts)
    yield damage(facts)
    yield scheduler(facts)
    yield last_tick(facts)
    yield recording(facts)
    if facts.settings.outcome_topic is not None:
        yield outcome_topic(facts, facts.settings.outcome_topic)
    for project in facts.place.fleet:
        yield fleet_permissions(facts, project)
    if facts.over_ssh:
        yield from acting_as(facts)
        for project in facts.place.fleet:
            yield routes.route(facts, project)
            yield from vms.checks(facts, project)
    if facts.over_osconfig:
        for project in facts.place.fleet:
            yield routes.agent(facts, project)
            yield from routes.assignments(facts, project)


def function(facts: Facts) -> Check:
    """See that the function is deployed and serves."""
    name, reply, place = "function", facts["function"], facts.place
    describe = (
        f"gcloud functions describe {place.name} --gen2 --project={place.project} --region={place.region}"
    )
    if reply.absent:
        said = f"there is no {place.function}; another --region or --name?"
        return Check(name, FAIL, said, f"deploy/gcloud.sh {place.project}")
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    state = reply.body.get("state")
    if state != "ACTIVE":
        messages = "; ".join(str(each.get("message")) for each in dicts(reply.body.get("stateMessages")))
        return Check(name, FAIL, f"its state is {state}: {messages or 'no message'}", describe)
    return Check(name, OK, f"ACTIVE as {facts.account}, updated {reply.body.get('updateTime', '?')}")


def settings(facts: Facts) -> Check:
    """Read the deployed settings as the function itself does at its start."""
    name, place, found = "function's settings", facts.place, facts.deployed()
    if found is None:
        return Check(name, UNKNOWN, facts["function"].why)
    if not isinstance(found, Settings):
        wrong = [each.partition(":")[0].partition("=")[0] for each in found]
        update = f"gcloud run services update {place.name} --project={place.project} --region={place.region}"
        unknown = [each for each, text in zip(wrong, found, strict=True) if "no such setting" in text]
        repair = (
            f"{update} --remove-env-vars={','.join(unknown)}"
            if unknown
            else (f"{update} --update-env-vars={wrong[0]}=VALUE")
        )
        return Check(name, FAIL, "; ".join(found), repair)
    other = facts.own_settings.state
    if other not in ("memory:", found.state):
        said = f"its ledger is {found.state}, this shell's LOGMEND_STATE is {other}"
        return Check(name, WARN, said, f"export LOGMEND_STATE={found.state}")
    if found.ssh_host_keys == "insecure" and facts.over_ssh:
        update = f"gcloud run services update {place.name} --project={place.project} --region={place.region}"
        said = "LOGMEND_SSH_HOST_KEYS=insecure: whoever answers at a VM's address is believed"
        return Check(name, WARN, said, f"{update} --update-env-vars=LOGMEND_SSH_HOST_KEYS=auto")
    return Check(name, OK, f"executor {found.executor}, ledger {found.state}, outcomes {found.outcomes}")


def mode(facts: Facts) -> Check:
    """Return what the function may do at most."""
    found = facts.deployed()
    if not isinstance(found, Settings):
        return Check("mode", UNKNOWN, facts["function"].why or "the settings cannot be read")
    budget = found.disruption_budget
    means = {
        Mode.OBSERVE: "looks at VMs and plans; changes nothing",
        Mode.APPROVE: "each plan waits for a person (logmend approvals list)",
        Mode.ENFORCE: f"remediates VMs, at most {budget.count} in {budget.window}",
    }
    return Check("mode", OK, f"{found.mode}: {means[found.mode]}")


def limits(facts: Facts) -> Check:
    """See that timeout, concurrency and instances fit together."""
    name, place, config = "function's limits", facts.place, facts.service_config
    if not config:
        return Check(name, UNKNOWN, facts["function"].why)
    update = f"gcloud run services update {place.name} --project={place.project} --region={place.region}"
    timeout, found = int(config.get("timeoutSeconds") or 60), facts.settings
    most, at_once = (
        int(config.get("maxInstanceCount") or 0),
        int(config.get("maxInstanceRequestConcurrency") or 1),
    )
    said = f"{timeout} s, {at_once} at once in each of at most {most or 'any number of'} instances"
    if timeout < found.function_timeout.total_seconds():
        wants = int(found.function_timeout.total_seconds())
        why = f"{said}: LOGMEND_FUNCTION_TIMEOUT is {wants} s, so attempts are cut off"
        return Check(name, FAIL, why, f"{update} --timeout={wants}")
    if not most:
        return Check(name, WARN, f"{said}: a flood has no bound", f"{update} --max-instances=5")
    if at_once == 1:
        return Check(name, WARN, f"{said}: each event takes an instance", f"{update} --concurrency=40")
    return Check(name, OK, said)


def ledger(facts: Facts) -> Check:
    """See that the ledger answers, and whether something is frozen or a breaker open."""
    name, found = "ledger", facts.ledger
    if not isinstance(found, Fleet):
        kind, _, where = facts.ledger_state.partition(":")
        project, _, database = where.partition("/")
        absent = kind == "firestore" and "not_found" in found
        repair = (
            f"gcloud firestore databases create --database={database or '(default)'} --project={project}"
            f" --location={facts.place.region} --type=firestore-native"
        )
        named = "no ledger is named" in found
        return Check(name, UNKNOWN if named else FAIL, found, repair if absent else None)
    if found.frozen:
        said = f"frozen by {found.frozen.by} at {found.frozen.at:%FT%TZ}: {found.frozen.why}"
        return Check(name, WARN, said, "logmend resume")
    if found.frozen_runbooks:
        one = next(iter(found.frozen_runbooks))
        return Check(
            name, WARN, f"frozen: {', '.join(found.frozen_runbooks)}", f"logmend resume --runbook {one}"
        )
    if found.breakers:
        one, breaker = next(iter(found.breakers.items()))
        said = f"the breaker of {one} is open: {breaker.failing} of {breaker.seen} VMs failed"
        return Check(name, WARN, said, f"logmend resume --runbook {one}")
    return Check(name, OK, f"{facts.ledger_state} answers; nothing is frozen")


def damage(facts: Facts) -> Check:
    """See that every lease, place and document of the ledger can be used."""
    name = "ledger's documents"
    if not isinstance(facts.ledger, Fleet):
        return Check(name, UNKNOWN, facts.ledger)
    said = [f"repaired {each.where}: {each.what}" for each in facts.repaired]
    said += [f"{each.where}: {each.what}" for each in facts.damage]
    if not facts.damage:
        return Check(name, OK, "; ".join(said) or "every lease and place has its intent")
    shown = "; ".join(said[:DAMAGE]) + (f"; and {len(said) - DAMAGE} more" if len(said) > DAMAGE else "")
    repairable = any(each.repairable for each in facts.damage)
    repair = f"logmend doctor --project {facts.place.project} --repair-ledger" if repairable else None
    lost = any(not each.repairable for each in facts.damage)
    return Check(name, FAIL if lost else WARN, shown, repair)


def scheduler(facts: Facts) -> Check:
    """See that the scheduler's job ticks on the topic."""
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
    found = reply.body
    if found.get("state") != "ENABLED":
        return Check(
            name,
            FAIL,
            f"the job is {found.get('state')}",
            f"gcloud scheduler jobs resume {place.name}-tick {at}",
        )
    target = (found.get("pubsubTarget") or {}).get("topicName")
    if target != place.topic:
        repair = f"gcloud scheduler jobs update pubsub {place.name}-tick {at} --topic={place.name}"
        return Check(name, FAIL, f"the job publishes to {target}, not to {place.topic}", repair)
    status = found.get("status") or {}
    if status.get("code"):
        said = f"its last run failed: {status.get('message') or status['code']}"
        return Check(name, FAIL, said, f"gcloud scheduler jobs run {place.name}-tick {at}")
    return Check(name, OK, f"{found.get('schedule')}, last run {found.get('lastAttemptTime', 'not yet')}")


def last_tick(facts: Facts) -> Check:
    """Return when a tick last came to its end; that proves scheduler, topic, function and ledger at once."""
    name = "last tick"
    if not isinstance(facts.ledger, Fleet):
        return Check(name, UNKNOWN, facts.ledger)
    at = facts.ledger.last_tick
    if at is None:
        return Check(name, WARN, "none yet", "logmend tick")
    age = facts.now - at
    said = f"at {at:%FT%TZ}, {int(age.total_seconds())} s ago"
    return Check(name, FAIL, said, "logmend tick") if age > TICK_LATE else Check(name, OK, said)


def recording(facts: Facts) -> Check:
    """See that the function may record outcomes and keep dead letters."""
    name, place = "function records", facts.place
    for key, wanted, role in (
        ("may_record", permissions.OUTCOMES, "roles/logging.logWriter"),
        ("may_dead_letter", permissions.DEAD_LETTER, "roles/pubsub.publisher"),
    ):
        reply = facts[key]
        if reply.body is None:
            return Check(name, UNKNOWN, *_not_as_function(facts, reply))
        if _lacking(reply, wanted):
            on = f"pubsub topics add-iam-policy-binding {place.name}-dead-letter --project={place.project}"
            on = (
                on
                if key == "may_dead_letter"
                else f"projects add-iam-policy-binding {place.project} --condition=None"
            )
            repair = f"gcloud {on} --member=serviceAccount:{facts.account} --role={role}"
            return Check(name, FAIL, f"it lacks {', '.join(sorted(wanted))}", repair)
    return Check(name, OK, "outcomes and dead letters")


def outcome_topic(facts: Facts, topic: str) -> Check:
    """See that the topic of outcomes is there, and that the function may publish to it."""
    name, reply, may = "outcome topic", facts["outcome_topic"], facts["may_publish"]
    _, project, _, short = topic.split("/")
    if reply.absent:
        repair = f"gcloud pubsub topics create {short} --project={project} --message-retention-duration=7d"
        return Check(name, FAIL, f"there is no {topic}: no outcome is published", repair)
    if may.body is None:
        return Check(name, UNKNOWN, *_not_as_function(facts, may))
    if lacking := _lacking(may, permissions.DEAD_LETTER):
        repair = (
            f"gcloud pubsub topics add-iam-policy-binding {short} --project={project}"
            f" --member=serviceAccount:{facts.account} --role=roles/pubsub.publisher"
        )
        said = f"the function lacks {', '.join(lacking)} on {topic}: no outcome is published"
        return Check(name, FAIL, said, repair)
    return Check(name, OK, f"the function may publish to {topic}")


def fleet_permissions(facts: Facts, project: str) -> Check:
    """See that the function may do on the VMs' projects what its mode, executor and route take."""
    name, reply, found = f"function's permissions in {project}", facts[f"may/{project}"], facts.settings
    if reply.body is None:
        return Check(name, UNKNOWN, *_not_as_function(facts, reply))
    wanted = facts.fleet_permissions
    lacking = _lacking(reply, wanted)
    if lacking:
        role = f"{facts.place.name.replace('-', '_')}_fleet"
        repair = f"gcloud iam roles update {role} --project={project} --add-permissions={','.join(lacking)}"
        return Check(name, FAIL, f"it lacks {', '.join(lacking)}", repair)
    return Check(name, OK, f"all {len(wanted)} of mode {found.mode} by {found.executor}")


def acting_as(facts: Facts) -> Iterator[Check]:
    """See that OS Login will let the function in if VMs run as the default account."""
    for project, account in vm_accounts(facts):
        name, reply = f"logs in where VMs are {account}", facts[f"may_act_as/{account}"]
        if reply.body is None:
            yield Check(name, UNKNOWN, *_not_as_function(facts, reply))
        elif _lacking(reply, permissions.ACT_AS):
            repair = (
                f"gcloud iam service-accounts add-iam-policy-binding {account} --project={project}"
                f" --member=serviceAccount:{facts.account} --role=roles/iam.serviceAccountUser"
            )
            yield Check(name, FAIL, "it lacks iam.serviceAccounts.actAs", repair)
        else:
            yield Check(name, OK, "iam.serviceAccounts.actAs")


def _not_as_function(facts: Facts, reply: Reply) -> tuple[str, str | None]:
    """Return why the function's own permissions are not known, and what lets them be asked."""
    token = facts["token"]
    if facts.account is None:
        return facts["function"].why, None
    if token.body is None:
        repair = (
            f"gcloud iam service-accounts add-iam-policy-binding {facts.account}"
            f" --project={facts.place.project} --member=user:YOU --role=roles/iam.serviceAccountTokenCreator"
        )
        return f"asked as the function only, and you may not act as {facts.account}: {token.why}", repair
    return reply.why, None


def _lacking(reply: Reply, wanted: frozenset[str]) -> list[str]:
    return sorted(wanted - set((reply.body or {}).get("permissions") or ()))

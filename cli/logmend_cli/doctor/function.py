"""What can go wrong from the function to the VM: facts in, checks out. Pure."""

from collections.abc import Iterator

from logmend.model.enums import Mode
from logmend.settings import Settings
from logmend_cli.doctor import ledger, permissions, routes, vms
from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, WARN, Check, Facts, dicts


def function_to_vm(facts: Facts) -> Iterator[Check]:
    """Check the function, its ledger, and its ways to VMs."""
    yield function(facts)
    yield settings(facts)
    yield mode(facts)
    yield limits(facts)
    yield ledger.ledger(facts)
    yield ledger.damage(facts)
    yield ledger.scheduler(facts)
    yield ledger.last_tick(facts)
    yield permissions.recording(facts)
    if facts.settings.outcome_topic is not None:
        yield permissions.outcome_topic(facts, facts.settings.outcome_topic)
    for project in facts.place.fleet:
        yield permissions.fleet_permissions(facts, project)
    if facts.over_ssh:
        yield from permissions.acting_as(facts)
        for project in facts.place.fleet:
            yield routes.route(facts, project)
            yield from vms.checks(facts, project)
    if facts.over_osconfig:
        for project in facts.place.fleet:
            yield routes.agent(facts, project)
            yield from routes.assignments(facts, project)


def function(facts: Facts) -> Check:
    """See that the function is deployed and active."""
    name, reply, place = "function", facts["function"], facts.place
    describe = (
        f"gcloud functions describe {place.name} --gen2 --project={place.project} --region={place.region}"
    )
    if reply.absent:
        evidence = f"there is no {place.function}; another --region or --name?"
        return Check(name, FAIL, evidence, f"deploy/gcloud.sh {place.project}")
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    state = reply.body.get("state")
    if state != "ACTIVE":
        messages = "; ".join(str(each.get("message")) for each in dicts(reply.body.get("stateMessages")))
        return Check(name, FAIL, f"its state is {state}: {messages or 'no message'}", describe)
    return Check(name, OK, f"ACTIVE as {facts.account}, updated {reply.body.get('updateTime', '?')}")


def settings(facts: Facts) -> Check:
    """Read the deployed settings as the function itself does at its start."""
    name, place, deployed = "function's settings", facts.place, facts.deployed()
    if deployed is None:
        return Check(name, UNKNOWN, facts["function"].why)
    if not isinstance(deployed, Settings):
        wrong = [each.partition(":")[0].partition("=")[0] for each in deployed]
        update = f"gcloud run services update {place.name} --project={place.project} --region={place.region}"
        unknown = [each for each, text in zip(wrong, deployed, strict=True) if "no such setting" in text]
        repair = (
            f"{update} --remove-env-vars={','.join(unknown)}"
            if unknown
            else (f"{update} --update-env-vars={wrong[0]}=VALUE")
        )
        return Check(name, FAIL, "; ".join(deployed), repair)
    other = facts.own_settings.state
    if other not in ("memory:", deployed.state):
        evidence = f"its ledger is {deployed.state}, this shell's LOGMEND_STATE is {other}"
        return Check(name, WARN, evidence, f"export LOGMEND_STATE={deployed.state}")
    if deployed.ssh_host_keys == "insecure" and facts.over_ssh:
        update = f"gcloud run services update {place.name} --project={place.project} --region={place.region}"
        evidence = "LOGMEND_SSH_HOST_KEYS=insecure: any server at a VM's address is trusted"
        return Check(name, WARN, evidence, f"{update} --update-env-vars=LOGMEND_SSH_HOST_KEYS=auto")
    return Check(
        name, OK, f"executor {deployed.executor}, ledger {deployed.state}, outcomes {deployed.outcomes}"
    )


def mode(facts: Facts) -> Check:
    """Show the most that the function may do."""
    deployed = facts.deployed()
    if not isinstance(deployed, Settings):
        return Check("mode", UNKNOWN, facts["function"].why or "the settings cannot be read")
    budget = deployed.disruption_budget
    means = {
        Mode.OBSERVE: "checks VMs and plans; changes nothing",
        Mode.APPROVE: "each plan waits for a person (logmend approvals list)",
        Mode.ENFORCE: f"remediates VMs, at most {budget.count} in {budget.window}",
    }
    return Check("mode", OK, f"{deployed.mode}: {means[deployed.mode]}")


def limits(facts: Facts) -> Check:
    """See that timeout, concurrency and instances fit together."""
    name, place, config = "function's limits", facts.place, facts.service_config
    if not config:
        return Check(name, UNKNOWN, facts["function"].why)
    update = f"gcloud run services update {place.name} --project={place.project} --region={place.region}"
    timeout, deployed = int(config.get("timeoutSeconds") or 60), facts.settings
    most, at_once = (
        int(config.get("maxInstanceCount") or 0),
        int(config.get("maxInstanceRequestConcurrency") or 1),
    )
    evidence = f"{timeout} s, {at_once} at once in each of at most {most or 'any number of'} instances"
    if timeout < deployed.function_timeout.total_seconds():
        wants = int(deployed.function_timeout.total_seconds())
        why = f"{evidence}: LOGMEND_FUNCTION_TIMEOUT is {wants} s, so attempts are cut off"
        return Check(name, FAIL, why, f"{update} --timeout={wants}")
    if not most:
        return Check(name, WARN, f"{evidence}: nothing limits a flood", f"{update} --max-instances=5")
    if at_once == 1:
        return Check(name, WARN, f"{evidence}: each event takes an instance", f"{update} --concurrency=80")
    return Check(name, OK, evidence)

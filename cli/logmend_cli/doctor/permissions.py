"""What the function may do, by its own answers. Pure."""

from collections.abc import Iterator

from logmend import permissions
from logmend_cli.apis import Reply
from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, Check, Facts
from logmend_cli.doctor.questions import vm_accounts


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
    """See that the topic of outcomes exists, and that the function may publish to it."""
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
        evidence = f"the function lacks {', '.join(lacking)} on {topic}: no outcome is published"
        return Check(name, FAIL, evidence, repair)
    return Check(name, OK, f"the function may publish to {topic}")


def fleet_permissions(facts: Facts, project: str) -> Check:
    """See that the function has what its mode, executor and route need on the VMs' projects."""
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
    """Return why the function's own permissions are not known, and how to allow asking for them."""
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

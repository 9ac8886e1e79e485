"""What can go wrong between the sink and the function: facts in, checks out. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from logmend.outcome.reasons import REASONS
from logmend_cli.apis import Reply
from logmend_cli.doctor.facts import Check, Facts, Health, dicts
from logmend_cli.doctor.gather import ancestors, apis_of

OK, WARN, FAIL, UNKNOWN = Health.OK, Health.WARN, Health.FAIL, Health.UNKNOWN

SKEW_WARN, SKEW_FAIL = 10.0, 120.0
"""Seconds: a certificate for SSH is good for minutes, and outcomes are ordered by time."""
OLDEST_WARN, OLDEST_FAIL = 600, 1800
"""Seconds that the oldest message has waited; the alert ``oldest_message`` is at the second."""
_PUBLISHERS = (
    "roles/pubsub.publisher",
    "roles/pubsub.editor",
    "roles/pubsub.admin",
    "roles/owner",
    "roles/editor",
)
_SUBSCRIBERS = ("roles/pubsub.subscriber", *_PUBLISHERS[1:])
_INVOKERS = ("roles/run.invoker", "roles/run.servicesInvoker", "roles/run.admin", "roles/owner")
_TOKEN_CREATORS = ("roles/iam.serviceAccountOpenIdTokenCreator", "roles/iam.serviceAccountTokenCreator")


def path(facts: Facts) -> Iterator[Check]:
    """Check the way of an event up to the function, in the order in which it takes it."""
    if facts.without is not None:
        repair = REASONS[facts.without.reason].next_step
        why = str(facts.without).rstrip(".")
        said = f"{why}; nothing was asked of Google Cloud, and what they are for is unknown"
        yield Check("Google credentials", FAIL, said, repair)
    yield clock(facts)
    for project in dict.fromkeys((facts.place.project, *facts.place.fleet)):
        yield apis(facts, project)
    for parent in facts.place.parents:
        yield sink(facts, parent)
        yield writer(facts, parent)
        if parent.startswith("projects/"):
            yield exports(facts, parent)
            yield interception(facts, parent)
    yield topic(facts)
    yield push(facts)
    yield invoker(facts)
    yield token_creator(facts)
    yield ack_deadline(facts)
    yield dead_letter(facts)
    yield dead_letter_roles(facts)
    yield backlog(facts)
    yield dead_letters(facts)


def clock(facts: Facts) -> Check:
    """Compare this machine's clock with Google's."""
    name, skew = "clock", facts.skew
    if skew is None:
        return Check(name, UNKNOWN, "no API answered with its time")
    said = f"this machine is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Google's"
    if abs(skew) < SKEW_WARN:
        return Check(name, OK, said)
    return Check(name, FAIL if abs(skew) >= SKEW_FAIL else WARN, said, "sudo timedatectl set-ntp true")


def apis(facts: Facts, project: str) -> Check:
    """See that every API that is used there is enabled."""
    name, reply = f"APIs of {project}", facts[f"apis/{project}"]
    if reply.body is None:
        repair = f"gcloud services enable serviceusage.googleapis.com --project={project}"
        return Check(name, UNKNOWN, reply.why, repair if "api_disabled" in reply.why else None)
    states = {
        str(each.get("name", "")).rpartition("/")[2]: each.get("state")
        for each in dicts(reply.body.get("services"))
    }
    wanted = [f"{each}.googleapis.com" for each in apis_of(facts, project)]
    off = [each for each in wanted if states.get(each) != "ENABLED"]
    if off:
        return Check(
            name,
            FAIL,
            f"not enabled: {', '.join(off)}",
            f"gcloud services enable {' '.join(off)} --project={project}",
        )
    return Check(name, OK, f"all {len(wanted)} enabled")


def sink(facts: Facts, parent: str) -> Check:
    """See that the sink is there, on, and exports what the runbooks ask for to the topic, all of it."""
    name, reply, place = f"sink in {parent}", facts[f"sink/{parent}"], facts.place
    at, destination = _at(parent), f"pubsub.googleapis.com/{place.topic}"
    update = f"gcloud logging sinks update {place.name} {at}"
    filtered = '--log-filter="$(logmend filter show)"'
    if reply.absent:
        repair = f"gcloud logging sinks create {place.name} {destination} {at} {filtered}"
        return Check(name, FAIL, f"there is no sink {place.name}", repair)
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    found = reply.body
    if found.get("disabled"):
        return Check(name, FAIL, "it is disabled", f"{update} --no-disabled")
    if found.get("destination") != destination:
        return Check(
            name,
            FAIL,
            f"it exports to {found.get('destination')}, not to {destination}",
            f"gcloud logging sinks update {place.name} {destination} {at}",
        )
    if _plain(str(found.get("filter", ""))) != _plain(facts.filter):
        return Check(
            name,
            FAIL,
            "its filter is not that of the runbooks here (logmend filter show)",
            f"{update} {filtered}",
        )
    if not parent.startswith("projects/") and not found.get("includeChildren"):
        return Check(name, FAIL, "it leaves out the projects below", f"{update} --include-children")
    left_out = [str(each.get("name")) for each in dicts(found.get("exclusions")) if not each.get("disabled")]
    if left_out:
        said = f"its exclusions {', '.join(left_out)} may leave out what the runbooks ask for"
        return Check(name, WARN, said, f"{update} --remove-exclusions={','.join(left_out)}")
    return Check(name, OK, "on, with the runbooks' filter, to the topic")


def writer(facts: Facts, parent: str) -> Check:
    """See that the sink's writer identity may publish to the topic."""
    name, reply, place = f"writer of the sink in {parent}", facts[f"sink/{parent}"], facts.place
    identity = (reply.body or {}).get("writerIdentity")
    if not identity:
        return Check(name, UNKNOWN, reply.why or "the sink has no writer identity")
    return _granted(
        facts, name, facts["topic_policy"], str(identity), _PUBLISHERS,
        f"gcloud pubsub topics add-iam-policy-binding {place.name} --project={place.project}",
        f"publish to {place.topic}",
    )  # fmt: skip


def exports(facts: Facts, parent: str) -> Check:
    """Count what the sink could not export in the last day."""
    name, reply = f"export errors in {parent}", facts[f"export_errors/{parent}"]
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    errors = sum(_values(reply))
    if errors:
        said = f"{errors:.0f} entries could not be exported in the last day; they are not sent later"
        project = parent.partition("/")[2]
        return Check(name, FAIL, said, f"logmend scan --project {project} --since 1d")
    return Check(name, OK, "none in the last day")


def interception(facts: Facts, parent: str) -> Check:
    """Look for a sink above that keeps entries from this project's sinks (``interceptChildren``)."""
    name = f"intercepting sinks above {parent}"
    ancestry = facts[f"ancestry/{parent}"]
    if ancestry.body is None:
        return Check(name, UNKNOWN, ancestry.why)
    above = ancestors(facts, parent)
    unseen = []
    for each in above:
        reply = facts[f"sinks/{each}"]
        if reply.body is None:
            unseen.append(f"{each}: {reply.why}")
            continue
        for one in dicts(reply.body.get("sinks")):
            if one.get("interceptChildren") and not one.get("disabled"):
                matches = _plain(str(one.get("filter", "everything")))[:120]
                said = f"sink {one.get('name')} of {each} intercepts what it matches: {matches}"
                repair = f"gcloud logging sinks update {one.get('name')} {_at(each)} --no-intercept-children"
                return Check(name, FAIL, said, repair)
    if unseen:
        return Check(name, UNKNOWN, "; ".join(unseen))
    return Check(name, OK, f"none in {', '.join(above)}" if above else "the project has no parent")


def topic(facts: Facts) -> Check:
    """See that the topic is there."""
    place, reply = facts.place, facts["topic"]
    kept_for = f"--project={place.project} --message-retention-duration=7d"
    if reply.absent:
        repair = f"gcloud pubsub topics create {place.name} {kept_for}"
        return Check("topic", FAIL, f"there is no {place.topic}", repair)
    if reply.body is None:
        return Check("topic", UNKNOWN, reply.why)
    kept = reply.body.get("messageRetentionDuration")
    if not kept:
        repair = f"gcloud pubsub topics update {place.name} {kept_for}"
        return Check("topic", WARN, f"{place.topic} keeps nothing: a seek finds no message", repair)
    return Check("topic", OK, f"{place.topic}, keeps messages for {kept}")


def push(facts: Facts) -> Check:
    """See that the push subscription is on the topic and pushes to the function with its token."""
    name, place, reply = "push subscription", facts.place, facts["subscription"]
    short = f"{place.name}-push"
    uri = facts.service_config.get("uri")
    account = f"{short}@{place.project}.iam.gserviceaccount.com"
    repair = (
        f"gcloud pubsub subscriptions update {short} --project={place.project} --push-endpoint={uri or 'URI'}"
        f" --push-auth-service-account={account} --push-auth-token-audience={uri or 'URI'}"
    )
    if reply.absent:
        create = repair.replace("update", "create", 1) + (
            f" --topic={place.name} --ack-deadline=600 --expiration-period=never"
            f" --dead-letter-topic={place.name}-dead-letter --max-delivery-attempts=10"
            " --min-retry-delay=10s --max-retry-delay=600s"
        )
        return Check(name, FAIL, f"there is no {place.subscription}", create)
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    found = reply.body
    config = found.get("pushConfig") or {}
    endpoint, token = config.get("pushEndpoint"), config.get("oidcToken") or {}
    if found.get("topic") != place.topic or found.get("detached"):
        said = f"it is on {found.get('topic')}{', detached' if found.get('detached') else ''}"
        return Check(
            name, FAIL, said, f"gcloud pubsub subscriptions delete {short} --project={place.project}"
        )
    if not endpoint:
        return Check(name, FAIL, "it has no push endpoint: nothing is delivered", repair)
    if uri and endpoint.rstrip("/") != str(uri).rstrip("/"):
        return Check(name, FAIL, f"it pushes to {endpoint}, the function is at {uri}", repair)
    if not token.get("serviceAccountEmail"):
        return Check(name, FAIL, "it pushes without a token: the function answers 403", repair)
    if found.get("state") == "RESOURCE_ERROR":
        return Check(name, FAIL, "Pub/Sub reports an error of its endpoint (RESOURCE_ERROR)", repair)
    if not uri:
        return Check(
            name, UNKNOWN, f"it pushes to {endpoint}; whether that is the function: {facts['function'].why}"
        )
    return Check(name, OK, f"to {endpoint} as {token['serviceAccountEmail']}")


def invoker(facts: Facts) -> Check:
    """See that the push account may call the function."""
    place = facts.place
    token = (facts.body("subscription").get("pushConfig") or {}).get("oidcToken") or {}
    account = token.get("serviceAccountEmail") or f"{place.name}-push@{place.project}.iam.gserviceaccount.com"
    return _granted(
        facts, "push account calls the function", facts["run_policy"], f"serviceAccount:{account}", _INVOKERS,
        f"gcloud run services add-iam-policy-binding {place.name} --project={place.project}"
        f" --region={place.region}",
        "call the function",
    )  # fmt: skip


def token_creator(facts: Facts) -> Check:
    """See that Pub/Sub may make tokens of the push account."""
    name, place = "Pub/Sub signs tokens", facts.place
    if facts.service_agent is None:
        return Check(name, UNKNOWN, facts["project"].why)
    account = f"{place.name}-push@{place.project}.iam.gserviceaccount.com"
    return _granted(
        facts, name, facts["push_policy"], f"serviceAccount:{facts.service_agent}", _TOKEN_CREATORS,
        f"gcloud iam service-accounts add-iam-policy-binding {account} --project={place.project}",
        f"make tokens of {account}",
    )  # fmt: skip


def ack_deadline(facts: Facts) -> Check:
    """See that nothing is pushed again while the function is still at it."""
    name, place, reply = "ack deadline", facts.place, facts["subscription"]
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    deadline = int(reply.body.get("ackDeadlineSeconds") or 10)
    timeout = int(facts.service_config.get("timeoutSeconds") or 0)
    repair = (
        f"gcloud pubsub subscriptions update {place.name}-push --project={place.project} --ack-deadline=600"
    )
    if not timeout:
        return Check(
            name,
            UNKNOWN if deadline >= 60 else WARN,
            f"{deadline} s; the function's timeout is not known",
            None,
        )
    if deadline <= timeout:
        said = f"{deadline} s, the function may take {timeout} s: messages are pushed again meanwhile"
        return Check(name, FAIL, said, repair)
    return Check(name, OK, f"{deadline} s, above the function's timeout of {timeout} s")


def dead_letter(facts: Facts) -> Check:
    """See that what fails again and again goes somewhere, and can be read there."""
    name, place, reply = "dead letter", facts.place, facts["subscription"]
    update = f"gcloud pubsub subscriptions update {place.name}-push --project={place.project}"
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    policy = reply.body.get("deadLetterPolicy") or {}
    if not policy.get("deadLetterTopic"):
        repair = f"{update} --dead-letter-topic={place.name}-dead-letter --max-delivery-attempts=10"
        return Check(name, FAIL, "the subscription has none: what fails is tried until it expires", repair)
    if facts["dead_topic"].absent:
        kept_for = f"--project={place.project} --message-retention-duration=31d"
        repair = f"gcloud pubsub topics create {place.name}-dead-letter {kept_for}"
        return Check(name, FAIL, f"its topic {policy['deadLetterTopic']} is gone", repair)
    if facts["dead_subscription"].absent:
        repair = (
            f"gcloud pubsub subscriptions create {place.name}-dead-letter --project={place.project}"
            f" --topic={place.name}-dead-letter --message-retention-duration=31d --expiration-period=never"
        )
        return Check(name, FAIL, "nobody subscribes to it: what goes there is lost", repair)
    lacking = [facts[each].why for each in ("dead_topic", "dead_subscription") if facts[each].body is None]
    if lacking:
        return Check(name, UNKNOWN, "; ".join(lacking))
    return Check(name, OK, f"after {policy.get('maxDeliveryAttempts', 5)} deliveries")


def dead_letter_roles(facts: Facts) -> Check:
    """See that Pub/Sub itself may move a message there: publish on one side, take on the other."""
    name, place = "dead letter's roles", facts.place
    if facts.service_agent is None:
        return Check(name, UNKNOWN, facts["project"].why)
    member = f"serviceAccount:{facts.service_agent}"
    both = (
        _granted(
            facts, name, facts["dead_topic_policy"], member, _PUBLISHERS,
            f"gcloud pubsub topics add-iam-policy-binding {place.name}-dead-letter --project={place.project}",
            "publish dead letters",
        ),
        _granted(
            facts, name, facts["subscription_policy"], member, _SUBSCRIBERS,
            f"gcloud pubsub subscriptions add-iam-policy-binding {place.name}-push --project={place.project}",
            "take messages off the push subscription: undeliverable ones are tried for ever",
        ),
    )  # fmt: skip
    return next((each for each in both if each.state is not OK), both[0])


def backlog(facts: Facts) -> Check:
    """Return how many messages wait, and how long the oldest has."""
    name, count, oldest = "backlog", facts["undelivered/push"], facts["oldest/push"]
    if count.body is None or oldest.body is None:
        return Check(name, UNKNOWN, count.why or oldest.why)
    if not _values(count) and not _values(oldest):
        return Check(name, UNKNOWN, "no measurement in the last quarter of an hour")
    age = max(_values(oldest), default=0)
    said = f"{max(_values(count), default=0):.0f} messages, the oldest {age:.0f} s old"
    repair = (
        f"gcloud run services logs read {facts.place.name} --project={facts.place.project}"
        f" --region={facts.place.region} --limit=50"
    )
    if age >= OLDEST_FAIL:
        return Check(name, FAIL, said, repair)
    return Check(name, WARN, said, repair) if age >= OLDEST_WARN else Check(name, OK, said)


def dead_letters(facts: Facts) -> Check:
    """Return whether the dead letter is empty."""
    name, reply = "dead letters", facts["undelivered/dead"]
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    if waiting := max(_values(reply), default=0):
        repair = (
            f"logmend replay --subscription {facts.place.name}-dead-letter --project {facts.place.project}"
        )
        return Check(name, WARN, f"{waiting:.0f} wait there", repair)
    return Check(name, OK, "none")


def _granted(
    facts: Facts, name: str, policy: Reply, member: str, roles: tuple[str, ...], command: str, to: str
) -> Check:
    """See that a member has one of some roles, without condition: right there, or in the whole project."""
    repair = f"{command} --member={member} --role={roles[0]}"
    if policy.body is None:
        return Check(name, UNKNOWN, policy.why)
    home = facts["home_policy"]
    for where, found in (("", policy), (" on the project", home)):
        for each in dicts((found.body or {}).get("bindings")):
            members = each.get("members") or ()
            if each.get("role") in roles and _is_in(member, members) and not each.get("condition"):
                return Check(name, OK, f"{member} has {each['role']}{where}")
    customs = [
        str(each.get("role"))
        for each in (*dicts(policy.body.get("bindings")), *dicts((home.body or {}).get("bindings")))
        if member in (each.get("members") or ()) and "/roles/" in str(each.get("role"))
    ]
    if customs:
        said = f"{member} has {', '.join(customs)}, a role of your own: does it let it {to}?"
        return Check(name, UNKNOWN, said, repair)
    if home.body is None:
        said = f"{member} may not {to} right there, and the project's policy is not known: {home.why}"
        return Check(name, UNKNOWN, said, repair)
    return Check(name, FAIL, f"{member} may not {to}", repair)


def _is_in(member: str, members: Iterable[str]) -> bool:
    return member in members or "allUsers" in members


def _values(reply: Reply) -> list[float]:
    """Return the latest value of each time series."""
    found = []
    for series in dicts((reply.body or {}).get("timeSeries")):
        points = dicts(series.get("points"))
        if points:
            value: Mapping[str, Any] = points[0].get("value") or {}
            found.append(float(value.get("int64Value", value.get("doubleValue", 0))))
    return found


def _at(parent: str) -> str:
    kind, _, name = parent.partition("/")
    return f"--{kind.rstrip('s')}={name}"


_COMMENT = re.compile(r"--[^\n]*")


def _plain(text: str) -> str:
    return " ".join(_COMMENT.sub(" ", text).split())

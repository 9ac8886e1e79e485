"""What can go wrong between the topic and the function: facts in, checks out. Pure."""

from collections.abc import Iterator

from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, WARN, Check, Facts, latest
from logmend_cli.doctor.grants import PUBLISHERS, granted

OLDEST_WARN, OLDEST_FAIL = 600, 1800
"""Seconds that the oldest message has waited; the alert ``oldest_message`` uses the second value."""
_SUBSCRIBERS = ("roles/pubsub.subscriber", *PUBLISHERS[1:])
_INVOKERS = ("roles/run.invoker", "roles/run.servicesInvoker", "roles/run.admin", "roles/owner")
_TOKEN_CREATORS = ("roles/iam.serviceAccountOpenIdTokenCreator", "roles/iam.serviceAccountTokenCreator")


def checks(facts: Facts) -> Iterator[Check]:
    """Check how messages are delivered, and what happens to those that are not."""
    yield push(facts)
    yield invoker(facts)
    yield token_creator(facts)
    yield ack_deadline(facts)
    yield dead_letter(facts)
    yield dead_letter_roles(facts)
    yield backlog(facts)
    yield dead_letters(facts)


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
        return Check(name, FAIL, f"it pushes to {endpoint}, but the function is at {uri}", repair)
    if not token.get("serviceAccountEmail"):
        return Check(name, FAIL, "it pushes without a token: the function answers 403", repair)
    if found.get("state") == "RESOURCE_ERROR":
        return Check(name, FAIL, "Pub/Sub reports an error at its endpoint (RESOURCE_ERROR)", repair)
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
    return granted(
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
    return granted(
        facts, name, facts["push_policy"], f"serviceAccount:{facts.service_agent}", _TOKEN_CREATORS,
        f"gcloud iam service-accounts add-iam-policy-binding {account} --project={place.project}",
        f"make tokens of {account}",
    )  # fmt: skip


def ack_deadline(facts: Facts) -> Check:
    """See that no message is pushed again while the function is still working on it."""
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
    """See that messages that keep failing go to a dead-letter topic, and can be read there."""
    name, place, reply = "dead letter", facts.place, facts["subscription"]
    update = f"gcloud pubsub subscriptions update {place.name}-push --project={place.project}"
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    policy = reply.body.get("deadLetterPolicy") or {}
    if not policy.get("deadLetterTopic"):
        repair = f"{update} --dead-letter-topic={place.name}-dead-letter --max-delivery-attempts=10"
        return Check(
            name, FAIL, "the subscription has none: a failing message is tried until it expires", repair
        )
    if facts["dead_topic"].absent:
        kept_for = f"--project={place.project} --message-retention-duration=31d"
        repair = f"gcloud pubsub topics create {place.name}-dead-letter {kept_for}"
        return Check(name, FAIL, f"its topic {policy['deadLetterTopic']} is gone", repair)
    if facts["dead_subscription"].absent:
        repair = (
            f"gcloud pubsub subscriptions create {place.name}-dead-letter --project={place.project}"
            f" --topic={place.name}-dead-letter --message-retention-duration=31d --expiration-period=never"
        )
        return Check(name, FAIL, "it has no subscription: messages that go there are lost", repair)
    lacking = [facts[each].why for each in ("dead_topic", "dead_subscription") if facts[each].body is None]
    if lacking:
        return Check(name, UNKNOWN, "; ".join(lacking))
    return Check(name, OK, f"after {policy.get('maxDeliveryAttempts', 5)} deliveries")


def dead_letter_roles(facts: Facts) -> Check:
    """See that Pub/Sub itself may move a message there: publish to its topic, and take it off the push."""
    name, place = "dead letter's roles", facts.place
    if facts.service_agent is None:
        return Check(name, UNKNOWN, facts["project"].why)
    member = f"serviceAccount:{facts.service_agent}"
    both = (
        granted(
            facts, name, facts["dead_topic_policy"], member, PUBLISHERS,
            f"gcloud pubsub topics add-iam-policy-binding {place.name}-dead-letter --project={place.project}",
            "publish dead letters",
        ),
        granted(
            facts, name, facts["subscription_policy"], member, _SUBSCRIBERS,
            f"gcloud pubsub subscriptions add-iam-policy-binding {place.name}-push --project={place.project}",
            "take messages off the push subscription: undeliverable ones are retried forever",
        ),
    )  # fmt: skip
    return next((each for each in both if each.state is not OK), both[0])


def backlog(facts: Facts) -> Check:
    """Check how many messages wait, and how long the oldest has waited."""
    name, count, oldest = "backlog", facts["undelivered/push"], facts["oldest/push"]
    if count.body is None or oldest.body is None:
        return Check(name, UNKNOWN, count.why or oldest.why)
    if not latest(count) and not latest(oldest):
        return Check(name, UNKNOWN, "no measurement in the last quarter of an hour")
    age = max(latest(oldest), default=0)
    said = f"{max(latest(count), default=0):.0f} messages, the oldest {age:.0f} s old"
    repair = (
        f"gcloud run services logs read {facts.place.name} --project={facts.place.project}"
        f" --region={facts.place.region} --limit=50"
    )
    if age >= OLDEST_FAIL:
        return Check(name, FAIL, said, repair)
    return Check(name, WARN, said, repair) if age >= OLDEST_WARN else Check(name, OK, said)


def dead_letters(facts: Facts) -> Check:
    """Check whether the dead letter is empty."""
    name, reply = "dead letters", facts["undelivered/dead"]
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    if waiting := max(latest(reply), default=0):
        repair = (
            f"logmend replay --subscription {facts.place.name}-dead-letter --project {facts.place.project}"
        )
        return Check(name, WARN, f"{waiting:.0f} wait there", repair)
    return Check(name, OK, "none")

"""What can go wrong between the sink and the topic, and on the rest of the way to the function. Pure."""

import re
from collections.abc import Iterator

from logmend.outcome.reasons import REASONS
from logmend_cli.doctor import delivery
from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, WARN, Check, Facts, dicts, latest
from logmend_cli.doctor.grants import PUBLISHERS, granted
from logmend_cli.doctor.questions import ancestors, apis_of

SKEW_WARN, SKEW_FAIL = 10.0, 120.0
"""Seconds: a certificate for SSH is good for minutes, and outcomes are ordered by time."""


def path(facts: Facts) -> Iterator[Check]:
    """Check an event's way to the function, step by step."""
    if facts.without is not None:
        repair = REASONS[facts.without.reason].next_step
        why = str(facts.without).rstrip(".")
        evidence = f"{why}; Google Cloud was not asked, and everything that needs them is unknown"
        yield Check("Google credentials", FAIL, evidence, repair)
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
    yield from delivery.checks(facts)


def clock(facts: Facts) -> Check:
    """Compare this machine's clock with Google's."""
    name, skew = "clock", facts.skew
    if skew is None:
        return Check(name, UNKNOWN, "no API answered with its time")
    evidence = f"this machine is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Google's"
    if abs(skew) < SKEW_WARN:
        return Check(name, OK, evidence)
    return Check(name, FAIL if abs(skew) >= SKEW_FAIL else WARN, evidence, "sudo timedatectl set-ntp true")


def apis(facts: Facts, project: str) -> Check:
    """See that every API that is used in the project is enabled."""
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
    """See that the sink exists, is enabled, and exports all that the runbooks ask for to the topic."""
    name, reply, place = f"sink in {parent}", facts[f"sink/{parent}"], facts.place
    at, destination = _at(parent), f"pubsub.googleapis.com/{place.topic}"
    update = f"gcloud logging sinks update {place.name} {at}"
    filtered = '--log-filter="$(logmend filter show)"'
    if reply.absent:
        repair = f"gcloud logging sinks create {place.name} {destination} {at} {filtered}"
        return Check(name, FAIL, f"there is no sink {place.name}", repair)
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    body = reply.body
    if body.get("disabled"):
        return Check(name, FAIL, "it is disabled", f"{update} --no-disabled")
    if body.get("destination") != destination:
        return Check(
            name,
            FAIL,
            f"it exports to {body.get('destination')}, not to {destination}",
            f"gcloud logging sinks update {place.name} {destination} {at}",
        )
    if _plain(str(body.get("filter", ""))) != _plain(facts.filter):
        return Check(
            name,
            FAIL,
            "its filter is not that of the runbooks here (logmend filter show)",
            f"{update} {filtered}",
        )
    if not parent.startswith("projects/") and not body.get("includeChildren"):
        return Check(name, FAIL, "it leaves out the projects below", f"{update} --include-children")
    left_out = [str(each.get("name")) for each in dicts(body.get("exclusions")) if not each.get("disabled")]
    if left_out:
        evidence = f"its exclusions {', '.join(left_out)} may leave out what the runbooks need"
        return Check(name, WARN, evidence, f"{update} --remove-exclusions={','.join(left_out)}")
    return Check(name, OK, "on, with the runbooks' filter, to the topic")


def writer(facts: Facts, parent: str) -> Check:
    """See that the sink's writer identity may publish to the topic."""
    name, reply, place = f"writer of the sink in {parent}", facts[f"sink/{parent}"], facts.place
    identity = (reply.body or {}).get("writerIdentity")
    if not identity:
        return Check(name, UNKNOWN, reply.why or "the sink has no writer identity")
    return granted(
        facts, name, facts["topic_policy"], str(identity), PUBLISHERS,
        f"gcloud pubsub topics add-iam-policy-binding {place.name} --project={place.project}",
        f"publish to {place.topic}",
    )  # fmt: skip


def exports(facts: Facts, parent: str) -> Check:
    """Count the entries that the sink could not export in the last day."""
    name, reply = f"export errors in {parent}", facts[f"export_errors/{parent}"]
    if reply.body is None:
        return Check(name, UNKNOWN, reply.why)
    errors = sum(latest(reply))
    if errors:
        evidence = f"{errors:.0f} entries could not be exported in the last day; they are not sent later"
        project = parent.partition("/")[2]
        return Check(name, FAIL, evidence, f"logmend scan --project {project} --since 1d")
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
                evidence = (
                    f"sink {one.get('name')} of {each} intercepts the entries that it matches: {matches}"
                )
                repair = f"gcloud logging sinks update {one.get('name')} {_at(each)} --no-intercept-children"
                return Check(name, FAIL, evidence, repair)
    if unseen:
        return Check(name, UNKNOWN, "; ".join(unseen))
    return Check(name, OK, f"none in {', '.join(above)}" if above else "the project has no parent")


def topic(facts: Facts) -> Check:
    """See that the topic exists."""
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
        return Check("topic", WARN, f"{place.topic} keeps no messages, so a seek finds none", repair)
    return Check("topic", OK, f"{place.topic}, keeps messages for {kept}")


def _at(parent: str) -> str:
    kind, _, name = parent.partition("/")
    return f"--{kind.rstrip('s')}={name}"


_COMMENT = re.compile(r"--[^\n]*")


def _plain(text: str) -> str:
    return " ".join(_COMMENT.sub(" ", text).split())

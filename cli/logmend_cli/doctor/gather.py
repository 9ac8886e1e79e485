"""Ask the APIs what doctor wants to know. Read only; it judges nothing."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from logmend import permissions, sink_filter
from logmend.catalog import Catalog
from logmend.errors import Permanent, Transient
from logmend.model.struct import replace
from logmend.settings import Settings
from logmend_cli.apis import Apis, Deployment
from logmend_cli.doctor.facts import Facts
from logmend_cli.doctor.questions import (
    Question,
    first_questions,
    may_question,
    second_questions,
    third_questions,
    vm_accounts,
)


async def gather(
    place: Deployment,
    settings: Settings,
    found: Catalog,
    endpoint: str | None,
    *,
    repair: bool = False,
) -> Facts:
    """Ask what needs no other answer first, then what does, then as the function itself.

    ``repair`` also repairs the ledger.
    """
    apis = Apis(endpoint)
    facts = Facts(
        place, datetime.now(UTC), sink_filter.compose(found.runbooks), {}, found, own_settings=settings
    )
    try:
        facts = await _asked(facts, apis, first_questions(place))
        facts = _scoped(facts)
        facts = await _asked(facts, apis, second_questions(facts))
        facts = await _asked(facts, apis, third_questions(facts))
        facts = await _as_function(facts, apis, endpoint)
        facts = await _with_ledger(facts, endpoint, repair=repair)
    finally:
        await apis.aclose()
    facts = replace(facts, without=apis.refusal)
    return replace(
        facts, now=datetime.now(UTC), skew=sorted(apis.skews)[len(apis.skews) // 2] if apis.skews else None
    )


def _scoped(facts: Facts) -> Facts:
    """Return the facts with the fleet's projects from the function's scope if the operator named none."""
    if facts.place.fleet:
        return facts
    fleet = facts.settings.scope_projects or (facts.place.project,)
    return replace(facts, place=replace(facts.place, fleet=tuple(fleet)))


async def _as_function(facts: Facts, apis: Apis, endpoint: str | None) -> Facts:
    """Ask what the function may do, as the function: ``testIamPermissions`` answers for the caller."""
    if facts.account is None:
        return facts
    scope = {"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "300s"}
    path = f"/v1/projects/-/serviceAccounts/{facts.account}:generateAccessToken"
    token = await apis.ask("iamcredentials", path, body=scope)
    facts = replace(
        facts, answers=dict(facts.answers) | {"token": replace(token, body={} if token.body else None)}
    )
    if token.body is None:
        return facts
    itself = Apis(endpoint, token=str(token.body.get("accessToken")))
    questions = list[Question]()
    wanted = facts.fleet_permissions
    questions += [
        may_question(f"may/{project}", "cloudresourcemanager", f"/v3/projects/{project}", wanted)
        for project in facts.place.fleet
    ]
    home = facts.place.project
    questions.append(
        may_question("may_record", "cloudresourcemanager", f"/v3/projects/{home}", permissions.OUTCOMES)
    )
    questions.append(
        may_question("may_dead_letter", "pubsub", f"/v1/{facts.place.dead_topic}", permissions.DEAD_LETTER)
    )
    if (topic := facts.settings.outcome_topic) is not None:
        questions.append(may_question("may_publish", "pubsub", f"/v1/{topic}", permissions.DEAD_LETTER))
    if facts.over_ssh:
        for project, account in vm_accounts(facts):
            path = f"/v1/projects/{project}/serviceAccounts/{account}"
            questions.append(may_question(f"may_act_as/{account}", "iam", path, permissions.ACT_AS))
    try:
        return await _asked(facts, itself, questions)
    finally:
        await itself.aclose()


async def _with_ledger(facts: Facts, endpoint: str | None, *, repair: bool) -> Facts:
    from logmend import wiring
    from logmend.ledger import Controls

    state = facts.own_settings.state
    if state == "memory:":
        state = facts.settings.state
    if state == "memory:" or (endpoint and state.startswith("firestore:")):
        return replace(facts, ledger="no ledger is named: set LOGMEND_STATE", ledger_state=state)
    store = wiring.open_store(state)
    controls = Controls(store)
    try:
        facts = replace(facts, ledger=await controls.fleet(), ledger_state=state)
        repaired = await controls.repair(facts.now, facts.settings.lease) if repair else ()
        return replace(facts, repaired=repaired, damage=await controls.damage(facts.now))
    except (Transient, Permanent) as error:
        return replace(facts, ledger=str(error), ledger_state=state)
    finally:
        await store.aclose()


async def _asked(facts: Facts, apis: Apis, questions: Iterable[Question]) -> Facts:
    every = list(questions)
    replies = await asyncio.gather(*(apis.ask(service, path, body=body) for _, service, path, body in every))
    answers = {name: reply for (name, *_), reply in zip(every, replies, strict=True)}
    return replace(facts, answers=dict(facts.answers) | answers)

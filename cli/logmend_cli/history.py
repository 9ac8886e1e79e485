"""``logmend history``: everything that is known about one VM, in order."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from logmend.errors import ConfigError
from logmend.ledger import Contacts
from logmend.ledger.freezes import of_fleet, of_subject
from logmend.ledger.repeats import pending
from logmend.model.enums import Result
from logmend.model.json import JsonObject
from logmend.model.state import Approval, Freeze, Record, Scope, Subject
from logmend.model.values import Evidence, InstanceRef, Outcome
from logmend.outcome import document as outcome_json
from logmend.settings import Settings
from logmend.stages import identify, outcomes
from logmend.stages.identify import NameRef
from logmend_cli import inputs, outcome_source, output
from logmend_cli.application import instances, opened
from logmend_cli.documented import Command
from logmend_cli.outcome_source import NOTHING, OutcomeQuery
from logmend_cli.scanned import complete_vms

if TYPE_CHECKING:
    from logmend.wiring import Application

_Row = JsonObject

LATER = {"intent": 1, "outcome": 2, "now": 3}
"""Sort keys for these kinds of rows, which come after others of the same time."""

COLUMNS = {
    "at": "time",
    "what": "what",
    "runbook": "runbook",
    "by": "by (claimed)",
    "detail": "detail",
    "id": "id",
}


@click.command(
    "history",
    cls=Command,
    examples=(
        "logmend history my-project/us-west1-a/4775836342981993096",
        "logmend history my-project/us-west1-a/web-1 --cloud --since 30d --format json",
    ),
)
@click.argument("vm", metavar="INSTANCE", shell_complete=complete_vms)
@outcome_source.options
@output.format_option("table", "json", "csv")
def command(vm: str, file: str | None, cloud: bool, since: str | None, shape: str) -> None:
    """Show what was decided, done, requested, approved, frozen and held on a VM, oldest first.

    From the ledger and from outcomes, which come from FILE (- is standard input), from Cloud Logging
    (--cloud) or from where LOGMEND_OUTCOMES puts them. JSON has the evidence before and after each change.

    For 32 days, the ledger keeps an intent with only its latest outcome, and each use of a control. Older or
    intermediate outcomes are in Cloud Logging.
    """
    settings = inputs.settings()
    source = outcome_source.chosen(settings, file, cloud=cloud, since=since)
    if settings.state == "memory:" and source.name is None:
        raise ConfigError([NOTHING])
    rows = asyncio.run(_history(settings, source, vm))
    output.show_rows(shape, COLUMNS, rows, empty=f"nothing is known of {vm}")


async def _history(settings: Settings, source: OutcomeQuery, vm: str) -> list[_Row]:
    rows: list[_Row] = []
    if settings.state != "memory:":
        async with opened(settings) as app:
            (ref,) = await instances(app, [vm])
            rows += [row async for row in _ledger(app, ref, source)]
    else:
        named = identify.parse(vm)
        if isinstance(named, NameRef):
            raise ConfigError([f"{vm}: without a ledger, name the VM by its id: PROJECT/ZONE/ID"])
        ref = named
    met = {row["id"] for row in rows if row["kind"] in ("outcome", "control")}
    async for outcome in outcome_source.read(source, settings):
        of_all = outcome.result is Result.CONTROLLED and outcome.instance is None
        if (outcome.instance == ref or of_all) and outcome.outcome_id not in met:
            met.add(outcome.outcome_id)
            rows.append(of_outcome(outcome))
    begin = source.since or datetime.min.replace(tzinfo=UTC)
    kept = [row for row in rows if datetime.fromisoformat(row["at"]) >= begin or row["kind"] == "now"]
    return sorted(kept, key=lambda row: (row["at"], LATER.get(row["kind"], 0)))


async def _ledger(app: "Application", ref: InstanceRef, source: OutcomeQuery) -> AsyncIterator[_Row]:
    """Yield what the ledger knows about a VM."""
    async for each in app.queues.records():
        if each.intent.instance == ref:
            for row in of_record(each):
                yield row
    async for approval in app.controls.approvals():
        if approval.intent.instance == ref:
            yield of_plan(approval)
    runbooks = set[str]()
    async for subject in app.queues.subjects():
        if subject.instance == ref:
            runbooks.add(subject.runbook)
            for row in of_subject_now(subject):
                yield row
    controls = [act async for act in _controls(app, ref, runbooks)]
    for act in controls:
        yield of_outcome(act)
    async for count in _counts(app, ref, source):
        what = f"counted: {output.word(count.result, count.reason)}"
        yield {**of_outcome(count), "kind": "now", "what": what}
    for scope, freeze in of_fleet(await app.controls.fleet(), lambda _: True)[1]:
        if scope.runbook is None or scope.runbook in runbooks:
            yield _freeze(scope, freeze)
    seen = {act.at for act in controls}
    for pin in (await Contacts(app.store).get(ref)).forgotten:
        if pin.at not in seen:  # a pin is kept for longer than uses of controls
            detail = f"{pin.pin.key} {pin.why}".strip()
            yield _row(pin.at, "decision", "host key forgotten", by=pin.by, detail=detail)


async def _controls(
    app: "Application", ref: InstanceRef, runbooks: Collection[str]
) -> AsyncIterator[Outcome]:
    """Yield the uses of controls that concern a VM or one of its runbooks."""
    async for acts in app.queues.acts():
        for number, act in enumerate(acts.acts):
            if act.instance in (None, ref) and (act.runbook is None or act.runbook in runbooks):
                yield outcomes.of_act(acts, number, app.settings)


async def _counts(app: "Application", ref: InstanceRef, source: OutcomeQuery) -> AsyncIterator[Outcome]:
    """Yield what was counted for a VM: all, or only what the outcomes that were read do not have yet."""
    async for repeats in app.queues.repeats():
        if repeats.instance == ref:
            counts = outcomes.of_repeats(repeats, app.settings) if source.name is None else pending(repeats)
            for each in counts:
                if source.since is None or each.at >= source.since:
                    yield each


def of_record(known: Record) -> Iterator[_Row]:
    """Yield the rows of an intent: its request, its state, and its latest outcome."""
    intent = known.intent
    detail = f"from {intent.source.kind}, {known.state}, attempt {known.attempt}"
    for name in ("overrides", "replay_of", "approval_id"):
        if (value := getattr(intent, name)) is not None:
            detail += f", {name} {value}"
    detail = "; ".join([detail, *_asked(intent.why, intent.passes)])
    what = "ordered" if intent.requested_by else "received"
    yield _row(
        intent.created_at,
        "intent",
        f"{what}: {intent.action}",
        runbook=intent.runbook,
        by=intent.requested_by,
        detail=detail,
        id_=intent.intent_id,
        before=known.before,
    )
    if known.outcome is not None and not known.counted:
        yield of_outcome(known.outcome)


def _asked(why: str, passes: Sequence[str]) -> Iterator[str]:
    """Yield what the operator stated, in words: the reason, and what the request was to pass."""
    if why:
        yield f"why: {why}"
    if passes:
        yield f"passes: {', '.join(passes)}"


def of_outcome(outcome: Outcome) -> _Row:
    """Return the row of an outcome, with its evidence, or of the use of a control."""
    control = outcome.result is Result.CONTROLLED
    return _row(
        outcome.at,
        "control" if control else "outcome",
        (outcome.reason or "").replace("_", " ") if control else output.word(outcome.result, outcome.reason),
        runbook=outcome.runbook,
        by=outcome.requested_by,
        detail="; ".join(filter(None, (outcome.detail_and_cause, *_asked(outcome.why, outcome.passes)))),
        id_=outcome.outcome_id,
        before=outcome.before,
        after=outcome.after,
        labels=outcome.labels,
    )


def of_plan(approval: Approval) -> _Row:
    """Return the row of a plan; the decision on it is a separate outcome."""
    return _row(
        approval.created_at,
        "plan",
        "waits for approval",
        runbook=approval.intent.runbook,
        detail=f"until {approval.expires_at:%FT%TZ}, {approval.state}",
        id_=approval.approval_id,
        before=approval.before,
    )


def of_subject_now(subject: Subject) -> Iterator[_Row]:
    """Yield what applies to a VM now: freezes, a hold, and whether it needs a person."""
    for scope, freeze in of_subject(subject, lambda _: True)[1]:
        yield _freeze(scope, freeze)
    at = subject.last_at or datetime.min.replace(tzinfo=UTC)
    if subject.held:
        yield _row(at, "now", "held by a revert", runbook=subject.runbook, id_=subject.held_by)
    if subject.needs_human:
        detail = f"{subject.failures} failures, {subject.relapses} relapses"
        yield _row(at, "now", "left to a person", runbook=subject.runbook, detail=detail)


def _freeze(scope: Scope, freeze: Freeze) -> _Row:
    until = f" until {freeze.until:%FT%TZ}" if freeze.until else ""
    detail = f"{scope}{until} {freeze.why}".strip()
    return _row(
        freeze.at, "now", "frozen", runbook=scope.runbook, by=freeze.by, detail=detail, id_=freeze.name
    )


def _row(
    at: datetime,
    kind: str,
    what: str,
    *,
    runbook: str | None = None,
    by: str | None = None,
    detail: str = "",
    id_: str | None = None,
    before: Evidence | None = None,
    after: Evidence | None = None,
    labels: Mapping[str, str] | None = None,
) -> _Row:
    return {
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": kind,
        "what": what,
        "runbook": runbook,
        "by": by,
        "identity": outcome_json.CLAIMED if by else None,
        "labels": dict(labels or {}),
        "detail": detail,
        "id": id_,
        "before": _evidence(before),
        "after": _evidence(after),
    }


def _evidence(seen: Evidence | None) -> _Row | None:
    if seen is None:
        return None
    return {"exit_code": seen.exit_code, "finding": seen.finding.value, **dict(seen.values)}

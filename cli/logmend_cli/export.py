"""``logmend export``: every change to VMs and every use of a control, with evidence, for an auditor."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import click

from logmend.errors import ConfigError
from logmend.model.enums import Result
from logmend.model.state import Record, State
from logmend.model.struct import replace
from logmend.model.values import Outcome
from logmend.outcome import document as outcome_json
from logmend.settings import Settings
from logmend.stages import outcomes
from logmend_cli import inputs, outcome_source, output
from logmend_cli.application import opened
from logmend_cli.documented import Command
from logmend_cli.outcome_source import NOTHING, OutcomeQuery

_Row = dict[str, object]

PROVEN = frozenset({Result.REMEDIATED, Result.REVERTED})
"""Results that were checked before and after the change."""
COLUMNS = (
    *("at", "kind", "changed", "result", "reason", "action", "runbook", "runbook_digest", "project_id"),
    *(
        "zone",
        "instance_id",
        "name",
        "owner",
        "by",
        "identity",
        "approval_id",
        "source",
        "executor",
        "detail",
    ),
    *("before", "after", "intent_id", "outcome_id", "version", "labels", "why", "passes"),
)


@click.command(
    "export",
    cls=Command,
    examples=(
        "logmend export --changes --cloud --since 7d --format csv > changes.csv",
        "logmend export --changes outcomes.jsonl --format json",
    ),
)
@click.option("--changes", is_flag=True, required=True, help="Changes to VMs, and uses of controls.")
@outcome_source.options
@output.format_option("csv", "json")
def command(file: str | None, cloud: bool, since: str | None, shape: str, *, changes: bool) -> None:
    """Export each change to a VM and each use of a control as a row, with evidence.

    From outcomes (FILE, - is standard input; Cloud Logging with --cloud; or where LOGMEND_OUTCOMES puts
    them), in the log's order, and then from the ledger: work in progress, and what never reached the log in
    the last 32 days.

    `kind` is `change` or `control`. A change is `proven` by a check before and after it; it is `possible` if
    enforcing was begun and nothing proves how it ended. One intent may have several rows. `by` is who asked,
    and `identity` how that is known. A cancellation is a control, too.
    """
    del changes  # the only kind of export
    settings = inputs.settings()
    source = outcome_source.chosen(settings, file, cloud=cloud, since=since)
    if settings.state == "memory:" and source.name is None:
        raise ConfigError([NOTHING])
    rows = _drawn(_rows(settings, source))
    if shape == "json":
        output.show_json_array(rows)
    else:
        output.show_csv(COLUMNS, ([_cell(row[name]) for name in COLUMNS] for row in rows))


async def _rows(settings: Settings, source: OutcomeQuery) -> AsyncIterator[_Row]:
    """Yield each row once; only a hash of each row's id is kept in memory."""
    exported = set[int]()
    async for outcome in outcome_source.read(source, settings):
        if (row := of_outcome(outcome)) is not None and (met := hash(outcome.outcome_id)) not in exported:
            exported.add(met)
            yield row
    if settings.state == "memory:":
        return
    async for outcome in _kept(settings):
        early = source.since is not None and outcome.at < source.since
        if (
            not early
            and hash(outcome.outcome_id) not in exported
            and (row := of_outcome(outcome)) is not None
        ):
            yield row


async def _kept(settings: Settings) -> AsyncIterator[Outcome]:
    """Yield what the ledger knows: latest outcomes, work in progress, uses of controls."""
    async with opened(settings) as app:
        async for each in app.queues.records():
            if each.outcome is not None:
                yield each.outcome
            if each.committed and each.state is not State.DONE:
                yield _under_way(each, settings)
        async for acts in app.queues.acts():
            for number in range(len(acts.acts)):
                yield outcomes.of_act(acts, number, settings)


def _under_way(known: Record, settings: Settings) -> Outcome:
    """Return the row of an enforcement whose end is not recorded yet."""
    since = known.before.at if known.before else known.intent.created_at
    return replace(
        outcomes.of_waiting(known, settings, since),
        result=Result.REQUESTED,
        reason=None,
        detail=f"in progress ({known.state}): its result is not known yet",
        outcome_id=f"{known.intent.intent_id}-under-way",
    )


def of_outcome(outcome: Outcome) -> _Row | None:
    """Return the row of an outcome; None if it is neither a change nor the use of a control."""
    control = outcome.result is Result.CONTROLLED or outcome.reason == "cancelled"
    proven = outcome.result in PROVEN
    if not control and not proven and not outcome.committed:
        return None
    document = outcome_json.document(outcome)
    instance, source = document["instance"] or {}, document["source"]
    return {
        "at": document["timestamp"],
        "kind": "control" if control else "change",
        "changed": None if control else "proven" if proven else "possible",
        **{name: instance.get(name) for name in ("project_id", "zone", "instance_id", "name", "labels")},
        "by": document["requested_by"],
        "approval_id": outcome.approval_id,
        "source": None if source is None else {key: each for key, each in source.items() if each is not None},
        **{name: document[name] for name in COLUMNS if name in document and name not in {"source", "by"}},
    }


def _cell(value: object) -> object:
    return json.dumps(value, sort_keys=True) if value and isinstance(value, dict | list) else value or None


def _drawn(rows: AsyncIterator[_Row]) -> Iterator[_Row]:
    """Yield rows one by one, as they are printed."""

    async def following() -> _Row | None:
        return await anext(rows, None)

    with asyncio.Runner() as runner:
        while (row := runner.run(following())) is not None:
            yield row

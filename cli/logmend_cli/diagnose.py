"""``logmend diagnose``: ask VMs themselves why they have a runbook's fault. Changes nothing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logmend import diagnose
from logmend.diagnose import Diagnosed
from logmend.errors import ConfigError
from logmend.model.enums import Mode
from logmend.model.json import JsonObject
from logmend.model.struct import Struct, replace
from logmend.model.values import UNKNOWN, InstanceRef, Lineage
from logmend.outcome import reasons
from logmend.runbook import Runbook
from logmend.settings import Settings
from logmend.stages import outcomes
from logmend_cli import application, inputs, output, selection
from logmend_cli.alike import Alike, Causes
from logmend_cli.documented import Command, runbook_names
from logmend_cli.errors import BAD, DONE
from logmend_cli.run import local
from logmend_cli.run.options import PARALLEL
from logmend_cli.scan import text as scan_text

if TYPE_CHECKING:
    from logmend.wiring import Application


class DiagnoseOptions(Struct, frozen=True):
    """The command's options by name; None if not given."""

    named: tuple[str, ...]
    project: str | None
    where: str | None
    scan: Path | None
    runbook: str
    as_root: bool
    on_this_vm: bool
    parallel: int
    by: str
    shape: str


@click.command(
    "diagnose",
    cls=Command,
    examples=(
        "logmend diagnose my-project/us-west1-a/web-1",
        'logmend diagnose --project my-project --filter "labels.env = prod" --format json',
        "logmend diagnose my-project/us-west1-a/web-1 --as-root",
        "logmend diagnose --local",
    ),
)
@selection.of_vms
@click.option("--runbook", shell_complete=runbook_names, default="ops-agent", show_default=True)
@click.option(
    "--as-root", is_flag=True, help="Run it through sudo: also reads journals and who holds a port."
)
@local.option
@click.option("--parallel", type=click.IntRange(1, 200), default=PARALLEL, show_default=True)
@application.by_option
@output.format_option("table", "json", "csv")
def command(**chosen: Any) -> int:
    """Say why VMs have a fault: one cause for each, whom it concerns, and what to do next.

    Runs the runbook's diagnose.sh over SSH as an unprivileged user; nothing is changed. The cause is one that
    the runbook declares, or unknown, with what was seen. --as-root is for modes that grant root
    (LOGMEND_MODE=approve or enforce); it is recorded as an outcome of its own (LOGMEND_OUTCOMES), and in the
    VM's log of sudo. Exit status 1 if a VM's cause stays unknown.

    --local asks the VM that this command runs on, without SSH, Compute or a ledger. If root runs it, the
    script runs as `nobody`, unless you add --as-root, which is recorded in the VM's own log.
    """
    options = DiagnoseOptions(**chosen)
    if options.on_this_vm:
        return _told([local.diagnosed(options.runbook, options.by, as_root=options.as_root)], options.shape)
    return application.running(lambda app: _diagnose(app, options), _settings())


def _settings() -> Settings:
    settings = inputs.settings()
    if settings.outcomes == "stdout":
        return replace(settings, outcomes="none")  # standard output is this command's own
    return settings


async def _diagnose(app: "Application", options: DiagnoseOptions) -> int:
    runbook, as_root = options.runbook, options.as_root
    app.chosen_runbooks(runbook)
    chosen = app.pipeline.runbooks[runbook]
    if not chosen.scripts.diagnose:
        raise ConfigError([f"runbook {runbook} has no diagnose.sh"])
    if as_root and app.pipeline.policies.of(runbook).mode is Mode.OBSERVE:
        problem = f"the mode of {runbook} is observe, which grants no root; set approve or enforce"
        raise ConfigError([f"--as-root: {problem} (LOGMEND_MODE, and its own in LOGMEND_RUNBOOKS)"])
    refs = await selection.vms(app, options.named, options.project, options.where, options.scan)
    if not refs:
        raise ConfigError(["no VMs selected: name them, or use --filter or --from"])
    if as_root:
        await _noted(app, refs, runbook, options.by)
    with output.progress("VMs", len(refs)) as more:
        diagnoses = await _each(app, refs, chosen, options.parallel, more, as_root=as_root)
    return _told(diagnoses, options.shape)


async def _noted(app: "Application", refs: Sequence[InstanceRef], runbook: str, by: str) -> None:
    """Record in the outcomes' log who looks as root, before anything is run."""
    acts = diagnose.as_root(refs, runbook, by, datetime.now(UTC))
    for number in range(len(refs)):
        await app.pipeline.recorder.emit(outcomes.of_act(acts, number, app.settings))


async def _each(
    app: "Application",
    refs: Sequence[InstanceRef],
    runbook: Runbook,
    parallel: int,
    more: Callable[[int], None],
    *,
    as_root: bool,
) -> list[Diagnosed]:
    at_once = asyncio.Semaphore(parallel)
    worker = app.pipeline.worker

    async def one(ref: InstanceRef) -> Diagnosed:
        async with at_once:
            now = datetime.now(UTC)
            diagnosis = await diagnose.vm(
                ref,
                runbook,
                app.compute,
                worker.executors,
                worker.policies.of(runbook.name),
                now,
                as_root=as_root,
            )
            more(1)
            return diagnosis

    return sorted(await asyncio.gather(*map(one, refs)), key=lambda each: each.instance)


def document(told: Diagnosed) -> JsonObject:
    """Return one VM's answer as JSON data."""
    ref, found = told.instance, told.diagnosis
    step = reasons.filled(found.next_step, ref)
    if told.facts is not None and found.cause != UNKNOWN:
        step = reasons.for_good(told.facts.lineage, step)
    return {
        "instance": {"project_id": ref.project_id, "zone": ref.zone, "instance_id": ref.instance_id},
        "name": told.facts.name if told.facts else None,
        "cause": found.cause,
        "why": found.why,
        "concerns": found.concerns,
        "evidence": list(found.evidence),
        "next_step": step or None,
        "runbook": found.runbook,
    }


def _told(told: Sequence[Diagnosed], shape: str) -> int:
    _show(told, shape)
    return BAD if any(each.diagnosis.cause == UNKNOWN for each in told) else DONE


def _show(told: Sequence[Diagnosed], shape: str) -> None:
    documents = [document(each) for each in told]
    causes = Counter(each.diagnosis.cause for each in told)
    whys = Counter(each.diagnosis.why for each in told if each.diagnosis.why)
    if shape == "json":
        counts = {"causes": dict(causes.most_common()), "unknown": dict(whys.most_common())}
        output.show_json({"instances": documents, **counts, "alike": [each.row for each in _alike(told)]})
        return
    rows = [
        {
            **each,
            "vm": each["name"] or each["instance"]["instance_id"],
            "cause": f"{each['cause']}: {each['why']}" if each["why"] else each["cause"],
            "evidence": "; ".join(each["evidence"]),
        }
        for each in documents
    ]
    columns = {
        "vm": "VM",
        "cause": "cause",
        "concerns": "concerns",
        "evidence": "what was seen",
        "next_step": "next",
    }
    output.show_rows(shape, columns, rows)
    if shape == "table":
        click.echo(", ".join(f"{number} {cause}" for cause, number in causes.most_common()))
        for line in scan_text.alike([each.row for each in _alike(told)]):
            click.echo(line)


def _alike(told: Sequence[Diagnosed]) -> list[Alike]:
    causes = Causes()
    for each in told:
        causes.found(each.instance, "", each.diagnosis, each.facts.lineage if each.facts else Lineage())
    return causes.rows()

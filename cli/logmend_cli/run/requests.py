"""What ``run`` and ``revert`` share: an operator's requests for some VMs, from here or by the function."""

import asyncio
import signal
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from logmend.errors import ConfigError, LogmendError
from logmend.model.enums import Action, Mode, Result
from logmend.model.struct import replace
from logmend.model.values import InstanceRef, Intent, Outcome
from logmend.outcome import document as outcome_json
from logmend.settings import Settings
from logmend.stages import intents
from logmend_cli import application, inputs, output, selection
from logmend_cli.errors import BAD, DONE, confirm, status_of, warn
from logmend_cli.run import local, stops, waves
from logmend_cli.run.options import OrderOptions

if TYPE_CHECKING:
    from logmend.wiring import Application


def carry_out(options: OrderOptions) -> int:
    """Carry out a request, or show what it would do; return the exit status."""
    if options.on_this_vm:
        return local.carry_out(options)
    if options.labels_unchecked:
        raise ConfigError(["--labels-unchecked goes with --local: labels of other VMs are looked up"])
    if options.via_function and options.standalone:
        raise ConfigError(
            ["--via-function writes to the fleet's ledger, --standalone acts without it: give one"]
        )
    return application.running(lambda app: _carry_out(app, options), _settings(options))


def _settings(options: OrderOptions) -> Settings:
    settings = inputs.settings()
    if settings.outcomes == "stdout":
        settings = replace(settings, outcomes="none")  # standard output is for this command alone
    if options.via_function:
        return application.shared_ledger(settings)
    if not options.enforce:
        return replace(settings, mode=Mode.OBSERVE, state="memory:", outcomes="none")
    if inputs.is_set("mode") and settings.mode is Mode.OBSERVE:
        raise ConfigError(
            ["LOGMEND_MODE=observe: nothing is changed from here; unset it, or set it to approve or enforce"]
        )
    if settings.state == "memory:" and not options.standalone:
        raise ConfigError(
            [
                application.NO_LEDGER,
                "or act without the fleet's leases, budget and freezes: --standalone",
            ]
        )
    return replace(settings, mode=Mode.ENFORCE)


async def _carry_out(app: "Application", options: OrderOptions) -> int:
    app.chosen_runbooks(options.runbook)
    refs = await _selected(app, options)
    if not refs:
        warn("no VM was remediated since then")
        return DONE
    orders = await _orders(app, options, refs)
    acting = options.enforce
    in_waves = options.since is not None and acting
    if options.via_function and not in_waves:
        return await _hand_over(app, orders, options.shape)

    async def act(some: Sequence[Intent]) -> list[Outcome]:
        if options.via_function:
            return await waves.by_function(app, some)
        return await _work(app, some, options.parallel)

    size = options.at_most or len(orders)
    outcomes = await (waves.in_waves(orders, size, act) if in_waves else act(orders))
    _show(outcomes, options.shape)
    if acting and options.canary:
        warn(_proven(outcomes, options.runbook, opened=bool(await stops.breaker(app, options.runbook))))
    if options.since and len(outcomes) < len(orders):
        return BAD
    if not acting:
        warn("Nothing was changed. Act with --enforce.")
    if acting and app.settings.state == "memory:" and any(each.result is Result.PARKED for each in outcomes):
        warn("Parked work is forgotten now: without a ledger nothing processes it. Run the command again.")
        return BAD
    return status_of(outcome.result for outcome in outcomes)


async def _orders(app: "Application", options: OrderOptions, refs: Sequence[InstanceRef]) -> list[Intent]:
    """Make an intent for each VM; before anything is enforced, say what it bypasses, and ask."""
    held, passes = dict[InstanceRef, str](), dict[str, str]()
    if options.enforce:
        if options.action is Action.ENFORCE:
            held = await stops.held(app, refs, options.runbook)
        passes = await _passes(app, options, refs)
        for text in passes.values():
            warn(f"passes: {text}")
        if not options.yes:
            for ref in refs:
                warn(f"  {ref}" + (f", takes back the revert {held[ref]}" if ref in held else ""))
            many = "1 VM" if len(refs) == 1 else f"{len(refs)} VMs"
            confirm(f"{options.action} {options.runbook} on {many}?")
    return [
        intents.of_operator(
            options.action,
            ref,
            options.runbook,
            options.by,
            datetime.now(UTC),
            intent_id=uuid.uuid4().hex,
            look_only=not options.enforce,
            overrides=held.get(ref),
            passes=tuple(passes),
            why=options.why,
            at_most=None if options.since else options.at_most,
        )
        for ref in refs
    ]


async def _passes(app: "Application", options: OrderOptions, refs: Sequence[InstanceRef]) -> dict[str, str]:
    """Return, in words, what the request bypasses; print what it will wait for."""
    runbook, out = options.runbook, options.outside_window
    shut = stops.closed(app, runbook, datetime.now(UTC))
    if out and not options.why.strip():
        raise ConfigError(["--outside-window is recorded: give the reason with --why"])
    if options.action is Action.REVERT:
        frozen = await stops.freezes(app, refs, runbook)
        return frozen | await stops.breaker(app, runbook) | shut
    if out and not shut:
        warn("by the settings here no window is closed and there is no blackout, so there is nothing to pass")
    for text in shut.values() if not out else ():
        warn(f"waits: {text}; or pass it with --outside-window --why TEXT")
    opened = await stops.breaker(app, runbook) if options.canary else {}
    return opened | (shut if out else {})


async def _selected(app: "Application", options: OrderOptions) -> list[InstanceRef]:
    """Return the selected VMs: named, filtered or scanned; the canary alone; or by what happened."""
    others = bool(options.named or options.where or options.scan)
    if options.canary is not None:
        if others:
            raise ConfigError(["--canary is for one VM: do not name others"])
        return await application.instances(app, [options.canary])
    if options.since is not None:
        if others or not options.at_most:
            raise ConfigError(["--remediated-since selects the VMs: do not name any, and give --at-most N"])
        begin = inputs.since(options.since, datetime.now(UTC))
        assert begin is not None
        if app.settings.state != "memory:":
            return await waves.remediated_since(app, begin, options.runbook, options.zone)
        ledger = application.shared_ledger(Settings.from_environment(inputs.environment()))
        async with application.opened(ledger) as known:  # a plan opens no ledger itself
            return await waves.remediated_since(known, begin, options.runbook, options.zone)
    if options.zone:
        raise ConfigError(["--zone narrows --remediated-since"])
    refs = await selection.vms(app, options.named, options.project, options.where, options.scan)
    if not refs:
        raise ConfigError([f"no VMs selected for {options.action}: name them, or use --filter or --from"])
    return refs


def _proven(outcomes: Sequence[Outcome], runbook: str, *, opened: bool) -> str:
    """Return what a canary proves, and what is still to be done."""
    release = f"logmend resume --runbook {runbook}"
    stays = f" The breaker stays open: {release}" if opened else " No breaker is open."
    match [each.result for each in outcomes]:
        case [Result.REMEDIATED]:
            return f"The runbook works again on this VM: fault seen, enforced, gone.{stays}"
        case [Result.FAILED | Result.UNVERIFIED]:
            return f"The runbook still fails.{stays.partition(':')[0]}"
        case _:
            return f"This proves nothing: nothing was enforced.{stays.partition(':')[0]}"


async def _work(app: "Application", orders: Sequence[Intent], parallel: int) -> list[Outcome]:
    """Work on the VMs, some at once. After Ctrl-C, start no more and wait for those in progress."""
    stop, at_once, outcomes = asyncio.Event(), asyncio.Semaphore(parallel), list[Outcome]()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)

    async def one(order: Intent, more: Callable[[int], None]) -> None:
        async with at_once:
            if stop.is_set():
                return
            try:
                outcomes.append(await app.pipeline.work(order))
            except LogmendError as error:
                warn(f"{order.instance}: {error}")
                stop.set()
            more(1)

    with output.progress("VMs", len(orders)) as more:
        await asyncio.gather(*(one(order, more) for order in orders))
    if (left := len(orders) - len(outcomes)) and stop.is_set():
        warn(f"stopped: {left} VMs were not begun or have no outcome")
    return sorted(outcomes, key=lambda outcome: str(outcome.instance))


async def _hand_over(app: "Application", orders: Sequence[Intent], shape: str) -> int:
    """Write the requests to the ledger and tick; show those that are there by then."""
    there = await application.written(app, orders)
    rows = [
        {"instance": str(each.instance), "intent_id": each.intent_id, "by": each.requested_by}
        for each in there
    ]
    output.show_rows(
        shape, {"instance": "instance", "intent_id": "written as", "by": "by"}, rows, empty="none was written"
    )
    if there:
        warn(await application.told_of_tick(app.settings.topic))
    return DONE if len(there) == len(orders) else BAD


def _show(outcomes: Sequence[Outcome], shape: str) -> None:
    documents = [outcome_json.document(outcome) for outcome in outcomes]
    if shape == "json":
        output.show_json(documents)
        return
    rows = [
        {
            "vm": document["instance"]["name"] or document["instance"]["instance_id"],
            "instance": str(outcome.instance),
            "result": outcome.result.value,
            "reason": outcome.reason,
            "detail": outcome.detail_and_cause,
            "next_step": document["next_step"],
        }
        for outcome, document in zip(outcomes, documents, strict=True)
    ]
    columns = {
        "vm": "VM",
        "result": "result",
        "reason": "reason",
        "detail": "what was seen",
        "next_step": "next",
    }
    output.show_rows(shape, columns, rows)

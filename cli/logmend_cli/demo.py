"""``logmend demo``: the whole story on a pretend fleet, through the real function process, and checked."""

import asyncio
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from logmend.errors import ConfigError
from logmend.model.json import JsonObject
from logmend_cli import outcome_source, output
from logmend_cli.documented import Command
from logmend_cli.errors import warn
from logmend_cli.pretend import delivery, emulator, function_process, story
from logmend_cli.pretend.fleet import USER, PretendFleet
from logmend_cli.pretend.story import Scene
from logmend_cli.report import command as report

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

MADE = ("machines", "key", "ledger.sqlite", "function.log", "outcomes.jsonl", "report.html")
"""Prefixes of the names that a demo leaves in its folder: it never removes anything else."""


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/demo"),
    show_default=True,
    help="Folder for the machines, outcomes.jsonl and report.html; replaced on each run.",
)
@click.option(
    "--pubsub",
    type=click.Choice(["auto", "emulator", "direct"]),
    default="auto",
    show_default=True,
    help="Deliver through the Pub/Sub emulator or push directly; auto: the emulator if it is installed.",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(out: Path, pubsub: str, form: str) -> int:
    """Tell the whole story on a pretend fleet: no cloud, no root."""
    _make_anew(out)
    if pubsub == "auto":
        pubsub = "emulator" if emulator.installed("pubsub-emulator") else "direct"
    problems = asyncio.run(_demo(out.resolve(), pubsub, form))
    for problem in problems:
        warn(f"demo failed: {problem}")
    return 1 if problems else 0


def _make_anew(out: Path) -> None:
    """Empty the folder; raise ConfigError if it has something that no demo made."""
    there = [each.name for each in out.iterdir()] if out.is_dir() else []
    if foreign := sorted(name for name in there if not name.startswith(MADE)):
        raise ConfigError(
            [f"{out}: {foreign[0]} is in it, which a demo did not make; choose another folder with --out"]
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def _shown(path: Path) -> Path:
    """Return a path as it is printed: relative if it is below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


async def _demo(out: Path, pubsub: str, form: str) -> list[str]:
    fleet, scenes = story.tell(out)
    before = {name: machine.timer() for name, machine in fleet.machines.items()}
    deliver = delivery.by_emulator if pubsub == "emulator" else delivery.directly
    started, outcomes, names = time.monotonic(), out / "outcomes.jsonl", dict[str, str]()
    async with fleet.running():
        settings = {
            "LOGMEND_MODE": "enforce",
            "LOGMEND_STATE": f"sqlite:{out / 'ledger.sqlite'}",
            "LOGMEND_OUTCOMES": f"file:{outcomes}",
            "LOGMEND_PROJECT": story.PROJECT,
            "LOGMEND_COMPUTE_ENDPOINT": f"http://127.0.0.1:{fleet.compute_port}",
            "LOGMEND_SSH_KEY": str(fleet.key_file),
            "LOGMEND_SSH_USER": USER,
            "LOGMEND_SSH_PORT": str(fleet.ssh_port),
            "LOGMEND_DISRUPTION_BUDGET": "100/10m",
            "LOGMEND_BREAKER_MINIMUM": "100",
            "LOGMEND_REPEATS": "each",  # a row for each scene
        }
        async with function_process.serving(settings, out / "function.log") as url:
            with _board(scenes, form) as board:
                await deliver(url, scenes, outcomes, board.show)
            names |= board.messages
            await undo(fleet, settings["LOGMEND_STATE"], url)
    told = delivery.read(outcomes)
    problems = check(scenes, fleet, before, told, names)
    seconds, page = time.monotonic() - started, out / "report.html"
    report.write(outcome_source.of_file(str(outcomes)), page, "the demo on a pretend fleet")
    if form == "json":
        click.echo(json.dumps({"outcomes": told, "problems": problems, "report": str(page)}))
    else:
        _summary(board, fleet, problems, seconds, pubsub, outcomes)
        click.echo(f"Report: {_shown(page)} (open it in a browser; it needs no network)")
    return problems


async def undo(fleet: PretendFleet, state: str, url: str) -> None:
    """Revert the first machine, as ``logmend revert`` does: a request in the ledger, and a tick."""
    from logmend.ledger import Journal
    from logmend.model.enums import Action
    from logmend.model.values import InstanceRef
    from logmend.stages import intents
    from logmend.wiring import open_store
    from logmend_cli.pretend.entries import push

    now, store = datetime.now(UTC), open_store(state)
    first = next(iter(fleet.machines.values()))
    instance = InstanceRef(*story.identity(first))
    intent = intents.of_operator(
        Action.REVERT, instance, "workload-cert-refresh", "the demo", now, intent_id="demo-revert"
    )
    await Journal(store, owner="demo", lease=timedelta(minutes=10)).write(intent, now)
    await store.aclose()
    await asyncio.to_thread(delivery.post, url, push({"logmend": "tick"}, "demo-tick"))


def check(
    scenes: Sequence[Scene],
    fleet: PretendFleet,
    before: dict[str, str | None],
    outcomes: list[JsonObject],
    messages: dict[str, str],
) -> list[str]:
    """Compare outcomes with what was expected and with the machines; return the differences.

    ``messages`` has the message id under which each scene was delivered.
    """
    problems = []
    if not any(each["result"] == "reverted" for each in outcomes):
        problems.append("the revert of the first machine has no outcome")
    for scene in scenes:
        mine = [each for each in outcomes if each["message_id"] == messages.get(scene.message_id)]
        final = {named(each) for each in mine if each["result"] not in delivery.INTERIM}
        if final != {scene.expected}:
            got = ", ".join(sorted(final)) or "no final outcome"
            problems.append(f"{scene.machine}, {scene.what}: expected {scene.expected}, got {got}")
    for name, machine in fleet.machines.items():
        instance_id = machine.instance.instance_id
        mine = [each for each in outcomes if (each["instance"] or {}).get("instance_id") == instance_id]
        if (wrong := story.claims_hold(machine, before[name], mine)) is not None:
            problems.append(f"{name}: {wrong}")
    return problems


def named(outcome: JsonObject) -> str:
    """Return ``result`` or ``result: reason``."""
    return output.word(str(outcome["result"]), outcome["reason"])


@dataclass
class Board:
    """The display while the demo runs: the latest outcome of each scene."""

    scenes: Sequence[Scene]
    live: "Live | None" = None
    rows: dict[str, JsonObject] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def show(self, scene: Scene, outcome: JsonObject) -> None:
        """Take in the latest outcome of a scene."""
        self.rows[scene.message_id] = outcome
        self.messages[scene.message_id] = outcome["message_id"]
        if self.live is not None:
            self.live.update(self.table())

    def table(self) -> "Table":
        """Draw the table."""
        from rich.table import Table
        from rich.text import Text

        colours = {"remediated": "green", "nothing_to_do": "green", "failed": "red", "deferred": "yellow"}
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("VM", "what was logged", "result", "why"):
            table.add_column(title, no_wrap=title != "why")
        for scene in self.scenes:
            if (outcome := self.rows.get(scene.message_id)) is None:
                table.add_row(scene.machine, scene.what, Text("…", style="dim"), "")
            else:
                shown = Text(named(outcome), style=colours.get(outcome["result"], "cyan"))
                table.add_row(scene.machine, scene.what, shown, Text(outcome["detail"]))
        return table


@contextlib.contextmanager
def _board(scenes: Sequence[Scene], form: str) -> Iterator[Board]:
    board = Board(scenes)
    if form == "json" or not sys.stdout.isatty():
        yield board
        return
    from rich.live import Live

    with Live(board.table(), refresh_per_second=8, vertical_overflow="visible") as board.live:
        yield board


def _summary(
    board: Board, fleet: PretendFleet, problems: list[str], seconds: float, pubsub: str, outcomes: Path
) -> None:
    if board.live is None:
        output.console().print(board.table())
    counts: dict[str, int] = {}
    for outcome in board.rows.values():
        counts[outcome["result"]] = counts.get(outcome["result"], 0) + 1
    totals = ", ".join(
        f"{number} {name}" for name, number in sorted(counts.items(), key=lambda item: -item[1])
    )
    way = "through the Pub/Sub emulator" if pubsub == "emulator" else "by direct pushes"
    off = sum(machine.timer() == "disabled inactive" for machine in fleet.machines.values())
    first = next(iter(fleet.machines))
    click.echo(f"\n{len(board.scenes)} messages {way} in {seconds:.1f} s: {totals}.")
    click.echo(f"Then {first} was reverted: its timer is {fleet.machines[first].timer()} again.")
    click.echo(f"{off} of {len(fleet.machines)} timers are off now; one was before.")
    if not problems:
        click.echo("Every machine is what its outcomes claim, and no other was changed.")
    click.echo(f"Outcomes: {_shown(outcomes)}")

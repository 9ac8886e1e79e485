"""``logmend replay``: explain events again, then publish or order each exactly once."""

import asyncio
from pathlib import Path
from typing import Any

import click

from logmend_cli import application, inputs, output
from logmend_cli.documented import Command
from logmend_cli.replay.options import PULL_LIMIT, ReplayOptions, checked
from logmend_cli.replay.run import Replay
from logmend_cli.scanned import complete_projects


@click.command(
    "replay",
    cls=Command,
    examples=(
        "logmend replay --subscription logmend-dead-letter --project my-project",
        "logmend replay --subscription logmend-dead-letter --project my-project --publish",
        "logmend replay --project my-project --filter gce_workload_cert_refresh --since 2d --allow-stale",
        "logmend replay message.json --publish --topic projects/my-project/topics/logmend",
    ),
)
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--subscription", help="Pull from this subscription: its name, or projects/P/subscriptions/S.")
@click.option("--filter", "where", help="Read the log entries of --project that this Logging query selects.")
@click.option("--since", metavar="TIME", help="With --filter: from when, 90m, 7d or RFC 3339. [default: 1d]")
@click.option("--outcome", metavar="ID", help="The event behind this outcome (or intent, or message id).")
@click.option("--project", shell_complete=complete_projects,
              help="Project of --subscription and --filter. [default: LOGMEND_PROJECT]")  # fmt: skip
@click.option("--publish", is_flag=True, help="Publish the events again, for the function.")
@click.option("--topic", help="Where to, projects/P/topics/T. [default: LOGMEND_TOPIC]")
@click.option(
    "--allow-stale", is_flag=True, help="Request the same in the ledger under your name, whatever their age."
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="With --publish: also events that would be rejected, or skipped as stale.",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True,
              help="Most events a second.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help=f"Most events. [default: {PULL_LIMIT} when pulled]")
@click.option(
    "--fresh",
    is_flag=True,
    help="Begin anew: forget a run that was interrupted, and what was dealt with before.",
)
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path),
              help="Where a run from a file or query notes how far it is.")  # fmt: skip
@application.by_option
@output.format_option("text", "json")
def command(**chosen: Any) -> int:
    """Replay events: from FILE (- is standard input), a subscription, a Logging query or an outcome.

    By default it explains, as of now, and pulled messages go back. --publish publishes each event again with
    its attributes and logmend_replay_of, the id of the original; the function judges it as a new event.
    --allow-stale writes a request to the ledger instead, recorded under your name, which the next tick
    processes. Cooldowns and age do not stop it; guards and the check on the VM do.

    One entry counts for each VM and runbook: the newest of a query, or, with --allow-stale, the first of a
    file.

    A pulled message is acknowledged only once it is published or requested. An event that would be rejected
    or is stale stays there; a tick is dropped, since the scheduler sends the next. You may interrupt it at
    any time, with Ctrl-C or worse, and run it again: it continues, and an event published twice is
    recognised. Exit status 1 if an event is rejected or unmatched, or the run ended early.
    """
    settings = inputs.settings()
    return asyncio.run(Replay(settings, checked(ReplayOptions(**chosen), settings)).run())

"""``logmend tick``: what the scheduler runs."""

import click

from logmend.errors import ConfigError
from logmend.tick import Tally
from logmend.wiring import Application
from logmend_cli import inputs
from logmend_cli.application import running, shared_ledger
from logmend_cli.documented import Command
from logmend_cli.output import format_option, show_json, show_table


@click.command(cls=Command)
@format_option("table", "json")
def command(shape: str) -> int:
    """Process what waits in the ledger, from here: parked intents, expired leases, requests, re-checks.

    Stops before the time limit; the next tick continues. Exit status 1 if anything failed.
    """

    async def work(app: Application) -> Tally:
        return await app.ticker.run()

    settings = shared_ledger(inputs.settings())
    if unset := [f"LOGMEND_{name.upper()}" for name in ("mode", "outcomes") if not inputs.is_set(name)]:
        problem = (
            f"{' and '.join(unset)} not set: a tick from here acts in the function's place, so it"
            " needs the function's values. With the defaults, it would refuse requests to enforce, and"
            " outcomes would not reach their log"
        )
        raise ConfigError([problem])
    tally = running(work, settings)
    if shape == "json":
        show_json(tally.document())
    else:
        rows = [
            *tally.outcomes.items(),
            *((f"error: {name}", number) for name, number in tally.errors.items()),
        ]
        if tally.freed:
            rows.append(("freed from an orphaned lease", tally.freed))
        if tally.forgotten:
            rows.append(("forgotten: Compute no longer knows them", tally.forgotten))
        show_table(("result", "number"), rows, empty="nothing was due")
        if tally.left:
            click.echo("Stopped at the time limit: run it again to continue.")
    return 1 if tally.errors or {"failed", "unverified"} & tally.outcomes.keys() else 0

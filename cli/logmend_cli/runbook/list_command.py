"""``logmend runbook list``: which runbooks are on, and what turns them on."""

import click
import msgspec

from logmend import catalog, guards
from logmend.errors import ConfigError
from logmend.runbook import Runbook
from logmend.runbook.decode import suggestion
from logmend_cli import inputs, output
from logmend_cli.documented import Command
from logmend_cli.errors import DONE


@click.command(
    "list",
    cls=Command,
    short_help="Say which runbooks are on, and how.",
    examples=("logmend runbook list", "logmend runbook list ops-agent", "logmend runbook list --format json"),
)
@click.argument("runbook", metavar="[NAME]", required=False)
@output.format_option("table", "json")
def list_(runbook: str | None, shape: str) -> int:
    """Show which runbooks are on, how each is triggered, and every value that is not the default.

    With a name, show every value of that runbook and where it comes from: the default, runbook.yaml, the
    configuration that LOGMEND_RUNBOOKS names, or an environment variable.
    """
    from logmend_cli.runbook.in_force import DEFAULT, values

    settings = inputs.settings()
    on, every = catalog.read_all(settings), catalog.read_all(settings, every=True).runbooks
    if runbook is not None and runbook not in every:
        raise ConfigError([f"no runbook {runbook!r}; {suggestion(runbook, every)}"])
    there = {name: on.runbooks.get(name, each) for name, each in every.items() if runbook in (None, name)}
    environment = inputs.environment()
    values_of = {
        name: [msgspec.to_builtins(each) for each in values(on, found, environment)]
        for name, found in there.items()
    }
    if shape == "json":
        output.show_json([_row(found) | {"values": values_of[name]} for name, found in there.items()])
        return DONE
    rows = [
        _row(found) | {each["name"]: each["value"] for each in values_of[name]}
        for name, found in there.items()
    ]
    for row in rows:
        row["digest"] = row["digest"][:19]
    columns = {"name": "runbook", "enabled": "on", "mode": "mode", "executor": "executor"}
    columns |= {"disruption_budget": "budget", "by": "asked by", "digest": "digest", "summary": "summary"}
    output.show_rows(shape, columns, rows)
    origins = [
        {"runbook": name} | each
        for name, every_value in values_of.items()
        for each in every_value
        if runbook is not None or each["origin"] not in (DEFAULT, "runbook.yaml")
    ]
    if origins:
        columns = {"runbook": "runbook", "name": "value", "value": "is", "origin": "from"}
        output.show_rows(shape, columns, origins)
    return DONE


def _row(runbook: Runbook) -> dict[str, object]:
    return {
        "name": runbook.name,
        "summary": runbook.summary,
        "by": ["log entry", "incident", "operator"] if runbook.filter else ["incident", "operator"],
        "variants": [each.name for each in runbook.variants],
        "guards": list(guards.asked(runbook.guards)),
        "unless": [str(each) for each in runbook.unless],
        "only": [str(each) for each in runbook.only],
        "repeats_s": runbook.repeats.total_seconds() if runbook.repeats else None,
        "detached_s": runbook.detached.total_seconds() if runbook.detached else None,
        "follow_up": runbook.follow_up,
        "after": runbook.after,
        "permissions": list(runbook.permissions),
        "ssh_only": runbook.ssh_only or None,
        "digest": runbook.digest,
    }

"""The command ``logmend``: its list of subcommands, each imported only when it is used.

To add one, write a module ``logmend_cli/NAME.py`` or ``NAME/command.py`` with a click command (or group)
called ``command``, and add a line to ``COMMANDS``. A command imports modules that are slow to import (rich,
Google's clients) in its function.
A command returns its exit status, or None for 0; errors of :mod:`logmend.errors` are printed here, once.
docs/cli.md and the man page are generated from the commands: ``python -m logmend_cli.reference``.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import click

from logmend_cli import streams
from logmend_cli.errors import colours, told


class Entry(NamedTuple):
    """One subcommand: the heading under which it is listed, and a line that says what it does."""

    heading: str
    short_help: str


ASK, ACT, RUN, CHECK = "Ask first", "Act", "Look after", "Check and set up"

COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "explain": Entry(ASK, "What would this event do, and why?"),
        "scan": Entry(ASK, "Which VMs have the fault, and what would be done to each?"),
        "diagnose": Entry(ASK, "Why do these VMs have the fault? Asks the VMs; changes nothing."),
        "demo": Entry(ASK, "Run the whole story on a pretend fleet."),
        "run": Entry(
            ACT, "Remediate VMs, from here or through the function; without --enforce, show the plan."
        ),
        "revert": Entry(ACT, "Undo a runbook on VMs."),
        "replay": Entry(ACT, "Explain, republish or queue earlier events."),
        "approvals": Entry(ACT, "List, approve, reject and withdraw plans that wait for a person."),
        "cancel": Entry(ACT, "Cancel requests that have not begun."),
        "freeze": Entry(ACT, "Stop all new changes, or those of a runbook or a VM."),
        "resume": Entry(
            ACT, "Lift a freeze or a hold, close a breaker, or return a VM to automatic handling."
        ),
        "status": Entry(RUN, "Show blocked work, VMs that need attention, and recent outcomes."),
        "history": Entry(RUN, "Show everything that is known about one VM, in order."),
        "export": Entry(RUN, "Export every change and every use of a control, with evidence."),
        "report": Entry(RUN, "Write an HTML page with charts, from events to verified fixes."),
        "tick": Entry(RUN, "Process queued work now, as Cloud Scheduler does every five minutes."),
        "serve": Entry(RUN, "Run the function on this machine."),
        "use": Entry(CHECK, "Choose the deployed function that commands refer to."),
        "doctor": Entry(CHECK, "Check everything between the log sink and the VMs; show how to repair it."),
        "filter": Entry(CHECK, "Show the filters that select log entries, or try one."),
        "runbook": Entry(CHECK, "The runbooks: list, lint, test."),
        "policy": Entry(CHECK, "Render, apply, check and delete the OS policy assignments."),
    }
)


class LazyGroup(click.Group):
    """A group that knows its commands' names and short helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names of the commands in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; return None if it does not exist."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"logmend_cli.{cmd_name}")
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"logmend_cli.{cmd_name}.command")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begin with; suggest another if it is misspelt."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(COMMANDS)}"
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands under their headings."""
        for heading in dict.fromkeys(entry.heading for entry in COMMANDS.values()):
            with formatter.section(heading):
                formatter.write_dl(
                    [(name, entry.short_help) for name, entry in COMMANDS.items() if entry.heading == heading]
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete command names without importing any."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=entry.short_help)
            for name, entry in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; the value that it returns is the exit status."""
        ctx.color = colours()
        with told(debug=bool(ctx.params.get("debug"))):
            status = super().invoke(ctx)
            sys.stdout.flush()
        ctx.exit(status if isinstance(status, int) else 0)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; end the process with the exit statuses of :mod:`logmend_cli.errors`."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            with told():
                sys.exit(super().main(args, prog_name, complete_var, standalone_mode=False, **extra))
        except click.exceptions.Exit as end:
            sys.exit(end.exit_code)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from logmend_cli import version

        for line in version.lines():
            click.echo(line)
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings come from LOGMEND_* variables, as for the function. Exit status: 0 done or nothing"
    " to do, 1 failed, unverified, rejected, unmatched or a failing check, 2 invalid"
    " input or options.",
)
@click.option("--debug", is_flag=True, help="Show where in the program an error came from.")
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print the version, its commit, and the runbooks' digests.",
)
def logmend(debug: bool) -> None:
    """Remediate Compute Engine VMs in response to log entries, verify each change, and record the outcome."""


def main() -> None:
    """Entry point of the command."""
    streams.prepare()
    logmend(prog_name="logmend")

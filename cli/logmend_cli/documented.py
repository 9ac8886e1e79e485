"""What commands share: examples at the end of their help, and common options."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import click
from click.core import ParameterSource

Decorator = Callable[[Callable[..., object]], Callable[..., object]]
"""Adds one or more options to a command."""


class Command(click.Command):
    """A command with ``examples``: lines to paste, shown at the end of its help and in docs/cli.md.

    An empty value of an option is refused, except for those in ``may_be_empty``: a script passes one if its
    variable is not set, and ``--zone ""`` must not mean every zone.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        may_be_empty: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.may_be_empty = may_be_empty

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; an empty value is a usage error."""
        rest = super().parse_args(ctx, args)
        for option in self.params:
            name = option.name or ""
            value = ctx.params.get(name)
            given = isinstance(option, click.Option) and name not in self.may_be_empty
            empty = value == "" or (isinstance(value, tuple) and "" in value)
            if given and empty and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                ctx.fail(f"{option.opts[0]} is empty: give it a value, or leave it out")
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, unwrapped."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for each in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{each}\n")


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = Command


def together(*options: Decorator) -> Decorator:
    """Return a decorator that adds all of these, in this order."""

    def decorate(command: Callable[..., object]) -> Callable[..., object]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def runbook_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a built-in runbook or an own one; nothing if the settings cannot be read."""
    from logmend import catalog
    from logmend.errors import ConfigError
    from logmend.settings import Settings
    from logmend_cli import inputs

    try:
        known = catalog.folders(Settings.from_environment(inputs.environment()))
    except ConfigError:
        return []
    return [name for name in known if name.startswith(incomplete)]

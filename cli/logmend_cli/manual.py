"""The man page, cli/logmend.1, generated from the commands' help: ``python -m logmend_cli.reference``.

The macros are those of man(7).
"""

import inspect
from collections.abc import Iterable, Iterator

import click

from logmend_cli.main import COMMANDS, logmend

_END = """\
.SH EXIT STATUS
.TP
.B 0
done, or nothing to do (any result that is not below)
.TP
.B 1
failed, unverified, rejected, unmatched or a failing check; the worst of several
.TP
.B 2
invalid input or options
.SH ENVIRONMENT
Settings come from
.B LOGMEND_*
variables, the same as the function's, over those of the profile that
.B logmend use
made.
.SH FILES
.TP
.I $XDG_CONFIG_HOME/logmend
profiles of deployed functions
.TP
.I $XDG_STATE_HOME/logmend
the VMs of the last scan, for completion; how far unfinished replays are
"""


def page() -> str:
    """Return the whole page."""
    names = logmend.context_settings["help_option_names"]
    root = click.Context(logmend, info_name="logmend", help_option_names=names)
    summary = logmend.get_short_help_str(200).rstrip(".")
    lines = ['.TH LOGMEND 1 "" "" "User Commands"', ".SH NAME", f"logmend \\- {escaped(summary)}"]
    lines += [".SH SYNOPSIS", *_usage(root), ".SH DESCRIPTION", *_said(root)]
    lines.append(".SH COMMANDS")
    for each in commands(logmend, root, COMMANDS):
        lines += [f".SS {escaped(each.command_path)}", *_usage(each), *_said(each)]
    return "\n".join(lines) + "\n" + _END


def commands(group: click.Group, parent: click.Context, names: Iterable[str]) -> Iterator[click.Context]:
    """Yield the contexts of a group's commands, each followed by those of the commands in it."""
    for name in names:
        command = group.get_command(parent, name)
        assert command is not None
        yield (context := click.Context(command, parent=parent, info_name=name))
        if isinstance(command, click.Group):
            yield from commands(command, context, command.list_commands(context))


def _usage(context: click.Context) -> Iterator[str]:
    yield f".B {escaped(context.command_path)}"
    yield escaped(" ".join(context.command.collect_usage_pieces(context)))


def _said(context: click.Context) -> Iterator[str]:
    """Yield the description, options and examples of one command."""
    command = context.command
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield from (".PP", escaped(" ".join(paragraph.split())))
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield from (".TP", f".B {escaped(record[0])}", escaped(" ".join(record[1].split())))
    if examples := getattr(command, "examples", ()):
        yield from (".PP", "Examples:", ".PP", ".nf", *map(escaped, examples), ".fi")


def escaped(text: str) -> str:
    """Escape text for roff: backslashes, hyphens, and a control character at the beginning.

    Characters other than ASCII are named by their code, which every roff accepts in any locale.
    """
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text

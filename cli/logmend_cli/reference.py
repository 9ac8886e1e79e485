"""docs/cli.md, generated from the commands' help: ``python -m logmend_cli.reference``, in a clone.

It writes the man page as well (:mod:`logmend_cli.manual`). Tests compare both with the help, so neither can
differ from ``--help``.
"""

from pathlib import Path

import click

from logmend_cli import manual, rights
from logmend_cli.main import COMMANDS, logmend

_INTRODUCTION = """\
# The command `logmend`

This page is generated from `--help` (`python -m logmend_cli.reference`); a test keeps it up to date.

- **Exit status**: 0 for done or nothing to do (any result not named here), 1 for `failed`, `unverified`,
  `rejected`, `unmatched` or a failing check (the worst of several), 2 for invalid input or options; 130
  after Ctrl-C, 141 if nobody reads the output to its end.
- **Settings** come from `LOGMEND_*` variables, the same as the function's ([settings.md](settings.md)). If
  one is misspelt or cannot be parsed, every command that reads them stops.
- **Output** goes to standard output: tables for people, `--format json` for programs. All other messages go
  to standard error, every line beginning with `logmend:`; `logmend --debug COMMAND` shows where an error came
  from. Files and pipes get UTF-8, whatever the locale.
- **Files**: `-` is standard input. Events are read in any shape that Google's tools print: a document, an
  array, JSON lines, or documents in a row.
- **Completion** in the shell: `eval "$(_LOGMEND_COMPLETE=bash_source logmend)"` (or `zsh_source`); for fish
  `_LOGMEND_COMPLETE=fish_source logmend | source`. Besides commands and options it completes runbooks,
  profiles, and the VMs and projects of the last `logmend scan` (at most 5,000 VMs).
- **Man page**: `man logmend`, if `pipx` or `pip` installed the package; also generated from `--help`.
"""


def page() -> str:
    """Return the whole page."""
    names = logmend.context_settings["help_option_names"]
    root = click.Context(logmend, info_name="logmend", terminal_width=96, help_option_names=names)
    parts = [_INTRODUCTION, _block(logmend.get_help(root)), *rights.section()]
    for each in manual.commands(logmend, root, COMMANDS):
        level = "##" if each.parent is root else "###"
        parts += [f"{level} {each.command_path}\n", _block(each.command.get_help(each))]
    return "\n".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    clone = Path(__file__).resolve().parents[2]
    (clone / "docs" / "cli.md").write_text(page(), encoding="utf-8")
    (clone / "cli" / "logmend.1").write_text(manual.page(), encoding="ascii")

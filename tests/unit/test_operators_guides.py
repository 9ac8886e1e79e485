"""Every logmend command that the guides and the alerts show is one that the program takes."""

import re
import shlex

import click
import pytest
from tests.provider_schema import ROOT

from logmend_cli.main import COMMANDS, logmend


def shown(guide: str) -> list[str]:
    """Give the commands in code spans and fenced blocks, without what is piped on."""
    text = (ROOT / guide).read_text()
    spans = re.findall(r"`(logmend(?: [^`]+)?)`", text)
    lines = [
        line for block in re.findall(r"(?s)```(?:sh|console)\n(.*?)```", text) for line in block.splitlines()
    ]
    asked = [re.sub(r"^(?:\$ )?(?:\.venv/bin/)?", "", line) for line in lines]
    commands = [each for each in [*spans, *asked] if each.startswith("logmend ")]
    return [one for each in commands for one in alternatives(re.split(r" (?:\||[12]?>) ?|;", each)[0])]


def alternatives(text: str) -> list[str]:
    """Give `logmend a` and `logmend b` of `logmend a|b`."""
    found = re.search(r"[a-z]+(?:\|[a-z]+)+", text)
    return [text.replace(found[0], each) for each in found[0].split("|")] if found else [text]


GUIDES = [
    name
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("deploy/*.tf"),
    ]
    if shown(name := str(path.relative_to(ROOT)))
]
"""Every page with a command in it."""


def test_the_guides_that_have_commands_are_found():
    """Not a list that somebody has to keep."""
    assert {"README.md", "docs/deploy.md", "docs/data.md", "docs/cli.md", "deploy/alerts.tf"} <= set(GUIDES)


@pytest.mark.parametrize("guide", GUIDES)
def test_the_program_takes_every_command_of_the_guide(guide):
    """Commands, subcommands and options are there under the names that the guide uses."""
    for text in shown(guide):
        words = shlex.split(text)[1:]
        command: click.Command = logmend
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            known = command.get_command(click.Context(command), words[0])
            assert known is not None, f"{text}: no command {words[0]}; known: {', '.join(COMMANDS)}"
            command, words = known, words[1:]
        # With the program's own settings: click keeps a command's help option as it is first asked for.
        context = click.Context(command, resilient_parsing=True, **logmend.context_settings)
        try:
            command.parse_args(context, words)
        except click.UsageError as error:
            pytest.fail(f"{text}: {error.message}")

"""Every logmend command that the guides and the alerts show is one that the program takes."""

import re
import shlex

import click
import pytest
from tests.provider_schema import ROOT

from logmend.cli.main import COMMANDS, logmend

GUIDES = ("docs/deploy.md", "docs/operations.md", "deploy/README.md", "sink/README.md", "deploy/alerts.tf")

ANNOUNCED = {"doctor", "report", "status"}
"""Commands that the guides may name before they exist. Empty it once they do."""


def shown(guide: str) -> list[str]:
    """Give the commands in code spans and fenced blocks, without what is piped on."""
    text = (ROOT / guide).read_text()
    spans = re.findall(r"`(logmend(?: [^`]+)?)`", text)
    lines = [line for block in re.findall(r"(?s)```sh\n(.*?)```", text) for line in block.splitlines()]
    return [each for each in [*spans, *lines] if each.startswith("logmend ")]


@pytest.mark.parametrize("guide", GUIDES)
def test_the_program_takes_every_command_of_the_guide(guide):
    """Commands, subcommands and options are there under the names that the guide uses."""
    found = shown(guide)
    assert found
    for text in found:
        words = shlex.split(text)[1:]
        if words[0] in ANNOUNCED - COMMANDS.keys():
            continue
        command: click.Command = logmend
        while isinstance(command, click.Group) and words:
            known = command.get_command(click.Context(command), words[0])
            assert known is not None, f"{text}: no command {words[0]}; known: {', '.join(COMMANDS)}"
            command, words = known, words[1:]
        context = click.Context(command, resilient_parsing=True)
        try:
            command.parse_args(context, words)
        except click.UsageError as error:
            pytest.fail(f"{text}: {error.message}")

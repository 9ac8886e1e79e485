"""Every gcloud command that the guides show is one that gcloud knows."""

import json
import re
import subprocess
from pathlib import Path

from tests.conftest import needs
from tests.provider_schema import ROOT

GUIDES = [
    "README.md",
    *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md") if path.name != "cli.md"),
]


def commands(text: str) -> list[str]:
    """Give the gcloud commands of fenced blocks and of code spans that are whole commands."""
    lines = [line for block in re.findall(r"(?s)```sh\n(.*?)```", text) for line in block.splitlines()]
    spans = [each for each in re.findall(r"`([^`\n]+)`", text) if re.match(r"gcloud [a-z]+ \S+ .*-", each)]
    found = (re.split(r" \| | > | <|  # ", line)[0].strip() for line in [*lines, *spans])
    named = (each.replace("PROJECT", "my-project") for each in found)
    return sorted({each for each in named if each.startswith("gcloud ")})


def test_gcloud_takes_every_command_of_the_guides(tmp_path: Path):
    """Commands, flags and their values are checked by gcloud itself, without a network."""
    needs(commands=("gcloud",))
    shown = [each for guide in GUIDES for each in commands((ROOT / guide).read_text())]
    assert len(shown) > 10
    file = tmp_path / "commands.json"
    file.write_text(
        json.dumps([{"command_string": each} for each in [*shown, "gcloud pubsub topics list --x"]])
    )
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    wrong = {each["command_string"]: each["error_message"] for each in report if not each["success"]}
    assert wrong.pop("gcloud pubsub topics list --x")
    assert wrong == {}

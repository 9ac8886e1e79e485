"""docs/runbooks.md is followed to the letter: files are written, commands run, their output compared."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from logmend import catalog
from logmend.errors import ConfigError
from logmend.runbook import load
from logmend.settings import Settings
from logmend_cli.runbook import trial

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/runbooks.md").read_text()
GUIDE = PAGE.partition("## Write your own in ten minutes\n")[2].partition("\n## ")[0]
FILES = dict(re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))
CONSOLES = re.findall(r"^```console\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
MARK = "@@ the next command @@"


def commands() -> list[tuple[str, str]]:
    """Give each command of the guide with the output that the guide shows."""
    found: list[tuple[str, str]] = []
    for console in CONSOLES:
        for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Follow the guide in a folder of its own; give the folder and what each command printed."""
    folder = tmp_path_factory.mktemp("guide")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    tools = folder / ".tools"
    tools.mkdir()
    run = "from logmend_cli.main import main; main()"
    (tools / "logmend").write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{run}' \"$@\"\n")
    (tools / "logmend").chmod(0o755)
    script = "".join(f"echo '{MARK}'\n{command}\n" for command, _ in commands())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
    ran = subprocess.run(
        ["/bin/sh", "-c", f"exec 2>&1\n{script}"],
        cwd=folder,
        env=clean
        | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "functions"),
            "COLUMNS": "118",
            "CHECKOUT": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return folder, ran.stdout.split(f"{MARK}\n")[1:]


def test_every_command_prints_what_the_guide_shows(followed: tuple[Path, list[str]]) -> None:
    """A line of dots stands for any lines; what a machine lacks to check with is named, and not shown.

    Where no namespaces can be made, `runbook try` says just that, and everything else is as shown.
    """
    printed = [
        "\n".join(line for line in each.splitlines() if not line.startswith("logmend: skipped: "))
        for each in followed[1]
    ]
    shown = commands()
    assert len(printed) == len(shown) > 8
    refused = _no_namespaces()
    for (command, output), real in zip(shown, printed, strict=True):
        if refused and " runbook try " in command:
            assert real.strip() == f"logmend: {refused}"
            continue
        pattern = re.escape(output.strip()).replace(r"\.\.\.\n", "(?s:.*)\n")
        assert re.fullmatch(pattern, real.strip()), (
            f"$ {command}\nprints\n{real}\nand the guide shows\n{output}"
        )


def _no_namespaces() -> str | None:
    try:
        trial.require()
    except ConfigError as error:
        return str(error)
    return None


def test_the_runbook_of_the_guide_is_sound(followed: tuple[Path, list[str]]) -> None:
    """What a reader ends up with loads, and only it is in the folder."""
    folder = followed[0] / "runbooks"
    assert list(catalog.load(Settings(runbooks=folder))) == ["time-sync"]
    assert load(folder / "time-sync").variants[0].verdict == "act"

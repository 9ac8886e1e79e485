"""What the tests of commands share: running one as a user would, in an environment without settings."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from logmend_cli.main import logmend

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, state_home: Path) -> Run:
    """Run `logmend ARGS`; settings are given by keyword in lower case, standard input as `stdin`."""
    for name in [each for each in os.environ if each.startswith("LOGMEND_")]:
        monkeypatch.delenv(name)
    assert os.environ["XDG_STATE_HOME"] == str(state_home)

    def invoke(*args: Any, stdin: bytes | str | None = None, **settings: str) -> Result:
        environment = {f"LOGMEND_{name.upper()}": value for name, value in settings.items()}
        return CliRunner().invoke(logmend, [str(each) for each in args], input=stdin, env=environment)

    return invoke

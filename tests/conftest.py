"""What every tier of the tests shares: a skip is named, and a failure where every tier is required."""

import gc
import os
import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests import examples

__all__ = ["examples"]  # its profiles are there before the first property is read


def pytest_configure() -> None:
    """Keep the tests off the fleet that this user works on: hide the profile in use, if there is one."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if (home / "logmend" / "current").exists():
        without = Path(tempfile.mkdtemp(prefix="logmend-tests-config-"))
        for each in home.iterdir():
            if each.name != "logmend":
                (without / each.name).symlink_to(each)
        os.environ["XDG_CONFIG_HOME"] = str(without)


@pytest.fixture
def state_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep what commands remember of their runs in a folder of the test's own."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


REQUIRE_ALL = os.environ.get("LOGMEND_REQUIRE_ALL") == "1"


def missing(
    *,
    commands: tuple[str, ...] = (),
    files: tuple[Path, ...] = (),
    root: bool = False,
    linux: bool = False,
) -> str | None:
    """Say what this machine lacks, in words, or None where it lacks nothing."""
    lacks = [f"command {name}" for name in commands if shutil.which(name) is None]
    lacks += [f"file {path}" for path in files if not path.is_file()]
    if root and os.geteuid() != 0:
        lacks.append("root")
    if linux and os.uname().sysname != "Linux":
        lacks.append("Linux")
    return ", ".join(lacks) or None


def needs(
    *,
    commands: tuple[str, ...] = (),
    files: tuple[Path, ...] = (),
    root: bool = False,
    linux: bool = False,
) -> None:
    """Skip the calling test by name of what is missing; fail instead where LOGMEND_REQUIRE_ALL=1."""
    lack = missing(commands=commands, files=files, root=root, linux=linux)
    if lack is not None:
        lacking(lack)


def lacking(what: str) -> NoReturn:
    """Skip the calling test by name of what this machine lacks; fail instead where every tier is required."""
    if REQUIRE_ALL:
        pytest.fail(f"every tier is required here, but this machine lacks: {what}", pytrace=False)
    pytest.skip(f"this machine lacks: {what}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the folder it lives in, so that `-m lab` and the like need no decorators."""
    for item in items:
        for tier in ("unit", "contract", "integration", "e2e", "lab", "chaos"):
            if f"/tests/{tier}/" in str(item.path):
                item.add_marker(tier)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over modules and tests: they stay, and it would go through them all."""
    gc.freeze()


class Scheduling(LoadFileScheduling):
    """Keep a file on one worker, and the fault suite: each of its tests keeps several processes busy."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return "tests/chaos" if scope.startswith("tests/chaos/") else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Keep a file on one worker: what its tests share is started once.

    Files come in the order of their folders, so that the many short ones of tests/unit even out the end.
    ``--dist=loadgroup`` of xdist 3.8 groups nothing under pytest 9.2, whose ids take no suffix.
    """
    config.option.loadscopereorder = False
    return Scheduling(config, log)

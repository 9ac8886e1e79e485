"""The text of ``logmend --version``: the release, its commit, and the built-in runbooks."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import logmend
from logmend.runbook import load_all

UNKNOWN = "unknown"


def lines() -> Iterator[str]:
    """Yield the version, the commit, and each built-in runbook with its digest, as in outcomes."""
    yield f"logmend {logmend.__version__}"
    yield f"commit {commit()}"
    for runbook in load_all().values():
        yield f"runbook {runbook.name} {runbook.digest}"


def commit() -> str:
    """Return the commit's id: from ``git archive`` for a release, else from the clone's git."""
    if not logmend.COMMIT.startswith("$"):
        return logmend.COMMIT
    root = Path(logmend.__file__).parents[2]
    if not (root / ".git").exists():
        return UNKNOWN
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN

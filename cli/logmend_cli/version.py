"""What ``logmend --version`` says: the release, the commit that it was made from, the built-in runbooks."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import logmend
from logmend.runbook import load_all

UNKNOWN = "unknown"


def lines() -> Iterator[str]:
    """Give the version, the commit, and each built-in runbook with the digest that outcomes carry."""
    yield f"logmend {logmend.__version__}"
    yield f"commit {commit()}"
    for runbook in load_all().values():
        yield f"runbook {runbook.name} {runbook.digest}"


def commit() -> str:
    """Return the commit's id: what ``git archive`` wrote for a release, else what a clone's git says."""
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

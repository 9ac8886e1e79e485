"""A runbook as one script for the VM that runs it: check, enforce, check, and the outcome as a line of JSON.

For start-up scripts, image builds, Ansible's ``script`` and ``gcloud compute ssh --command``. It carries the
very text that the executors run; what decides around it, in ``export.sh``, is what
:mod:`logmend.stages.verify` decides of an attempt.
"""

import json
from importlib import resources

from logmend import __version__
from logmend.errors import ConfigError
from logmend.outcome.reasons import IRREVERSIBLE
from logmend.runbook import Runbook

LOG = ("timeout", "9", "logger", "-t", "logmend", "-p", "auth.notice", "--")
"""What puts a text on record in the VM's own log; every logger takes these words.

A journal that hangs blocks whoever writes to it."""

END = "LOGMEND_END_OF_SCRIPT"
"""Ends a script within the script; a line that no script has."""


def script(runbook: Runbook, *, revert: bool) -> str:
    """Give the script of a runbook, or of its revert. ``ConfigError`` if there is none."""
    if revert and runbook.irreversible:
        raise ConfigError([f"{runbook.name} is irreversible: it has no revert"])
    scripts = runbook.scripts
    validate = scripts.revert_validate if revert else scripts.validate
    enforce = scripts.revert_enforce if revert else scripts.enforce
    if any(END in text for text in (validate, enforce)):
        raise ConfigError([f"{runbook.name}: a script holds {END}"])
    values = {
        "NAME": runbook.name,
        "DIGEST": runbook.digest,
        "VERSION": __version__,
        "WHAT": "the revert" if revert else runbook.summary.rstrip("."),
        "DOES": "puts it back" if revert else "enforces",
        "ACTION": "revert" if revert else "enforce",
        "DONE": "reverted" if revert else "remediated",
        "SECONDS": str(int(runbook.detached.total_seconds()) if runbook.detached else 0),
        "LOG": " ".join(LOG),
        "NOTES": ",".join(json.dumps(each) for each in _notes(runbook)),
    }
    text = resources.files(__package__).joinpath("export.sh").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.replace("@VALIDATE@", validate).replace("@ENFORCE@", enforce)


def _notes(runbook: Runbook) -> list[str]:
    """Say what could not be asked on the VM itself."""
    unasked = ", ".join((*runbook.guards, *(["unless or only"] * bool(runbook.unless or runbook.only))))
    notes = ["labels unchecked: they cannot be seen from the VM"]
    notes += [f"guards not asked: {unasked}; what the check on the VM says counts"] if unasked else []
    return [*notes, *([IRREVERSIBLE] if runbook.irreversible else [])]

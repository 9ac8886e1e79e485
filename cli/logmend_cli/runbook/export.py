"""A runbook as one script for the VM that runs it: check, enforce, check, and the outcome as a line of JSON.

For start-up scripts, image builds, Ansible's ``script`` and ``gcloud compute ssh --command``. It has exactly
the text that the executors run; around it, ``export.sh`` decides as :mod:`logmend.stages.verify` does for an
attempt.
"""

import json
from importlib import resources

from logmend import __version__
from logmend.errors import ConfigError
from logmend.outcome.reasons import IRREVERSIBLE
from logmend.runbook import Runbook

LOG = ("timeout", "9", "logger", "-t", "logmend", "-p", "auth.notice", "--")
"""The command that records a text in the VM's own log; every logger takes these words.

A journal that hangs blocks its writers."""

END = "LOGMEND_END_OF_SCRIPT"
"""The line that ends an embedded script; no script has such a line."""


def script(runbook: Runbook, *, revert: bool) -> str:
    """Return the script of a runbook, or of its revert; raise ``ConfigError`` if there is none."""
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
    """Return notes on what cannot be checked on the VM itself."""
    unasked = ", ".join((*runbook.guards, *(["unless or only"] * bool(runbook.unless or runbook.only))))
    notes = ["labels unchecked: they cannot be seen from the VM"]
    notes += [f"guards not asked: {unasked}; what the check on the VM says counts"] if unasked else []
    return [*notes, *([IRREVERSIBLE] if runbook.irreversible else [])]

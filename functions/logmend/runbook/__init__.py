"""Runbooks: what to look for, how to check for the fault, and how to remediate and revert. Data, no Python.

A runbook is a folder (docs/runbooks.md): ``runbook.yaml``, ``validate.sh``, ``enforce.sh``,
``revert/validate.sh``, ``revert/enforce.sh``, golden ``cases/`` and, optionally, ``diagnose.sh``. It is
decoded strictly, and hashed with its rendered scripts, so an outcome can name exactly what was run.
"""

from logmend.runbook.load import BUILT_IN, load, load_all, load_each
from logmend.runbook.types import (
    DIAGNOSE,
    MAX_SCRIPT_CHARACTERS,
    SCRIPT_FILES,
    Cause,
    Condition,
    Limits,
    Problem,
    Runbook,
    Scripts,
    Variant,
)

__all__ = [
    "BUILT_IN",
    "DIAGNOSE",
    "MAX_SCRIPT_CHARACTERS",
    "SCRIPT_FILES",
    "Cause",
    "Condition",
    "Limits",
    "Problem",
    "Runbook",
    "Scripts",
    "Variant",
    "load",
    "load_all",
    "load_each",
]

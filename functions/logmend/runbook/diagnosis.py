"""Read the output of ``diagnose.sh``: one declared cause, or ``unknown`` and a word for why. Pure.

The script prints ``instance_id=``, exactly one ``cause=``, ``concerns=`` and ``evidence=`` lines, and exits
with 100. Anything else is no diagnosis: an undeclared cause, two causes, a ``concerns`` that differs from
``runbook.yaml``, a script that did not finish, or another VM. Nothing is guessed.
"""

from logmend.model import evidence
from logmend.model.values import UNKNOWN, Diagnosis
from logmend.runbook.types import Runbook, Variant

LINES = 12
"""How many lines of evidence are kept."""

WHYS = frozenset(
    {
        "no_cause_fits",
        "not_readable",
        "at_work",
        "not_declared",
        "contradictory",
        "not_ended",
        "wrong_instance",
        "not_reached",
        "not_asked",
    }
)
"""Why a cause is unknown. The script itself gives the first three (``reason=``), logmend the others."""

_SAID = ("no_cause_fits", "not_readable", "at_work")


def unknown(why: str, *lines: str) -> Diagnosis:
    """Return a diagnosis that names no cause."""
    return Diagnosis(
        UNKNOWN, evidence=tuple([each[: evidence.VALUE_LIMIT] for each in lines if each]), why=why
    )


def of_line(runbook: Runbook, variant: Variant | None) -> Diagnosis | None:
    """Return the cause that ``runbook.yaml`` declares for the line's variant; None if it declares none.

    The VM was not asked, and anyone who may write logs may have written the line; the evidence says so.
    """
    if variant is None or variant.cause is None:
        return None
    word = f"said in the VM's log (source.insert_id), variant {variant.name}; the VM itself was not asked"
    named = next((each for each in runbook.causes if each.name == variant.cause), None)
    if named is None:
        return unknown("not_declared", word)
    return Diagnosis(named.name, named.concerns, (word,), named.next_step, named.runbook)


def decoded(runbook: Runbook, instance_id: str, code: int, output: bytes, error: str) -> Diagnosis:
    """Return the diagnosis in the output of ``diagnose.sh`` on the VM ``instance_id``; see the module."""
    pairs = list(evidence.lines(output))
    lines = [value for key, value in pairs if key == "evidence" and value][:LINES]
    first = dict(reversed(pairs))
    causes = [value for key, value in pairs if key == "cause"]
    if code != 100:
        return unknown("not_ended", *lines, f"diagnose.sh ended with {code}: {error}".rstrip(": "))
    if first.get("instance_id") != instance_id:
        return unknown("wrong_instance", f"instance {first.get('instance_id') or 'unknown'} answered")
    if len(causes) != 1:
        return unknown("contradictory", *lines, f"diagnose.sh named {len(causes)} causes, not one")
    name = causes[0]
    if name == UNKNOWN:
        why = first.get("reason", "")
        return unknown(why if why in _SAID else "no_cause_fits", *lines)
    declared = next((each for each in runbook.causes if each.name == name), None)
    if declared is None:
        return unknown(
            "not_declared", *lines, f"diagnose.sh named {name!r}, which runbook.yaml does not declare"
        )
    if first.get("concerns") != declared.concerns:
        odd = (
            f"diagnose.sh says that {name} concerns {first.get('concerns')}, runbook.yaml {declared.concerns}"
        )
        return unknown("contradictory", *lines, odd)
    return Diagnosis(name, declared.concerns, tuple(lines), declared.next_step, declared.runbook)

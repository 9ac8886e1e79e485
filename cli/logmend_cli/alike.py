"""VMs that are alike: they share a cause, a group, a template and an image. Pure.

``412 VMs, one template`` is one repair. For a VM without a group, only its image is shown.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from logmend.model.enums import Result
from logmend.model.struct import Struct
from logmend.model.values import Diagnosis, InstanceRef, Lineage, Outcome

if TYPE_CHECKING:
    from datetime import datetime

_GONE = frozenset({Result.REMEDIATED, Result.REVERTED, Result.NOTHING_TO_DO})
"""Results after which an earlier cause no longer applies."""


class Alike(Struct, frozen=True):
    """The number of VMs that share a cause and an origin, and what repairs them all."""

    cause: str
    made: Lineage
    instances: int
    next_step: str

    @property
    def row(self) -> Mapping[str, object]:
        """The group as JSON data."""
        return {
            "cause": self.cause,
            "group": self.made.group,
            "template": self.made.template,
            "image": self.made.image,
            "instances": self.instances,
            "next_step": self.next_step or None,
        }


class Causes:
    """The latest cause of each VM under each runbook. Outcomes may come in any order: the newest counts."""

    def __init__(self) -> None:
        self._of: dict[tuple[InstanceRef, str], tuple[str, Lineage]] = {}
        self._at: dict[tuple[InstanceRef, str], datetime] = {}
        self._steps: dict[str, str] = {}

    def outcome(self, outcome: Outcome) -> None:
        """Take in what an outcome says about its VM's fault."""
        if outcome.instance is None or outcome.runbook is None:
            return
        key = outcome.instance, outcome.runbook
        tells = outcome.diagnosis is not None or outcome.result in _GONE
        if not tells or outcome.at < self._at.get(key, outcome.at):
            return
        self._at[key] = outcome.at
        if outcome.diagnosis is not None:
            self.found(*key, outcome.diagnosis, outcome.lineage)
        else:
            self._of.pop(key, None)

    def found(self, instance: InstanceRef, runbook: str, diagnosis: Diagnosis, made: Lineage) -> None:
        """Take in the cause for one VM."""
        self.said(instance, runbook, diagnosis.cause, made, diagnosis.next_step)

    def said(self, instance: InstanceRef, runbook: str, cause: str, made: Lineage, step: str = "") -> None:
        """Take in the name of one VM's cause, and what to do about it."""
        self._of[instance, runbook] = cause, made
        self._steps[cause] = step

    def rows(self) -> list[Alike]:
        """Return the groups, those with the most VMs first."""
        vms = defaultdict[tuple[str, Lineage], set[InstanceRef]](set)
        for (instance, _), key in self._of.items():
            vms[key].add(instance)
        return [
            Alike(cause, made, len(found), "; ".join(_steps(self._steps[cause], made, len(found))))
            for (cause, made), found in sorted(vms.items(), key=lambda each: (-len(each[1]), each[0][0]))
        ]


def _steps(step: str, made: Lineage, many: int) -> Iterator[str]:
    if step:
        yield step.replace("{instance}", "PROJECT/ZONE/ID").replace("{vm}", "NAME --zone=ZONE")
    if made.group is not None:
        image = f" (image {made.image})" if made.image else ""
        yield f"once for all: in {made.template or f'the template of {made.group}'}{image}"
    elif many > 1 and made.image:
        yield f"if they are made alike: in the image of {made.image}"

"""VMs by an owner or a label: how many, how many need a person, and how many failed last. Pure."""

from collections import defaultdict
from collections.abc import Mapping

from logmend.model.enums import Result
from logmend.model.state import Subject
from logmend_cli.status.waiting import KEPT


class Shares:
    """VMs by a common value: all, those that need a person, and those that failed last."""

    def __init__(self) -> None:
        self.vms = defaultdict[str | None, tuple[set[int], set[int], set[int]]](lambda: (set(), set(), set()))

    def add(self, value: str | None, subject: Subject, vm: int) -> None:
        """Count a VM once."""
        every, needs_human, failed = self.vms[value]
        every.add(vm)
        if subject.needs_human:
            needs_human.add(vm)
        if subject.last_result is Result.FAILED:
            failed.add(vm)

    def complete(self, every: "Shares") -> None:
        """Count the VMs of ``every`` that have no value here under None."""
        counted = set[int]().union(*(vms for vms, _, _ in self.vms.values()))
        vms, needs_human, failed = (
            set[int]().union(*each) - counted for each in zip(*every.vms.values(), strict=True)
        )
        if vms:
            self.vms[None] = vms, needs_human, failed

    def rows(self, name: str) -> list[Mapping[str, object]]:
        """Return a row for each value, those with the most VMs first."""
        ordered = sorted(self.vms.items(), key=lambda each: -len(each[1][0]))[:KEPT]
        counted = ((value, *map(len, sets)) for value, sets in ordered)
        return [dict(zip((name, "instances", "needs_human", "failed"), row, strict=True)) for row in counted]

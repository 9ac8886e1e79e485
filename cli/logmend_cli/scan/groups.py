"""What a scan found, VM by VM. Pure: it takes entries one at a time and keeps none of their text.

An entry is read as the function reads it. Then the guards are asked once for each form of a VM's entries, by
the newest entry of that form.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from logmend import explain, relay
from logmend.model.enums import Result
from logmend.model.struct import Struct, replace
from logmend.model.values import (
    Delivery,
    Event,
    Incident,
    InstanceFacts,
    InstanceRef,
    Intent,
    Lineage,
    LogEntry,
    Tick,
    Undecodable,
    Verdict,
)
from logmend.runbook import Runbook
from logmend.settings import Policies
from logmend.stages import intake, intents
from logmend.stages.decode import MESSAGE_FIELDS
from logmend.stages.intake import Intake
from logmend_cli.scan.spoken import SpokenCounts

FORMS = 32
"""Most forms that are distinguished for one VM; more (receivers' ids are free text) count as ``other``."""

_UNSENT = Delivery("scanned")
_ID = 120


@dataclass(slots=True)
class Form:
    """One form of a VM's entries: the log, the variant, and the host in the line if it is not the agent's.

    ``turned`` is why the newest entry is turned away; None if the VM would be checked.
    """

    log_path: str
    variant: str | None
    host: str | None
    turned: Verdict | None = None
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    _newest: Intake | None = None
    _intent: Intent | None = None

    @property
    def intent(self) -> Intent:
        """The intent that the newest entry would become, as of its own time."""
        if self._intent is None:
            assert self._newest is not None
            assert not isinstance(self._newest.event, Undecodable)
            self._intent = self._newest.intent(explain.own_time(self._newest.delivery, self._newest.event))
            assert self._intent is not None
        return self._intent

    def stand(self, read: Intake, event: LogEntry | Incident) -> None:
        """Make an entry the newest. Its intent is made on demand, since most entries are not the last."""
        self._newest = Intake(
            read.delivery, intents.bare(event), read.verdict, read.runbook, read.variant, read.instance
        )
        self.turned, self._intent = read.verdict, None

    def meet(self, at: datetime | None) -> bool:
        """Count one more entry; True if it is the newest so far."""
        self.count += 1
        if at is None:
            return self.count == 1
        self.first = at if self.first is None else min(self.first, at)
        newest = self.last is None or at >= self.last
        self.last = at if newest else self.last
        return newest


@dataclass(slots=True)
class Seen:
    """One VM under one runbook."""

    instance: InstanceRef
    runbook: Runbook
    forms: dict[tuple[str, str | None, str | None], Form] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of entries."""
        return sum(form.count for form in self.forms.values())

    @property
    def first(self) -> datetime | None:
        """Time of the oldest entry."""
        return min((form.first for form in self.forms.values() if form.first), default=None)

    @property
    def last(self) -> datetime | None:
        """Time of the newest entry."""
        return max((form.last for form in self.forms.values() if form.last), default=None)


class Scanned(Struct, frozen=True):
    """What would be done to a VM. ``pending`` are guards that lack facts; ``hosts`` are those that it relays.

    ``made`` is what the VM was made from, ``owner`` the value of the label ``LOGMEND_OWNER_LABEL``;
    ``labels`` are all labels of the VM, none if it was not looked up.
    """

    seen: Seen
    verdict: Verdict
    pending: tuple[str, ...]
    forms: tuple[tuple[Form, Verdict], ...]
    name: str | None
    hosts: tuple[str, ...] = ()
    made: Lineage = Lineage()
    owner: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Groups:
    """The scan so far. ``turned_away`` counts entries without a VM and runbook, by result and reason."""

    rules: explain.Rules
    entries: int = 0
    matched: int = 0
    unmatched: int = 0
    ill_formed: Counter[str] = field(default_factory=Counter)
    turned_away: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    spoken: SpokenCounts = field(default_factory=SpokenCounts)
    vms: dict[tuple[InstanceRef, str], Seen] = field(default_factory=dict)

    def add(self, delivery: Delivery | None, event: Event | Undecodable, where: str | None = None) -> None:
        """Take in one item of the input; ``where`` is its place in a file."""
        if isinstance(event, Undecodable):
            self.ill_formed[event.reason] += 1
            return
        self.entries += 1
        if isinstance(event, Tick):
            self.unmatched += 1
            return
        read = intake.read(delivery or _UNSENT, event, lambda: self.rules.router)
        if read.verdict is not None and read.verdict.result is Result.UNMATCHED:
            self.unmatched += 1
            if isinstance(event, LogEntry):
                self.spoken.add(event, read, where, log_path(event))
            return
        self.matched += 1
        if read.runbook is None or read.instance is None:
            assert read.verdict is not None
            self.turned_away[read.verdict.result.value, read.verdict.reason] += 1
        else:
            self._count(read, event, read.runbook, read.instance)

    def passed(self, count: int) -> None:
        """Count entries that no filter selects and that have no runbook's words."""
        self.entries += count
        self.unmatched += count

    def _count(
        self, read: Intake, event: LogEntry | Incident, runbook: Runbook, instance: InstanceRef
    ) -> None:
        variant = read.variant.name if read.variant else None
        seen = self.vms.get((instance, runbook.name))
        if seen is None:
            seen = self.vms[instance, runbook.name] = Seen(instance, runbook)
        key = (log_path(event), variant, relay.host(event) if isinstance(event, LogEntry) else None)
        form = seen.forms.get(key)
        if form is None and len(seen.forms) >= FORMS:
            key = ("other", variant, None)
            form = seen.forms.get(key)
        if form is None:
            form = seen.forms[key] = Form(*key)
        at = explain.own_time(read.delivery, event)
        if form.meet(None if at is explain.NO_TIME else at):
            form.stand(read, event)

    def wanted(self, policies: Policies) -> Iterator[InstanceRef]:
        """Yield the VMs whose facts decide what would be done; for the others, the entries already decide."""
        refs = {
            seen.instance
            for seen in self.vms.values()
            if any(
                form.turned is None
                and explain.foreseen(form.intent, seen.runbook, None, policies.of(seen.runbook.name)).result
                is Result.PLANNED
                for form in seen.forms.values()
            )
        }
        yield from sorted(refs)

    def judged(
        self, facts: Mapping[InstanceRef, InstanceFacts | Verdict], policies: Policies
    ) -> Iterator[Scanned]:
        """Yield what would be done to each VM, in order of VM.

        The function judges each entry by itself: one that lets it check the VM is enough.
        """
        for (ref, _), seen in sorted(self.vms.items(), key=lambda item: item[0]):
            known, settings = facts.get(ref), policies.of(seen.runbook.name)
            forms = sorted(seen.forms.values(), key=lambda form: form.last or explain.NO_TIME, reverse=True)
            told = tuple(
                (form, form.turned or explain.foreseen(form.intent, seen.runbook, known, settings))
                for form in forms
            )
            form, verdict = next((each for each in told if each[1].result is Result.PLANNED), told[0])
            facts_known = known if isinstance(known, InstanceFacts) else None
            hosts, of_hosts = _relayed(forms, facts_known)
            verdict = replace(verdict, detail=relay.joined(verdict.detail, of_hosts))
            guards = explain.judge(form.intent, seen.runbook, facts_known, settings)
            pending = tuple(each.name for each in guards if each.verdict == "pending")
            yield Scanned(
                seen=seen,
                verdict=verdict,
                pending=pending if verdict.result is Result.PLANNED else (),
                forms=told,
                name=facts_known.name if facts_known else None,
                hosts=hosts,
                made=facts_known.lineage if facts_known else Lineage(),
                owner=settings.owner_of(facts_known.labels) if facts_known else None,
                labels=facts_known.labels if facts_known else {},
            )


def _relayed(forms: Sequence[Form], facts: InstanceFacts | None) -> tuple[tuple[str, ...], str]:
    """Return the hosts whose lines a VM relays, and a note; several hosts cannot all be the VM itself."""
    hosts = sorted({form.host for form in forms if form.host})
    shipped_by = next((form.intent.shipped_by for form in forms if form.intent.shipped_by), None)
    name = facts.name if facts else shipped_by
    addresses = (facts.internal_ip, facts.external_ip) if facts else ()
    if name is not None:
        others = tuple(each for each in hosts if relay.note([each], name, addresses))
        return others, relay.note(others, name, addresses)
    if len(hosts) > 1:
        return tuple(hosts), f"its lines name the hosts {', '.join(hosts)}: relayed; at most one is this VM"
    return (), ""


def log_path(event: LogEntry | Incident) -> str:
    """Return the log and the field of an event: ``syslog jsonPayload.message``."""
    if isinstance(event, Incident):
        return "incident"
    payload = event.raw.get("jsonPayload")
    shape = "textPayload" if event.raw.get("textPayload") is not None else "no payload"
    if isinstance(payload, dict):
        shape = next((f"jsonPayload.{key}" for key in MESSAGE_FIELDS if key in payload), "jsonPayload")
    return f"{event.log_id[:_ID]} {shape}"

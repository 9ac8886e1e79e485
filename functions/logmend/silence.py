"""Whether the log fell silent after a fix: a second proof, independent of systemd and of the VM's own word.

A verified fix of a VM whose log was shipping the line writes an intent that waits: :func:`of_fix`. When it is
due, the tick asks Cloud Logging for many at a time (:class:`Listener`): did the line continue, and did
*other* entries of the same log and VM come meanwhile? Silence means something only if they did: a dead
shipper is silent, too. A line that continues proves nothing by itself (a backlog and a forged entry look the
same). The VM is checked again, and only what is seen there counts.

Instead, a runbook may name a sign that a repaired VM sends by itself (``confirmed_by``): it arrived, or it
did not.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from logmend.errors import Permanent, Transient
from logmend.model.enums import Result
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.model.values import InstanceRef, Intent, LogEntry, Outcome, Verdict
from logmend.runbook import Runbook
from logmend.stages import decode, intents, match

PERIODS = 2
PERIOD = timedelta(minutes=30)
"""No runbook's period is taken for shorter: the oldest guest agents repeat the line every half hour."""
SETTLING = timedelta(minutes=1)
"""What was on its way when the fix was verified may still arrive under a time after it."""
INGESTION = timedelta(minutes=5)
"""How long an entry may take until a query finds it."""
PATIENCE = timedelta(days=1)
"""How long reading is tried, over quotas and outages, before the answer is ``silence_unknown``."""
LONGEST = 20_000
"""Characters that the API takes of a filter (cloud.google.com/logging/quotas)."""
TOGETHER = 50
"""VMs of one question at most; fewer where their filter would not fit into what the API takes."""


class Entries(Protocol):
    """Reads log entries; :class:`logmend.adapters.google.log_entries.LogEntries`."""

    def pages(
        self, resources: Sequence[str], where: str, *, newest_first: bool = False
    ) -> AsyncIterator[Sequence[JsonObject]]:
        """Return the entries that a filter selects, page by page, oldest first."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


Span = tuple[datetime, datetime]
"""A time, from its beginning to its end."""


class Watch(Struct, frozen=True):
    """The question about one fix: its VM, its log if that should fall silent, the periods after it."""

    intent_id: str
    instance: InstanceRef
    log_name: str
    runbook: Runbook
    fixed_at: datetime

    @property
    def whole(self) -> Span:
        """From the beginning of the first period to the end of the last."""
        return self.periods[0][0], self.periods[-1][1]

    @property
    def periods(self) -> list[Span]:
        """The periods after the fix, each from its beginning to its end."""
        start, length = self.fixed_at + SETTLING, period(self.runbook)
        return [(start + number * length, start + (number + 1) * length) for number in range(PERIODS)]


def period(runbook: Runbook) -> timedelta:
    """Return how long the source may take to repeat itself."""
    return max(runbook.repeats or PERIOD, PERIOD)


def of_fix(intent: Intent, fixed: Outcome, runbook: Runbook, now: datetime) -> tuple[Intent, datetime] | None:
    """Make the intent that listens after a verified fix, and its due time; None if there is nothing to hear.

    It only ever checks. Its id is the fix's own, so that it is written once.
    """
    if fixed.result is not Result.REMEDIATED:
        return None
    if runbook.confirmed_by is None and (
        intent.source.kind != "log_entry"
        or intent.source.log_name is None
        or runbook.repeats is None
        or runbook.filter is None
    ):
        return None
    return intents.of_silence(intent, now), now + SETTLING + PERIODS * period(runbook) + INGESTION


def watch(intent: Intent, runbooks: Mapping[str, Runbook]) -> Watch | None:
    """Read what an intent listens for; None if its runbook is gone or has nothing to hear any more."""
    runbook, source = runbooks.get(intent.runbook), intent.source
    if runbook is None or source.timestamp is None:
        return None
    if runbook.confirmed_by is None and (runbook.filter is None or source.log_name is None):
        return None
    return Watch(intent.intent_id, intent.instance, source.log_name or "", runbook, source.timestamp)


class Listener(Struct, frozen=True):
    """Listens for many fixes at once."""

    entries: Entries
    router: Callable[[], match.Router]

    async def hear(
        self, intents: Sequence[Intent], runbooks: Mapping[str, Runbook], now: datetime
    ) -> dict[str, Verdict | None]:
        """Return for each intent, by id: None to check the VM, or a verdict with what the log says.

        An intent that is not in the answer could not be asked for now, and waits.
        """
        heard: dict[str, Verdict | None] = {}
        groups = defaultdict[tuple[str, str], list[Watch]](list)
        for intent in intents:
            if (watched := watch(intent, runbooks)) is None:
                heard[intent.intent_id] = _unknown(f"runbook {intent.runbook} has nothing to wait for")
            else:
                groups[watched.instance.project_id, watched.runbook.name].append(watched)
        for (project, _), every in groups.items():
            for together in _fitting(every):
                try:
                    heard |= await self._ask(f"projects/{project}", together)
                except (Transient, Permanent) as error:
                    late = [each for each in together if now >= each.periods[-1][1] + PATIENCE]
                    final = together if isinstance(error, Permanent) else late
                    heard |= {each.intent_id: _unknown(f"{error.reason}: {error.detail}") for each in final}
        return heard

    async def _ask(self, project: str, every: Sequence[Watch]) -> dict[str, Verdict | None]:
        if every[0].runbook.confirmed_by is not None:
            return await self._confirmed(project, every)
        going_on = await self._going_on(project, every)
        alive = [each for each in every if each.intent_id not in going_on]
        for number in range(PERIODS):
            alive = await self._speaking(project, alive, number)
        live = {each.intent_id for each in alive}
        return {
            each.intent_id: None
            if each.intent_id in going_on
            else Verdict(
                Result.SKIPPED,
                "confirmed_silent",
                f"no line since {each.fixed_at:%FT%TZ}, while {each.log_name} went on",
            )
            if each.intent_id in live
            else _unknown(f"{each.log_name} did not have other entries from this VM in every period")
            for each in every
        }

    async def _confirmed(self, project: str, every: Sequence[Watch]) -> dict[str, Verdict | None]:
        """Say whose own sign arrived. If none did, another check of the VM would not tell more."""
        spoke = await self._speaking(project, every)
        live = {each.intent_id for each in spoke}
        return {
            each.intent_id: Verdict(Result.SKIPPED, "confirmed", f"heard since {each.fixed_at:%FT%TZ}")
            if each.intent_id in live
            else Verdict(Result.SKIPPED, "not_confirmed", f"not heard since {each.fixed_at:%FT%TZ}")
            for each in every
        }

    async def _going_on(self, project: str, every: Sequence[Watch]) -> set[str]:
        """Name those whose line came again, in any log of the VM."""
        found, by_id = set[str](), defaultdict[str, list[Watch]](list)
        for each in every:
            by_id[each.instance.instance_id].append(each)
        windows = [_window(each, *each.whole) for each in every]
        where = f"({every[0].runbook.filter})\nAND ({_any(windows)})"
        async for page in self.entries.pages([project], where):
            for raw in page:
                asked, event = by_id[_instance_id(raw)], decode.document(raw)
                if isinstance(event, LogEntry):
                    found |= {each.intent_id for each in asked if self._is_the_line(event, each)}
            if len(found) == len(every):
                break
        return found

    def _is_the_line(self, event: LogEntry, each: Watch) -> bool:
        if not _within(event.timestamp, *each.whole):
            return False  # it is of another fix of the VM
        if event.line_time is not None and event.line_time < each.fixed_at:
            return False  # a backlog: it was said before the fix
        routed = match.runbook(event, self.router())
        return (
            routed.verdict is None and routed.runbook is not None and routed.runbook.name == each.runbook.name
        )

    async def _speaking(self, project: str, every: Sequence[Watch], number: int | None = None) -> list[Watch]:
        """Return those with any entry at all in one period; in any period if none is named.

        One VM may fill a page by itself. VMs that were heard are left out of the next question, so each
        question hears at least one, or is the last.
        """

        def of(each: Watch) -> Span:
            return each.whole if number is None else each.periods[number]

        spoke, left = list[Watch](), list(every)
        by = every[0].runbook.confirmed_by if every else None
        while left:
            where = _any([_spoken(each, *of(each)) for each in left])
            page = await _first(self.entries.pages([project], f"({by})\nAND ({where})" if by else where))
            heard = [(_instance_id(raw), _timestamp(raw)) for raw in page]
            new = [
                each
                for each in left
                if any(vm == each.instance.instance_id and _within(at, *of(each)) for vm, at in heard)
            ]
            if not new:
                break
            spoke += new
            left = [each for each in left if each not in new]
        return spoke


def _fitting(every: Sequence[Watch]) -> Iterator[list[Watch]]:
    """Divide into questions whose filters the API accepts, each containing its runbook's own filter."""
    together, length = list[Watch](), 0
    for each in every:
        needs = len(_any([_spoken(each, *each.whole)])) + 4
        if together and (len(together) == TOGETHER or length + needs > LONGEST):
            yield together
            together = []
        if not together:
            length = len(each.runbook.confirmed_by or each.runbook.filter or "") + 20
        together.append(each)
        length += needs
    if together:
        yield together


def _spoken(each: Watch, start: datetime, end: datetime) -> str:
    log = "" if each.runbook.confirmed_by else f"logName = {_quoted(each.log_name)} AND "
    return f"{log}{_window(each, start, end)}"


def _within(at: datetime | None, start: datetime, end: datetime) -> bool:
    return at is None or start <= at < end


def _timestamp(raw: JsonObject) -> datetime | None:
    event = decode.document(raw)
    return event.timestamp if isinstance(event, LogEntry) else None


def _unknown(why: str) -> Verdict:
    return Verdict(Result.SKIPPED, "silence_unknown", why)


def _any(windows: Sequence[str]) -> str:
    return "\nOR ".join(f"({each})" for each in windows)


def _window(each: Watch, start: datetime, end: datetime) -> str:
    return (
        f'resource.type = "gce_instance" AND resource.labels.instance_id = "{each.instance.instance_id}"'
        f' AND timestamp >= "{_time(start)}" AND timestamp < "{_time(end)}"'
    )


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _quoted(name: str) -> str:
    """Quote a log's name for a filter: it came with an event, whose author may have chosen it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _instance_id(raw: JsonObject) -> str:
    resource = raw.get("resource")
    labels = resource.get("labels") if isinstance(resource, dict) else None
    return str(labels.get("instance_id", "")) if isinstance(labels, dict) else ""


async def _first(pages: AsyncIterator[Sequence[JsonObject]]) -> Sequence[JsonObject]:
    async for page in pages:
        if page:
            return page
    return ()

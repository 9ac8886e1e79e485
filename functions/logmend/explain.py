"""What an event would do and why, without doing it: the pipeline's own stages, without any ports.

The stages decide, in the order of :mod:`logmend.pipeline`; here their answers are kept instead of obeyed,
which also shows what comes after the first reason. What only the ledger or the VM knows (cooldowns, budgets,
freezes, the live check) is not judged.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from logmend import lql, relay
from logmend.errors import ConfigError
from logmend.guards import Answer, Passed, Pending
from logmend.model.enums import Action, Result
from logmend.model.state import Fleet, Subject, View
from logmend.model.struct import Struct, replace
from logmend.model.values import (
    Delivery,
    Event,
    Incident,
    InstanceFacts,
    InstanceRef,
    Intent,
    LogEntry,
    Tick,
    Undecodable,
    Verdict,
)
from logmend.runbook import Runbook, Variant
from logmend.settings import ExecutorChoice, Policies, Settings
from logmend.stages import decide, intake, intents, match

NO_TIME = datetime.fromtimestamp(0, UTC)
"""As of when an event is judged that tells no time: nothing is older than that, so nothing is stale."""

_UNSENT = Delivery("explained")


class Rules(Struct, frozen=True):
    """What events are judged by. Made once by :meth:`of` for any number of events."""

    policies: Policies
    router: match.Router
    filters: tuple[tuple[Runbook, lql.Filter], ...]

    @classmethod
    def of(cls, runbooks: Mapping[str, Runbook], settings: Settings | Policies) -> "Rules":
        """Compile the runbooks' filters; ConfigError for an invalid one. Settings hold for every runbook."""
        compiled = [(each, _compiled(each)) for each in runbooks.values() if each.filter is not None]
        policies = settings if isinstance(settings, Policies) else Policies(settings)
        return cls(policies, match.Router(runbooks), tuple(compiled))


class GuardVerdict(Struct, frozen=True):
    """What one guard says about the VM."""

    name: str
    verdict: Literal["pass", "fail", "pending"]
    why: str


class Explanation(Struct, frozen=True):
    """What would become of an event.

    ``verdict`` is None for a tick; ``planned`` means that nothing known forbids acting. ``selects`` is the
    filter of ``runbook``; if no runbook is meant, of ``closest``, of whose conditions most hold.
    ``at`` is when it was judged; None if the event never came to have an age. ``spoken`` is set if an
    entry has a runbook's words and no filter selects it.
    """

    event: Event | Undecodable
    delivery: Delivery
    verdict: Verdict | None
    runbook: Runbook | None = None
    variant: Variant | None = None
    instance: InstanceRef | None = None
    closest: Runbook | None = None
    selects: lql.Filter | None = None
    guards: tuple[GuardVerdict, ...] = ()
    action: Action | None = None
    executor: str | None = None
    at: datetime | None = None
    spoken: match.Spoken | None = None

    @property
    def result(self) -> Result | None:
        """The result, None for a tick."""
        return self.verdict.result if self.verdict else None

    @property
    def conditions(self) -> tuple[lql.Clause, ...]:
        """The filter's conditions, each with whether it holds; none if there is no log entry or filter."""
        if self.selects is None or not isinstance(self.event, LogEntry):
            return ()
        return tuple(self.selects.explain(self.event.raw))

    @property
    def pending(self) -> tuple[str, ...]:
        """Names of the guards that lack facts."""
        return tuple(each.name for each in self.guards if each.verdict == "pending")


def event(
    delivery: Delivery | None,
    event: Event | Undecodable,
    rules: Rules,
    facts: InstanceFacts | Verdict | None = None,
    now: datetime | None = None,
) -> Explanation:
    """Explain one event.

    ``facts`` are those of the VM that the event names, a verdict if the look-up ended in one, or None if it
    was not looked up. ``now`` is the time to judge at; None is the event's own time.
    """
    delivery = delivery or _UNSENT
    if isinstance(event, Undecodable):
        return Explanation(event, delivery, Verdict(Result.REJECTED, event.reason, event.detail))
    if isinstance(event, Tick):
        return Explanation(event, delivery, None)
    read = intake.read(delivery, event, lambda: rules.router)
    if read.verdict is not None and read.verdict.result is Result.UNMATCHED:
        closest, selects = _closest(event, rules)
        return Explanation(
            event,
            delivery,
            read.verdict,
            instance=read.instance,
            closest=closest,
            selects=selects,
            spoken=read.spoken,
        )
    at = now or own_time(delivery, event)
    intent, runbook, verdict = read.intent(at), read.runbook, read.verdict
    settings = rules.policies.of(runbook.name if runbook else None)
    guards: tuple[GuardVerdict, ...] = ()
    if intent is not None and runbook is not None:
        guards = judge(intent, runbook, facts, settings)
        verdict = verdict or foreseen(intent, runbook, facts, settings)
        relayed = relay.of_intent(intent, facts if isinstance(facts, InstanceFacts) else None)
        verdict = replace(verdict, detail=relay.joined(verdict.detail, relayed))
    planned = intent if verdict and verdict.result is Result.PLANNED else None
    return Explanation(
        event=event,
        delivery=delivery,
        verdict=verdict,
        runbook=runbook,
        variant=read.variant,
        instance=read.instance,
        selects=next((by for each, by in rules.filters if each is runbook), None),
        guards=guards,
        action=planned.action if planned else None,
        executor=executor(facts, settings, runbook) if planned and runbook else None,
        at=at if intent else None,
    )


def own_time(delivery: Delivery, event: LogEntry | Incident) -> datetime:
    """Return when an event happened: by the entry, the message or the line, whichever has a time."""
    line_time = event.line_time if isinstance(event, LogEntry) else None
    return intents.own_time(event) or delivery.publish_time or line_time or NO_TIME


def foreseen(
    intent: Intent, runbook: Runbook, facts: InstanceFacts | Verdict | None, settings: Settings
) -> Verdict:
    """Ask what the pipeline asks of an intent, with an empty ledger, up to the live check."""
    if (no := decide.event(intent, runbook, settings)) is not None:
        return no
    empty = View(None, Subject(intent.instance, intent.runbook), Fleet())
    admitted = decide.admission(intent, empty, settings, intent.created_at)
    if admitted is not None:
        return admitted
    if isinstance(facts, Verdict):
        return facts
    for judged in decide.judge_guards(intent, runbook, facts, settings):
        if isinstance(judged.answer, Verdict):
            return judged.answer
    return decide.outside(intent, settings, intent.created_at, facts) or Verdict(Result.PLANNED)


def judge(
    intent: Intent, runbook: Runbook, facts: InstanceFacts | Verdict | None, settings: Settings
) -> tuple[GuardVerdict, ...]:
    """Ask every guard of the runbook; those that lack facts are pending."""
    seen = facts if isinstance(facts, InstanceFacts) else None
    return tuple(
        _guard(each.guard, each.answer) for each in decide.judge_guards(intent, runbook, seen, settings)
    )


def executor(facts: InstanceFacts | Verdict | None, settings: Settings, runbook: Runbook) -> str | None:
    """Name the executors that would be tried, in order; ``auto`` if that depends on facts, None for none."""
    if settings.executor is ExecutorChoice.OSCONFIG and runbook.ssh_only:
        return None
    seen = facts if isinstance(facts, InstanceFacts) else None
    answered = seen and (seen.project_metadata is not None or seen.effective("enable-osconfig"))
    if settings.executor is not ExecutorChoice.AUTO or seen is None or not answered:
        return settings.executor.value
    return ", else ".join(decide.executors(seen, settings)) or None


def document(explained: Explanation) -> dict[str, object]:
    """Return the JSON document of an explanation: every key always there, null if it does not apply."""
    verdict, instance, variant = explained.verdict, explained.instance, explained.variant
    return {
        "event": kind(explained.event),
        "runbook": explained.runbook.name if explained.runbook else None,
        "variant": variant.name if variant else None,
        "instance": {
            "project_id": instance.project_id,
            "zone": instance.zone,
            "instance_id": instance.instance_id,
        }
        if instance
        else None,
        "result": verdict.result.value if verdict else None,
        "reason": verdict.reason if verdict else None,
        "pending_guards": list(explained.pending),
        "conditions": [{"condition": each.text, "holds": each.holds} for each in explained.conditions],
        "guards": [
            {"guard": each.name, "verdict": each.verdict, "why": each.why} for each in explained.guards
        ],
        "action": explained.action.value if explained.action else None,
        "executor": explained.executor,
    }


def kind(event: Event | Undecodable) -> str:
    """Name an event's kind: ``log_entry``, ``incident``, ``tick`` or ``unknown``."""
    match event:
        case LogEntry():
            return "log_entry"
        case Incident():
            return "incident"
        case Tick():
            return "tick"
        case Undecodable():
            return "unknown"


def _compiled(runbook: Runbook) -> lql.Filter:
    try:
        return lql.compile(runbook.filter or "")
    except lql.FilterError as error:
        raise ConfigError([f"runbook {runbook.name}: filter: {error}"]) from error


def _guard(name: str, answer: Answer) -> GuardVerdict:
    match answer:
        case Passed(why):
            return GuardVerdict(name, "pass", why)
        case Pending(why):
            return GuardVerdict(name, "pending", why)
        case Verdict():
            return GuardVerdict(name, "fail", answer.detail)


def _closest(event: LogEntry | Incident, rules: Rules) -> tuple[Runbook | None, lql.Filter | None]:
    """Return the runbook of which the largest share of conditions holds; the first of several."""
    if not isinstance(event, LogEntry) or not rules.filters:
        return None, None
    if len(rules.filters) == 1:
        return rules.filters[0]
    return max(rules.filters, key=lambda each: _share(each[1].explain(event.raw)))


def _share(conditions: list[lql.Clause]) -> float:
    return sum(each.holds for each in conditions) / max(len(conditions), 1)

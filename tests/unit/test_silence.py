"""After a verified fix: what Cloud Logging says of the line, and what is made of it."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fakes import REF, World, entry, incident, push, world
from tests.unit.test_cause import ordered

from logmend import lql
from logmend.errors import Permanent, Transient
from logmend.lql.syntax import MAX_CHARACTERS
from logmend.model.enums import Action, Mode, Origin, Result
from logmend.model.struct import replace
from logmend.model.values import Evidence, InstanceRef, Intent, LogEntry, Source
from logmend.outcome import document
from logmend.settings import Budget
from logmend.silence import INGESTION, LONGEST, PATIENCE, PERIOD, PERIODS, SETTLING
from logmend.stages import decode, intents

AFTER = (SETTLING + PERIODS * PERIOD + INGESTION).total_seconds()


class Log:
    """Cloud Logging over a list of entries: evaluates each filter that it is asked, gives small pages."""

    def __init__(self, page: int = 2) -> None:
        self.kept: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.trouble: Exception | None = None
        self._page = page

    def add(self, at: datetime, text: str = "cron[7]: (root) CMD (true)", ref: InstanceRef = REF) -> None:
        self.kept.append(entry(ref, at=at) | {"jsonPayload": {"message": f"Mar  1 12:00:00 vm {text}"}})

    async def pages(
        self, resources: Sequence[str], where: str, *, newest_first: bool = False
    ) -> AsyncIterator[Sequence[dict[str, Any]]]:
        self.asked.append(where)
        if self.trouble is not None:
            raise self.trouble
        wanted = lql.compile(where)
        found = [
            each
            for each in self.kept
            if any(each["logName"].startswith(f"{resource}/") for resource in resources)
            if wanted.matches(each)
        ]
        for start in range(0, max(len(found), 1), self._page):
            yield sorted(found, key=lambda each: str(each["timestamp"]))[start : start + self._page]

    async def aclose(self) -> None:
        return


LINE = entry()["jsonPayload"]["message"].partition("vm ")[2]


async def fixed(log: Log, **settings: Any) -> tuple[World, datetime]:
    """Give a world in which one VM was fixed just now, and when."""
    w = world(log=log, mode=Mode.ENFORCE, confirm_silence=True, **settings)
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    return w, w.clock.now()


async def heard(w: World) -> list[str]:
    """Let the periods pass and the tick run; give what it said."""
    before = len(w.outcomes.written)
    w.clock.tick(seconds=AFTER)
    await w.ticker.run()
    return w.outcomes.results[before:]


async def test_silence_counts_while_the_same_log_goes_on() -> None:
    """Other entries of that log and VM in both periods, and no line: a second proof, without a login."""
    log = Log()
    w, at = await fixed(log)
    log.add(at - timedelta(minutes=1), LINE)  # what was said before the fix
    log.add(at + timedelta(minutes=10))
    log.add(at + timedelta(minutes=50))
    opened = w.fleet.opened
    assert await heard(w) == ["skipped:confirmed_silent"]
    assert w.fleet.opened == opened
    assert await heard(w) == [], "it is asked once"


@pytest.mark.parametrize("minutes", [[], [10], [50], [10, 20]])
async def test_a_log_that_is_silent_altogether_proves_nothing(minutes: list[int]) -> None:
    """A dead shipper is silent, too: where one period brought nothing of the VM, nobody knows."""
    log = Log()
    w, at = await fixed(log)
    for each in minutes:
        log.add(at + timedelta(minutes=each))
    assert await heard(w) == ["skipped:silence_unknown"]


async def test_each_fix_of_a_vm_has_its_own_window() -> None:
    """A line between two fixes is told of the first alone, if the tick asks for both at once."""
    log = Log()
    w, first = await fixed(log, cooldown_remediated=timedelta())
    w.clock.tick(minutes=20)
    again = w.clock.now()
    log.add(again, LINE)
    w.fleet.vms[REF.instance_id].faulty = True
    w.clock.tick(minutes=1)
    assert (await w.deliver(push(entry(at=again), "2", at=again))).result is Result.REMEDIATED
    for minutes in (10, 30, 50, 70):
        log.add(first + timedelta(minutes=minutes))
    await heard(w)
    w.clock.tick(minutes=20)
    await w.ticker.run()
    said = {each.intent_id: each.reason or each.result for each in w.outcomes.written}
    assert (said["s-m-1"], said["s-m-2"]) == (Result.NOTHING_TO_DO, "confirmed_silent")


async def test_what_other_vms_and_logs_say_proves_nothing_of_this_one() -> None:
    """The neighbour's entries, and the VM's own in another log, are not that log and VM."""
    log = Log()
    w, at = await fixed(log)
    for each in (10, 50):
        log.add(at + timedelta(minutes=each), ref=InstanceRef(REF.project_id, REF.zone, "42"))
        log.add(at + timedelta(minutes=each))
        log.kept[-1]["logName"] = f"projects/{REF.project_id}/logs/other"
    assert await heard(w) == ["skipped:silence_unknown"]


async def test_a_line_that_goes_on_is_only_an_alarm_where_the_vm_shows_the_fault() -> None:
    """The VM is looked at afresh, changed by nobody, and the outcome is the loudest that there is."""
    log = Log()
    w, at = await fixed(log)
    log.add(at + timedelta(minutes=20), LINE)
    w.fleet.vms[REF.instance_id].faulty = True
    enforcements = w.fleet.vms[REF.instance_id].enforcements
    assert await heard(w) == ["failed:line_goes_on"]
    assert w.fleet.vms[REF.instance_id].enforcements == enforcements
    last = w.outcomes.written[-1]
    assert document.severity(last) == "CRITICAL"
    assert isinstance(last.before, Evidence)
    assert "fixed and verified at 2026-03-01" in last.detail
    others = {document.severity(each) for each in w.outcomes.written[:-1]}
    assert "CRITICAL" not in others


async def test_a_line_that_goes_on_over_a_mended_vm_is_no_alarm() -> None:
    """A backlog or a forged entry says the line, too: the check on the VM has the last word."""
    log = Log()
    w, at = await fixed(log)
    log.add(at + timedelta(minutes=20), LINE)
    assert await heard(w) == ["nothing_to_do"]


async def test_nothing_comes_after_what_only_listens() -> None:
    """The runbook that let another go first comes again after its fix, and not once more after the line."""
    log = Log()
    w = world(log=log, mode=Mode.ENFORCE, confirm_silence=True, follow_up=True)
    books = w.pipeline.runbooks
    first = replace(books["apt-source-gone"], repeats=PERIOD)
    w.pipeline = replace(w.pipeline, runbooks={**books, first.name: first})
    ordered(w, {"workload-cert-refresh": first.name})
    assert (await w.deliver(push(entry(), "9"))).reason == "goes_first"
    await w.ticker.run()
    gone = "https://packages.cloud.google.com/apt google-cloud-monitoring-buster-all Release"
    line = f"E: The repository '{gone}' does not have a Release file."
    log.add(w.clock.now() + timedelta(minutes=20), f"google_metadata_script_runner: startup-script: {line}")
    for _ in range(3):
        await heard(w)
    assert {each.intent_id: str(each.result) for each in w.outcomes.written if each.final} == {
        "m-9": "skipped",
        "f-m-9": "remediated",
        "f-f-m-9": "nothing_to_do",
        "s-f-m-9": "nothing_to_do",
    }


def test_an_intent_that_listens_belongs_to_no_chain() -> None:
    """It knows neither whom it went before nor who went before it."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    fix = Intent("f-m-9", "a", Action.ENFORCE, REF, Origin.FOLLOW_UP, Source("log_entry"), at)
    listening = intents.of_silence(replace(fix, back_to=("b",), gone_first=("a",)), at)
    assert (listening.intent_id, listening.back_to, listening.gone_first) == ("s-f-m-9", (), ())


async def test_a_line_that_was_written_before_the_fix_and_came_late_does_not_count() -> None:
    """Where the line's own time has a zone, a backlog is seen for what it is, without a login."""
    log = Log()
    w, at = await fixed(log)
    for each in (10, 50):
        log.add(at + timedelta(minutes=each))
        old = (at - timedelta(days=1)).isoformat()
        log.add(at + timedelta(minutes=each))
        log.kept[-1]["jsonPayload"] = {"message": f"{old} vm {LINE}"}
        assert isinstance(decode.document(log.kept[-1]), LogEntry)
    assert await heard(w) == ["skipped:confirmed_silent"]


async def test_after_a_revert_the_line_is_wanted() -> None:
    """Whoever gave the timer back gets no alarm for it."""
    log = Log()
    w, at = await fixed(log)
    log.add(at + timedelta(minutes=20), LINE)
    back = Intent(
        "o-1",
        "workload-cert-refresh",
        Action.REVERT,
        REF,
        Origin.OPERATOR,
        Source("operator"),
        w.clock.now(),
        requested_by="sre@example.com",
    )
    await w.pipeline.work(back)
    w.fleet.vms[REF.instance_id].faulty = True
    assert await heard(w) == ["skipped:reverted"]


async def test_a_chatty_vm_hides_no_other() -> None:
    """Many VMs are asked for at once; one that fills page after page is left out of the next question."""
    log = Log(page=5)
    w = world(
        log=log, mode=Mode.ENFORCE, confirm_silence=True, disruption_budget=Budget(100, timedelta(minutes=10))
    )
    refs = [InstanceRef(REF.project_id, REF.zone, str(9000 + number)) for number in range(30)]
    for number, ref in enumerate(refs):
        w.fleet.add(ref)
        assert (await w.deliver(push(entry(ref), str(number)))).result is Result.REMEDIATED
    at = w.clock.now()
    for minute in range(2, 60):
        log.add(at + timedelta(minutes=minute), ref=refs[0])
    for ref in refs[1:20]:
        log.add(at + timedelta(minutes=20), ref=ref)
        log.add(at + timedelta(minutes=40), ref=ref)
    log.asked.clear()
    said = await heard(w)
    assert (said.count("skipped:confirmed_silent"), said.count("skipped:silence_unknown")) == (20, 10)
    assert len(log.asked) < len(refs)


async def test_long_names_of_logs_are_asked_for_in_more_questions() -> None:
    """No question is longer than the API takes: it would be refused for every VM in it."""
    assert LONGEST == MAX_CHARACTERS
    log = Log(page=100)
    w = world(
        log=log, mode=Mode.ENFORCE, confirm_silence=True, disruption_budget=Budget(100, timedelta(hours=1))
    )
    name = f"projects/{REF.project_id}/logs/{'x' * 400}"
    for number in range(40):
        ref = InstanceRef(REF.project_id, REF.zone, str(9000 + number))
        w.fleet.add(ref)
        assert (await w.deliver(push(entry(ref, logName=name), str(number)))).result is Result.REMEDIATED
        for minutes in (10, 50):
            log.add(w.clock.now() + timedelta(minutes=minutes), ref=ref)
            log.kept[-1]["logName"] = name
    assert await heard(w) == ["skipped:confirmed_silent"] * 40
    assert max(map(len, log.asked)) <= LONGEST


async def test_a_quota_makes_it_wait_and_a_refusal_ends_it() -> None:
    """What cannot be read now is asked again by the next tick, for a day; a no is an answer at once."""
    log = Log()
    w, _ = await fixed(log)
    log.trouble = Transient("rate_limited", "60 a minute")
    assert await heard(w) == []
    w.clock.tick(seconds=PATIENCE.total_seconds())
    assert await heard(w) == ["skipped:silence_unknown"]
    assert "rate_limited: 60 a minute" in w.outcomes.written[-1].detail
    refused, _ = await fixed(log := Log())
    log.trouble = Permanent("not_permitted", "needs logging.logEntries.list")
    assert await heard(refused) == ["skipped:silence_unknown"]
    assert "logging.logEntries.list" in refused.outcomes.written[-1].detail


async def test_without_the_setting_no_log_is_read_and_nothing_waits() -> None:
    """Reading logs is opt-in; turned off meanwhile, what waits ends and says so."""
    w = world(mode=Mode.ENFORCE)
    assert (await w.deliver(push(entry()))).result is Result.REMEDIATED
    assert await heard(w) == []
    on, _ = await fixed(Log())
    off = world(store=on.store, fleet=on.fleet, clock=on.clock, mode=Mode.ENFORCE)
    assert await heard(off) == ["skipped:silence_unknown"]


async def test_a_vm_that_does_not_answer_is_looked_at_again() -> None:
    """The log is not asked twice: a line that went on stays heard until the VM was seen."""
    log = Log()
    w, at = await fixed(log)
    log.add(at + timedelta(minutes=20), LINE)
    w.fleet.vms[REF.instance_id].faulty = True
    w.fleet.on_open = [Transient("unreachable", "no answer")]
    assert "failed:line_goes_on" not in await heard(w)
    log.kept.clear()
    assert await heard(w) == ["failed:line_goes_on"]


# What a repaired VM says by itself


def said(at: datetime, code: str = "LogPingOpsAgent", ref: InstanceRef = REF) -> dict[str, Any]:
    """Give an entry of the Ops Agent's health log, with the fields that it has."""
    document = entry(ref, at=at) | {"jsonPayload": {"code": code}, "severity": "DEBUG"}
    return document | {"logName": f"projects/{ref.project_id}/logs/ops-agent-health"}


async def repaired(log: Log) -> tuple[World, datetime]:
    """Give a world in which an incident had the Ops Agent repaired just now, and when."""
    w = world(log=log, mode=Mode.ENFORCE, confirm_silence=True)
    asked = incident(policy_user_labels={"logmend-runbook": "ops-agent"})
    assert (await w.deliver(push(asked))).result is Result.REMEDIATED
    return w, w.clock.now()


async def test_an_agents_own_ping_after_its_repair_is_the_proof_from_end_to_end() -> None:
    """No line led to the repair, and none has to stop: the agent's logs arrive. Nobody logs in for it."""
    log = Log()
    w, at = await repaired(log)
    log.kept.append(said(at + timedelta(minutes=11)))
    opened = w.fleet.opened
    assert await heard(w) == ["skipped:confirmed"]
    assert (w.fleet.opened, len(log.asked)) == (opened, 1)
    assert await heard(w) == [], "it is asked once"


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(lambda at: said(at - timedelta(minutes=1)), id="before the repair"),
        pytest.param(lambda at: said(at + timedelta(minutes=11), "MonApiScopeErr"), id="another code"),
        pytest.param(
            lambda at: said(at + timedelta(minutes=11), ref=InstanceRef(REF.project_id, REF.zone, "42")),
            id="another VM",
        ),
    ],
)
async def test_what_is_no_ping_of_this_vm_since_proves_nothing(
    kept: Callable[[datetime], dict[str, Any]],
) -> None:
    """The check on the VM still holds, and the outcome says that the proof did not come."""
    log = Log()
    w, at = await repaired(log)
    log.kept.append(kept(at))
    assert await heard(w) == ["skipped:not_confirmed"]


async def test_a_ping_counts_for_the_repair_that_it_followed() -> None:
    """Two repairs of one VM, asked for together: what came after the first is no proof of the second."""
    log = Log()
    w, at = await repaired(log)
    log.kept.append(said(at + timedelta(minutes=11)))
    w.clock.tick(seconds=timedelta(hours=2).total_seconds())
    w.fleet.vms[REF.instance_id].faulty = True
    again = incident(
        incident_id="inc-2",
        started_at=int(w.clock.now().timestamp()),
        policy_user_labels={"logmend-runbook": "ops-agent"},
    )
    assert (await w.deliver(push(again, "2", at=w.clock.now()))).result is Result.REMEDIATED
    assert sorted(await heard(w)) == ["skipped:confirmed", "skipped:not_confirmed"]

"""The file that says which runbooks are on, and how: read strictly, and in force wherever one decides."""

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import REF, START, FakeAgentFleet, ManualClock, World, entry, incident, push, world
from tests.unit.test_pipeline import ENFORCE, operator

from logmend import catalog, wiring
from logmend.errors import ConfigError
from logmend.model.enums import Action, Mode, Result
from logmend.model.state import By
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts, Outcome
from logmend.runbook import BUILT_IN
from logmend.runbook.configuration import COOLDOWNS, FIELDS, SCOPE, TIMES
from logmend.settings import Budget, ExecutorChoice, Settings
from logmend.stages import decide

RUNBOOK = "workload-cert-refresh"


def configured(folder: Path, text: str, **settings: Any) -> catalog.Catalog:
    """Read a configuration of this text."""
    (folder / "logmend.yaml").write_text(text)
    return catalog.read_all(Settings(runbooks=folder / "logmend.yaml", **settings))


def problems(folder: Path, text: str, **settings: Any) -> list[str]:
    """Give what is wrong with a configuration, without the folder's path."""
    with pytest.raises(ConfigError) as error:
        configured(folder, text, **settings)
    return [each.replace(f"{folder}/", "") for each in error.value.problems]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Give a folder with one own runbook, ``mine``."""
    shutil.copytree(BUILT_IN / RUNBOOK, tmp_path / "own/mine")
    path = tmp_path / "own/mine/runbook.yaml"
    path.write_text(path.read_text().replace(f"name: {RUNBOOK}", "name: mine"))
    return tmp_path


# Which are on


def test_an_empty_file_says_what_no_file_says(tmp_path: Path) -> None:
    """The built-in ones that are on by default."""
    found = configured(tmp_path, "{}")
    assert set(found.runbooks) == set(catalog.load(Settings())) == catalog.ON
    assert found.policies.of(RUNBOOK) == found.policies.general


def test_own_runbooks_are_beside_the_built_in_ones_and_each_can_be_turned_off(own: Path) -> None:
    """On unless one says otherwise; what is off is known, and loaded by nobody."""
    text = "folders: [own]\n"
    assert set(configured(own, text).runbooks) == {*catalog.ON, "mine"}
    less = configured(own, text + "runbooks: {mine: {enabled: false}, ops-agent: {enabled: false}}")
    assert set(less.runbooks) == {RUNBOOK}
    assert {"mine", "ops-agent"} <= set(less.folders)


def test_a_runbook_that_wants_more_than_logmend_is_ever_granted_is_refused(own: Path) -> None:
    """Its file never widens the function's role, whoever reads it; one that is off asks for nothing."""
    path = own / "own/mine/runbook.yaml"
    path.write_text(path.read_text().replace("compute.instances.get", "compute.instances.delete"))
    (said,) = problems(own, "folders: [own]\n")
    assert said.startswith("own/mine/runbook.yaml: logmend is never granted compute.instances.delete")
    assert "mine" not in configured(own, "folders: [own]\nrunbooks: {mine: {enabled: false}}").runbooks


def test_nothing_follows_that_is_off(tmp_path: Path) -> None:
    """A runbook whose follow-up is off goes on without it."""
    assert configured(tmp_path, "{}").runbooks[RUNBOOK].follow_up == "ops-agent"
    less = configured(tmp_path, "runbooks: {ops-agent: {enabled: false}}")
    assert less.runbooks[RUNBOOK].follow_up is None


def test_nothing_goes_first_that_is_off(tmp_path: Path) -> None:
    """Of the runbooks that remediate what stops another, those that are on."""
    assert configured(tmp_path, "{}").runbooks["ops-agent"].goes_first == frozenset()
    more = configured(tmp_path, "runbooks: {apt-source-gone: {enabled: true}}")
    assert more.runbooks["ops-agent"].goes_first == {"apt-source-gone"}


def test_a_name_that_is_there_twice_is_an_error_unless_one_says_that_it_replaces(own: Path) -> None:
    """The built-in runbook is never shadowed by accident, nor one folder by another."""
    shutil.copytree(BUILT_IN / RUNBOOK, own / "own" / RUNBOOK)
    script = own / "own" / RUNBOOK / "validate.sh"
    script.write_text(script.read_text() + "# mine\n")
    (said,) = problems(own, "folders: [own]")
    assert "is a built-in runbook; say runbooks.workload-cert-refresh.replaces: true" in said
    text = f"folders: [own]\nrunbooks: {{{RUNBOOK}: {{replaces: true}}}}"
    found = configured(own, text)
    assert found.runbooks[RUNBOOK].scripts.validate.endswith("# mine\n")
    shutil.copytree(own / "own/mine", own / "other/mine")
    assert "mine is in own too" in " ".join(problems(own, text.replace("[own]", "[own, other]")))
    assert problems(own, "folders: [own]\nrunbooks: {mine: {replaces: true}}")[0].endswith(
        "no other runbook of that name"
    )


def test_everything_that_is_wrong_is_said_at_once_each_with_its_place(tmp_path: Path) -> None:
    """Unknown keys with a suggestion, values by the parsers of the environment, names, folders."""
    text = """folder: [x]
folders: [nowhere]
runbooks:
  workload-cert-refesh: {mode: enforce}
  ops-agent:
    moed: observe
    mode: enforced
    enabled: yes please
    executor: osconfig
    disruption_budget: twenty
    cooldowns: {remedied: 4h, failed: soon}
    scope: {projects: [shop_prod], zone: [x]}
    parameters: {settle: 90}
"""
    said = "\n".join(problems(tmp_path, text))
    for words in (
        "logmend.yaml:1: unknown key folder; did you mean folders?",
        "nowhere: no runbooks here",
        "runbooks.workload-cert-refesh: no such runbook; did you mean workload-cert-refresh?",
        "logmend.yaml:6: unknown key runbooks.ops-agent.moed; did you mean mode?",
        "logmend.yaml:7: runbooks.ops-agent.mode: expected one of observe, approve, enforce",
        "logmend.yaml:8: runbooks.ops-agent.enabled: expected true or false, found 'yes please'",
        "runbooks.ops-agent.executor: ops-agent runs over SSH only: validate.sh has",
        "logmend.yaml:10: runbooks.ops-agent.disruption_budget: expected COUNT/DURATION",
        "logmend.yaml:11: unknown key runbooks.ops-agent.cooldowns.remedied; did you mean remediated?",
        "logmend.yaml:11: runbooks.ops-agent.cooldowns.failed: expected a duration",
        "logmend.yaml:12: runbooks.ops-agent.scope.projects: part 1 of the list: expected a project id",
        "logmend.yaml:12: unknown key runbooks.ops-agent.scope.zone; did you mean zones?",
        "logmend.yaml:13: runbooks.ops-agent.parameters.settle: expected text, in quotes if it is a number",
    ):
        assert words in said


@pytest.mark.parametrize(
    "text", ["[]", "folders: own", "runbooks: [x]", "runbooks: {mine: on}", "a: &a [*a]"]
)
def test_a_file_of_another_shape_is_told_and_not_guessed(tmp_path: Path, text: str) -> None:
    """Never an exception of another kind."""
    assert problems(tmp_path, text)


# What is in force


def test_a_runbooks_mode_is_at_most_the_functions(tmp_path: Path) -> None:
    """Lowering the function's mode lowers all of them at once, whatever the file says."""
    text = f"runbooks: {{{RUNBOOK}: {{mode: approve}}, ops-agent: {{mode: enforce}}}}"
    for ceiling, expected in (
        (Mode.OBSERVE, [Mode.OBSERVE, Mode.OBSERVE]),
        (Mode.APPROVE, [Mode.APPROVE, Mode.APPROVE]),
        (Mode.ENFORCE, [Mode.APPROVE, Mode.ENFORCE]),
    ):
        found = configured(tmp_path, text, mode=ceiling).policies
        assert [found.of(RUNBOOK).mode, found.of("ops-agent").mode] == expected


Scenario = Callable[[World], Awaitable[Any]]


async def line(w: World) -> None:
    """Deliver a line, twice."""
    await w.deliver(push(entry()))
    await w.deliver(push(entry(), "2"))


async def told(w: World) -> None:
    """Deliver an incident, and run the tick after it."""
    await w.deliver(push(incident()))
    w.clock.tick(hours=2)
    await w.ticker.run()


async def order(w: World) -> None:
    """Work on a person's order, and on its revert."""
    await w.pipeline.work(operator())
    await w.pipeline.work(operator(Action.REVERT, "o-2"))


async def waiting(w: World) -> None:
    """Write an order into the ledger, and let the tick take it up."""
    await w.journal.write(operator(), w.clock.now())
    await w.ticker.run()


async def approval(w: World) -> None:
    """Approve the plan, if one waits, and run the tick."""
    planned = await w.deliver(push(entry()))
    if planned.approval_id:
        await w.controls.approve(planned.approval_id, By("sre", w.clock.now()))
    await w.ticker.run()


async def broken(w: World) -> None:
    """Fail until the breaker or a person would be asked."""
    w.fleet.vms[REF.instance_id].fix_works = False
    for number in range(4):
        at = w.clock.now()
        await w.deliver(push(entry(at=at), f"b{number}", at=at))
        w.clock.tick(days=2)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("scenario", [line, told, order, waiting, approval, broken])
@pytest.mark.parametrize("agents", [False, True], ids=["ssh", "osconfig"])
async def test_a_runbooks_own_mode_does_all_that_the_functions_would(
    mode: Mode, scenario: Scenario, *, agents: bool
) -> None:
    """Whatever reads the mode reads the runbook's: as a function in that mode, to the outcome."""

    async def run(**settings: Any) -> tuple[list[tuple[Any, ...]], int, int]:
        clock = ManualClock()
        fleet = FakeAgentFleet(clock) if agents else None
        w = world(clock=clock, fleet=fleet, **settings)
        await scenario(w)
        vm = w.fleet.vms[REF.instance_id]
        said = [(each.result, each.reason, each.mode) for each in w.outcomes.written]
        return said, vm.enforcements, vm.checks

    whole = await run(mode=mode)
    assert await run(**ENFORCE, by_runbook={RUNBOOK: {"mode": mode}}) == whole
    assert mode is not Mode.OBSERVE or whole[1] == 0


async def test_a_request_that_is_out_is_taken_back_when_its_runbook_may_not_act_any_more() -> None:
    """Narrowing one runbook's mode stops what an agent was asked for, as narrowing the function's does."""
    clock = ManualClock()
    fleet = FakeAgentFleet(clock)
    w = world(clock=clock, fleet=fleet, **ENFORCE)
    assert (await w.deliver(push(entry()))).result is Result.REQUESTED
    assert fleet.agents.label() == "enforce"
    less = world(
        store=w.store, clock=clock, fleet=fleet, **ENFORCE, by_runbook={RUNBOOK: {"mode": Mode.OBSERVE}}
    )
    await less.ticker.run()
    assert fleet.agents.label() is None
    assert less.outcomes.written[-1].reason == "observe_mode"


def test_a_budget_in_the_file_stands_for_the_authors_and_the_general_one(tmp_path: Path) -> None:
    """The operator knows the fleet; whoever says nothing keeps the tighter of the two."""
    said = configured(tmp_path, "runbooks: {ops-agent: {disruption_budget: 50/1h}}")
    runbook, settings = said.runbooks["ops-agent"], said.policies.of("ops-agent")
    assert decide.budget(runbook, settings) == Budget(50, timedelta(hours=1))
    bare = configured(tmp_path, "{}").runbooks["ops-agent"]
    assert decide.budget(bare, Settings()) == Budget(10, timedelta(hours=1))


async def test_a_cooldown_in_the_file_holds_for_its_runbook() -> None:
    """After a fix, quiet for as long as the file says."""
    w = world(**ENFORCE, by_runbook={RUNBOOK: {"cooldown_remediated": timedelta(hours=9)}})
    await w.deliver(push(entry()))
    subject = await w.controls.subject(REF, RUNBOOK)
    assert subject is not None
    assert subject.cooldown is not None
    assert subject.cooldown.until == w.clock.now() + timedelta(hours=9)


async def test_a_scope_in_the_file_narrows_and_never_widens(tmp_path: Path) -> None:
    """A VM has to be in both; what lies outside the function's scope stops the start."""
    w = world(**ENFORCE, by_runbook={RUNBOOK: {"scope_labels": (("team", "shop"),)}})
    assert (await w.deliver(push(entry()))).reason == "out_of_scope"
    w = world(**ENFORCE, by_runbook={RUNBOOK: {"scope_zones": ("europe-west1-b",)}})
    assert (await w.deliver(push(entry()))).reason == "out_of_scope"
    text = f"runbooks: {{{RUNBOOK}: {{scope: {{projects: [shop-test], labels: [team=shop, logmend=off]}}}}}}"
    said = problems(tmp_path, text, scope_projects=("shop-prod",), scope_labels=(("team", "web"),))
    assert " ".join(said) == (
        f"logmend.yaml: runbooks.{RUNBOOK}: shop-test is not in LOGMEND_SCOPE_PROJECTS; scope.labels and"
        " LOGMEND_SCOPE_LABELS demand one label with two values; scope.labels demands LOGMEND_EXEMPT_LABEL:"
        " no VM would be touched"
    )


def test_each_runbook_goes_by_its_own_executor(tmp_path: Path) -> None:
    """One over SSH, the other by agents, in one function."""
    (tmp_path / "logmend.yaml").write_text(f"runbooks: {{{RUNBOOK}: {{executor: osconfig}}}}")
    app = wiring.application(Settings(runbooks=tmp_path / "logmend.yaml"))
    facts = InstanceFacts(REF, "vm", "RUNNING", internal_ip="10.0.0.2")
    names: Mapping[str, list[str]] = {
        name: [each.name for each in app.pipeline.worker.executors(facts, name)]
        for name in app.pipeline.runbooks
    }
    assert names == {RUNBOOK: ["osconfig"], "ops-agent": ["ssh"]}


def test_what_os_config_cannot_carry_is_not_turned_on_for_it(own: Path) -> None:
    """By its own executor or by the general one, a built-in runbook or one's own; `auto` means SSH for it."""
    by_agent: dict[str, Any] = {"executor": ExecutorChoice.OSCONFIG}
    turned_on = "runbooks: {os-config-agent: {enabled: true}}"
    (said,) = problems(own, turned_on, **by_agent)
    assert "LOGMEND_EXECUTOR=osconfig: os-config-agent runs over SSH only: its runbook.yaml" in said
    assert said.endswith("say runbooks.os-config-agent.executor: ssh, or enabled: false")
    (said,) = problems(own, "runbooks: {os-config-agent: {enabled: true, executor: osconfig}}")
    assert "runbooks.os-config-agent.executor: os-config-agent runs over SSH only" in said
    assert configured(own, "folders: [own]", **by_agent).runbooks.keys() == {*catalog.ON, "mine"}
    path = own / "own/mine/runbook.yaml"
    path.write_text(path.read_text() + "\nexecutors: [ssh]\n")
    assert "mine runs over SSH only" in "".join(problems(own, "folders: [own]", **by_agent))
    auto: dict[str, Any] = {"executor": ExecutorChoice.AUTO}
    found = configured(own, f"folders: [own]\n{turned_on}", **auto)
    assert {name: each for name, (_, each) in catalog.uses(found, Settings(**auto)).items()} == {
        name: found.policies.of(name).executor for name in found.runbooks
    }
    assert [found.policies.of(name).executor for name in (RUNBOOK, "os-config-agent", "mine")] == [
        ExecutorChoice.AUTO,
        ExecutorChoice.SSH,
        ExecutorChoice.SSH,
    ]


class NeverWrites:
    """A log of outcomes whose write does not return."""

    async def write(self, outcome: Outcome) -> None:
        del outcome
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        pass


async def test_a_log_that_never_answers_does_not_keep_a_process_from_releasing_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The login key is given back first; the last count is given up, and the rest is closed."""
    monkeypatch.setattr(wiring, "TELL", 0.01)
    app = wiring.application(Settings())
    app = replace(
        app,
        pipeline=replace(app.pipeline, recorder=replace(app.pipeline.recorder, outcome_log=NeverWrites())),
    )
    line = Outcome(Result.UNMATCHED, None, "no runbook", START, "m-1", Mode.OBSERVE, "0")
    app.pipeline.recorder.unmatched.recorded(line, START)
    assert app.pipeline.recorder.unmatched.counted(line)
    closed = list[str]()

    async def released() -> None:
        assert app.pipeline.recorder.unmatched.over() != [], "before anything is told"
        app.pipeline.recorder.unmatched.recorded(line, START)
        app.pipeline.recorder.unmatched.counted(line)
        closed.append("executors")

    monkeypatch.setattr(app.pipeline.worker.executors, "aclose", released)
    await asyncio.wait_for(app.aclose(), 60)
    assert closed == ["executors"]


# Parameters


def test_a_parameter_is_in_the_script_and_in_the_digest(tmp_path: Path) -> None:
    """What was run can be told from the outcome alone; the file counts before the environment."""
    one = configured(tmp_path, "{}").runbooks["ops-agent"]
    text = 'runbooks: {ops-agent: {parameters: {repo_url: "https://mirror.example/agents", version: 2.50.0}}}'
    other = configured(tmp_path, text, ops_agent_version="2.49.0").runbooks["ops-agent"]
    assert "https://mirror.example/agents" in other.scripts.enforce
    assert "2.50.0" in other.scripts.enforce
    assert other.digest != one.digest
    assert other.parameters["settle"] == one.parameters["settle"] == "90"


@pytest.mark.parametrize(
    "value", ["http://dl.example", "https://x/$(reboot)", "https://x/;id", "https://x/a b", "https://x/\\n"]
)
def test_a_value_that_is_not_of_its_pattern_stops_the_start(tmp_path: Path, value: str) -> None:
    """Nothing that means something to a shell gets into a script, whoever wrote the pattern."""
    text = f"runbooks: {{ops-agent: {{parameters: {{repo_url: '{value}'}}}}}}"
    (said,) = problems(tmp_path, text)
    assert "does not match" in said


# Irreversible


def test_what_is_irreversible_waits_for_an_approval_unless_one_allows_it(own: Path) -> None:
    """Whatever the mode: an order for one VM is a person's word, an event is none."""
    shutil.rmtree(own / "own/mine/revert")
    path = own / "own/mine/runbook.yaml"
    path.write_text(path.read_text() + "irreversible: true\n")
    text = "folders: [own]\n"
    found = configured(own, text, mode=Mode.ENFORCE)
    assert found.policies.of("mine").mode is Mode.APPROVE
    assert found.policies.of(RUNBOOK).mode is Mode.ENFORCE
    assert configured(own, text, mode=Mode.OBSERVE).policies.of("mine").mode is Mode.OBSERVE
    allowed = configured(own, text + "runbooks: {mine: {allow_irreversible: true}}", mode=Mode.ENFORCE)
    assert allowed.policies.of("mine").mode is Mode.ENFORCE


# The documentation


def test_the_documentation_names_every_key_and_its_example_is_read(own: Path) -> None:
    """What the page shows is what is decoded."""
    page = (Path(__file__).parents[2] / "docs/runbooks.md").read_text()
    section = page.partition("## Which runbooks, each in which mode\n")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(keys) == sorted(
        ["enabled", "replaces", "allow_irreversible", *FIELDS, *TIMES, "cooldowns", "scope", "parameters"]
    )
    assert all(f"`{each}`" in section for each in (*COOLDOWNS, *SCOPE))
    (example,) = re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    (own / "own/mine").rename(own / "own/time-sync")
    path = own / "own/time-sync/runbook.yaml"
    path.write_text(path.read_text().replace("name: mine", "name: time-sync"))
    found = configured(own, example.replace("[runbooks]", "[own]"), mode=Mode.ENFORCE)
    modes = {name: found.policies.of(name).mode for name in found.runbooks}
    assert modes == {RUNBOOK: Mode.ENFORCE, "time-sync": Mode.OBSERVE}

"""A fleet, the function, both emulators and a clock that a test moves: what a week is played on.

The function is a process whose clock is shifted by what a file says; the command runs in the test's own
process, its clock shifted alike. Emulators and machines live in real time, of which a week takes minutes.
"""

import asyncio
import json
import os
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import pytest
from click.testing import CliRunner, Result
from tests.contract.stores import counted_in, open_named
from tests.e2e.conftest import PROJECT, warmed
from tests.e2e.function_process import Function, function_process
from tests.e2e.post import Post, post_office
from tests.emulators import free_port

from logmend import wiring
from logmend.ledger import Queues
from logmend.model.enums import INTERIM_RESULTS
from logmend.model.state import Record, State, Subject
from logmend_cli import outcome_source
from logmend_cli.main import COMMANDS, logmend
from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.entries import entry, incident
from logmend_cli.pretend.fleet import TIMER, USER, Machine, PretendFleet
from logmend_cli.pretend.instance import PretendInstance
from logmend_cli.report.data import Report

T = TypeVar("T")
Document = dict[str, Any]

RUNBOOK = "workload-cert-refresh"
ON, OFF = "enabled active", "disabled inactive"
ZONES = ("us-west1-a", "us-west1-b", "europe-west4-a")
SHIFTED = Path(__file__).parents[1] / "chaos" / "shifted_clock.py"
PATIENCE = 150.0
"""Seconds without progress after which messages count as lost."""
PATIENT_ATTEMPTS = 50
"""Deliveries until a message is given up: on a busy machine the ledger's emulator refuses many a time."""
CHANGES = {"disable -q --now": "enforce", "enable -q": "revert"}
"""What a machine's own record of calls has of each change of the timer."""


def make(folder: Path, size: int) -> PretendFleet:
    """Make so many VMs with the fault, in three zones, every third of team red."""
    machines = {}
    for number in range(size):
        name = f"web-{number:03}"
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        kind, key = host_key.export_public_key().decode().split()[:2]
        instance = PretendInstance(
            *(PROJECT, ZONES[number % 3], f"{6_000_000_000_000_000_000 + number}", name),
            internal_ip=f"127.0.{80 + number // 250}.{1 + number % 250}",
            guest_attributes={f"hostkeys/{kind}": key},
            labels={"team": "red" if number % 3 == 0 else "blue"},
        )
        machines[name] = Machine(instance, folder / name, host_key=host_key)
        machines[name].make()
    compute = PretendCompute([each.instance for each in machines.values()], {PROJECT: {}})
    return PretendFleet(folder, machines, compute, asyncssh.generate_private_key("ssh-ed25519"))


def changes(machine: Machine) -> list[str]:
    """Give what was really done to a machine's timer, in order."""
    return [action for call in machine.calls() for words, action in CHANGES.items() if words in call]


class Week:
    """The stage. Commands run in the caller's thread, everything else in the loop of another."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.fleet = folder, make(folder / "fleet", size)
        self.loop = asyncio.new_event_loop()
        self.state = f"firestore:week-{uuid.uuid4().hex[:12]}/logmend"
        self.settings: dict[str, Any] = {}
        self.messages: dict[str, str] = {}
        self.given_up: set[str] = set()
        self.post: Post
        self.function: Function
        self._running = AsyncExitStack()
        self._port = free_port()
        self._offset = folder / "offset"
        self._offset.write_text("0")

    # Time

    def now(self) -> datetime:
        """Give the time in the week."""
        return datetime.now(UTC) + timedelta(seconds=float(self._offset.read_text()))

    def later(self, **by: float) -> None:
        """Move the clock of the function and of the command."""
        new = self._offset.with_suffix(".new")
        new.write_text(str(float(self._offset.read_text()) + timedelta(**by).total_seconds()))
        new.rename(self._offset)

    # The function

    def on(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in the loop that serves everything, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(240)

    def start(self, mode: str, **more: str) -> None:
        """Deploy the function in a mode, in the place of the one before."""
        self.on(self._start(mode, more))

    async def _start(self, mode: str, more: dict[str, str]) -> None:
        await self._running.aclose()
        self.settings["mode"] = mode
        self.settings |= more
        self.function = await self._running.enter_async_context(
            function_process(
                self.folder / "function",
                port=self._port,
                prefix=(sys.executable, str(SHIFTED), str(self._offset)),
                **self.settings,
            )
        )

    def tick(self) -> Document:
        """Let the scheduler's message come; a tick that leaves work is followed by another."""
        tally = self.on(self.function.tick())
        while tally["left"]:
            tally = self.on(self.function.tick())
        assert tally["errors"] == {}, tally
        return tally

    def lines(self, *names: str) -> dict[str, str]:
        """Let VMs log the line, and wait for what comes of it: a verdict by VM."""
        at = self.now() - timedelta(seconds=3)
        sent = {name: entry(self.vm(name), host=name, at=at) for name in names}
        return self._settled(self.send(sent))

    def alerts(self, *names: str, runbook: str = RUNBOOK) -> dict[str, str]:
        """Let an alert policy tell of VMs, and wait for what comes of it: a verdict by VM."""
        sent = {}
        for name in names:
            told = incident(self.vm(name), f"inc-{uuid.uuid4().hex[:8]}")
            told["incident"] |= {
                "started_at": int(self.now().timestamp()),
                "policy_user_labels": {"logmend-runbook": runbook},
            }
            sent[name] = told
        return self._settled(self.send(sent), final=False)

    def send(self, documents: dict[str, Document]) -> dict[str, str]:
        """Publish a message about each VM; gives the VMs by message."""
        published = self.on(self.post.publish(*documents.values()))
        found = dict(zip(published, documents, strict=True))
        self.messages |= found
        return found

    def _settled(self, sent: dict[str, str], *, final: bool = True) -> dict[str, str]:
        had, ends = -1, time.monotonic() + PATIENCE
        while True:
            said = {
                sent[each["message_id"]]: _verdict(each)
                for each in self.outcomes()
                if each["message_id"] in sent
                and not each["first_at"]
                and (each["result"] not in INTERIM_RESULTS or (not final and each["result"] == "parked"))
            }
            if len(said) < len(sent):
                counted = self.counted()
                said |= {name: counted[each] for each, name in sent.items() if each in counted}
            if len(said) == len(sent):
                self.on(self.post.all_acknowledged())
                return said
            if len(said) > had:
                had, ends = len(said), time.monotonic() + PATIENCE
            missing = sorted(set(sent.values()) - said.keys())
            assert time.monotonic() < ends, f"no end for {missing}\n{self.function.log()[-4000:]}"
            time.sleep(0.2)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        ends = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < ends, f"it never came to that\n{self.function.log()[-4000:]}"
            time.sleep(0.2)

    # What a person does

    def run(self, *args: object, stdin: str | None = None, **settings: str) -> Result:
        """Run a command with the function's settings; those given here come on top."""
        chosen = self.settings | settings
        environment = {f"LOGMEND_{name.upper()}": value for name, value in chosen.items()}
        return CliRunner().invoke(logmend, [str(each) for each in args], input=stdin, env=environment)

    def does(self, *args: object, **settings: str) -> str:
        """Run a command that has to succeed; gives what it printed."""
        ran = self.run(*args, **settings)
        assert ran.exit_code == 0, (args, ran.exit_code, ran.stdout, ran.stderr)
        return ran.stdout

    def json(self, *args: object, **settings: str) -> Any:
        """Run a command and read its JSON."""
        return json.loads(self.does(*args, "--format", "json", **settings))

    # What is true

    def vm(self, name: str) -> tuple[str, str, str]:
        """Give project, zone and id."""
        instance = self.fleet.machines[name].instance
        return instance.project_id, instance.zone, instance.instance_id

    def ref(self, name: str) -> str:
        """Give ``PROJECT/ZONE/ID``, as commands take it."""
        return "/".join(self.vm(name))

    def timers(self, *names: str) -> set[str | None]:
        """Give the states of machines' timers."""
        return {self.fleet.machines[name].timer() for name in names}

    def changed(self) -> int:
        """Count all changes of all machines."""
        return sum(len(changes(each)) for each in self.fleet.machines.values())

    def outcomes(self, **having: Any) -> list[Document]:
        """Give each outcome once, in the order of the log; one that came again has to be the same."""
        found: dict[str, Document] = {}
        for each in self.function.outcomes(**having):
            known = found.setdefault(each["outcome_id"], each)
            assert {**known, "latency_ms": None} == {**each, "latency_ms": None}
        return list(found.values())

    def told(self, name: str, **having: Any) -> list[str]:
        """Give the verdicts about a VM, in order, but for what was done to controls."""
        return [
            _verdict(each)
            for each in self.outcomes(**having)
            if self.is_of(each, name) and each["result"] != "controlled"
        ]

    def is_of(self, outcome: Document, name: str) -> bool:
        """Say whether an outcome is of a VM."""
        return bool((outcome["instance"] or {}).get("instance_id") == self.vm(name)[2])

    def counted(self) -> dict[str, str]:
        """Name the messages that were counted, each with its verdict."""

        async def read() -> dict[str, str]:
            store = open_named(self.state)
            try:
                return await counted_in(store)
            finally:
                await store.aclose()

        return asyncio.run(read())

    def ledger(self) -> tuple[list[Record], list[Subject]]:
        """Read every intent and every VM of the ledger."""

        async def read() -> tuple[list[Record], list[Subject]]:
            store = open_named(self.state)
            try:
                queues = Queues(store)
                return [each async for each in queues.records()], [each async for each in queues.subjects()]
            finally:
                await store.aclose()

        return asyncio.run(read())

    def agree(self) -> None:
        """Hold ledger, outcomes, status, report, history, export and the machines against each other."""
        self.tick()
        outcomes, (records, subjects) = self.outcomes(), self.ledger()
        self._outcomes_agree(outcomes, records)
        self._machines_agree(outcomes)
        self._commands_agree(outcomes, records, subjects)

    def _outcomes_agree(self, outcomes: list[Document], records: list[Record]) -> None:
        finals = Counter(e["intent_id"] for e in outcomes if e["intent_id"] and _final(e))
        assert {each for each, number in finals.items() if number > 1} == set(), "one end each"
        done = {each.intent.intent_id for each in records if each.state is State.DONE}
        assert done == finals.keys(), "what is done in the ledger has its outcome, and no more has"
        ids = {each["outcome_id"] for each in outcomes}
        assert {r.outcome.outcome_id for r in records if r.outcome and r.state is State.DONE} <= ids
        assert not [r for r in records if r.state in (State.RUNNING, State.REQUESTED, State.UNVERIFIED)]
        waiting = {each.intent.message_id for each in records if each.state is not State.DONE}
        ended = {each["message_id"] for each in outcomes if _final(each)}
        counted, again = self.counted().keys(), [each for each in outcomes if each["first_at"]]
        assert self.messages.keys() - ended - waiting - self.given_up - counted == set(), "no message is lost"
        alone = {each["message_id"] for each in outcomes if _final(each) and not each["first_at"]}
        assert counted & alone == set(), "what is counted has no outcome of its own"
        assert sum(each["count"] for each in again) == len(counted), "and counts once"

    def _machines_agree(self, outcomes: list[Document]) -> None:
        proven = defaultdict[str, list[str]](list)
        for each in outcomes:
            if each["result"] in ("remediated", "reverted") and each["runbook"] == RUNBOOK:
                proven[each["instance"]["instance_id"]].append(each["action"])
        for name, machine in self.fleet.machines.items():
            done = changes(machine)
            if (machine.folder / "pretend" / "fail").exists():
                continue  # its calls failed: nothing was changed, and nothing is claimed
            assert done == proven[machine.instance.instance_id], name
            if done:
                assert machine.timer() == (OFF if done[-1] == "enforce" else ON), name
            assert (machine.folder / f"var/lib/logmend/{RUNBOOK}.mark").exists() is bool(done), name

    def _commands_agree(
        self, outcomes: list[Document], records: list[Record], subjects: list[Subject]
    ) -> None:
        status = self.json("status")
        told = Counter[str]()
        for each in outcomes:
            told[_verdict(each)] += each["count"]
        assert status["outcomes"] == dict(told)
        assert status["instances"] == len({each.instance for each in subjects}), "a VM is one VM"
        waits = sorted(each.intent.intent_id for each in records if each.state is not State.DONE)
        assert sorted(each["intent_id"] for each in status["waiting"]) == waits
        assert {each["instance"] for each in status["needs_human"]} == {
            str(each.instance) for each in subjects if each.needs_human
        }
        log = self.settings["outcomes"].removeprefix("file:")
        report = Report("week", self.now())
        for outcome in outcome_source.of_file(log):
            report.add(outcome)
        total = sum(each["result"] == "remediated" for each in outcomes)
        assert report.results["remediated"] == total
        events = sum(each["count"] for each in outcomes if each["result"] != "controlled")
        printed = self.does("report", log, "--out", self.folder / "report.html")
        assert printed.startswith(f"{events} outcomes of {len(report.vms)} VMs")
        again = Counter(
            "/".join(each["instance"][key] for key in ("project_id", "zone", "instance_id"))
            for each in outcomes
            if each["first_at"]
        )
        rows = self.json("export", "--changes")
        assert sum(row["changed"] == "proven" for row in rows) == sum(
            each["result"] in ("remediated", "reverted") for each in outcomes
        )
        for vm, number in again.most_common(2):
            story = self.json("history", vm)
            assert sum("more like the one" in each["detail"] for each in story) == number
            assert not [each for each in story if each["kind"] == "now" and "counted" in each["what"]]
        controls = [
            each["outcome_id"]
            for each in outcomes
            if each["result"] == "controlled" or each["reason"] == "cancelled"
        ]
        assert [row["outcome_id"] for row in rows if row["kind"] == "control"] == controls


@contextmanager
def playing(folder: Path, size: int, patch: pytest.MonkeyPatch) -> Iterator[Week]:
    """Serve a week until it is over."""
    week = Week(folder, size)
    for name in [each for each in os.environ if each.startswith("LOGMEND_")]:
        patch.delenv(name)
    _shift(week, patch)
    thread = threading.Thread(target=week.loop.run_forever, daemon=True)
    thread.start()
    stack = AsyncExitStack()

    async def serve() -> None:
        await stack.enter_async_context(week.fleet.running())
        week.post = await stack.enter_async_context(post_office())
        await warmed(week.state)
        await week.post.push_to(f"http://127.0.0.1:{week._port}/", attempts=PATIENT_ATTEMPTS)

    try:
        week.on(serve())
        week.settings = {
            "project": PROJECT,
            "repeats": "counted",
            "state": week.state,
            "outcomes": f"file:{folder / 'function' / 'outcomes.jsonl'}",
            "compute_endpoint": f"http://127.0.0.1:{week.fleet.compute_port}",
            "ssh_key": str(week.fleet.key_file),
            "ssh_user": USER,
            "ssh_port": str(week.fleet.ssh_port),
        }
        yield week
    finally:
        week.on(week._running.aclose())
        week.on(stack.aclose())
        week.loop.call_soon_threadsafe(week.loop.stop)
        thread.join(30)
        week.loop.close()


def _shift(week: Week, patch: pytest.MonkeyPatch) -> None:
    """Have the command tell the week's time, wherever it asks for the time."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return week.now().astimezone(tz)

    for name in COMMANDS:
        logmend.get_command(None, name)  # type: ignore[arg-type]
    for name, module in list(sys.modules.items()):
        ours = name.startswith("logmend_cli") and not name.startswith("logmend_cli.pretend")
        if ours and getattr(module, "datetime", None) is datetime:
            patch.setattr(module, "datetime", Shifted)
    patch.setattr(wiring.SystemClock, "now", lambda _: week.now())


def unit(machine: Machine, word: str, state: str) -> None:
    """Have a VM's owner change its timer by hand."""
    (machine.units / TIMER / word).write_text(f"{state}\n")


def own_runbook(folder: Path) -> Path:
    """Write a folder of runbooks: the built-in one, and one of the user's own that is run by alert."""
    mine = folder / "motd"
    (mine / "revert").mkdir(parents=True)
    (mine / "runbook.yaml").write_text(
        "name: motd\nsummary: Give the VM its message of the day.\npermissions: [compute.instances.get]\n"
    )
    seen = (
        "i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google"
        " 169.254.169.254/computeMetadata/v1/instance/id)\n"
        'echo "instance_id=${i%%[!0-9]*}"\ncat "$d/motd.mark" 2>/dev/null\n'
    )
    begin = "#!/bin/sh\n{\nd=${LOGMEND_ROOT:-}/var/lib/logmend\n"
    scripts = {
        "validate.sh": seen + '[ -e "$d/motd" ] || exit 101\nexit 100\n',
        "enforce.sh": 'mkdir -p "$d"\necho "mark=$1" >"$d/motd.mark"\n: >"$d/motd"\nexit 100\n',
        "revert/validate.sh": seen + '[ ! -e "$d/motd" ] || exit 101\nexit 100\n',
        "revert/enforce.sh": 'echo "mark=$1" >"$d/motd.mark"\nrm -f "$d/motd"\nexit 100\n',
    }
    for name, text in scripts.items():
        (mine / name).write_text(f"{begin}{text}}} </dev/null\n")
        (mine / name).chmod(0o755)
    return folder


def _final(outcome: Document) -> bool:
    return outcome["result"] not in INTERIM_RESULTS and outcome["result"] != "controlled"


def _verdict(outcome: Document) -> str:
    return f"{outcome['result']}: {outcome['reason']}" if outcome["reason"] else str(outcome["result"])

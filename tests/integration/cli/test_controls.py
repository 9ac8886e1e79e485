"""`freeze`, `resume`, `approvals`, `tick`, `status` and `serve`: what an operator has in hand."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.conftest import Place

from logmend.ledger import Contacts, Controls
from logmend.ledger.contacts import Contact, Pin
from logmend.ledger.documents import pack, subject_key
from logmend.model.state import Lease, Subject
from logmend.model.values import InstanceRef, Outcome
from logmend.ports import Document
from logmend.settings import Settings
from logmend.wiring import application, open_store
from logmend_cli.pretend.entries import entry, push
from logmend_cli.pretend.fleet import free_port
from logmend_cli.pretend.story import identity

ROOT = Path(__file__).resolve().parents[3]
ON, OFF = "enabled active", "disabled inactive"


def environment_of(place: Place, **settings: str) -> dict[str, str]:
    """Give the environment of the place's function."""
    return {f"LOGMEND_{key.upper()}": value for key, value in (place.settings | settings).items()}


def deliver(place: Place, name: str, **settings: str) -> Outcome:
    """Hand a VM's line to the pipeline, as the function does with what Pub/Sub pushes."""

    async def body() -> Outcome:
        app = application(Settings.from_environment(environment_of(place, **settings)))
        try:
            line = entry(identity(place.machine(name)), at=datetime.now(UTC) - timedelta(seconds=5))
            said = await app.pipeline.handle(push(line, f"m{time.monotonic_ns()}"), {})
            assert isinstance(said, Outcome)
            return said
        finally:
            await app.aclose()

    return asyncio.run(body())


# freeze and resume


def test_a_pinned_host_key_is_forgotten_on_record(place: Place) -> None:
    """Another key than the pinned one is a mismatch, until an operator makes the next contact a first one."""
    machine, ref = place.machine("web-1"), InstanceRef(*identity(place.machine("web-1")))
    published = dict(machine.instance.guest_attributes)
    reach = {"ssh_host_keys": "pinned", "cooldown_failed": "0s", "cooldown_planned": "0s"}

    async def contact(pinned: str | None = None) -> Contact:
        app = application(Settings.from_environment(environment_of(place)))
        if pinned is not None:
            await Contacts(app.store).pin(ref, Pin(pinned, datetime.now(UTC)))
        found = await Contacts(app.store).get(ref)
        await app.aclose()
        return found

    other = " ".join(place.machine("web-2").host_key.export_public_key().decode().split()[:2])
    asyncio.run(contact(other))  # another machine was there first
    machine.instance.guest_attributes.clear()
    assert deliver(place, "web-1", **reach).reason == "host_key_mismatch"
    machine.instance.guest_attributes |= published
    assert deliver(place, "web-1", **reach).reason == "host_key_mismatch", "published later replaces no pin"
    machine.instance.guest_attributes.clear()

    assert place.logmend("resume", "--forget-host-key").exit_code == 2
    forget = ("resume", "--instance", str(ref), "--forget-host-key", "--why", "rebuilt", "--by", "ann@desk")
    assert f"forgotten by ann@desk: {other}" in place.logmend(*forget).stdout
    assert "no host key was pinned" in place.logmend(*forget).stdout
    said = deliver(place, "web-1", **reach)
    assert (said.result, said.host_key, said.credential) == ("planned", "first_seen", "static")
    found = asyncio.run(contact())
    assert [(each.by, each.why, each.pin.key) for each in found.forgotten] == [("ann@desk", "rebuilt", other)]
    assert found.pin is not None
    assert found.pin.key.split()[1] in published.values()


def test_a_freeze_holds_events_off_until_resume(place: Place) -> None:
    """Who froze and why is in the outcome, in status, and in the hint how to go on."""
    ran = place.logmend("freeze", "--why", "change window", "--by", "ann@desk")
    assert (ran.exit_code, "Resume with: logmend resume" in ran.stdout) == (0, True)
    said = deliver(place, "web-1", mode="enforce")
    assert (said.result, said.reason) == ("skipped", "frozen")
    assert "ann@desk" in said.detail
    (stopped,) = place.json("status")["stopped"]
    assert "ann@desk" in stopped
    assert "change window" in stopped
    assert "STOPPED everything frozen" in place.logmend("status").stdout
    assert place.logmend("resume").exit_code == 0
    assert place.json("status")["stopped"] == []
    assert deliver(place, "web-1", mode="enforce").result == "remediated"


def test_a_freeze_says_that_it_cannot_know_who_read_it(place: Place) -> None:
    """The ledger may be another than the function's: a name, a project, or a file that was replaced."""
    ran = place.logmend("freeze")
    assert "not confirmed" in ran.stdout
    assert "no tick has ever run on it" in ran.stdout
    place.logmend("tick", mode="enforce")
    assert "the last tick on it was at" in place.logmend("freeze").stdout

    async def ticked_by() -> str | None:
        store = open_store(place.settings["state"])
        fleet = await Controls(store).fleet()
        await store.aclose()
        return fleet.last_tick_by

    assert (asyncio.run(ticked_by()) or "").startswith(f"{socket.gethostname()[:40]}-{os.getpid()}-")


@pytest.mark.parametrize("read", [True, False])
def test_a_freeze_that_can_ask_says_who_read_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, read: bool
) -> None:
    """A tick that began after it has read it; one on another ledger never shows here. Leases are named."""

    async def tick(_: str | None) -> bool:
        store = open_store(place.settings["state"] if read else "memory:")
        await Controls(store).note_tick(datetime.now(UTC), "host-2-78-def")
        await store.aclose()
        return True

    async def hold() -> None:
        ref, ends = InstanceRef(*identity(place.machine("web-2"))), datetime.now(UTC) + timedelta(minutes=5)
        subject = Subject(ref, "workload-cert-refresh", lease=Lease("host-1-77-abc", 1, "m-1", ends))
        key, store = subject_key(ref, subject.runbook), open_store(place.settings["state"])
        await store.transact([key], lambda _: ({key: Document(pack(subject), "leased", ends)}, None))
        await store.aclose()

    asyncio.run(hold())
    monkeypatch.setattr("logmend_cli.freeze.tick_function", tick)
    monkeypatch.setattr("logmend_cli.freeze.WAIT", 2)
    ran = place.logmend("freeze")
    assert ("\n  acknowledged: host-2-78-def began a tick" in ran.stdout) is read
    assert ("\n  not acknowledged: no instance began a tick" in ran.stdout) is not read
    assert "does not show which other instances run" in ran.stdout
    assert f"in progress: {place.ref('web-2')} by host-1-77-abc" in ran.stdout
    assert "only the first" not in ran.stdout
    monkeypatch.setattr("logmend_cli.freeze.PAGE", 1)
    assert "in progress: only the first 1 were checked" in place.logmend("freeze").stdout


def test_a_freeze_is_lifted_by_its_name_wherever_it_holds(place: Place) -> None:
    """One that is misspelt lifts nothing; the other freeze stays."""
    vm = place.logmend("freeze", "--instance", place.ref("web-1"), "--for", "2h", "--by", "ann@desk").stdout
    all_ = place.logmend("freeze", "--by", "bob@desk").stdout
    names = [text.partition("logmend resume ")[2].split()[0] for text in (vm, all_)]
    assert " until 2" in vm
    wrong = place.logmend("resume", names[0], "freeze-000000")
    assert (wrong.exit_code, "no freeze freeze-000000" in wrong.stderr) == (2, True)
    assert len(place.json("status")["stopped"]) == 3, "a VM under two runbooks, and everything"
    lifted = place.logmend("resume", names[0]).stdout
    assert lifted.count(f"{place.ref('web-1')} (") == 2
    (left,) = place.json("status")["stopped"]
    assert "bob@desk" in left
    assert names[1] in left
    assert place.logmend("resume", names[1]).exit_code == 0
    assert place.json("status")["stopped"] == []
    assert place.logmend("freeze", "--for", "soon").exit_code == 2


def test_one_vm_or_one_runbook_can_be_frozen(place: Place) -> None:
    """The rest goes on."""
    frozen = place.logmend("freeze", "--instance", place.ref("web-1"), "--runbook", "workload-cert-refresh")
    assert "Resume with: logmend resume freeze-" in frozen.stdout
    assert deliver(place, "web-1", mode="enforce").reason == "frozen"
    assert deliver(place, "web-2", mode="enforce").result == "remediated"
    place.logmend("resume", "--instance", place.ref("web-1"))
    place.logmend("freeze", "--runbook", "workload-cert-refresh")
    assert deliver(place, "web-1", mode="enforce").reason == "frozen"
    assert place.logmend("resume").stdout.count("workload-cert-refresh frozen by") == 1
    place.logmend("resume", "--runbook", "workload-cert-refresh")
    assert deliver(place, "web-1", mode="enforce").result == "remediated"


@pytest.mark.parametrize("command", ["freeze", "resume"])
def test_a_switch_of_no_use_is_told(place: Place, command: str) -> None:
    """A runbook that does not exist, what is no VM, a ledger that ends with the command: status 2."""
    for args, settings, told in (
        (["--runbook", "nope"], {}, "no runbook 'nope'"),
        (["--instance", "web-1"], {}, "PROJECT/ZONE/ID"),
        ([], {"state": "memory:"}, "LOGMEND_STATE"),
        ([], {"state": "postgres:x"}, "LOGMEND_STATE: expected"),
    ):
        ran = place.logmend(command, *args, **settings)
        assert (ran.exit_code, ran.stdout) == (2, ""), args
        assert told in ran.stderr


def test_a_freeze_goes_on_without_compute_and_says_what_is_wrong_with_it(place: Place) -> None:
    """In its own words: a reason alone does not say which of many things is in the way."""
    ran = place.logmend("freeze", "--instance", place.ref("web-1"), compute_endpoint="http://127.0.0.1:1")
    assert ran.exit_code == 0, ran.stderr
    assert f"{place.ref('web-1')}: not looked up (compute_unavailable: " in ran.stderr
    assert deliver(place, "web-1", mode="enforce").reason == "frozen"


def test_a_vm_that_does_not_exist_is_not_frozen(place: Place) -> None:
    """A mistyped id would freeze nothing and look as if it did."""
    ran = place.logmend("freeze", "--instance", "demo-project/us-west1-a/77")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "there is no VM demo-project/us-west1-a/77; nothing was frozen" in ran.stderr


def test_each_of_two_freezes_takes_a_resume_of_its_own(place: Place) -> None:
    """Nobody lifts another's freeze unawares; the status shows both."""
    place.logmend("freeze", "--by", "ann", "--why", "storm\x07")
    place.logmend("freeze", "--by", "bob", "--why", "audit")
    stopped = place.json("status")["stopped"]
    assert [("bob" in each, "ann" in each) for each in stopped] == [(True, False), (False, True)]
    lifted = place.logmend("resume").stdout
    assert "still stopped: everything frozen by ann" in lifted
    assert "storm\ufffd" in lifted, "a reason does nothing to a terminal"
    assert deliver(place, "web-1", mode="enforce").reason == "frozen"
    assert "still stopped" not in place.logmend("resume").stdout
    assert deliver(place, "web-1", mode="enforce").result == "remediated"


def test_a_revert_is_asked_for_in_sight_of_the_freeze_and_goes_on(place: Place) -> None:
    """Freeze, revert, find the cause."""
    assert deliver(place, "web-1", mode="enforce").result == "remediated"
    place.logmend("freeze", "--by", "ann", "--why", "it broke something")
    asked = place.logmend("revert", place.ref("web-1"), "--enforce", stdin="n\n")
    assert "passes: everything is frozen by ann" in asked.stderr
    assert "it broke something" in asked.stderr
    back = ("revert", place.ref("web-1"), "--enforce", "--yes", "--at-most", "5")
    done = place.json(*back, "--by", "bob", "--why", "CHG-8")
    assert [each["result"] for each in done] == ["reverted"]
    (held,) = place.json("status")["held"]
    assert (held["by"], held["why"], held["identity"]) == ("bob", "CHG-8", "claimed")
    assert held["since"] is not None


# history


def test_the_history_of_a_vm_tells_what_was_done_and_by_whom(place: Place) -> None:
    """Plan, approval, fix, revert, hold and freeze, in order, each with its person; nothing of other VMs."""
    deliver(place, "web-1", mode="approve")
    deliver(place, "web-2", mode="approve")
    plan = next(
        each["approval_id"]
        for each in place.json("approvals", "list")
        if each["instance"] == place.ref("web-1")
    )
    place.logmend("approvals", "approve", plan, "--by", "ann@desk")
    place.json("tick", mode="approve")
    act = ("--runbook", "workload-cert-refresh", "--enforce", "--yes")
    place.logmend("revert", place.ref("web-1"), *act, "--by", "bob@desk", mode="enforce")
    place.logmend("freeze", "--instance", place.ref("web-1"), "--why", "storm", "--by", "eve@desk")
    rows = place.json("history", place.ref("web-1"))
    told = [(each["what"], each["by"]) for each in rows]
    assert [each for each in told if not each[0].startswith(("received", "waits"))] == [
        ("planned", None),
        ("plan approved", "ann@desk"),
        ("ordered: enforce", "ann@desk"),
        ("remediated", "ann@desk"),
        ("ordered: revert", "bob@desk"),
        ("reverted", "bob@desk"),
        ("held by a revert", None),
        ("freeze set", "eve@desk"),
        ("freeze set", "eve@desk"),
        ("frozen", "eve@desk"),
        ("frozen", "eve@desk"),
    ], "frozen under two runbooks"
    assert ("waits for approval", None) in told
    assert [each["at"] for each in rows] == sorted(each["at"] for each in rows)
    (fix,) = [each for each in rows if each["what"] == "remediated"]
    assert (fix["before"]["finding"], fix["after"]["finding"]) == ("faulty", "desired")
    assert len({each["id"] for each in rows if each["kind"] == "outcome"}) == 3
    shown = place.logmend("history", place.ref("web-1")).stdout
    assert "reverted" in shown
    later = place.json("history", place.ref("web-1"), "--since", "2099-01-01T00:00:00Z")
    assert {each["what"] for each in later} == {"held by a revert", "frozen"}


def test_what_is_counted_and_not_recorded_yet_is_shown(place: Place) -> None:
    """A VM that is left alone again and again: how often, before the tick records it, and each event once.

    By history, status and report, beside the log of outcomes and from the ledger alone.
    """
    for _ in range(4):
        deliver(place, "web-1", mode="observe", repeats="counted")
    deliver(place, "web-2", mode="observe", repeats="counted")
    expected = {"planned": 2, "skipped: cooling_down": 3}
    assert place.json("status")["outcomes"] == expected
    assert place.json("status", outcomes="stdout")["outcomes"] == expected
    page = ("report", "--out", place.folder / "report.html")
    assert place.logmend(*page, outcomes="stdout").stdout.startswith("5 outcomes of 2 VMs")
    (alone,) = (
        each
        for each in place.json("history", place.ref("web-1"), outcomes="stdout")
        if each["what"].startswith("counted")
    )
    assert (alone["what"], alone["detail"][:9]) == ("counted: skipped: cooling_down", "2 counted")
    rows = place.json("history", place.ref("web-1"))
    counted = [each for each in rows if each["what"].startswith("counted")]
    assert [(each["kind"], each["what"]) for each in counted] == [("now", "counted: skipped: cooling_down")]
    assert "2 more like the one recorded before" in counted[0]["detail"]
    since = ("--since", "2099-01-01T00:00:00Z")
    later = place.json("history", place.ref("web-1"), *since)
    later += place.json("history", place.ref("web-1"), *since, outcomes="stdout")
    assert not any(each["what"].startswith("counted") for each in later)


def test_a_vm_that_nobody_knows_has_no_history(place: Place) -> None:
    """That is said, and is no error."""
    ran = place.logmend("history", "demo-project/us-west1-a/1")
    assert (ran.exit_code, "nothing is known of" in ran.stdout) == (0, True)


# approvals


def test_a_plan_that_is_approved_is_carried_out(place: Place) -> None:
    """Listed, approved under a name, acted on by the tick, once."""
    assert deliver(place, "web-1", mode="approve").result == "planned"
    (waiting,) = place.json("approvals", "list")
    assert (waiting["instance"], waiting["state"]) == (place.ref("web-1"), "pending")
    assert place.json("status")["approvals"][0]["approval_id"] == waiting["approval_id"]
    assert place.machine("web-1").timer() == ON
    ran = place.logmend("approvals", "approve", waiting["approval_id"], "--by", "ann@desk")
    assert (ran.exit_code, "approved by ann@desk" in ran.stdout) == (0, True)
    assert place.json("tick", mode="approve")["outcomes"] == {"remediated": 1}
    assert place.machine("web-1").timer() == OFF
    assert place.json("approvals", "list") == []
    (decided,) = place.json("approvals", "list", "--all")
    assert (decided["state"], decided["decided_by"]) == ("approved", "ann@desk")
    again = place.logmend("approvals", "approve", waiting["approval_id"])
    assert (again.exit_code, "approval_decided" in again.stderr) == (1, True)


def test_a_plan_that_is_rejected_is_never_carried_out(place: Place) -> None:
    """The VM stays as it is."""
    deliver(place, "web-1", mode="approve")
    (waiting,) = place.json("approvals", "list")
    assert place.logmend("approvals", "reject", waiting["approval_id"], "--by", "ann@desk").exit_code == 0
    assert place.json("tick", mode="approve")["outcomes"] == {}
    assert place.machine("web-1").timer() == ON
    assert place.json("approvals", "list") == []


def test_an_approval_that_does_not_exist_is_told(place: Place) -> None:
    """Status 1, and where to look."""
    for word in ("approve", "reject"):
        ran = place.logmend("approvals", word, "nope")
        assert (ran.exit_code, ran.stdout) == (1, "")
        assert "no_such_approval" in ran.stderr
        assert "logmend approvals list" in ran.stderr
    assert place.logmend("approvals", "list").stdout.strip() == "no plan waits"


# tick


def test_a_tick_with_nothing_to_do_says_so(place: Place) -> None:
    """Status 0; status shows that it ran."""
    ran = place.logmend("tick", mode="enforce")
    assert (ran.exit_code, ran.stdout.strip()) == (0, "nothing was due")
    assert place.json("tick", mode="enforce")["outcomes"] == {}
    assert place.json("status")["last_tick"] is not None
    assert "Last tick" in place.logmend("status").stdout


def test_a_tick_without_the_functions_settings_is_refused(place: Place) -> None:
    """With defaults it would judge otherwise than the function."""
    ran = place.logmend("tick")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "LOGMEND_MODE" in ran.stderr
    assert place.logmend("tick", mode="enforce", state="memory:").exit_code == 2


def test_a_tick_that_ends_in_a_failure_has_status_1(place: Place) -> None:
    """What it closed is counted."""
    place.json("run", place.ref("moved-1"), "--via-function", "--enforce", "--yes")
    assert place.json("tick", mode="enforce", status=1)["outcomes"] == {"failed": 1}


# status and report, from the ledger


def test_status_tells_what_the_ledger_knows(place: Place) -> None:
    """Each VM by what came of it last; failures with their next step; latencies."""
    for name in ("web-1", "cert-1", "moved-1", "fine-1"):
        deliver(place, name, mode="enforce")
    found = place.json("status")
    assert found["sources"] == {
        "ledger": place.settings["state"],
        "outcomes": str(place.folder / "outcomes.jsonl"),
    }
    assert found["results"] == {
        "remediated": 1, "refused: opted_in": 1, "failed: wrong_instance": 1, "nothing_to_do": 1,
    }  # fmt: skip
    assert [each["name"] for each in found["failures"]] == ["moved-1"]
    assert "gcloud compute instances describe" in found["failures"][0]["next_step"]
    assert found["latency_ms"]["total"]["count"] == 4
    ledger_alone = place.json("status", outcomes="none")
    assert (ledger_alone["sources"]["outcomes"], ledger_alone["outcomes"]) == (None, found["outcomes"])


def test_a_vm_that_fails_again_and_again_is_left_to_a_person(place: Place) -> None:
    """Status names it, with the command that gives it back."""
    for _ in range(2):
        deliver(
            place,
            "moved-1",
            mode="enforce",
            needs_human_after="1",
            cooldown_failed="1s",
            cooldown_failed_max="1s",
        )
        time.sleep(1.1)
    (found,) = place.json("status")["needs_human"]
    assert found["name"] == "moved-1"
    assert f"logmend resume --instance {place.ref('moved-1')}" in found["next_step"]
    place.logmend("resume", "--instance", place.ref("moved-1"))
    assert place.json("status")["needs_human"] == []


def test_status_and_report_read_cloud_logging(place: Place, tmp_path: Path) -> None:
    """The log `logmend` of logmend's own project; since when can be said."""
    deliver(place, "web-1", mode="enforce")
    (document,) = (json.loads(line) for line in (place.folder / "outcomes.jsonl").read_text().splitlines())
    entry_of = {
        "logName": "projects/demo-project/logs/logmend",
        "timestamp": document["timestamp"],
        "insertId": document["outcome_id"],
        "resource": {"type": "gce_instance", "labels": {}},
        "jsonPayload": document,
    }
    place.logs.entries = [entry_of]
    assert place.json("status", "--cloud", "--since", "1h")["outcomes"] == {"remediated": 1}
    ran = place.logmend("report", "--cloud", "--out", tmp_path / "r.html")
    assert ran.exit_code == 0, ran.stderr
    assert "log logmend of project demo-project" in (tmp_path / "r.html").read_text()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert place.json("status", "--cloud", "--since", later, state="memory:")["outcomes"] == {}


def test_a_report_can_be_made_of_the_ledger_alone(place: Place, tmp_path: Path) -> None:
    """The latest outcome of each intent."""
    deliver(place, "web-1", mode="enforce")
    ran = place.logmend("report", "--out", tmp_path / "r.html", outcomes="none")
    assert (ran.exit_code, "1 outcomes of 1 VMs" in ran.stdout) == (0, True), ran.stderr


# serve


def test_the_function_is_served_as_it_is_deployed(place: Place) -> None:
    """It answers a push with what became of it, and ends at a signal."""
    port = free_port()
    settings = {
        f"LOGMEND_{key.upper()}": value for key, value in (place.settings | {"mode": "enforce"}).items()
    }
    served = subprocess.Popen(
        [sys.executable, "-c", "from logmend_cli.main import main; main()", "serve", "--port", str(port)],
        env={k: v for k, v in os.environ.items() if not k.startswith("LOGMEND_")}
        | settings
        | {"PYTHONPATH": str(ROOT / "functions")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        answered(served, port)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/", push(entry(identity(place.machine("web-1"))), "served-1"))
        answer = connection.getresponse()
        told: Any = json.loads(answer.read())
        assert (answer.status, told["result"], told["message_id"]) == (200, "remediated", "served-1")
        connection.close()
        assert place.machine("web-1").timer() == OFF
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        _, err = served.communicate(timeout=100)
    assert f"serving on http://127.0.0.1:{port}/ in enforce mode".encode() in err


def answered(served: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until something listens."""
    for _ in range(2400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert served.poll() is None, served.stderr
        time.sleep(0.05)
    raise AssertionError("nothing listens")


def test_bad_settings_are_told_before_anything_is_served(run: Any) -> None:
    """Status 2, every problem in a line."""
    ran = run("serve", mode="yes", max_event_age="soon")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "LOGMEND_MODE='yes'" in ran.stderr
    assert "LOGMEND_MAX_EVENT_AGE='soon'" in ran.stderr
    assert run("serve", "--port", "99999").exit_code == 2

"""The table of who may run what is what the commands really ask for, on a pretend fleet."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests import provider_schema as provider
from tests.integration.cli.conftest import Place
from tests.integration.cli.test_controls import deliver

from logmend import permissions
from logmend.adapters.google import cloud_logging, osconfig_policies, pubsub
from logmend.adapters.ssh import executor
from logmend.adapters.stores import sqlite
from logmend.outcome import document
from logmend_cli import apis, freeze
from logmend_cli.main import COMMANDS
from logmend_cli.pretend.entries import entry
from logmend_cli.pretend.story import identity
from logmend_cli.rights import GRANTS, USES, Right

TOPIC = "projects/demo-project/topics/logmend"
NOT_RUN = {"demo", "serve", "use PROJECT"}
"""Uses that run until they are ended, or for a minute, or ask for a function: other tests have them."""


class Asked:
    """What a command asked for, by right."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rights: set[Right] = set()

    def note(self, right: Right) -> None:
        self.rights.add(right)

    def all(self) -> set[Right]:
        """Give what was asked, the calls of the pretend APIs included."""
        if self.place.story.compute.calls:
            self.rights.add(Right.LOOK_UP)
        for each in self.place.logs.asked:
            ours = "/logs/logmend" in each.filter and "gce_workload" not in each.filter
            self.rights.add(Right.OUTCOMES if ours else Right.READ_LOGS)
        return self.rights

    def forget(self) -> None:
        self.rights.clear()
        self.place.story.compute.calls.clear()
        self.place.logs.asked.clear()


@pytest.fixture
def asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Note whatever of Google's is not pretended by the place itself."""
    noted = Asked(place)

    def wrapped(owner: Any, name: str, right: Right, instead: Callable[..., Any] | None = None) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            noted.note(right)
            return (instead or real)(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    async def nothing(*_: Any, **__: Any) -> Any:
        return ()

    async def no_answer(*_: Any, **__: Any) -> apis.Reply:
        return apis.Reply(why="not asked")

    for name in ("transact", "get", "due", "scan"):
        wrapped(sqlite.SqliteStore, name, Right.LEDGER)
    wrapped(pubsub.Publisher, "publish", Right.TOPIC, nothing)
    wrapped(pubsub.Subscription, "pull", Right.DEAD_LETTER, nothing)
    wrapped(cloud_logging.CloudOutcomeLog, "write", Right.RECORD, nothing)
    wrapped(executor.SshExecutor, "open", Right.LOG_IN)
    wrapped(executor.SshSession, "enforce", Right.ROOT)
    wrapped(apis.Apis, "ask", Right.INSPECT, no_answer)
    monkeypatch.setattr(osconfig_policies.Assignments, "__init__", lambda *_: None)
    monkeypatch.setattr(osconfig_policies.Assignments, "close", lambda *_: None)
    applied = osconfig_policies.Applied(osconfig_policies.AssignmentPlace("p", "z", "a"), "unchanged")
    wrapped(osconfig_policies.Assignments, "find", Right.POLICIES, lambda *_: None)
    wrapped(osconfig_policies.Assignments, "apply", Right.POLICIES, lambda *_: applied)
    wrapped(osconfig_policies.Assignments, "wait", Right.POLICIES, lambda *_: None)
    monkeypatch.setattr(freeze, "WAIT", 0)
    place.settings |= {"outcomes": "cloud", "topic": TOPIC, "mode": "enforce"}
    return noted


def typed(use: str, place: Place, folder: Path) -> list[str]:
    """Fill in what a use leaves to its reader."""
    (folder / "entries.json").write_text(json.dumps(place.logs.entries))
    project, zone, _ = identity(place.machine("web-1"))
    if "approvals" in use:
        deliver(place, "web-1", mode="approve")
    if use.startswith("status FILE"):
        deliver(place, "web-2", outcomes=f"file:{folder / 'entries.json'}")
    words = {
        "FILE": str(folder / "entries.json"),
        "PROJECT": project,
        "INSTANCE": place.ref("web-1"),
        "NAME": f"{project}/{zone}/web-1",
        "SUBSCRIPTION": "logmend-dead-letter",
        "FILTER": "gce_workload_cert_refresh",
    }
    if "ID" in use.split():
        words["ID"] = place.json("approvals", "list")[0]["approval_id"]
    more = ["--yes"] if "--enforce" in use else []
    more += ["--zone", zone] if use in ("policy apply", "policy status") else []
    more += ["--out", str(folder / "report.html")] if use == "report" else []
    return [words.get(each, each) for each in use.split()] + more


@pytest.mark.parametrize("use", [each for each in USES if each not in NOT_RUN])
def test_a_command_asks_for_what_the_table_says(use: str, place: Place, asked: Asked, tmp_path: Path) -> None:
    """No more, so that nobody is given too much; no less, so that it works with the roles of the table."""
    line = entry(identity(place.machine("web-1")), at=datetime.now(UTC))
    place.logs.entries = [line]
    if use == "report":
        said = document.document(deliver(place, "web-1", outcomes="none", mode="observe"))
        log = f"projects/demo-project/logs/{document.LOG_ID}"
        place.logs.entries += [{"logName": log, "timestamp": said["timestamp"], "jsonPayload": said}]
    if use in ("revert INSTANCE --enforce", "tick"):
        deliver(place, "web-1", outcomes="none")
    if use == "tick":
        place.logmend("run", place.ref("web-2"), "--via-function", "--enforce", "--yes")
    command = typed(use, place, tmp_path)
    asked.forget()  # what was made ready
    ran = place.logmend(*command)
    assert ran.exit_code in (0, 1), (ran.stdout, ran.stderr)
    assert not ran.stderr.startswith("Traceback"), ran.stderr
    assert asked.all() == USES[use], (ran.stdout, ran.stderr)


def test_every_command_is_in_the_table() -> None:
    """Whoever adds a command says which rights it takes."""
    assert {use.split()[0] for use in USES} == COMMANDS.keys()
    assert GRANTS.keys() == set(Right)


def test_the_variable_operators_gives_what_the_table_says() -> None:
    """The roles of the rows with a yes are those that Terraform grants to operators, and no other."""
    parsed = provider.parse((provider.ROOT / "deploy" / "iam.tf").read_text())
    granted = [
        body['"operator"']["role"].strip('"')
        for kind in parsed["resource"]
        for body in kind.values()
        if '"operator"' in body
    ]
    said = {grant.role.strip("`") for grant in GRANTS.values() if grant.by_operators}
    assert {each for each in said if each.startswith("roles/")} == {
        each for each in granted if each.startswith("roles/")
    }
    assert [each for each in granted if not each.startswith("roles/")] == [
        '${google_project_iam_custom_role.home["operator"].id}'
    ]
    assert permissions.LEDGER | {"logging.logEntries.list"} <= permissions.OPERATOR

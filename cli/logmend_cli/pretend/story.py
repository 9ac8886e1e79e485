"""The demo's story: a fleet, what it logs, and the expected result of every event.

Each scene is one message about one VM, with its expected result. The demo fails if the outcome differs, or if
a machine is not in the state that its outcome claims.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Unpack

import asyncssh

from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.entries import LineShape, entry, incident
from logmend_cli.pretend.fleet import TIMER, Machine, PretendFleet
from logmend_cli.pretend.instance import PretendInstance

PROJECT = "demo-project"
CERTIFICATE_PROJECT = "certificates-project"
ZONE = "us-west1-a"


class Scene(Struct, frozen=True):
    """One message. ``expected`` is the final ``result`` or ``result: reason``; ``body`` creates its data.

    ``again`` delivers it a second time after all others; ``follows`` delivers it only after everything else
    is done.
    """

    message_id: str
    machine: str
    what: str
    expected: str
    body: Callable[[], dict[str, object] | bytes]
    again: bool = False
    follows: bool = False


@dataclass
class Story:
    """Machines and scenes under construction."""

    folder: Path
    machines: dict[str, Machine] = field(default_factory=dict)
    scenes: list[Scene] = field(default_factory=list)
    compute: PretendCompute = field(default_factory=PretendCompute)

    def machine(
        self,
        name: str,
        *,
        project: str = PROJECT,
        timer: str | None = "enabled",
        active: bool = True,
        listens: bool = True,
        own_id: str | None = None,
        published_key: asyncssh.SSHKey | None = None,
        known_to_compute: bool = True,
        **facts: Any,
    ) -> Machine:
        """Add a machine with its own address; ``facts`` are what the Compute API says besides that."""
        number = len(self.machines) + 1
        instance = PretendInstance(
            project_id=project,
            zone=ZONE,
            instance_id=str(4_775_836_342_981_990_000 + number),
            name=name,
            internal_ip=f"127.77.0.{number}",
            service_account=f"vm@{project}.iam.gserviceaccount.com",
            **facts,
        )
        machine = Machine(instance, self.folder / "machines" / name, listens=listens, own_id=own_id)
        machine.make(timer=timer, active=active)
        kind, key = (published_key or machine.host_key).export_public_key().decode().split()[:2]
        instance.guest_attributes[f"hostkeys/{kind}"] = key
        self.machines[name] = machine
        if known_to_compute:
            self.compute.instances.append(instance)
        return machine

    def line(
        self,
        name: str,
        what: str,
        expected: str,
        *,
        again: bool = False,
        follows: bool = False,
        **shape: Unpack[LineShape],
    ) -> None:
        """Add a scene: the machine logs its line in the given shape."""
        vm = identity(self.machines[name])
        self.scene(name, what, expected, lambda: entry(vm, host=name, **shape), again=again, follows=follows)

    def scene(
        self,
        name: str,
        what: str,
        expected: str,
        body: Callable[[], dict[str, object] | bytes],
        *,
        again: bool = False,
        follows: bool = False,
    ) -> None:
        """Add a scene with any body."""
        self.scenes.append(
            Scene(f"demo-{len(self.scenes) + 1:03}", name, what, expected, body, again, follows)
        )


def identity(machine: Machine) -> tuple[str, str, str]:
    """Return project, zone and id."""
    return machine.instance.project_id, machine.instance.zone, machine.instance.instance_id


def tell(folder: Path) -> tuple[PretendFleet, list[Scene]]:
    """Make the fleet in an empty folder, and the scenes."""
    story = Story(folder)
    story.compute.project_metadata = {
        PROJECT: {},
        CERTIFICATE_PROJECT: {"enable-workload-certificate": "true"},
    }
    _noise(story)
    _opted_in(story)
    _left_alone_on_the_vm(story)
    _trouble(story)
    _messages(story)
    return PretendFleet(
        folder, story.machines, story.compute, asyncssh.generate_private_key("ssh-ed25519")
    ), story.scenes


def _noise(story: Story) -> None:
    """VMs that do not use certificates: every log path and every form of the line."""
    shapes: tuple[tuple[str, str, LineShape], ...] = (
        ("web-1", "Ops Agent, syslog", {}),
        ("web-2", "Ops Agent, journald receiver", {"path": "journald"}),
        ("web-3", "syslog, RFC 3339 prefix", {"path": "syslog-rfc3339"}),
        ("web-4", "google-fluentd, text", {"path": "fluentd-text"}),
        ("web-5", "google-fluentd, JSON", {"path": "fluentd-json"}),
        ("web-6", "serial console, escaped", {"path": "serial"}),
        ("web-7", "serial console, with colours", {"path": "serial-old"}),
        ("web-8", "guest agent of 2022-09", {"form": "2022-09"}),
        ("web-9", "guest agent of 2023", {"form": "2023"}),
        ("web-10", "guest agent of 2023, journald", {"form": "2023", "path": "journald"}),
    )
    for name, what, shape in shapes:
        story.machine(name)
        story.line(name, what, "remediated", again=name == "web-1", **shape)
    story.line("web-1", "the same VM, ten minutes on", "skipped: cooling_down", follows=True)
    story.machine("web-11")
    vm = identity(story.machines["web-11"])
    story.scene("web-11", "alert policy names the runbook", "remediated", lambda: incident(vm, "inc-7"))
    story.scene(
        "web-11", "the same incident again", "skipped: duplicate", lambda: incident(vm, "inc-7"), follows=True
    )
    story.machine("web-12", timer="disabled", active=False)
    story.line("web-12", "timer is off already", "nothing_to_do")
    story.machine("web-13", timer=None)
    story.line("web-13", "no such unit", "nothing_to_do")


def _opted_in(story: Story) -> None:
    """VMs whose owners would object, by what the Compute API knows."""
    story.machine("cert-1", metadata={"enable-workload-certificate": "TRUE"})
    story.line("cert-1", "opted in by metadata", "refused: opted_in", form="2023")
    story.machine("cert-2", project=CERTIFICATE_PROJECT)
    story.line("cert-2", "opted in by project metadata", "refused: opted_in")
    story.machine("cert-3", identity_certificate_enabled=True)
    story.line("cert-3", "identity certificate enabled", "refused: opted_in")
    story.machine("cert-4", partner_metadata={"iam.googleapis.com": {"workload": "x"}})
    story.line("cert-4", "opted in by partner metadata", "refused: opted_in")
    story.machine("cert-5")
    story.line("cert-5", "HTTP 412: configured, never valid", "refused: certificates_configured", form="412")
    story.machine("cert-6")
    story.line("cert-6", "guest agent of 2025, HTML", "refused: opted_in", form="2025")
    story.machine("core-1")
    story.line("core-1", "the agent's core plugin says it", "refused: not_this_timer", path="core-plugin")
    story.machine("exempt-1", labels={"logmend": "off"})
    story.line("exempt-1", "label logmend=off", "refused: exempt")
    story.machine("stopped-1", status="TERMINATED")
    story.line("stopped-1", "stopped meanwhile", "skipped: not_running")


def _left_alone_on_the_vm(story: Story) -> None:
    """VMs that refuse by themselves."""
    used = story.machine("used-1")
    credentials = used.folder / "run/secrets/workload-spiffe-credentials"
    credentials.mkdir(parents=True)
    (credentials / "certificates.pem").touch()
    story.line("used-1", "credentials are there", "refused: certificates_in_use")
    status = story.machine("used-2")
    served = "pretend/http/169.254.169.254/computeMetadata/v1/instance/gce-workload-certificates"
    (status.folder / served).mkdir(parents=True)
    (status.folder / served / "config-status").write_text("{}")
    story.line("used-2", "config-status answers 200", "refused: certificates_in_use")
    story.machine("masked-1", timer="masked", active=False)
    story.line("masked-1", "somebody masked the timer", "refused: masked_by_others")


def _trouble(story: Story) -> None:
    """VMs and services that do not do what they should."""
    story.machine("gone-1", known_to_compute=False)
    story.line("gone-1", "deleted meanwhile", "skipped: instance_gone")
    story.machine("moved-1", own_id="1111111111111111111")
    story.line("moved-1", "another VM at its address", "failed: wrong_instance")
    story.machine("dark-1", listens=False)
    story.line("dark-1", "SSH port closed", "failed: unreachable")
    story.machine("rekeyed-1", published_key=asyncssh.generate_private_key("ssh-ed25519"))
    story.line("rekeyed-1", "another host key than published", "failed: host_key_mismatch")
    broken = story.machine("broken-1")
    _fail(broken, "systemctl-disable", "Failed to disable unit: Read-only file system")
    story.line("broken-1", "systemctl disable fails", "failed: script_error")
    poor = story.machine("nosudo-1")
    _fail(poor, "sudo", "sudo: a password is required")
    story.line("nosudo-1", "no sudo", "failed: not_permitted")
    flaky = story.machine("flaky-1")
    story.compute.fail(f"instances/{flaky.instance.instance_id}$", 503, times=2)
    story.line("flaky-1", "Compute API answers 503 at first", "remediated")


def _messages(story: Story) -> None:
    """Messages that are not what they seem."""
    now = datetime.now(UTC)
    story.machine("old-1")
    story.line("old-1", "backlog: a line of yesterday", "skipped: stale", path="syslog-rfc3339",
               line_at=now - timedelta(days=1))  # fmt: skip
    story.machine("quoted-1")
    story.line("quoted-1", "sudo grep quotes the line", "unmatched", path="auth")
    story.line("quoted-1", "another line of the program", "unmatched", form="done")
    forged = story.machine("forged-1")
    project, zone, _ = identity(forged)
    story.scene(
        "forged-1", "instance_id is a command", "rejected: bad_identity",
        lambda: entry((project, zone, "1; reboot #")),
    )  # fmt: skip
    story.scene(
        "forged-1", "entry of another project's log", "refused: project_mismatch",
        lambda: entry(identity(forged)) | {"logName": "projects/somebody-elses/logs/syslog"},
    )  # fmt: skip
    story.scene("-", "not JSON", "rejected: malformed", lambda: b"\x00\xff{{{")
    story.scene("-", "JSON, but no event", "rejected: not_an_event", lambda: {"hello": "world"})
    story.scene(
        "-", "our own outcome", "skipped: own_entry",
        lambda: entry(identity(forged)) | {"logName": f"projects/{PROJECT}/logs/logmend"},
    )  # fmt: skip


def _fail(machine: Machine, command: str, text: str) -> None:
    folder = machine.folder / "pretend" / "fail"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / command).write_text(text + "\n")


def claims_hold(machine: Machine, before: str | None, outcomes: Sequence[JsonObject]) -> str | None:
    """Compare what outcomes claim with the machine; return the difference, None if there is none."""
    results = {outcome["result"] for outcome in outcomes}
    touched = any({"disable", "--now"} <= set(call.split()) for call in machine.calls())
    now = machine.timer()
    if "reverted" in results:
        return None if now == before else f"reverted, but {TIMER} is {now} and was {before}"
    if "remediated" in results:
        if now != "disabled inactive" or not touched:
            return f"remediated, but {TIMER} is {now}"
        return None
    return f"not remediated, but {TIMER} went from {before} to {now}" if now != before else None

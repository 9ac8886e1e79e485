"""``--local``: run the scripts of ``runbook export``, and ``diagnose.sh``, on this VM.

There is no ledger, no look-up and no SSH: guards that need them are left out, and the outcome says so. The
metadata ``logmend=off`` of the VM or its project refuses as everywhere; labels cannot be seen from the VM.
"""

import json
import os
import pwd
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import click

from logmend import catalog
from logmend.diagnose import Diagnosed
from logmend.errors import ConfigError
from logmend.model.enums import Action, Mode, Result
from logmend.model.evidence import error_text
from logmend.model.values import Diagnosis, InstanceRef
from logmend.runbook import Runbook, diagnosis, load
from logmend.runbook.decode import suggestion
from logmend.runbook.load import NONE
from logmend_cli import inputs, output
from logmend_cli.documented import together
from logmend_cli.errors import UNUSABLE, confirm, status_of, warn
from logmend_cli.runbook import export

if TYPE_CHECKING:
    from logmend_cli.run.options import OrderOptions

LONGEST = 100
"""Seconds that ``diagnose.sh`` may take; each command in it that can block has its own limit."""

NOBODY = "nobody"
"""The user as which root runs ``diagnose.sh`` by default."""

_ALONE = frozenset(
    {
        "named",
        "on_this_vm",
        "runbook",
        "enforce",
        "yes",
        "labels_unchecked",
        "as_root",
        "by",
        "parallel",
        "shape",
    }
)

option = click.option(
    "--local", "on_this_vm", is_flag=True, help="Work on the VM that this command runs on, without SSH."
)
"""The option ``--local``."""


options = together(
    option,
    click.option(
        "--labels-unchecked",
        is_flag=True,
        help="With --local --enforce: accept that the VM's labels, such as logmend=off, are not checked.",
    ),
)
"""The options of a request for the VM on which it runs."""


def carry_out(options: "OrderOptions") -> int:
    """Carry out a request on this VM, or show what it would do; return the exit status."""
    settings, enforce = inputs.settings(), options.enforce
    _alone()
    if enforce != options.labels_unchecked:
        raise ConfigError(
            ["--local: --enforce and --labels-unchecked go together; labels cannot be seen here"]
        )
    if enforce and inputs.is_set("mode") and settings.mode is Mode.OBSERVE:
        raise ConfigError(["LOGMEND_MODE=observe: nothing is changed from here; unset it"])
    script = export.script(_runbook(options.runbook), revert=options.action is Action.REVERT)
    if enforce and not options.yes:
        confirm(f"{options.action} {options.runbook} on this VM?")
    words = ["--enforce", "--labels-unchecked"] if enforce else []
    ran = subprocess.run(
        ["/bin/sh", "-s", "--", *words],
        input=script.encode(),
        stdout=subprocess.PIPE,
        check=False,
        env={**os.environ, "LOGMEND_BY": options.by},
    )
    if not (lines := ran.stdout.decode(errors="replace").splitlines()):
        return ran.returncode or UNUSABLE  # the script said why
    outcome = json.loads(lines[-1])
    if options.shape == "json":
        output.show_json([outcome])
    else:
        row = {**outcome, "vm": outcome["instance"]["instance_id"]}
        columns = {"vm": "VM", "result": "result", "reason": "reason", "detail": "what was seen"}
        output.show_rows(options.shape, columns, [row])
        for note in outcome["notes"]:
            warn(note)
    if not enforce:
        warn("Nothing was changed. Act with --enforce --labels-unchecked.")
    return status_of([Result(outcome["result"])])


def diagnosed(runbook: str, by: str, *, as_root: bool) -> Diagnosed:
    """Run ``diagnose.sh`` here as the calling user; root runs it as ``nobody`` unless ``as_root``."""
    _alone()
    found, root = _runbook(runbook), os.geteuid() == 0
    if not found.scripts.diagnose:
        raise ConfigError([f"runbook {found.name} has no diagnose.sh"])
    if as_root and not root:
        raise ConfigError(["--local --as-root needs root: run it with sudo"])
    ref, exempt = _here()
    if exempt:
        return Diagnosed(ref, diagnosis.unknown("not_asked", "exempt: metadata logmend=off"))
    if as_root:
        _noted(f"diagnosis of {found.name} {found.digest} as root for {by}: begins")
    return Diagnosed(ref, _diagnosis(found, ref, as_nobody=root and not as_root))


def _noted(text: str) -> None:
    """Record a use of root in the VM's own log, as the exported script does, or refuse it."""
    try:
        ran = subprocess.run([*export.LOG, text], capture_output=True, text=True, check=False)
        why = ran.stderr.strip() or f"exit code {ran.returncode}" if ran.returncode else ""
    except OSError as error:
        why = str(error.strerror)
    if why:
        raise ConfigError([f"--local --as-root is recorded in the VM's own log, but logger failed: {why}"])


def _diagnosis(found: Runbook, ref: InstanceRef, *, as_nobody: bool) -> Diagnosis:
    user = pwd.getpwnam(NOBODY) if as_nobody else None
    try:
        ran = subprocess.run(
            ["/bin/sh", "-s"],
            input=found.scripts.diagnose.encode(),
            capture_output=True,
            timeout=LONGEST,
            check=False,
            cwd="/",
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=[] if user else None,
        )
    except subprocess.TimeoutExpired:
        return diagnosis.unknown("not_ended", f"diagnose.sh took more than {LONGEST} s")
    return diagnosis.decoded(found, ref.instance_id, ran.returncode, ran.stdout, error_text(ran.stderr))


def _alone() -> None:
    """Refuse options that select other VMs or need a ledger."""
    context = click.get_current_context()
    typed = {each.name: each.opts[0] for each in context.command.params}
    named = context.params["named"]
    others = [typed[name] for name, value in context.params.items() if value and name not in _ALONE]
    if named or others:
        raise ConfigError([f"--local is only for this VM: leave out {', '.join([*named, *others])}"])


def _runbook(name: str) -> Runbook:
    settings = inputs.settings()
    folders = catalog.folders(settings)
    if name not in folders:
        raise ConfigError([f"no runbook {name}; {suggestion(name, folders)}"])
    return load(folders[name], catalog.parameters(settings).get(name, NONE))


class _Here(NamedTuple):
    ref: InstanceRef
    exempt: bool


def _here() -> _Here:
    """Ask the metadata server which VM this is, and whether its owner exempted it."""
    zone = _metadata("instance/zone").rpartition("/")[2]
    ref = InstanceRef(_metadata("project/project-id"), zone, _metadata("instance/id"))
    if not ref.instance_id:
        raise ConfigError(["--local: the metadata server did not say which VM this is"])
    own = _metadata("instance/attributes/logmend") or _metadata("project/attributes/logmend")
    return _Here(ref, own == "off")


def _metadata(path: str) -> str:
    """Return a value of the metadata server, empty if it has none; ConfigError if it does not answer."""
    url = f"http://169.254.169.254/computeMetadata/v1/{path}"
    command = ["curl", "-q", "-sSm", "9", "-x", "", "-HMetadata-Flavor:Google", "-w", "\n%{http_code}", url]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ConfigError(["--local: curl is missing"]) from error
    value, _, status = ran.stdout.rpartition("\n")
    if status in ("", "000"):
        why = output.shortened(ran.stderr, 200) or f"curl: exit code {ran.returncode}"
        silent = "the metadata server does not answer; is this a Compute Engine VM?"
        raise ConfigError([f"--local: {silent} ({why})"])
    if status not in ("200", "404"):
        raise ConfigError([f"--local: the metadata server answered {status} for {path}"])
    return value.strip() if status == "200" else ""

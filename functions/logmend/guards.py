"""Guards: the reasons not to touch a VM, by name, as pure functions of what is known.

A guard answers ``Passed``, a verdict (``skipped`` or ``refused``), or ``Pending`` if it lacks facts. Asking
offline, pending is an answer; when it is time to act, it means no (:func:`logmend.stages.decide.guards`).
"""

from collections.abc import Callable, Mapping, Sequence

from logmend.model.enums import Action, Result
from logmend.model.struct import Struct
from logmend.model.values import InstanceFacts, InstanceRef, Verdict
from logmend.settings import Settings

CERTIFICATE_NAMESPACES = frozenset({"wc.compute.googleapis.com", "iam.googleapis.com"})
"""Partner metadata namespaces through which workload certificates are configured."""

AGENT_POLICY = "goog-ops-agent-policy"
"""Label of VMs whose Ops Agent an OS policy of Google's installs."""


class Passed(Struct, frozen=True):
    """The guard has nothing against it."""

    why: str


class Pending(Struct, frozen=True):
    """Facts are missing: the guard answers when they are there. ``reason`` is what it means to act on."""

    why: str
    reason: str = "facts_unknown"


class Basis(Struct, frozen=True):
    """What guards judge by: the VM meant, the log it spoke through, its facts if looked up, and the order."""

    instance: InstanceRef
    log_name: str | None
    facts: InstanceFacts | None
    settings: Settings
    action: Action = Action.ENFORCE


Answer = Passed | Pending | Verdict
Guard = Callable[[Basis], Answer]


def instance_running(basis: Basis) -> Answer:
    """A VM that is not running says nothing new and cannot be reached: nothing is lost."""
    if basis.facts is None:
        return Pending("the VM's status is not looked up yet")
    if basis.facts.status != "RUNNING":
        return Verdict(Result.SKIPPED, "not_running", f"its status is {basis.facts.status or 'unknown'}")
    return Passed("status is RUNNING")


def not_exempt(basis: Basis) -> Answer:
    """The owner's label takes a VM out of reach, whatever else holds."""
    key, value = basis.settings.exempt_label
    if basis.facts is None:
        return Pending("the VM's labels are not looked up yet")
    if basis.facts.labels.get(key) == value:
        return Verdict(Result.REFUSED, "exempt", f"it carries the label {key}={value}")
    return Passed(f"no label {key}={value}")


def in_scope(basis: Basis) -> Answer:
    """Only projects, zones and labels that the operator listed; an empty list sets no bound."""
    settings, instance = basis.settings, basis.instance
    if settings.scope_projects and instance.project_id not in settings.scope_projects:
        return Verdict(Result.REFUSED, "out_of_scope", f"project {instance.project_id} is not in the scope")
    if settings.scope_zones and instance.zone not in settings.scope_zones:
        return Verdict(Result.REFUSED, "out_of_scope", f"zone {instance.zone} is not in the scope")
    if settings.scope_labels:
        if basis.facts is None:
            return Pending("the VM's labels are not looked up yet")
        for key, value in settings.scope_labels:
            if basis.facts.labels.get(key) != value:
                return Verdict(
                    Result.REFUSED,
                    "out_of_scope",
                    f"it lacks the label {key}={value} of the scope",
                )
    bounded = settings.scope_projects or settings.scope_zones or settings.scope_labels
    return Passed("in scope" if bounded else "no scope set")


def project_matches(basis: Basis) -> Answer:
    """An entry in another project's log does not speak for this VM: anyone can forge labels."""
    if basis.log_name is None:
        return Passed("no log name to compare")
    parent = basis.log_name.partition("/logs/")[0]
    if parent != f"projects/{basis.instance.project_id}":
        return Verdict(
            Result.REFUSED,
            "project_mismatch",
            f"the entry is in a log of {parent[:100] or 'no project'}, the VM in another",
        )
    return Passed("the log is in the VM's project")


def not_this_timer(basis: Basis) -> Answer:
    """The guest agent's own plugin says the same words; stopping the timer cannot help there."""
    return _of_core_plugin(basis.log_name) or Passed("not from the guest agent's own log")


def _of_core_plugin(log_name: str | None) -> Verdict | None:
    if log_name is None or not log_name.endswith("/logs/GCEGuestAgent"):
        return None
    detail = "log GCEGuestAgent: stopping the timer cannot silence the core plugin"
    return Verdict(Result.REFUSED, "not_this_timer", detail)


def workload_certificates_unused(basis: Basis) -> Answer:
    """Disabling the timer would break certificates where the owner asked for them; unknown counts as asked.

    Source: guest agents from 20231011.00 on ask ``enable-workload-certificate`` before they ask for
    certificates, so that from them the very same line means that the owner opted in.
    """
    if basis.action is Action.REVERT:
        return Passed("a revert gives back what certificates need")
    facts = basis.facts
    if facts is None:
        return Pending("the VM's metadata is not looked up yet", "opt_in_unknown")
    for where, items in (("instance", facts.metadata), ("project", facts.project_metadata or {})):
        if items.get("enable-workload-certificate", "").strip().lower() == "true":
            return Verdict(
                Result.REFUSED, "opted_in", f"{where} metadata has enable-workload-certificate=true"
            )
    if facts.identity_certificate_enabled:
        return Verdict(
            Result.REFUSED, "opted_in", "workloadIdentityConfig.identityCertificateEnabled is true"
        )
    if named := sorted(CERTIFICATE_NAMESPACES.intersection(facts.partner_namespaces or ())):
        return Verdict(Result.REFUSED, "opted_in", f"partner metadata has the namespace {', '.join(named)}")
    for what, value in (
        ("project_metadata", facts.project_metadata),
        ("identity_certificate_enabled", facts.identity_certificate_enabled),
    ):
        if value is None:
            if what in facts.unknown:
                return Verdict(
                    Result.REFUSED, "opt_in_unknown", f"{what} cannot be read: {facts.unknown[what]}"
                )
            return Pending(f"{what} is not looked up yet", "opt_in_unknown")
    if facts.partner_namespaces is None:
        return Passed("the API did not return partner metadata; the check on the VM decides")
    return Passed("no opt-in in metadata, identity configuration or partner metadata")


def no_agent_policy(basis: Basis) -> Answer:
    """An Ops Agent policy installs and looks after the agent on VMs with its label; two must not do it.

    Whatever the label's value: it names the version of the policy's template.
    """
    if basis.action is Action.REVERT:
        return Passed("a revert only undoes logmend's own change")
    if basis.facts is None:
        return Pending("the VM's labels are not looked up yet")
    if AGENT_POLICY in basis.facts.labels:
        label = f"{AGENT_POLICY}={basis.facts.labels[AGENT_POLICY]}"
        return Verdict(
            Result.REFUSED,
            "managed_by_policy",
            f"an Ops Agent policy governs it: it carries the label {label}",
        )
    return Passed(f"no label {AGENT_POLICY}")


def irreversible(basis: Basis) -> Answer:
    """What a runbook changes for good cannot be put back; an approval acknowledges that."""
    if basis.action is Action.REVERT:
        return Verdict(Result.REFUSED, "no_way_back", "the runbook's changes cannot be undone")
    return Passed("its changes cannot be undone")


GUARDS: Mapping[str, Guard] = {
    guard.__name__: guard
    for guard in (
        in_scope,
        project_matches,
        not_this_timer,
        not_exempt,
        instance_running,
        workload_certificates_unused,
        no_agent_policy,
        irreversible,
    )
}
"""Every guard that a runbook may name."""

OF_THE_LOG: Mapping[str, Callable[[str | None], Verdict | None]] = {not_this_timer.__name__: _of_core_plugin}
"""Guards whose no takes nothing but the log's name: it holds whatever the line says, and of whatever VM."""

ALWAYS = tuple(guard.__name__ for guard in (project_matches, in_scope, instance_running, not_exempt))
"""Guards that every runbook has, whatever it names: no runbook may leave out an owner's no."""


def asked(names: Sequence[str]) -> tuple[str, ...]:
    """Return the guards to ask of a runbook that names ``names``: those of every runbook, then its own."""
    return tuple(dict.fromkeys((*ALWAYS, *names)))


def of_log(names: Sequence[str], log_name: str) -> Verdict | None:
    """Return the first no of the guards that judge by the log alone, before the line and its VM are read."""
    for name in names:
        if name in OF_THE_LOG and (no := OF_THE_LOG[name](log_name)) is not None:
            return no
    return None

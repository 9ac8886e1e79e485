"""The IAM permissions that the deployed function needs: the one list that Terraform, doctor and tests share.

Each group is what one adapter calls; ``deploy/permissions.tf`` grants exactly these through custom roles
and a test compares the two, in every combination of mode, executor and route. A permission that a runbook
declares must be among :data:`GRANTABLE`. Source: the reference page of each API method.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence

from logmend.model.enums import Mode
from logmend.settings import ExecutorChoice, SshRoute

LEDGER = frozenset(
    {
        "datastore.databases.get",  # begin and roll back transactions, not the database's own properties
        "datastore.entities.create",
        "datastore.entities.delete",
        "datastore.entities.get",
        "datastore.entities.list",
        "datastore.entities.update",
    }
)
"""Read and write the Firestore ledger. Granted on that one database."""

OUTCOMES = frozenset({"logging.logEntries.create"})
"""Record outcomes in Cloud Logging."""

LOOKUP = frozenset({"compute.instances.get", "compute.instances.list", "compute.projects.get"})
"""Facts of a VM, or of many in one call, and its project's common metadata (an opt-in may stand there)."""

GROUPS = frozenset({"compute.instanceGroupManagers.get"})
"""Size and health of a managed instance group, of which a share is changed. Never granted in observe mode."""

SSH = frozenset({"compute.instances.getGuestAttributes", "compute.instances.osLogin"})
"""Log in through OS Login without root, against pinned host keys."""

SSH_ROOT = frozenset({"compute.instances.osAdminLogin"})
"""``sudo`` through OS Login. Never granted in observe mode."""

SSH_IAP = frozenset({"iap.tunnelInstances.accessViaIAP"})
"""Open an IAP tunnel to a VM."""

ACT_AS = frozenset({"iam.serviceAccounts.actAs"})
"""OS Login demands it on the VM's service account. Granted on those accounts, not on projects."""

OSCONFIG = frozenset(
    {
        "compute.instances.setLabels",
        "compute.zoneOperations.get",
        "osconfig.osPolicyAssignmentReports.get",
        "osconfig.osPolicyAssignmentReports.list",
        "osconfig.osPolicyAssignments.get",
    }
)
"""Label a VM for an OS policy assignment and read what the agent reported."""

SILENCE = frozenset({"logging.logEntries.list"})
"""Read the VMs' logs after a fix (``LOGMEND_CONFIRM_SILENCE``). It opens every log but the private ones."""

DEAD_LETTER = frozenset({"pubsub.topics.publish"})
"""Keep a copy of what can never be decoded, and publish outcomes. Granted on these two topics alone."""

GRANTABLE = LOOKUP | GROUPS | SSH | SSH_ROOT | SSH_IAP | OSCONFIG
"""What a runbook may declare: what the function itself calls on a VM's project, and nothing wider."""

Use = tuple[Mode, ExecutorChoice]
"""How one runbook may be used: its mode, and the way to its VMs."""


def fleet_of(
    uses: Iterable[Use], route: SshRoute, *, silence: bool = False, declared: Iterable[str] = ()
) -> frozenset[str]:
    """Return what the function needs on the projects of its VMs, for all its runbooks.

    ``declared`` is what the runbooks themselves name as their permissions (:func:`logmend.catalog.declared`).
    """
    wanted = {*LOOKUP, *declared}
    for mode, executor in uses:
        if mode is not Mode.OBSERVE:
            wanted |= GROUPS
        if executor is not ExecutorChoice.OSCONFIG:
            wanted |= SSH
            if mode is not Mode.OBSERVE:
                wanted |= SSH_ROOT
            if route is SshRoute.IAP:
                wanted |= SSH_IAP
        if executor is not ExecutorChoice.SSH:
            wanted |= OSCONFIG
    if silence:
        wanted |= SILENCE
    return frozenset(wanted)


def fleet(mode: Mode, executor: ExecutorChoice, route: SshRoute, *, silence: bool = False) -> frozenset[str]:
    """Return the same if all runbooks have this mode and executor."""
    return fleet_of([(mode, executor)], route, silence=silence)


def function_of(
    uses: Sequence[Use], route: SshRoute, *, silence: bool = False, declared: Iterable[str] = ()
) -> Mapping[str, frozenset[str]]:
    """Return every grant of the function by the custom role that carries it (``deploy/iam.tf``).

    ``ledger`` and ``recorder`` hold in logmend's own project, ``dead_letter`` on the topic, ``fleet`` on the
    VMs' projects (or folder, or organization), ``act_as`` on the VMs' service accounts (absent without ssh).
    """
    roles = {
        "ledger": LEDGER,
        "recorder": OUTCOMES,
        "dead_letter": DEAD_LETTER,
        "fleet": fleet_of(uses, route, silence=silence, declared=declared),
    }
    by_ssh = any(executor is not ExecutorChoice.OSCONFIG for _, executor in uses)
    return roles | {"act_as": ACT_AS} if by_ssh else roles


def function(
    mode: Mode, executor: ExecutorChoice, route: SshRoute, *, silence: bool = False
) -> Mapping[str, frozenset[str]]:
    """Return the same if all runbooks have this mode and executor."""
    return function_of([(mode, executor)], route, silence=silence)


OPERATOR = frozenset(
    {
        *LEDGER,
        "cloudfunctions.functions.list",  # logmend use
        "logging.logEntries.list",
        "logging.logs.list",
        "pubsub.topics.get",
    }
)
"""What a person needs for use, status, run --via-function, approvals, freeze, resume (role ``operator``)."""

if __name__ == "__main__":  # ROLE PERMISSION,PERMISSION… a line, for deploy/gcloud.sh
    choice = Mode(sys.argv[1]), ExecutorChoice(sys.argv[2]), SshRoute(sys.argv[3])
    for role, wanted in function(*choice, silence=sys.argv[4:] == ["silence"]).items():
        sys.stdout.write(f"{role} {','.join(sorted(wanted))}\n")

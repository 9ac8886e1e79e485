"""The rights that each use of the command needs, for docs/cli.md.

A test runs every use against a pretend fleet and compares them with the calls that were made.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Right(StrEnum):
    """Something that a command does in Google Cloud."""

    LEDGER = "ledger"
    OUTCOMES = "outcomes"
    TOPIC = "topic"
    DEAD_LETTER = "dead letter"
    LOOK_UP = "look up"
    READ_LOGS = "read logs"
    LOG_IN = "log in"
    ROOT = "root"
    RECORD = "record"
    POLICIES = "policies"
    FIND = "find the function"
    INSPECT = "inspect"


class Grant(NamedTuple):
    """What gives a right: the role, where it is granted, and whether the variable ``operators`` grants it."""

    role: str
    where: str
    by_operators: bool = False


HOME, FLEET = "`project_id`", "the VMs' projects"

GRANTS: Mapping[Right, Grant] = MappingProxyType(
    {
        Right.LEDGER: Grant("`logmend_operator`", HOME, by_operators=True),
        Right.OUTCOMES: Grant("`logmend_operator`", HOME, by_operators=True),
        Right.TOPIC: Grant("`roles/pubsub.publisher`", "the topic", by_operators=True),
        Right.DEAD_LETTER: Grant("`roles/pubsub.subscriber`", "its subscription", by_operators=True),
        Right.LOOK_UP: Grant("`roles/compute.viewer`", FLEET),
        Right.READ_LOGS: Grant("`roles/logging.viewer`", FLEET),
        Right.LOG_IN: Grant(
            "as a service account: `roles/compute.osLogin`, `roles/iap.tunnelResourceAccessor`;"
            " `roles/iam.serviceAccountUser`",
            f"{FLEET}; the VMs' service accounts",
        ),
        Right.ROOT: Grant("the same with `roles/compute.osAdminLogin`", FLEET),
        Right.RECORD: Grant("`roles/logging.logWriter`", HOME),
        Right.POLICIES: Grant("`roles/osconfig.osPolicyAssignmentAdmin`", FLEET),
        Right.FIND: Grant("`logmend_operator`", HOME, by_operators=True),
        Right.INSPECT: Grant(
            "`roles/viewer`, `roles/iam.securityReviewer`; `roles/iam.serviceAccountTokenCreator`",
            f"{HOME} and {FLEET}; the function's account",
        ),
    }
)

_HAND_OVER = frozenset({Right.LEDGER, Right.TOPIC})
_CHECK = frozenset({Right.LOOK_UP, Right.LOG_IN})
_ACT = frozenset({Right.LEDGER, Right.LOOK_UP, Right.LOG_IN, Right.ROOT, Right.RECORD})
_NONE = frozenset[Right]()

USES: Mapping[str, frozenset[Right]] = MappingProxyType(
    {
        "explain FILE": _NONE,
        "explain FILE --live": frozenset({Right.LOOK_UP}),
        "scan FILE --offline": _NONE,
        "scan FILE": frozenset({Right.LOOK_UP}),
        "scan --project PROJECT": frozenset({Right.LOOK_UP, Right.READ_LOGS}),
        "diagnose INSTANCE": _CHECK | {Right.LEDGER},
        "demo": _NONE,
        "run INSTANCE": _CHECK,
        "run INSTANCE --enforce": _ACT,
        "run INSTANCE --via-function": _HAND_OVER,
        "run INSTANCE --via-function --enforce": _HAND_OVER,
        "run NAME --via-function --enforce": _HAND_OVER | {Right.LOOK_UP},
        "revert INSTANCE": _CHECK,
        "revert INSTANCE --enforce": _ACT,
        "revert INSTANCE --via-function --enforce": _HAND_OVER,
        "replay FILE": _NONE,
        "replay FILE --publish": frozenset({Right.TOPIC}),
        "replay FILE --allow-stale": _HAND_OVER,
        "replay --subscription SUBSCRIPTION": frozenset({Right.DEAD_LETTER}),
        "replay --filter FILTER": frozenset({Right.READ_LOGS}),
        "approvals list": frozenset({Right.LEDGER}),
        "approvals approve ID": _HAND_OVER,
        "approvals reject ID": frozenset({Right.LEDGER}),
        "approvals withdraw ID": frozenset({Right.LEDGER}),
        "cancel --all": frozenset({Right.LEDGER}),
        "cancel --instance INSTANCE": frozenset({Right.LEDGER}),
        "freeze": _HAND_OVER,
        "freeze --instance INSTANCE": _HAND_OVER | {Right.LOOK_UP},
        "resume": frozenset({Right.LEDGER}),
        "status": frozenset({Right.LEDGER, Right.OUTCOMES}),
        "status FILE": frozenset({Right.LEDGER}),
        "history INSTANCE": frozenset({Right.LEDGER, Right.OUTCOMES}),
        "export --changes": frozenset({Right.LEDGER, Right.OUTCOMES}),
        "report": frozenset({Right.OUTCOMES}),
        "tick": _ACT,
        "serve": _ACT,
        "use PROJECT": frozenset({Right.FIND}),
        "doctor": frozenset({Right.LEDGER, Right.INSPECT}),
        "filter show": _NONE,
        "runbook list": _NONE,
        "policy render": _NONE,
        "policy status": frozenset({Right.POLICIES}),
        "policy apply": frozenset({Right.POLICIES}),
    }
)
"""Each use with the function's settings (``operator_settings``): its ledger, outcomes and topic."""


def section() -> Iterator[str]:
    """Yield the section of docs/cli.md."""
    yield "## Who may run what\n"
    yield (
        "Terraform's variable `operators` grants what the second table marks (the role is named after the"
        " variable `name`). That is enough to act through the function: `--via-function` writes the request"
        " to the ledger, and the function does the work under its own identity, with guards, budget and"
        " records.\n\n"
        "To act from a workstation you need a service account with the function's rights, because logmend"
        " uses OS Login with service accounts. The function's own account will do:"
        " `gcloud auth application-default login --impersonate-service-account=ACCOUNT`, if you have"
        " `roles/iam.serviceAccountTokenCreator` on it. You also need a route to the VMs:"
        " `LOGMEND_SSH_ROUTE=iap`, unless you are in their network.\n"
    )
    yield "| command | needs |\n|---|---|"
    for use, wanted in USES.items():
        needs = ", ".join(each.value for each in Right if each in wanted)
        yield f"| `logmend {use}` | {needs or 'nothing'} |"
    yield "\n| need | role | on | with `operators` |\n|---|---|---|---|"
    for right, grant in GRANTS.items():
        yield f"| {right} | {grant.role} | {grant.where} | {'yes' if grant.by_operators else 'no'} |"
    yield ""

"""docs/terraform.md, made from the .tf files: ``python -m tests.terraform_page > docs/terraform.md``.

A test compares the two, so that no variable, output or role is missing there. Which role carries what a
resource needs is written here; a resource type that is not is an error. Sources: "Required roles" of each
product's guide, and cloud.google.com/iam/docs/roles-permissions.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests import provider_schema as provider

HOME, FLEET, ABOVE = "`project_id`", "each project whose VMs are looked after", "the folder or organization"

ROLES: Mapping[str, str] = {
    "google_cloud_run_service_iam_member": "roles/run.admin",
    "google_cloud_scheduler_job": "roles/cloudscheduler.admin",
    "google_cloudfunctions2_function": "roles/cloudfunctions.admin",
    "google_compute_firewall": "roles/compute.securityAdmin",
    "google_firestore_database": "roles/datastore.owner",
    "google_firestore_field": "roles/datastore.owner",
    "google_firestore_index": "roles/datastore.owner",
    "google_folder_iam_member": "roles/resourcemanager.folderIamAdmin",
    "google_logging_folder_sink": "roles/logging.configWriter",
    "google_logging_metric": "roles/logging.configWriter",
    "google_logging_organization_sink": "roles/logging.configWriter",
    "google_logging_project_sink": "roles/logging.configWriter",
    "google_monitoring_alert_policy": "roles/monitoring.editor",
    "google_monitoring_dashboard": "roles/monitoring.editor",
    "google_monitoring_notification_channel": "roles/monitoring.editor",
    "google_organization_iam_custom_role": "roles/iam.organizationRoleAdmin",
    "google_organization_iam_member": "roles/resourcemanager.organizationAdmin",
    "google_os_config_os_policy_assignment": "roles/osconfig.osPolicyAssignmentAdmin",
    "google_project": "roles/browser",
    "google_project_iam_custom_role": "roles/iam.roleAdmin",
    "google_project_iam_member": "roles/resourcemanager.projectIamAdmin",
    "google_project_service": "roles/serviceusage.serviceUsageAdmin",
    "google_pubsub_subscription": "roles/pubsub.admin",
    "google_pubsub_subscription_iam_member": "roles/pubsub.admin",
    "google_pubsub_topic": "roles/pubsub.admin",
    "google_pubsub_topic_iam_member": "roles/pubsub.admin",
    "google_secret_manager_secret_iam_member": "roles/secretmanager.admin",
    "google_service_account": "roles/iam.serviceAccountAdmin",
    "google_service_account_iam_member": "roles/iam.serviceAccountAdmin",
    "google_storage_bucket": "roles/storage.admin",
    "google_storage_bucket_object": "roles/storage.admin",
    "google_vpc_access_connector": "roles/vpcaccess.admin",
}
ACT_AS = "roles/iam.serviceAccountUser"
"""Needed, beside a resource's own role, to hand it a service account (``iam.serviceAccounts.actAs``)."""
ONLY_WITH: Mapping[str, str] = {
    "google_compute_firewall": "ssh_networks",
    "google_folder_iam_member": "folder_id",
    "google_organization_iam_member": "organization_id",
    "google_os_config_os_policy_assignment": "zones",
    "google_secret_manager_secret_iam_member": "ssh_key_secret",
    "google_vpc_access_connector": "connector",
}
"""The variable without which none of the type is made."""

_INTRODUCTION = """\
# Terraform: roles, variables, outputs

This page is generated from the `.tf` files (`python -m tests.terraform_page > docs/terraform.md`); a test
keeps it up to date. [deploy.md](deploy.md) is the guide.
"""
_ROLES = """\
## Roles for deploying

Owner of `project_id` and of each project with VMs to look after is enough; a folder or an organization
needs the roles in the last rows as well. Without Owner, these predefined roles are enough. A role followed by
a variable is needed only if that variable is set (`secretmanager.admin` also with
`ssh_known_hosts_secret`).
"""


class Need(NamedTuple):
    """A role, where it has to be granted, and for which type of resource."""

    place: str
    role: str
    resource: str
    only_with: str | None = None


def needs() -> list[Need]:
    """Give every role that the files' resources ask of whoever applies them; KeyError for an unknown type."""
    found: list[Need] = []
    for path in provider.files():
        parsed = provider.parse(path.read_text())
        for kind in ("resource", "data"):
            for name, body in _resources(parsed, kind):
                if name.startswith("google_"):
                    found += of(name, body)
    return sorted(set(found), key=lambda need: (need.place, need.role, need.resource))


def _resources(parsed: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for block in parsed.get(kind, ()):
        for name, labels in block.items():
            for body in labels.values():
                yield name.strip('"'), body


def of(name: str, body: Mapping[str, Any]) -> Iterator[Need]:
    """Give the roles that one resource, or data source, asks for."""
    yield Need(_place(name, body), ROLES[name], name, ONLY_WITH.get(name))
    if re.search(r'"service_account(_email)?": "', json.dumps(body)):  # whom the resource is to act as
        yield Need(HOME, ACT_AS, name)


def _place(name: str, body: Mapping[str, Any]) -> str:
    if "folder" in name or "organization" in name:
        return ABOVE
    project = str(body.get("project", body.get("project_id", body.get("service_account_id", ""))))
    return FLEET if "each." in project else HOME  # a project of the caller's choice, or an account in it


def tables(module: str) -> Iterator[str]:
    """Write the variables and outputs of one module."""
    variables: dict[str, dict[str, Any]] = {}
    outputs: dict[str, dict[str, Any]] = {}
    for path in provider.files((provider.ROOT / module,)):
        parsed = provider.parse(path.read_text())
        variables |= dict(provider.labelled(parsed, "variable"))
        outputs |= dict(provider.labelled(parsed, "output"))
    yield f"## {module}/: variables\n"
    yield "| variable | type | default | meaning |\n|---|---|---|---|"
    for name, body in variables.items():
        default = f"`{_value(body['default'])}`" if "default" in body else "**required**"
        yield f"| `{name}` | `{_type(body['type'])}` | {default} | {_text(body['description'])} |"
    yield f"\n## {module}/: outputs\n"
    yield "| output | meaning |\n|---|---|"
    for name, body in outputs.items():
        yield f"| `{name}` | {_text(body['description'])} |"
    yield ""


def _text(value: str) -> str:
    return value.strip('"').replace('\\"', '"').replace("|", "\\|")


def _type(value: Any) -> str:
    written = re.sub(r"^\$\{(.*)\}$", r"\1", str(value).strip('"'))
    return re.sub(r"\"|'", "", written).replace(": ", " = ")


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return value if isinstance(value, str) else json.dumps(value)


def page() -> str:
    """Write the whole page."""
    lines = [_INTRODUCTION, _ROLES, "| where | role | for |", "|---|---|---|"]
    rows: dict[tuple[str, str], list[Need]] = {}
    for need in needs():
        rows.setdefault((need.place, need.role), []).append(need)
    for place in (HOME, FLEET, ABOVE):
        for (where, role), wanted in rows.items():
            if where == place:
                types = ", ".join(f"`{each}`" for each in sorted({need.resource for need in wanted}))
                only = {need.only_with for need in wanted}
                variable = next(iter(only)) if len(only) == 1 else None
                lines.append(f"| {place} | `{role}`{f' (`{variable}`)' if variable else ''} | {types} |")
    return "\n".join([*lines, "", *tables("deploy"), *tables("sink")]).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())

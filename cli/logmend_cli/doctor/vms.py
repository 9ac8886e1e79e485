"""What some real VMs of each project say about OS Login and SSH host keys: facts in, checks out. Pure.

A project's metadata says what new VMs inherit. Only an existing VM shows whether it lets logmend in: its own
metadata overrides the project's, and its guest agent published host keys on the first boot or never.
"""

from collections.abc import Iterator

from logmend import instance_json
from logmend.adapters.google.compute import GUEST_ATTRIBUTES_POLICY
from logmend.model.json import JsonObject
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts
from logmend.outcome.reasons import PUBLISH
from logmend.settings import SshRoute
from logmend_cli.doctor.facts import Check, Facts, Health

SAMPLE = 5
"""The number of running VMs of a project in the sample, spread over the first page of its listing."""


def sampled(facts: Facts, project: str) -> list[InstanceFacts]:
    """Choose the sampled VMs, with the metadata that they inherit from the project."""
    found = [
        document
        for scope in dict(facts.body(f"vms/{project}").get("items") or {}).values()
        for document in scope.get("instances") or ()
    ]
    inherited = metadata(facts, project)
    vms = sorted(
        (instance_json.facts(each, project, "not asked for", "not asked for") for each in found),
        key=lambda each: each.ref,
    )
    step = max(len(vms) // SAMPLE, 1)
    return [replace(each, project_metadata=inherited) for each in vms[::step][:SAMPLE]]


def hostkeys(vm: InstanceFacts) -> str:
    """Return the name of the answer that has a VM's published host keys."""
    return f"hostkeys/{vm.ref}"


def checks(facts: Facts, project: str) -> Iterator[Check]:
    """Check how the sampled VMs let logmend in, and how their host keys are known."""
    yield login(facts, project)
    if facts.settings.ssh_host_keys in ("auto", "pinned", "published"):
        yield host_keys(facts, project)


def login(facts: Facts, project: str) -> Check:
    """See whether OS Login is on, on running VMs; if none runs, in the project's metadata."""
    name, reply = f"OS Login in {project}", facts[f"compute/{project}"]
    if facts.settings.ssh_key:
        return Check(name, Health.OK, "a key of your own is used")
    if reply.body is None:
        return Check(name, Health.UNKNOWN, reply.why)
    vms = sampled(facts, project)
    off = [vm for vm in vms if not is_true(vm.effective("enable-oslogin"))]
    everywhere = is_true(metadata(facts, project).get("enable-oslogin"))
    set_it = f"gcloud compute project-info add-metadata --project={project} --metadata=enable-oslogin=TRUE"
    if off:
        if everywhere:
            set_it = f"gcloud compute instances add-metadata {_named(off[0])} --metadata=enable-oslogin=TRUE"
        said = f"{len(off)} of {len(vms)} running VMs checked do without: {_names(off)}"
        return Check(name, Health.WARN, f"enable-oslogin: {said}", set_it)
    if vms:
        return Check(name, Health.OK, f"enable-oslogin=TRUE on all {len(vms)} running VMs checked")
    if not everywhere:
        return Check(name, Health.WARN, "enable-oslogin is not TRUE for the project; VMs may set it", set_it)
    return Check(name, Health.OK, "enable-oslogin=TRUE for the project; no running VM was seen")


def host_keys(facts: Facts, project: str) -> Check:
    """See which VMs published host keys, and what that means under the setting."""
    name, found = f"host keys in {project}", facts.settings
    if facts[f"vms/{project}"].body is None:
        return Check(name, Health.UNKNOWN, facts[f"vms/{project}"].why)
    vms = sampled(facts, project)
    if not vms:
        return Check(name, Health.UNKNOWN, "no running VM to check")
    asked = {vm.name: facts[hostkeys(vm)] for vm in vms}
    unknown = [reply for reply in asked.values() if reply.body is None and not reply.absent]
    if unknown and GUEST_ATTRIBUTES_POLICY not in unknown[0].why:
        return Check(name, Health.UNKNOWN, unknown[0].why)
    without = [vm for vm in vms if not _has_keys(asked[vm.name].body)]
    said = f"{len(vms) - len(without)} of {len(vms)} running VMs checked have published theirs"
    if unknown:
        said += f"; {GUEST_ATTRIBUTES_POLICY} forbids it"
    pins = found.ssh_host_keys == "pinned" or (
        found.ssh_host_keys == "auto" and found.ssh_route is SshRoute.IAP
    )
    if not without:
        return Check(name, Health.OK, said)
    if pins:
        return Check(name, Health.OK, f"{said}; the others' are pinned at first contact: {_names(without)}")
    repair = f"gcloud compute ssh {_named(without[0])} --command={_quoted(PUBLISH)}"
    if unknown:
        repair = "set LOGMEND_SSH_ROUTE=iap and LOGMEND_SSH_HOST_KEYS=auto"
    state = Health.FAIL if len(without) == len(vms) else Health.WARN
    return Check(name, state, f"{said}; host_key_unknown is what comes of {_names(without)}", repair)


def metadata(facts: Facts, project: str) -> dict[str, str]:
    """Return a project's common metadata."""
    return dict(instance_json.metadata(facts.body(f"compute/{project}").get("commonInstanceMetadata")))


def _has_keys(body: JsonObject | None) -> bool:
    return bool(((body or {}).get("queryValue") or {}).get("items"))


def is_true(value: str | None) -> bool:
    """Return whether a metadata value turns something on."""
    return (value or "").strip().lower() == "true"


def _names(vms: list[InstanceFacts]) -> str:
    return ", ".join(vm.name for vm in vms)


def _named(vm: InstanceFacts) -> str:
    return f"{vm.name} --zone={vm.ref.zone} --project={vm.ref.project_id}"


def _quoted(command: str) -> str:
    """Quote for a shell, readably: the command has single quotes and dollars of its own."""
    return '"' + command.replace("\\", "\\\\").replace("$", "\\$") + '"'

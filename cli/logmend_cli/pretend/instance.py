"""One VM as the pretend Compute Engine API knows and returns it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

BASE = "https://www.googleapis.com/compute/v1"


@dataclass
class PretendInstance:
    """One VM as the API knows it. Keys of ``guest_attributes`` are like ``hostkeys/ssh-ed25519``."""

    project_id: str
    zone: str
    instance_id: str
    name: str
    status: str = "RUNNING"
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    internal_ip: str | None = None
    external_ip: str | None = None
    service_account: str | None = None
    identity_certificate_enabled: bool | None = None
    partner_metadata: dict[str, object] = field(default_factory=dict)
    guest_attributes: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    health: str | None = None
    current_action: str = "NONE"

    @property
    def fingerprint(self) -> str:
        """Changes with every change of the labels."""
        return f"fp{self.generation}="

    @property
    def path(self) -> str:
        """Path below the API's version, by name."""
        return f"projects/{self.project_id}/zones/{self.zone}/instances/{self.name}"

    def document(self, *, full: bool = False) -> dict[str, object]:
        """Return the instance as ``instances.get`` does; ``full`` adds what ``view=FULL`` adds."""
        interface: dict[str, object] = {"kind": "compute#networkInterface", "name": "nic0"}
        if self.internal_ip:
            interface["networkIP"] = self.internal_ip
        if self.external_ip:
            interface["accessConfigs"] = [{"name": "External NAT", "natIP": self.external_ip}]
        document: dict[str, object] = {
            "kind": "compute#instance",
            "id": self.instance_id,
            "creationTimestamp": "2026-01-01T00:00:00.000-08:00",
            "name": self.name,
            "status": self.status,
            "zone": f"{BASE}/projects/{self.project_id}/zones/{self.zone}",
            "selfLink": f"{BASE}/{self.path}",
            "machineType": f"{BASE}/projects/{self.project_id}/zones/{self.zone}/machineTypes/e2-small",
            "networkInterfaces": [interface],
            "metadata": {
                "kind": "compute#metadata",
                "fingerprint": "md0=",
                **({"items": metadata_items(self.metadata)} if self.metadata else {}),
            },
            "labelFingerprint": self.fingerprint,
        }
        if self.labels:
            document["labels"] = dict(self.labels)
        if self.service_account:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            document["serviceAccounts"] = [{"email": self.service_account, "scopes": scopes}]
        if self.identity_certificate_enabled is not None:
            document["workloadIdentityConfig"] = {
                "identityCertificateEnabled": self.identity_certificate_enabled
            }
        if full and self.partner_metadata:
            document["partnerMetadata"] = {
                name: {"entries": entries} for name, entries in self.partner_metadata.items()
            }
        return document


def managed_instance(vm: PretendInstance) -> dict[str, object]:
    """Return a VM as ``listManagedInstances`` does, with ``instanceHealth`` if there is a health check."""
    checked = [{"healthCheck": f"{BASE}/check", "detailedHealthState": vm.health}] if vm.health else []
    return {
        "id": vm.instance_id,
        "instance": f"{BASE}/{vm.path}",
        "name": vm.name,
        "instanceStatus": vm.status,
        "currentAction": vm.current_action,
        **({"instanceHealth": checked} if checked else {}),
    }


def metadata_items(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """Return metadata as the API writes it."""
    return [{"key": key, "value": value} for key, value in metadata.items()]

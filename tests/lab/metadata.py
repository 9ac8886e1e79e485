"""The metadata server of a lab's machine, with what it says of certificates."""

import threading

from logmend_cli.machine import metadata

OPTED_IN = "instance/attributes/enable-workload-certificate"
"""The VM's own word on whether its owner wants certificates."""
ABOUT_CERTIFICATES = frozenset(
    {
        "instance/workload-identities",
        "instance/workload-trusted-root-certs",
        "instance/workload-certificates-config-status",
        "instance/gce-workload-certificates/config-status",
        "instance/gce-workload-certificates/workload-identities",
        "instance/gce-workload-certificates/trust-anchors",
    }
)
"""What the agents' programs ask, by tag (guest-agent, gce_workload_cert_refresh/main.go); all get one answer.
20230919 to 20231019 also ask for ``root-certs``, which was not there where they were observed."""
BODIES = {
    200: '{"partnerMetadataConfigsErrors": {}}',
    404: "workload certificate feature not enabled",
    412: "workload certificates are configured, but the configuration was never valid",
}
"""What the endpoints say with each status (412's text is our own: no source quotes it)."""


class MetadataServer(metadata.MetadataServer):
    """Answers about certificates with ``config_status``; None is silence."""

    def __init__(self, pid: int, *, config_status: int | None, attributes: dict[str, str]) -> None:
        """Listen as any metadata server of a machine does."""
        self.config_status = config_status
        self.config_body: str | None = None
        self._closed = threading.Event()
        super().__init__(pid, attributes)

    def answer(self, path: str) -> tuple[int, str] | None:
        """Answer as the status says, once there is one; everything else as ever."""
        if path not in ABOUT_CERTIFICATES:
            return super().answer(path)
        self.requests.append(path)
        status = self.config_status
        while status is None and not self._closed.wait(0.05):
            status = self.config_status
        if status is None:
            return None
        return status, self.config_body if self.config_body is not None else BODIES.get(status, "")

    def close(self) -> None:
        """Stop listening, also to those who wait for an answer."""
        self._closed.set()
        super().close()

"""Log entries of the pretend fleet, as each documented path writes them. Shapes: docs/the-line.md."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

PROGRAM = "gce_workload_cert_refresh"
LEAD = "Error getting config status, workload certificates may not be configured: "
FORMS = {
    "2022-09": "No workload identities found: HTTP 404",
    "2022": LEAD + "HTTP 404",
    "2023": LEAD
    + 'failed to GET "instance/gce-workload-certificates/config-status" from MDS with error:'
    + " error connecting to metadata server, status code: 404",
    "2025": LEAD
    + 'failed to GET "instance/gce-workload-certificates/config-status" from MDS with error: giving up,'
    + " retry policy returned false on error: request failed with status code: [404], error: [invalid"
    + " response from metadata server, status code: 404, reason: <!DOCTYPE html>\n<html lang=en>\n"
    + "<title>Error 404 (Not Found)!!1</title>]",
    "412": LEAD + "HTTP 412",
    "done": "Done",
}
"""The line's text without its prefix, by the guest agent that wrote it."""


class LineShape(TypedDict, total=False):
    """How a line is logged: its form, its path to Cloud Logging, the entry's time and the line's own."""

    form: str
    path: str
    at: datetime
    line_at: datetime


def entry(
    vm: tuple[str, str, str],
    form: str = "2022",
    *,
    path: str = "syslog",
    host: str = "web",
    at: datetime | None = None,
    line_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the LogEntry of one line of a VM (project, zone, id), as the log path writes it on ``host``."""
    at = at or datetime.now(UTC)
    local = (line_at or at).strftime("%Y/%m/%d %H:%M:%S")
    bare = f"{local}: {FORMS[form]}"
    rfc3164 = f"{(line_at or at).strftime('%b %e %H:%M:%S')} {host} {PROGRAM}[929]: {bare}"
    rfc3339 = f"{(line_at or at).isoformat()} {host}.internal {PROGRAM}[49188]: {bare}"
    paths: dict[str, tuple[str, dict[str, object]]] = {
        "syslog": ("syslog", {"jsonPayload": {"message": rfc3164}}),
        "syslog-rfc3339": ("syslog", {"jsonPayload": {"message": rfc3339}}),
        "journald": (
            "journal",
            {
                "jsonPayload": {
                    "MESSAGE": bare,
                    "SYSLOG_IDENTIFIER": PROGRAM,
                    "_COMM": PROGRAM[:15],
                    "_PID": "929",
                    "_SYSTEMD_UNIT": "gce-workload-cert-refresh.service",
                }
            },
        ),
        "fluentd-text": ("syslog", {"textPayload": rfc3164}),
        "fluentd-json": (
            "syslog",
            {"jsonPayload": {"host": host, "ident": PROGRAM, "pid": "929", "message": bare}},
        ),
        "serial": (
            "serialconsole.googleapis.com%2Fserial_port_1_output",
            {
                "textPayload": rfc3164.replace("\n", "\\n").replace('"', '\\"') + "\\r\\n",
                "labels": {"is_text_escaped": "true"},
            },
        ),
        "serial-old": (
            "serialconsole.googleapis.com%2Fserial_port_1_output",
            {"textPayload": f"\x1b[0;32m[   12.345678] \x1b[0m{rfc3164}\r\n"},
        ),
        "core-plugin": ("GCEGuestAgent", {"jsonPayload": {"message": FORMS[form]}}),
        "auth": (
            "syslog",
            {
                "jsonPayload": {
                    "message": f"{rfc3164[:15]} {host} sudo: sre : COMMAND=/bin/grep {FORMS[form]}"
                }
            },
        ),
    }
    log_id, payload = paths[path]
    project, zone, instance_id = vm
    return {
        "insertId": f"{instance_id[-4:]}-{path}",
        "logName": f"projects/{project}/logs/{log_id}",
        "resource": {
            "type": "gce_instance",
            "labels": {"project_id": project, "zone": zone, "instance_id": instance_id},
        },
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "receiveTimestamp": (at + timedelta(seconds=1)).isoformat().replace("+00:00", "Z"),
        **payload,
    }


def incident(vm: tuple[str, str, str], incident_id: str) -> dict[str, Any]:
    """Return the notification of an alert policy that names the runbook."""
    project, zone, instance_id = vm
    return {
        "version": "1.2",
        "incident": {
            "incident_id": incident_id,
            "scoping_project_id": project,
            "started_at": int(datetime.now(UTC).timestamp()),
            "state": "open",
            "resource": {
                "type": "gce_instance",
                "labels": {"project_id": project, "zone": zone, "instance_id": instance_id},
            },
            "policy_name": "workload certificate line",
            "policy_user_labels": {"logmend-runbook": "workload-cert-refresh"},
            "summary": "The line was logged.",
        },
    }


def push(document: Mapping[str, object] | bytes, message_id: str) -> bytes:
    """Return the body with which Pub/Sub would push a document."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    message = {
        "data": base64.b64encode(data).decode(),
        "messageId": message_id,
        "publishTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "attributes": {},
    }
    return json.dumps({"message": message, "subscription": "projects/demo/subscriptions/logmend"}).encode()

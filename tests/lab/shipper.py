"""From a machine's own logs to log entries, in each shape in which agents and the serial port deliver them.

No entry is written by hand: journald, rsyslog's file and the console of a lab machine are read, and only the
envelope that an agent puts around a line is added. That envelope is our reading of the agents' documentation
and published configurations; no agent of Google's runs here.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.lab.machines import Machine

Entry = dict[str, Any]
COMPLAINTS = ("Error getting config status", "No workload identities found")
_SEVERITIES = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")


async def ops_agent_journald(
    machine: Machine, receiver: str = "journal", *, complaints: bool = True
) -> list[Entry]:
    """Ship as the Ops Agent's ``systemd_journald`` receiver: the journal's fields, MESSAGE among them.

    ``complaints=False`` gives what else the program says.
    """
    return [
        _entry(
            machine,
            log=receiver,
            insert_id=_digest(fields["__CURSOR"]),
            timestamp=_time(int(fields["__REALTIME_TIMESTAMP"])),
            severity=_SEVERITIES[int(fields["PRIORITY"])],
            payload={"jsonPayload": {name: text for name, text in fields.items() if name[:2] != "__"}},
        )
        for fields in await machine.journal("SYSLOG_IDENTIFIER=gce_workload_cert_refresh")
        if _complains(fields["MESSAGE"]) is complaints
    ]


async def ops_agent_syslog(machine: Machine) -> list[Entry]:
    """Ship as the Ops Agent's default ``syslog`` receiver: whole line, time of reading, no severity."""
    return await _from_file(machine, lambda line: {"jsonPayload": {"message": line}})


async def fluentd_text(machine: Machine) -> list[Entry]:
    """Ship as google-fluentd did where its parser gave up: the whole line as text."""
    return await _from_file(machine, lambda line: {"textPayload": line})


async def fluentd_fields(machine: Machine) -> list[Entry]:
    """Ship as google-fluentd did where its parser succeeded: host, ident, pid and message apart."""

    def apart(line: str) -> Entry:
        _, host, tag, message = line.split(" ", 3)
        ident, _, pid = tag.rstrip(":]").partition("[")
        return {"jsonPayload": {"host": host, "ident": ident, "pid": pid, "message": message}}

    return await _from_file(machine, apart)


async def serial(machine: Machine, *, escaped: bool) -> list[Entry]:
    """Ship as the serial port is: CRLF and quotes escaped and a label that says so, or raw as once."""
    entries = []
    for number, line in enumerate(machine.console().split("\n")):
        if not _complains(line):
            continue
        text = line.removesuffix("\r") + "\r\n"
        entry = _entry(
            machine,
            log="serialconsole.googleapis.com%2Fserial_port_1_output",
            insert_id=str(number),
            timestamp=_time(),
            severity="INFO",
            payload={"textPayload": _escape(text) if escaped else text},
        )
        if escaped:
            entry["labels"]["is_text_escaped"] = "true"
        entries.append(entry)
    return entries


SHAPES: dict[str, Callable[[Machine], Any]] = {
    "ops agent, journald receiver": ops_agent_journald,
    "ops agent, syslog receiver": ops_agent_syslog,
    "google-fluentd, text": fluentd_text,
    "google-fluentd, fields": fluentd_fields,
    "serial port, escaped": lambda machine: serial(machine, escaped=True),
    "serial port, unescaped": lambda machine: serial(machine, escaped=False),
}
"""Every shape by name. The journal is always there; the others need ``rsyslog`` or ``serial_console``."""


def pubsub_push(
    entry: Entry,
    *,
    message_id: str,
    subscription: str = "projects/lab-project/subscriptions/logmend",
    attributes: dict[str, str] | None = None,
    delivery_attempt: int | None = None,
) -> Entry:
    """Wrap ``entry`` as a log sink's message that Pub/Sub pushes (with both spellings, as Pub/Sub sends)."""
    published = _time()
    body: Entry = {
        "message": {
            "data": base64.b64encode(json.dumps(entry).encode()).decode(),
            "attributes": {"logging.googleapis.com/timestamp": entry["timestamp"], **(attributes or {})},
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": published,
            "publish_time": published,
        },
        "subscription": subscription,
    }
    if delivery_attempt is not None:
        body["deliveryAttempt"] = delivery_attempt
    return body


async def _from_file(machine: Machine, payload: Callable[[str], Entry]) -> list[Entry]:
    lines = (await machine.output("cat /var/log/syslog")).splitlines()
    return [
        _entry(
            machine,
            log="syslog",
            insert_id=_digest(f"{machine.ref} {number} {line}"),
            timestamp=_time(),
            severity=None,
            payload=payload(line),
        )
        for number, line in enumerate(lines)
        if "gce_workload_cert_refresh[" in line and _complains(line)
    ]


def _entry(
    machine: Machine, *, log: str, insert_id: str, timestamp: str, severity: str | None, payload: Entry
) -> Entry:
    entry: Entry = {
        "insertId": insert_id,
        "logName": f"projects/{machine.ref.project_id}/logs/{log}",
        "resource": {
            "type": "gce_instance",
            "labels": {
                "project_id": machine.ref.project_id,
                "zone": machine.ref.zone,
                "instance_id": machine.ref.instance_id,
            },
        },
        "labels": {"compute.googleapis.com/resource_name": machine.name},
        "timestamp": timestamp,
        "receiveTimestamp": _time(),
        **payload,
    }
    if severity is not None:
        entry["severity"] = severity
    return entry


def _complains(text: str) -> bool:
    return any(complaint in text for complaint in COMPLAINTS)


def _escape(text: str) -> str:
    r"""Write what is not printable as the serial port's log does: ``\r\n``, ``\"``, ``\x1b``, octets."""
    named = {"\r": r"\r", "\n": r"\n", '"': r"\"", "\\": r"\\"}
    octets = text.encode().decode("latin-1")
    return "".join(
        named.get(octet, octet if " " <= octet <= "~" else f"\\x{ord(octet):02x}") for octet in octets
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _time(microseconds: int | None = None) -> str:
    """Return RFC 3339 in UTC: of so many microseconds since 1970, or of now."""
    moment = datetime.now(UTC) if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

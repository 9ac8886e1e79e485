"""What a delivery contains: a log entry, an incident or a tick."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from logmend.model.json import JsonObject
from logmend.model.struct import Struct, field

_ORIGINAL = re.compile(r"[!-~]{1,512}")


class Delivery(Struct, frozen=True):
    """One delivery of one message, as Pub/Sub (or a person with a file) handed it over."""

    message_id: str
    publish_time: datetime | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    subscription: str | None = None
    delivery_attempt: int | None = None

    @property
    def replay_of(self) -> str | None:
        """Return the original's id if ``logmend replay`` republished this message; never any other text."""
        said = self.attributes.get("logmend_replay_of", "")
        return said if _ORIGINAL.fullmatch(said) else None


class LogEntry(Struct, frozen=True):
    """A LogEntry in proto-JSON form, with the fields that every stage needs already read.

    ``raw`` is the whole entry (camelCase keys, int64 as strings). ``texts`` are the payload fields that can
    contain the line, in the order in which they are searched. ``line_time`` is the line's own time if its
    zone is known, else None. ``programs`` and ``host`` are named by headers and fields; only their syntax
    has been checked.
    """

    raw: JsonObject
    log_name: str
    insert_id: str | None
    timestamp: datetime | None
    receive_timestamp: datetime | None
    resource_type: str
    resource_labels: Mapping[str, str]
    texts: tuple[str, ...] = ()
    line_time: datetime | None = None
    programs: tuple[str, ...] = ()
    host: str | None = None

    @property
    def log_id(self) -> str:
        """Return the part of the log name that :func:`log_id_of` returns."""
        return log_id_of(self.log_name)


@lru_cache(maxsize=64)  # many entries come from few logs, and each is asked several times
def log_id_of(log_name: str) -> str:
    """Return the decoded part of a log's name after ``/logs/``; empty if there is none."""
    return log_name.partition("/logs/")[2].replace("%2F", "/").replace("%2f", "/")


class Incident(Struct, frozen=True):
    """A Cloud Monitoring incident (Pub/Sub notification channel, schema 1.2; also the test message)."""

    raw: JsonObject
    incident_id: str | None
    state: str
    is_test: bool
    policy_name: str | None
    runbook: str | None
    resource_type: str
    resource_labels: Mapping[str, str]
    scoping_project_id: str | None
    started_at: datetime | None
    url: str | None = None


class Tick(Struct, frozen=True):
    """The scheduler's message ``{"logmend": "tick"}``; when Pub/Sub published it, if that is known."""

    published_at: datetime | None = None


class Undecodable(Struct, frozen=True):
    """A body that can never be decoded as an event: the reason, and what could be read of it."""

    reason: str
    detail: str


Event = LogEntry | Incident | Tick


class Source(Struct, frozen=True):
    """Where an intent's event came from.

    ``kind`` is ``log_entry``, ``incident``, ``operator`` or ``silence`` (:mod:`logmend.silence`).
    """

    kind: str
    log_name: str | None = None
    insert_id: str | None = None
    timestamp: datetime | None = None
    incident_id: str | None = None

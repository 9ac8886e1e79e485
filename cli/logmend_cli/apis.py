"""Ask Google's APIs about a deployment: names, questions, answers. Read only; it judges nothing."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType

from logmend.adapters.google.rest import Rest
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend_cli.errors import NO_CREDENTIALS

_TIMES = {"connect_timeout": 5.0, "timeout": 20.0}
NO_BODY: JsonObject = MappingProxyType({})
"""A POST without a body, for methods that take none."""


class Reply(Struct, frozen=True):
    """An API's answer: its ``body``, or that there is none (``absent``), or ``why`` it is unknown.

    ``error`` is what went wrong, for callers that cannot go on without the answer.
    """

    body: JsonObject | None = None
    absent: bool = False
    why: str = "not asked"
    error: Transient | Permanent | None = None


class Deployment(Struct, frozen=True):
    """The deployment in question: the names that ``deploy/`` gives, all derived from ``name``.

    ``parents`` have the sinks: ``projects/P``, ``folders/F`` or ``organizations/O``. ``fleet`` are the
    projects of the VMs.
    """

    project: str
    region: str
    name: str
    parents: tuple[str, ...]
    fleet: tuple[str, ...]

    @property
    def topic(self) -> str:
        """The events' topic."""
        return f"projects/{self.project}/topics/{self.name}"

    @property
    def subscription(self) -> str:
        """The push subscription."""
        return f"projects/{self.project}/subscriptions/{self.name}-push"

    @property
    def dead_topic(self) -> str:
        """The dead-letter topic."""
        return f"{self.topic}-dead-letter"

    @property
    def dead_subscription(self) -> str:
        """The subscription from which dead letters are replayed."""
        return f"projects/{self.project}/subscriptions/{self.name}-dead-letter"

    @property
    def function(self) -> str:
        """The function's resource name."""
        return f"projects/{self.project}/locations/{self.region}/functions/{self.name}"


@dataclass
class Apis:
    """The APIs, each opened on first use; ``endpoint`` is one address for all of them (a fake, a proxy).

    Once it is known that there are no credentials, ``refusal`` says why, and no more calls are made.
    """

    endpoint: str | None = None
    token: str | None = None
    opened: dict[str, Rest] = field(default_factory=dict)
    refusal: Transient | Permanent | None = None
    skews: list[float] = field(default_factory=list)

    async def ask(self, service: str, path: str, *, body: JsonObject | None = None) -> Reply:
        """Make one call: POST if there is a ``body``, else GET."""
        if self.refusal is not None:
            return _unasked(self.refusal)
        if service not in self.opened:
            where = self.endpoint or f"https://{service}.googleapis.com"
            self.opened[service] = Rest(where, token=self.token, threads=4, **_TIMES)
        try:
            method, sent = "GET" if body is None else "POST", None if body is NO_BODY else body
            answer = await self.opened[service].call(method, path, body=sent)
        except (Transient, Permanent) as error:
            if error.reason in NO_CREDENTIALS:
                self.refusal = error
                return _unasked(error)
            return Reply(why=f"{service}: {error}", error=error)
        if answer.date:
            self.skews.append((datetime.now(UTC) - parsedate_to_datetime(answer.date)).total_seconds())
        if answer.ok:
            return Reply(answer.json, why="")
        if answer.status == 404:
            return Reply(absent=True, why="404: there is none")
        refused = answer.error()
        return Reply(why=f"{service}: {refused}", error=refused)

    async def aclose(self) -> None:
        """Close connections."""
        for each in self.opened.values():
            await each.aclose()


def _unasked(refusal: Transient | Permanent) -> Reply:
    """Return the reply for a call that cannot be made; the full reason is given only once."""
    return Reply(why=f"{refusal.reason}: Google Cloud was not asked", error=refusal)

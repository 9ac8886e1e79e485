"""What the Compute API's answers mean; see the table of :mod:`logmend.adapters.google.compute`."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from logmend.adapters.google.rest import HttpReply
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject

T = TypeVar("T")

VIEWER = "roles/compute.viewer"


def instance_of(
    answer: HttpReply, what: str, *, by_operator: bool = False, needs: str = "compute.instances.get"
) -> JsonObject:
    """Return the body of an answer about instances, or raise what it means.

    For an event, a look-up that is refused means ``opt_in_unknown``; an operator gets the error itself.
    """
    if answer.ok:
        return answer.json or {}
    error = answer.error(needs=f"{needs} ({VIEWER})")
    if answer.status == 404:
        raise Permanent("instance_gone", error.detail or what)
    if isinstance(error, Permanent):
        raise error if by_operator else Permanent("opt_in_unknown", str(error))
    raise unavailable(error)


def unavailable(error: Transient | Permanent) -> Transient:
    """Name the API that gives no answer; a used-up quota stays one, whoever it was that counted."""
    if isinstance(error, Permanent):
        return Transient("compute_unavailable", str(error))
    if error.reason == "rate_limited":
        return Transient(error.reason, error.detail, retry_after=error.retry_after)
    return Transient("compute_unavailable", str(error), retry_after=error.retry_after)


def readable(read: Callable[[], T]) -> T:
    """Read an answer; one that does not have the documented shape is no answer."""
    try:
        return read()
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        detail = f"the Compute API's answer cannot be read: {type(error).__name__}: {error}"
        raise Transient("compute_unavailable", detail) from error


def scopes(page: JsonObject) -> list[Sequence[JsonObject]]:
    """Return the instances of each zone in a page of an aggregated listing."""
    return [scope.get("instances", ()) for scope in page.get("items", {}).values()]

"""What the Compute API's responses mean; see the table in :mod:`logmend.adapters.google.compute`."""

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
    """Return the body of a response about instances, or raise the error that it stands for.

    For an event, a refused look-up means ``opt_in_unknown``; an operator gets the error itself.
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
    """Return the error that names the API. ``rate_limited``, the API's or our own, stays as it is."""
    if isinstance(error, Permanent):
        return Transient("compute_unavailable", str(error))
    if error.reason == "rate_limited":
        return Transient(error.reason, error.detail, retry_after=error.retry_after)
    return Transient("compute_unavailable", str(error), retry_after=error.retry_after)


def readable(read: Callable[[], T]) -> T:
    """Return what ``read`` returns. A response without the documented shape counts as none."""
    try:
        return read()
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        detail = f"the Compute API's answer cannot be read: {type(error).__name__}: {error}"
        raise Transient("compute_unavailable", detail) from error


def scopes(page: JsonObject) -> list[Sequence[JsonObject]]:
    """Return the instances of each zone on a page of an aggregated listing."""
    return [scope.get("instances", ()) for scope in page.get("items", {}).values()]

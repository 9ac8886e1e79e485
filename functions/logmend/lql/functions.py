"""The functions that are conditions by themselves: log_id, source, sample, ip_in_net and SEARCH."""

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Mapping
from functools import lru_cache

from logmend.lql import search
from logmend.lql.errors import FilterError
from logmend.lql.fold import fold
from logmend.lql.lookup import ABSENT, elements, getter
from logmend.lql.nodes import Argument, Call, Field, Literal
from logmend.lql.schema import Kind, locate
from logmend.lql.values import double

Predicate = Callable[[Mapping[str, object]], bool]

_CONTAINERS = ("projects", "folders", "organizations", "billingAccounts")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?")


def compile_call(call: Call) -> Predicate:
    """Compile a function. Raises FilterError if its arguments are unusable."""
    return {
        "log_id": _log_id,
        "source": _source,
        "sample": _sample,
        "ip_in_net": _ip_in_net,
        "search": search.compile_search,
    }[call.name](call)


def _log_id(call: Call) -> Predicate:
    """Compare the last part of logName, decoded.

    Log IDs contain no percent sign, so an encoded argument is decoded too.
    """
    wanted = fold(urllib.parse.unquote(_literal(call.args[0]).text))

    def test(entry: Mapping[str, object]) -> bool:
        name = entry.get("logName")
        return isinstance(name, str) and _decoded(name) == wanted

    return test


@lru_cache(maxsize=16)
def _decoded(name: str) -> str:
    """Return the folded log ID of a logName: a filter asks for several of one entry."""
    log_id = name.partition("/logs/")[2]
    return fold(urllib.parse.unquote(log_id) if "%" in log_id else log_id)


def _source(call: Call) -> Predicate:
    """Compare the start of logName: the project, folder, organization or account itself, not a child."""
    literal = _literal(call.args[0])
    container, slash, identifier = literal.text.partition("/")
    known = {name.lower() for name in _CONTAINERS}
    if not slash or container.lower() not in known or not identifier or "/" in identifier:
        raise FilterError(
            f"unknown source {literal.text}",
            *literal.at,
            "one of " + ", ".join(f"{name}/ID" for name in _CONTAINERS),
            "as in source(projects/my-project)",
        )
    wanted = fold(literal.text)

    def test(entry: Mapping[str, object]) -> bool:
        name = entry.get("logName")
        return isinstance(name, str) and fold(name.partition("/logs/")[0]) == wanted

    return test


def _sample(call: Call) -> Predicate:
    """Only the fraction 1 can be evaluated: every entry that has a value, defaulted fields included."""
    field, literal = _field(call.args[0]), _literal(call.args[1])
    fraction = double(literal.text)
    if fraction is None or not 0 < fraction <= 1:
        raise FilterError(
            "the fraction of sample is not above 0 and at most 1", *literal.at, "a number like 0.25"
        )
    if fraction != 1:
        raise FilterError(
            "sample cannot be evaluated offline: the hash by which Logging selects entries is not published",
            *call.at,
            hint="only the fraction 1 can be, or leave the condition out",
        )
    place = locate(field)
    if place.kind not in {Kind.STRING, Kind.INT32, Kind.INT64, Kind.DYNAMIC}:
        raise FilterError(
            f"sample works on strings and numbers, and {'.'.join(field.segments)} is neither", *field.at
        )
    if not place.free:
        return lambda _entry: True
    get = getter(place)

    def test(entry: Mapping[str, object]) -> bool:
        value = get(entry)
        items = elements(value) if isinstance(value, list) else (value,)
        return any(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items)

    return test


def _ip_in_net(call: Call) -> Predicate:
    field, literal = _field(call.args[0]), _literal(call.args[1])
    if (subnet := _network(literal.text)) is None:
        raise FilterError(
            f"{literal.text} is no IP address or range",
            *literal.at,
            'an address or a subnet like "10.1.2.0/24"',
        )
    place = locate(field)
    if place.kind not in {Kind.STRING, Kind.DYNAMIC}:
        raise FilterError(f"ip_in_net works on strings, and {'.'.join(field.segments)} is none", *field.at)
    get = getter(place)

    def contains(value: object) -> bool:
        if not isinstance(value, str) or (network := _network(value)) is None:
            return False
        if isinstance(network, ipaddress.IPv4Network):
            return isinstance(subnet, ipaddress.IPv4Network) and network.subnet_of(subnet)
        return isinstance(subnet, ipaddress.IPv6Network) and network.subnet_of(subnet)

    def test(entry: Mapping[str, object]) -> bool:
        value = get(entry)
        if isinstance(value, list):
            return any(contains(item) for item in elements(value))
        return value is not ABSENT and contains(value)

    return test


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if not _ADDRESS.fullmatch(text):
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _literal(argument: Argument) -> Literal:
    assert isinstance(argument, Literal)
    return argument


def _field(argument: Argument) -> Field:
    assert isinstance(argument, Field)
    return argument

"""The left-hand side of an operator: a field, or a field through ``cast`` and ``regexp_extract``."""

from collections.abc import Callable, Mapping

from logmend.lql import casts
from logmend.lql.errors import FilterError
from logmend.lql.lookup import ABSENT, Getter, elements, getter
from logmend.lql.nodes import Cast, Extract, Field, Target
from logmend.lql.patterns import Compiled, Patterns, utf8
from logmend.lql.schema import DEFAULTS, Kind, locate
from logmend.model.struct import Struct


class FieldGetter(Struct, frozen=True):
    """A getter with its value's type and, for a field with a default, the default as JSON."""

    name: str
    kind: Kind
    get: Getter
    default: object
    nullable: bool = False
    ignores_case: bool = False
    fixed: tuple[str, ...] = ()


def source(target: Target, patterns: Patterns) -> FieldGetter:
    """Return the source for a left-hand side. Raises FilterError if a cast or extraction is impossible."""
    match target:
        case Field(segments):
            place = locate(target)
            return FieldGetter(
                ".".join(segments),
                place.kind,
                getter(place),
                None if place.free else DEFAULTS.get(place.kind),
                nullable=place.holder in {Kind.STRUCT, Kind.PROTO},
                ignores_case=Kind.PROTO in {place.holder, place.kind},
                fixed=place.fixed,
            )
        case Cast(inner, type_name, zone):
            origin = source(inner, patterns)
            convert = casts.converter(origin.kind, type_name, zone, origin.name, target.at)
            return _mapped(f"cast({origin.name}, {type_name})", casts.KINDS[type_name], origin, convert)
        case Extract(inner, pattern):
            origin = source(inner, patterns)
            if origin.kind not in {Kind.STRING, Kind.DYNAMIC}:
                raise FilterError(
                    f"regexp_extract works on strings, and {origin.name} is a {origin.kind.name.lower()}",
                    *target.at,
                    hint="cast the field to STRING first",
                )
            compiled = patterns.compile(pattern)
            if compiled.groups != 1:
                raise FilterError(
                    f"the regular expression has {compiled.groups} capture groups",
                    *pattern.at,
                    "exactly one capture group",
                    "write (?:...) for a group that captures nothing",
                )
            return _mapped(f"regexp_extract({origin.name})", Kind.STRING, origin, _extractor(compiled))


def _extractor(compiled: Compiled) -> Callable[[object], object]:
    def extract(value: object) -> object:
        if not isinstance(value, str) or (match := compiled.search(utf8(value))) is None:
            return ABSENT
        group = match.group(1)
        return ABSENT if group is None else group.decode("utf-8", "replace")

    return extract


def _mapped(name: str, kind: Kind, origin: FieldGetter, convert: Callable[[object], object]) -> FieldGetter:
    """Return a source whose values go through ``convert``. A value that cannot be converted is missing."""
    get, default = origin.get, origin.default

    def mapped(entry: Mapping[str, object]) -> object:
        value = get(entry)
        if value is ABSENT:
            if default is None:
                return ABSENT
            value = default
        if isinstance(value, list):
            found = [made for item in elements(value) if (made := convert(item)) is not ABSENT]
            return found or ABSENT
        return convert(value)

    return FieldGetter(name, kind, mapped, None)

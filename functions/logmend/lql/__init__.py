r"""The Logging query language, evaluated offline.

>>> from logmend import lql
>>> errors = lql.compile('resource.type = "gce_instance" AND severity >= ERROR')
>>> errors.matches({"resource": {"type": "gce_instance"}, "severity": "CRITICAL"})
True

The language is Google's (https://cloud.google.com/logging/docs/view/logging-query-language, built on
https://google.aip.dev/160). If a filter cannot be evaluated here, or Cloud Logging would refuse it, compiling
it raises :class:`FilterError`; it never silently evaluates to false.

Where Google's page leaves room, this implementation decides as follows:

- Parentheses nest at most 50 deep; the regular expressions of a filter have at most 5,000 instructions.
- Names of LogEntry's own fields ignore case and may be in snake_case; keys of payloads and labels do neither,
  except that keys of ``protoPayload`` ignore case. Its known 64-bit integers, times and durations are typed.
- ``:`` on an object is true if it has that key (AIP-160) or any value in it contains the text.
- ``NULL_VALUE`` is written without quotes, for payloads only; every value that is not null differs from it.
- An unknown escape is an error in a string and RE2's in a pattern (``"\d"`` is ``"\\d"``; ``\b`` is refused).
- A global term is looked for in the values that the entry has, not in keys or defaults.
- ``SEARCH`` splits texts like BigQuery's LOG_ANALYZER; operators and double quotes in a query are refused.
- ``cast`` of a timestamp to STRING is RFC 3339; of a number with a fraction to INT64 fails.

RE2 is imported when the first filter is compiled; lark is imported and its tables are computed when the
first is parsed. The built-in runbooks' filters are already parsed (``known.py``), which saves cold starts
that time.
"""

# ruff: noqa: A001, A002, A004, PLC0415 - names read as lql.compile, lql.format; heavy imports wait for a filter

from collections.abc import Sequence

from logmend.lql.errors import FilterError
from logmend.lql.filters import Clause, Filter, Warning
from logmend.lql.nodes import Node

__all__ = ["Clause", "Filter", "FilterError", "Warning", "combine", "compile", "format", "lint"]


def compile(text: str) -> Filter:
    """Compile a filter of at most 20,000 characters. Raises FilterError."""
    from logmend.lql import compiler, known

    root = known.TREES[text] if text in known.TREES else _parsed(text)
    return Filter(text, root, compiler.compile_conditions(root))


def _parsed(text: str) -> Node | None:
    from logmend.lql import syntax

    return syntax.parse(text)


def format(filter: Filter | str) -> str:
    """Return a filter in its canonical form, on one line and without comments. Raises FilterError."""
    from logmend.lql import printer

    return printer.printed((compile(filter) if isinstance(filter, str) else filter).root)


def combine(texts: Sequence[str]) -> str:
    """Join filters by OR, each in parentheses on lines of its own.

    Raises FilterError if a filter is unusable or empty (it would match every entry), or if there is none.
    """
    if not texts or any(compile(text).root is None for text in texts):
        raise FilterError("an empty filter matches every entry", 1, 1, "a comparison")
    return "\nOR\n".join(f"(\n{text.strip()}\n)" for text in texts)


def lint(text: str) -> list[Warning]:
    """Return the likely mistakes in a filter. Raises FilterError if it does not compile."""
    from logmend.lql import mistakes

    return mistakes.of(compile(text))

"""Describe a syntax error: what was expected, what was found and what was probably meant."""

import re

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from logmend.lql.errors import FilterError

_QUOTE = "put text with special characters in double quotes"


def position(text: str, offset: int | None) -> tuple[int, int]:
    """Return the line and column, both from 1, of the character at ``offset``."""
    offset = offset or 0
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def complaint(error: UnexpectedInput, text: str, previous: Token | None, depth: int) -> FilterError:
    """Translate lark's error, raised after the token ``previous`` inside ``depth`` parentheses."""
    found, offset = "", len(text.rstrip())
    accepted: set[str] = set()
    if isinstance(error, UnexpectedToken):
        accepted = set(error.accepts or error.expected)
        if error.token.type != "$END":
            found, offset = str(error.token), error.token.start_pos or 0
    elif isinstance(error, UnexpectedCharacters):
        accepted = set(error.allowed or ())
        offset = error.pos_in_stream or 0
        found = text[offset]
        if found == '"':
            return FilterError(
                "the quoted string does not end",
                *position(text, offset),
                hint='write a quote inside it as \\"',
            )
    expected = _expected(accepted, previous, depth)
    message = f"expected {expected}"
    if previous is not None:
        message += f" after {_shown(str(previous))}"
    if found:
        message += f", found {_shown(found)}"
    hint = _hint(found, offset, text, previous)
    return FilterError(message, *position(text, offset), expected, hint)


def _expected(accepted: set[str], previous: Token | None, depth: int) -> str:
    kind = previous.type if previous is not None else ""
    if kind == "OP":
        return "a value"
    if kind == "DOT":
        return "a name"
    if kind in {"NAME", "_COMMA"}:
        return "an argument"
    if "_AND" in accepted or "_OR" in accepted:
        choices = ["AND", "OR", "another comparison"]
        if depth:
            choices.insert(0, "')'")
        return ", ".join(choices[:-1]) + " or " + choices[-1]
    if "_COMMA" in accepted:
        return "',' or ')'"
    return "a comparison"


def _hint(found: str, offset: int, text: str, previous: Token | None) -> str:
    kind = previous.type if previous is not None else ""
    if found == "'":
        return "use double quotes"
    if kind == "OP" and found == "=":
        return "a single = compares"
    if previous is not None and kind in {"TEXT", "NUMBER", "KEY"} and previous.end_pos == offset and found:
        rest = re.match(r'[^\s()"]*', text[previous.start_pos or 0 :])
        return f'{_QUOTE}: "{rest[0] if rest else previous}"'
    if kind == "STRING" and re.fullmatch(r"[=!<>~:]+", found):
        return "the name of a field stands on the left, without quotes"
    if kind == "NOT" and found in {"NOT", "-"}:
        return "write NOT (NOT ...) to negate twice"
    if kind == "OP" or found in {"*", "\\", ".", "+", "-", "~", "!"}:
        return _QUOTE if found else ""
    return ""


def _shown(text: str) -> str:
    text = text if len(text) <= 40 else text[:37] + "..."
    return text if len(text) > 1 and text.startswith('"') else f"'{text}'"

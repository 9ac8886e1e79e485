"""Parse a filter's text into its syntax tree, with lark (LALR, contextual lexer).

lark is imported, and its tables are computed (20 ms), when the first filter of a process is parsed.
"""

import functools
from importlib import resources

import lark
from lark.exceptions import UnexpectedInput

from logmend.lql.builder import build
from logmend.lql.complaint import complaint, position
from logmend.lql.errors import FilterError
from logmend.lql.nodes import Node
from logmend.lql.operands import FUNCTIONS

MAX_CHARACTERS = 20_000
MAX_DEPTH = 50  # of parentheses; bounds every recursion over the tree. Google's own bound is not published.

_WORDS = frozenset({"TEXT", "STRING", "NUMBER", "STAR", "KEY"})
_OPENS = frozenset({"TEXT", "STRING", "NUMBER", "NAME", "LPAR"})


def parse(text: str) -> Node | None:
    """Parse a filter; None for an empty one. Raises FilterError."""
    if len(text) > MAX_CHARACTERS:
        raise FilterError(
            f"the filter has {len(text):,} characters, at most {MAX_CHARACTERS:,} are allowed",
            *position(text, MAX_CHARACTERS),
            hint="comments count, too",
        )
    parser = _parser().parse_interactive(text)
    previous: lark.Token | None = None
    depth = 0
    try:
        for token in parser.lexer_thread.lex(parser.parser_state):  # type: ignore[no-untyped-call]
            depth += (token.type in {"LPAR", "NAME"}) - (token.type == "RPAR")
            if depth > MAX_DEPTH:
                raise FilterError(
                    f"parentheses nested deeper than {MAX_DEPTH}", *position(text, token.start_pos)
                )
            if previous is not None:
                _check_gap(text, previous, token)
            parser.feed_token(token)
            previous = token
        tree = parser.feed_eof(previous)  # type: ignore[no-untyped-call]
    except UnexpectedInput as error:
        raise complaint(error, text, previous, depth) from None
    return build(tree)


@functools.cache
def _parser() -> lark.Lark:
    grammar = resources.files("logmend.lql").joinpath("grammar.lark").read_text("utf-8")
    return lark.Lark(grammar, parser="lalr", maybe_placeholders=False)


def _check_gap(text: str, previous: lark.Token, token: lark.Token) -> None:
    """Require whitespace between adjacent comparisons, and none between a function and its arguments."""
    if token.type not in _OPENS:
        return
    touching = previous.end_pos == token.start_pos
    if touching and (previous.type in _WORDS or previous.type == "RPAR"):
        hint = ""
        if previous.type == "KEY":
            hint = f'put a name with special characters in double quotes: "{previous}{token}"'
        elif "STRING" in {previous.type, token.type}:
            hint = 'write a quote inside a quoted string as \\"'
        elif token.type == "LPAR":
            hint = "put the text in double quotes if the parenthesis belongs to it"
        raise FilterError(
            f"no whitespace between {previous} and {token}",
            *position(text, token.start_pos),
            "whitespace, AND or OR",
            hint,
        )
    if not touching and token.type == "LPAR" and previous.type == "TEXT" and previous.lower() in FUNCTIONS:
        raise FilterError(
            f"whitespace between {previous} and its arguments",
            *position(text, token.start_pos),
            hint=f'write {previous}(...), or "{previous}" for the word',
        )

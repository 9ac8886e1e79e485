r"""``SEARCH("query")`` and ``SEARCH(FIELD, "query")``: whole tokens, in any order, without regard to case.

Texts are split as BigQuery's LOG_ANALYZER does, to which Logging's page refers
(https://cloud.google.com/bigquery/docs/reference/standard-sql/text-analysis#log_analyzer). A part of the
query in backticks has to be in the text as it is, between delimiters or the text's ends. Without a
field, tokens may be in different fields; fields that are not text, such as timestamps or the severity, are
not searched.

BigQuery also reads AND, OR, NOT, IN and NEAR and double quotes in a query as operators; Logging's page does
not say whether it does, so they are refused.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from logmend.lql.errors import FilterError
from logmend.lql.lookup import ABSENT, elements, getter, is_object, leaves
from logmend.lql.nodes import Call, Field, Literal
from logmend.lql.schema import LOG_ENTRY, OBJECTS, Kind, locate

_DELIMITER = re.compile(
    r"%(?:2526|2520|2[0168BbCc89]|3[AaBbDd]|5[BbDd]|7[Cc]|0[Aa])"
    r"""|[\[\]<>(){}|!;,'"*&?+/:=@.\-$%\\_\n\r \t]"""
)
_BACKTICKS = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL)
_RESERVED = frozenset({"AND", "OR", "NOT", "IN", "NEAR"})


def compile_search(call: Call) -> Callable[[Mapping[str, object]], bool]:
    """Compile a call of SEARCH. Raises FilterError for a query without tokens or a field that is not text."""
    query = call.args[-1]
    assert isinstance(query, Literal)
    if not query.quoted:
        raise FilterError("the query of SEARCH has to be in double quotes", *query.at, "a quoted string")
    words, phrases = _parsed(query)
    texts = _texts_of_field(call.args[0]) if len(call.args) == 2 else _texts_of_entry

    def test(entry: Mapping[str, object]) -> bool:
        for group in texts(entry):
            missing, unseen = set(words), list(phrases)
            for text in group:
                lower = text.lower()
                missing.difference_update(_tokens(lower))
                unseen = [phrase for phrase in unseen if not _holds(lower, phrase)]
                if not missing and not unseen:
                    return True
        return False

    return test


def _parsed(query: Literal) -> tuple[frozenset[str], tuple[str, ...]]:
    text = query.text
    phrases = tuple(re.sub(r"\\(.)", r"\1", phrase).lower() for phrase in _BACKTICKS.findall(text))
    rest = _BACKTICKS.sub(" ", text)
    if "`" in rest:
        raise FilterError("a backtick in the query of SEARCH is not closed", *query.at, "a closing backtick")
    operators = [word for word in re.split(r"[\s()]+", rest) if word in _RESERVED]
    if operators or '"' in rest:
        raise FilterError(
            f"{operators[0] if operators else 'a double quote'} in a query of SEARCH cannot be evaluated",
            *query.at,
            hint="put the words in backticks, or combine several SEARCH(...) with AND, OR, NOT",
        )
    words = frozenset(_tokens(rest.lower()))
    if not words and not any(phrases):
        raise FilterError("the query of SEARCH has no words", *query.at, "words")
    return words, tuple(phrase for phrase in phrases if phrase)


def _tokens(text: str) -> Iterator[str]:
    return (token for token in _DELIMITER.split(text) if token)


def _holds(text: str, phrase: str) -> bool:
    """Return whether the phrase is between delimiters. Only token starts are tried: linear time."""
    if phrase not in text:
        return False
    starts = [0, *(match.end() for match in _DELIMITER.finditer(text))]
    for start in starts:
        if text.startswith(phrase, start):
            end = start + len(phrase)
            if end == len(text) or _DELIMITER.match(text, end):
                return True
    return False


def _texts_of_field(argument: object) -> Callable[[Mapping[str, object]], Iterator[Iterator[str]]]:
    assert isinstance(argument, Field)
    place = locate(argument)
    if place.kind not in OBJECTS | {Kind.STRING, Kind.DYNAMIC}:
        raise FilterError(
            f"SEARCH works on text, and {'.'.join(argument.segments)} is a {place.kind.name.lower()}",
            *argument.at,
        )
    get = getter(place)

    def texts(entry: Mapping[str, object]) -> Iterator[Iterator[str]]:
        value = get(entry)
        if value is not ABSENT:
            for item in elements([value]):
                yield (leaf for leaf in leaves(item) if isinstance(leaf, str))

    return texts


def _texts_of_entry(entry: Mapping[str, object]) -> Iterator[Iterator[str]]:
    yield _text_fields(entry, LOG_ENTRY)


def _text_fields(value: Mapping[str, object], kinds: Mapping[str, object]) -> Iterator[str]:
    for name, item in value.items():
        kind = kinds.get(name, Kind.DYNAMIC)
        if isinstance(kind, dict):
            if is_object(item):
                yield from _text_fields(item, kind)
        elif kind in OBJECTS or kind in {Kind.STRING, Kind.DYNAMIC}:
            yield from (leaf for leaf in leaves(item) if isinstance(leaf, str))

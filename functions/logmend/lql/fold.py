"""Strings as the query language compares them: NFKC_Casefold.

Unicode defines toNFKC_Casefold(X) as mapping each character of NFD(X) by its NFKC_Casefold property and
normalising the result to NFC; the property itself is full case folding, NFKC and the removal of
Default_Ignorable_Code_Points, repeated until stable (https://www.unicode.org/reports/tr44/#NFKC_Casefold).
Python has no such function, so this does: NFD, ignorables out, then twice full case folding and NFKC,
ignorables out, NFC. Case folding and normalisation use the Unicode version of the running Python, the
ignorables below are those of Unicode 15.1; Google does not say which version it uses.

Normalising takes quadratic time on long runs of combining marks, so long texts are folded in pieces, cut
where nothing composes across the cut. Only in a run of more than 1,024 marks, which no writing system has,
is the cut made regardless.
"""

import functools
import re
import unicodedata

_PIECE = 1024
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def fold(text: str) -> str:
    """Return ``text`` in the form in which it is compared."""
    if text.isascii():
        return text.lower()
    return _folded(text)


@functools.lru_cache(maxsize=16)  # the conditions of a filter look at the same few texts of an entry
def _folded(text: str) -> str:
    if len(text) <= 2 * _PIECE:
        return _fold(text)
    return "".join(_fold(piece) for piece in _pieces(text))


def _fold(text: str) -> str:
    text = _IGNORABLE.sub("", unicodedata.normalize("NFD", text))
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    return unicodedata.normalize("NFC", _IGNORABLE.sub("", text))


def _pieces(text: str) -> list[str]:
    pieces = []
    start, end = 0, len(text)
    while end - start > _PIECE:
        cut = start + _PIECE
        while cut < min(start + 2 * _PIECE, end) and _may_compose(text[cut]):
            cut += 1
        pieces.append(text[start:cut])
        start = cut
    pieces.append(text[start:])
    return pieces


def _may_compose(char: str) -> bool:
    """Return whether ``char`` can change, or be reordered with, the characters before it."""
    if char.isascii():
        return False
    if _IGNORABLE.match(char):
        return True
    first = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"

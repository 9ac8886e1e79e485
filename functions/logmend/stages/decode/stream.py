"""JSON values out of a byte stream, one by one, in memory bounded by the largest of them."""

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from logmend.model.values import Undecodable
from logmend.stages.decode.payload import MAX_DEPTH, complete, scan

MAX_VALUE = 28 * 1024 * 1024
"""Characters of one value: twice the largest push body, as indenting makes it longer."""

CHUNK = 256 * 1024

WINDOW = 8 * 1024
"""Characters that are looked at first for one value; twice as many each time it turns out to be longer."""
PATIENCE = 8
"""Characters looked at in vain for each one that is passed over, before only whole lines are tried."""

SHORT = 4096
"""Characters of a value whose end is guessed by its lines. No number in it is too long for Python."""
GUESSES = 16
"""Wrong guesses beyond the right ones after which none is made any more."""

_PASSED: Final = object()
_LINE = "\n"

_BLANK = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"[ \t\r\n,]*")


class Passing:
    """What is left out of a stream: here nothing. Of what is, ``passed`` is the number."""

    passed = 0

    def one(self, text: str) -> bool:
        """Return whether the object of a text, of at most ``SHORT`` characters, is left out and counted.

        It must not be if the text is no complete JSON object.
        """
        del text
        return False

    def row(self, text: str, start: int, joint: str) -> int:
        """Return where the last of the objects ends that are left out and counted at once; ``start`` if none.

        They stand in a row from ``start`` on, and ``joint`` is the end of one, what is between two, and the
        next one's brace.
        """
        del text, joint
        return start


def values(stream: BinaryIO) -> Iterator[Any | Undecodable]:
    """Yield the elements of an array, JSON lines, or documents in a row, however they are indented.

    What is broken is one Undecodable: reading goes on with the next line, but not within an array. Bytes
    that are not UTF-8 (or UTF-16 with its mark, as PowerShell's ``>`` writes it) become U+FFFD. Only errors
    of reading the stream are raised.
    """
    for value, _ in sifted(stream, Passing()):
        yield value


def sifted(stream: BinaryIO, passing: Passing) -> Iterator[tuple[Any | Undecodable, bool]]:
    """Yield the values of a stream but for what is passing.

    Beside each stands whether it is known to be an object of at most ``SHORT`` characters that nests no
    deeper than ``MAX_DEPTH``.
    """
    text = _Text(stream, passing)
    in_array = broken = False
    while text.skip(_BETWEEN if in_array else _BLANK):
        mark = text.mark()
        if in_array and mark == "]":
            in_array = False
            text.pass_over(1)
        elif not in_array and mark == "[":
            in_array, broken = True, False
            text.pass_over(1)
        elif not isinstance(value := text.value(bare=in_array), Undecodable):
            broken = False
            if value is not _PASSED:
                yield value, text.plain
        elif in_array:
            yield value, False
            return
        else:
            if not broken:
                yield value, False
            broken = True
            text.skip_line()
    if in_array:
        yield Undecodable("malformed", "the array is cut off"), False


class _Text:
    """The unread part of the stream, decoded, with a place to read at."""

    def __init__(self, stream: BinaryIO, passing: Passing) -> None:
        self._stream = stream
        self._passing = passing
        self._guesses = GUESSES
        self._ended = False
        start = stream.read(CHUNK)
        wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self._decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8-sig")("replace")
        self._text = self._decoder.decode(start)
        self._at = self._before = 0
        self.looked_at = 0
        self.plain = False

    def _more(self) -> bool:
        """Read on, at least as much again as is waiting; False at the end."""
        if self._ended:
            return False
        waiting = self._text[self._at :]
        self._before += self._at
        read = self._stream.read(max(CHUNK, len(waiting)))
        self._ended = not read
        self._text, self._at = waiting + self._decoder.decode(read, final=self._ended), 0
        return True

    def skip(self, blank: re.Pattern[str]) -> bool:
        """Pass over what ``blank`` matches; False at the end of the stream."""
        while True:
            if found := blank.match(self._text, self._at):
                self._at = found.end()
            if self._at < len(self._text):
                return True
            if not self._more():
                return False

    def mark(self) -> str:
        """Return the character at the place."""
        return self._text[self._at]

    def pass_over(self, count: int) -> None:
        """Go on by ``count`` characters that have been looked at."""
        self._at += count

    def skip_line(self) -> None:
        """Go on after the next line end."""
        while (end := self._text.find("\n", self._at)) < 0:
            self._at = len(self._text)
            if not self._more():
                return
        self._at = end + 1

    def value(self, *, bare: bool) -> Any | Undecodable:
        """Take one value: an object, or with ``bare`` any other, too. The place stays where it is no JSON."""
        self.plain = False
        if not bare and self.mark() != "{":
            return Undecodable(
                "malformed",
                "not JSON (gcloud prints it with --format=json, bq too; CSV and text are not read)",
            )
        if self._weary and not bare:
            return self._taken(*scan(self._line())[:2])
        if self._guesses and (value := self._guessed(_BETWEEN if bare else _BLANK)) is not None:
            return value
        wide = WINDOW
        while True:
            # A copy of its own: to say where a text is no JSON, `json` counts its lines from the beginning.
            piece = self._text[self._at : self._at + wide]
            value, end, cut_off = scan(piece)
            # A number at the end of what is read may go on; a value that is cut off certainly does.
            if (cut_off or end == len(piece)) and (len(self._text) > self._at + wide or self._more()):
                if wide > MAX_VALUE:
                    return Undecodable("too_large", f"a value of more than {MAX_VALUE} characters")
                self.looked_at += end
                wide *= 2
                continue
            return self._taken(value, end)

    def _guessed(self, blank: re.Pattern[str]) -> object | None:
        """Take an object that ends with its line, or with a line as far indented as its first; None if none.

        An object says itself where it ends: what is complete up to the guessed end is what a parser takes.
        """
        text, at = self._text, self._at
        line_end = text.find("\n", at, at + SHORT)
        if line_end > at + 2:
            close, end = "}", text.rfind("}", at, line_end) + 1
        else:
            close = f"\n{text[text.rfind(_LINE, 0, at) + 1 : at]}}}"
            end = text.find(close, at, at + SHORT) + len(close)
            if close.strip() != "}" or end < at + len(close):
                return None
        piece = text[at:end]
        if self._passing.one(piece):
            self._pass_on(end, close, blank)
            return _PASSED
        if (value := complete(piece)) is None:
            self._guesses -= 1
            return None
        self._guesses += 1
        self.plain = piece.count("{") + piece.count("[") <= MAX_DEPTH
        return self._taken(value, end - at)

    def _pass_on(self, end: int, close: str, blank: re.Pattern[str]) -> None:
        """Go on over the object that ends at ``end``, and over what passes and stands as it does."""
        text, passing = self._text, self._passing
        between = blank.match(text, end)[0]  # type: ignore[index]
        behind = between[: between.find(_LINE) + 1]
        end = self._pass_rows(end, close, between) if behind else end
        last = end if behind else len(text)
        while text.startswith(between, last):
            start = last + len(between)
            if close == "}":  # one character is found many times as fast as two
                found = text.find(_LINE, start, start + SHORT)
                stop = found + 1 - len(behind)
            else:
                found = text.find(close + behind, start, start + SHORT)
                stop = found + len(close)
            if found < 0 or not passing.one(text[start:stop]):
                break
            end = last = stop
        self.looked_at += end - self._at
        self._at = end

    def _pass_rows(self, end: int, close: str, between: str) -> int:
        """Go on over many objects at once, each of which begins on a line as the one before ends on one."""
        while self._text.startswith(between, end):
            start = end + len(between)
            stop = self._passing.row(self._text, start, f"{close}{between}{{")
            if stop == start:
                break
            end = stop
        return end

    def _taken(self, value: object | Undecodable, end: int) -> object | Undecodable:
        self.looked_at += end
        if not isinstance(value, Undecodable):
            self._at += end
        return value

    @property
    def _weary(self) -> bool:
        """Whether so much was looked at in vain that a value over several lines is not waited for any more.

        Else each of many lines that open an object and never close it would be read on from, to the end.
        """
        return self.looked_at > PATIENCE * (self._before + self._at + CHUNK)

    def _line(self) -> str:
        """Return the rest of the line."""
        while (end := self._text.find("\n", self._at)) < 0 and self._more():
            pass
        return self._text[self._at : len(self._text) if end < 0 else end]

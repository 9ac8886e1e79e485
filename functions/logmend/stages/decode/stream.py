"""Read JSON values from a byte stream, one by one, in memory bounded by the largest one."""

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from logmend.model.values import Undecodable
from logmend.stages.decode.payload import MAX_DEPTH, complete, scan

MAX_VALUE = 28 * 1024 * 1024
"""The most characters of one value: twice the largest push body, to allow for indentation."""

CHUNK = 256 * 1024

WINDOW = 8 * 1024
"""Characters examined first for a value, doubled each time it turns out to be longer."""
PATIENCE = 8
"""Characters examined in vain per character consumed, before only whole lines are tried."""

SHORT = 4096
"""The most characters of a value whose end is guessed by its lines. Any number in it fits Python's limit."""
GUESSES = 16
"""How many more wrong guesses than right ones before guessing stops."""

_PASSED: Final = object()
_LINE = "\n"

_BLANK = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"[ \t\r\n,]*")


class Passing:
    """Decides what to leave out of a stream: here nothing. ``passed`` counts what was left out."""

    passed = 0

    def one(self, text: str) -> bool:
        """Return whether to leave out (and count) the object in a text of at most ``SHORT`` characters.

        It must return False if the text is not a complete JSON object.
        """
        del text
        return False

    def row(self, text: str, start: int, joint: str) -> int:
        """Leave out and count several objects in a row; return the end of the last one, ``start`` if none.

        They follow each other from ``start`` on. ``joint`` is the end of one, what is between two, and the
        next one's brace.
        """
        del text, joint
        return start


def values(stream: BinaryIO) -> Iterator[Any | Undecodable]:
    """Yield the elements of an array, JSON lines, or documents in a row, however they are indented.

    A broken value is one Undecodable: reading continues at the next line, but not within an array. Bytes that
    are not UTF-8 (or UTF-16 with a byte order mark, as PowerShell's ``>`` writes it) become U+FFFD. Only
    errors reading the stream are raised.
    """
    for value, _ in sifted(stream, Passing()):
        yield value


def sifted(stream: BinaryIO, passing: Passing) -> Iterator[tuple[Any | Undecodable, bool]]:
    """Yield the values in a stream, except those that ``passing`` leaves out.

    With each comes whether it is known to be an object of at most ``SHORT`` characters that nests no deeper
    than ``MAX_DEPTH``.
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
    """The unread part of the stream, decoded, with the current position."""

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
        """Read more, at least as much as is buffered already; False at the end."""
        if self._ended:
            return False
        waiting = self._text[self._at :]
        self._before += self._at
        read = self._stream.read(max(CHUNK, len(waiting)))
        self._ended = not read
        self._text, self._at = waiting + self._decoder.decode(read, final=self._ended), 0
        return True

    def skip(self, blank: re.Pattern[str]) -> bool:
        """Skip what ``blank`` matches; False at the end of the stream."""
        while True:
            if found := blank.match(self._text, self._at):
                self._at = found.end()
            if self._at < len(self._text):
                return True
            if not self._more():
                return False

    def mark(self) -> str:
        """Return the character at the current position."""
        return self._text[self._at]

    def pass_over(self, count: int) -> None:
        """Advance by ``count`` characters that have been examined."""
        self._at += count

    def skip_line(self) -> None:
        """Continue after the next line end."""
        while (end := self._text.find("\n", self._at)) < 0:
            self._at = len(self._text)
            if not self._more():
                return
        self._at = end + 1

    def value(self, *, bare: bool) -> Any | Undecodable:
        """Return the next value: an object or, with ``bare``, any. The position stays if it is not JSON."""
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
            # A copy: to report the position of an error, `json` counts lines from the beginning of the text.
            piece = self._text[self._at : self._at + wide]
            value, end, cut_off = scan(piece)
            # A number at the end of the buffer may continue; a truncated value certainly does.
            if (cut_off or end == len(piece)) and (len(self._text) > self._at + wide or self._more()):
                if wide > MAX_VALUE:
                    return Undecodable("too_large", f"a value of more than {MAX_VALUE} characters")
                self.looked_at += end
                wide *= 2
                continue
            return self._taken(value, end)

    def _guessed(self, blank: re.Pattern[str]) -> object | None:
        """Return an object that ends with its line or with a line indented like its first; None if none does.

        If the text up to the guessed end is a complete object, a parser would stop at the same place.
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
        """Advance past the object that ends at ``end``, and past similar ones that are left out."""
        text, passing = self._text, self._passing
        between = blank.match(text, end)[0]  # type: ignore[index]
        behind = between[: between.find(_LINE) + 1]
        end = self._pass_rows(end, close, between) if behind else end
        last = end if behind else len(text)
        while text.startswith(between, last):
            start = last + len(between)
            if close == "}":  # finding one character is many times as fast as two
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
        """Advance past many objects at once, as long as they are separated like the first two."""
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
        """Return whether so much was examined in vain that values over several lines are no longer tried.

        Otherwise, each of many lines that open an object without closing it would cause a read to the end.
        """
        return self.looked_at > PATIENCE * (self._before + self._at + CHUNK)

    def _line(self) -> str:
        """Return the rest of the line."""
        while (end := self._text.find("\n", self._at)) < 0 and self._more():
            pass
        return self._text[self._at : len(self._text) if end < 0 else end]

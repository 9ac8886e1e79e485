r"""Quoted strings: escapes decoded and written.

``\"``, ``\\``, ``\t``, ``\n`` and the usual C escapes, octal ``\377`` and hexadecimal ``\x41`` bytes,
``\u0041``, ``\U00000041``. Bytes of 0x80 and above are read as UTF-8; an invalid byte stays
recognisable (as a lone surrogate) and so equals no text. Any other escape is an error in a plain
string. In a regular expression it keeps its backslash (``"\d"`` and ``"\\d"`` are the same pattern), as
Cloud Logging users write it, except ``\b``, which is a backspace in a string and a word boundary in RE2:
that one has to be written ``\\b``.
"""

import re

_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "?": "?",
}
_WRITTEN = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}
_ESCAPE = re.compile(
    r"(?P<bytes>(?:\\(?:[0-3]?[0-7]{1,2}|x[0-9A-Fa-f]{2}))+)"
    r"|\\u(?P<u4>[0-9A-Fa-f]{4})|\\U(?P<u8>[0-9A-Fa-f]{8})|\\(?P<other>.)",
    re.DOTALL,
)
_BYTE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([0-7]{1,3}))")
_TO_ESCAPE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\\ud800-\udfff]')


class EscapeError(ValueError):
    """An escape that cannot be decoded, ``offset`` characters after the opening quote."""

    def __init__(self, message: str, hint: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.offset = offset


def decode(quoted: str, *, pattern: bool = False) -> str:
    """Decode a quoted string; ``pattern`` keeps RE2's escapes. Raises EscapeError."""
    body = quoted[1:-1]
    if "\\" not in body:
        return body

    def one(match: re.Match[str]) -> str:
        if run := match["bytes"]:
            codes = bytes(int(h, 16) if h else int(o, 8) for h, o in _BYTE.findall(run))
            return codes.decode("utf-8", "surrogateescape")
        if digits := match["u4"] or match["u8"]:
            if (code := int(digits, 16)) > 0x10FFFF:
                raise EscapeError(f"no character has the code \\U{digits}", "", match.start())
            return chr(code)
        char: str = match["other"]
        if pattern and char == "b":
            raise EscapeError("ambiguous escape \\b", "write \\\\b for a word boundary", match.start())
        if char in _SIMPLE:
            return _SIMPLE[char]
        if pattern:
            return "\\" + char
        raise EscapeError(f"unknown escape \\{char}", f"write \\\\{char} for a backslash", match.start())

    return _ESCAPE.sub(one, body)


def encode(text: str) -> str:
    """Return a string with quotes and escapes that :func:`decode` decodes to it."""

    def one(match: re.Match[str]) -> str:
        char = match[0]
        if char in _WRITTEN:
            return _WRITTEN[char]
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            return f"\\{code - 0xDC00:03o}"
        # The C1 controls would be read back as lone UTF-8 bytes in octal, a lone surrogate likewise.
        return f"\\{code:03o}" if code < 0x80 else f"\\u{code:04x}"

    return f'"{_TO_ESCAPE.sub(one, text)}"'

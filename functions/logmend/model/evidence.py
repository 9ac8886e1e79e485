"""Read what a script printed on a VM: bytes from an untrusted machine. Pure.

Only ``key=value`` lines count. Keys are lower-case words with underscores, values printable text of at most
256 characters. The value of ``reason`` is a single snake_case word, since it becomes an outcome's reason and
so a metric label. Anything else is dropped, as is everything past 4 KiB.
"""

import re
from collections.abc import Iterator, Mapping

LIMIT = 4096
"""The most bytes of output that are read."""

VALUE_LIMIT = 256
"""The most characters of a value."""

ERROR_LIMIT = 512
"""The most characters of an error's text that are kept."""

RESERVED = frozenset({"exit_code", "finding", "at", "error"})
"""Keys that an outcome's document uses itself; they are ignored if a script prints them."""

_LINE = re.compile(r"([a-z][a-z_]{0,63})=(.*)")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CAUSE = re.compile(r"[EW]: |Err:|(?:curl|dpkg|rpm|error|fatal|problem): ", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]{1,256}@")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def values(output: bytes) -> Mapping[str, str]:
    """Return the evidence in a script's standard output. If a key is printed twice, the first line counts.

    This way, programs that a script runs later cannot overwrite what it printed before.
    """
    found: dict[str, str] = {}
    for key, value in lines(output):
        if key not in RESERVED and (key != "reason" or _WORD.fullmatch(value)):
            found.setdefault(key, value)
    return found


def lines(output: bytes) -> Iterator[tuple[str, str]]:
    """Yield every ``key=value`` line of a script's standard output, in order, without credentials."""
    for line in output[:LIMIT].decode("utf-8", "replace").split("\n"):
        match = _LINE.fullmatch(_CREDENTIALS.sub("", line.rstrip("\r")))
        if match and len(match[2]) <= VALUE_LIMIT and match[2].isprintable() and "\ufffd" not in match[2]:
            yield match[1], match[2]


def error_text(output: bytes) -> str:
    """Return a script's standard error as one printable line: the lines that say why, then its end.

    Programs tend to end with general advice ("check your network") that would displace the cause. Lines that
    start like errors of apt, dpkg, dnf, rpm and curl therefore come first, and get at most half the space.
    """
    text = _CREDENTIALS.sub("", _COLOURS.sub("", output.decode("utf-8", "replace")))
    lines = [_printable(line) for line in re.split(r"[\r\n]", text)]
    whole = " ".join(line for line in lines if line)
    if len(whole) <= ERROR_LIMIT:
        return whole
    end = whole[-ERROR_LIMIT:]
    causes = dict.fromkeys(line for line in lines if _CAUSE.match(line) and line not in end)
    why = " ".join(causes)[: ERROR_LIMIT // 2]
    start = f"{why} …" if why else "…"
    return start + whole[len(start) - ERROR_LIMIT :]


def _printable(line: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in line).split())

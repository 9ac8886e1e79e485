"""Reading what a script printed on a VM. Pure; bytes from a machine that is not trusted.

Only lines ``key=value`` count: keys are lower-case words with underscores, values printable text of at
most 256 characters, and that of ``reason`` a single snake_case word, since it becomes an outcome's reason
and with it a label of metrics. Anything else is dropped, as is everything past 4 KiB.
"""

import re
from collections.abc import Iterator, Mapping

LIMIT = 4096
"""Bytes of output that are looked at."""

VALUE_LIMIT = 256
"""Characters a value may have."""

ERROR_LIMIT = 512
"""Characters of an error's text that are kept."""

RESERVED = frozenset({"exit_code", "finding", "at", "error"})
"""Keys that an outcome's document uses itself; a script that prints them is not believed."""

_LINE = re.compile(r"([a-z][a-z_]{0,63})=(.*)")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CAUSE = re.compile(r"[EW]: |Err:|(?:curl|dpkg|rpm|error|fatal|problem): ", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]{1,256}@")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def values(output: bytes) -> Mapping[str, str]:
    """Return the evidence of a script's standard output; of a key printed twice, the first line counts.

    The first, so that programs which a script runs later cannot overwrite what it printed before.
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
    """Return a script's standard error as one printable line: what says why, then its end.

    Programs tend to end with words of their own ("check your network") that push the cause out of what is
    kept; lines that begin as apt, dpkg, dnf, rpm and curl begin their errors come first, at most half of it.
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

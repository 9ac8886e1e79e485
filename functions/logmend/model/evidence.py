"""Reading what a script printed on a VM. Pure; bytes from a machine that nobody vouches for.

Only lines ``key=value`` count: keys are lower-case words with underscores, values printable text of at
most 256 characters, and that of ``reason`` a single snake_case word, since it becomes an outcome's reason
and with it a label of metrics. Anything else is dropped, as is everything past 4 KiB.
"""

import re
from collections.abc import Mapping

LIMIT = 4096
"""Bytes of output that are looked at."""

VALUE_LIMIT = 256
"""Characters a value may have."""

ERROR_LIMIT = 512
"""Characters of an error's text that are kept, counted from its end."""

RESERVED = frozenset({"exit_code", "finding", "at", "error"})
"""Keys that an outcome's document uses itself; a script that prints them is not believed."""

_LINE = re.compile(r"([a-z][a-z_]{0,63})=(.*)")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def values(output: bytes) -> Mapping[str, str]:
    """Give the evidence of a script's standard output; of a key printed twice, the first line counts.

    The first, so that programs which a script runs later cannot overwrite what it printed before.
    """
    found: dict[str, str] = {}
    for line in output[:LIMIT].decode("utf-8", "replace").split("\n"):
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is None or match[1] in RESERVED:
            continue
        if match[1] == "reason" and not _WORD.fullmatch(match[2]):
            continue
        if len(match[2]) <= VALUE_LIMIT and match[2].isprintable() and "\ufffd" not in match[2]:
            found.setdefault(match[1], match[2])
    return found


def error_text(output: bytes) -> str:
    """Give the end of a script's standard error as one printable line."""
    text = output[-4 * ERROR_LIMIT :].decode("utf-8", "replace")
    text = "".join(each if each.isprintable() else " " for each in _COLOURS.sub("", text))
    text = " ".join(text.split())
    return text if len(text) <= ERROR_LIMIT else "…" + text[1 - ERROR_LIMIT :]

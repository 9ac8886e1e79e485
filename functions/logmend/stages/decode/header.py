"""The general form of a header before a log line's message: one grammar for decoding and for filters.

::

    [PRI] [UPTIME] [PRI]  [[VERSION] TIME [FACILITY] [HOST] [FACILITY]]  TAG ([PID]: | PROCID MSGID DATA)

* priorities (``<30>``, also with RFC 6587's byte count before it) and the kernel's ``[   12.345678]``;
* times such as ``Sep  2 04:27:51``, also with a weekday, a year, a fraction or a zone; ISO 8601 with ``T``
  or a space and any zone or none; seconds since 1970 or, with a PID, since the VM started
  (journalctl(1), ``-o short-*``; without a PID it may be the kernel's own text);
* ``daemon.info`` before or after the host (syslogd of busybox and FreeBSD), or no host (as in ``/dev/log``);
* hosts as rsyslog accepts them: names, addresses, and syslog-ng's chains with ``/`` and ``@`` (pmrfc3164);
* tags that are a program's full path, PIDs of any kind.

A word before the tag is a host only if a time precedes it: ``grep PROGRAM: …`` is not a header. The patterns
use only syntax common to Python and RE2, without backslashes or quotes, so a filter can contain them as is.
"""

COLOUR = "(?:.(?:x1[bB]|033)?[[][0-9;]*m)*"
"""Terminal colours, raw or as the serial console escapes them."""

_PRIORITY = "(?:(?:[0-9]+ )?<[0-9]{1,3}>)?"
UPTIME = "[[] *[0-9]+[.][0-9]+[]]"
_VERSION = "[1-9][0-9]{0,2} "
_DATE = "(?:[A-Z][a-z]{2} +[0-9]{1,2}(?: [0-9]{4})?|[0-9]{4}-[0-9]{2}-[0-9]{2})"
_CLOCK = "[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
_ZONE = "(?: ?(?:[A-Z]{1,5}|[+-][0-9]{2}:?[0-9]{2}))?"
_STAMP = f"(?:[A-Z][a-z]{{2}},? )?{_DATE}[ T]{_CLOCK}{_ZONE}(?: [0-9]{{4}})?"
_SEVERITY = "(?:emerg|panic|alert|crit|err|error|warning|warn|notice|info|debug|[0-7])"
_FACILITY = f"(?:<?[a-z0-9]+[.]{_SEVERITY}>? )?"

TIME = f"(?:{_STAMP}|[0-9]{{9,10}}[.][0-9]+|{UPTIME})"
HOST = "(?:[A-Za-z0-9_.:/@%-]*[A-Za-z0-9_.%-]|[[][0-9A-Fa-f:.]+[]])"
_WORD = "[!-~]*[!-9;-~]"
"""RFC 5424's process or message id. A word ending in a colon is another header's tag, after a host ``-``."""
DATA = "(?:-|[[].*[]])"
"""Structured data. A filter does not need its exact end: the program is named before it."""


def before(colour: str = "") -> str:
    """Return the pattern for what may precede a header, or a message without one."""
    return f"{_PRIORITY}{colour}(?:{UPTIME} )?{_PRIORITY}{colour}"


def named(tag: str, *, time: str = TIME, host: str = HOST, data: str = DATA) -> str:
    """Return the pattern for a header from its time on, with the pattern ``tag`` for its tag.

    ``time``, ``host`` and ``data`` replace the patterns of these parts.
    """
    dated = f"(?:(?:{_VERSION})?{time}|{_VERSION}-) {_FACILITY}(?:{host} )?{_FACILITY}"
    return f"(?:{dated})?{tag}(?:(?:[[][^][ ]*[]])?:| {_WORD} {_WORD} {data}) +"


def line(tag: str) -> str:
    """Return the RE2 pattern for all that may precede a program's message, anchored at the start."""
    mark = "[^ -~]?"  # a byte order mark
    return f"^[[:space:]]*{COLOUR}{before(COLOUR)}(?:{named(tag)}{mark})?{COLOUR}"


def program(*names: str) -> str:
    """Return the pattern for a program's tag: one of its names, or its full path."""
    return f"(?:/(?:[^ /:[]+/)*)?(?:{'|'.join(names)})"

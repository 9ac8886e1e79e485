"""The general form of what stands before a log line's message: one grammar for decoding and for filters.

::

    [PRI] [UPTIME] [PRI]  [[VERSION] TIME [FACILITY] [HOST] [FACILITY]]  TAG ([PID]: | PROCID MSGID DATA)

* priorities (``<30>``, also with RFC 6587's byte count before it) and the kernel's ``[   12.345678]``;
* times like ``Sep  2 04:27:51``, also with a day of the week, a year, a fraction or a zone; ISO 8601 with
  ``T`` or a blank and any zone or none; seconds since 1970 or, with a PID, since the VM started
  (journalctl(1), ``-o short-*``; without a PID it may be the kernel's own prose);
* ``daemon.info`` before or after the host (syslogd of busybox and FreeBSD), or no host (as in ``/dev/log``);
* hosts as rsyslog takes them: names, addresses, and syslog-ng's chains with ``/`` and ``@`` (pmrfc3164);
* tags that are a program's full path, PIDs of any kind.

A word before the tag is a host only if a time precedes it: ``grep PROGRAM: …`` is no header. The patterns
keep to what Python and RE2 share, without backslashes and quotes, so that a filter can hold them as they are.
"""

COLOUR = "(?:.(?:x1[bB]|033)?[[][0-9;]*m)*"
"""Terminal colours, as they are or as the serial console spells them out."""

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
"""RFC 5424's process or message id. One that ends in a colon is another header's tag, behind a host ``-``."""
DATA = "(?:-|[[].*[]])"
"""Structured data. A filter need not tell where exactly it ends: the program is named before it."""


def before(colour: str = "") -> str:
    """Return the pattern of what may stand before a header, or before a message without one."""
    return f"{_PRIORITY}{colour}(?:{UPTIME} )?{_PRIORITY}{colour}"


def named(tag: str, *, time: str = TIME, host: str = HOST, data: str = DATA) -> str:
    """Return the pattern of a header from its time on, whose tag the pattern ``tag`` describes.

    ``time``, ``host`` and ``data`` replace the patterns of these parts.
    """
    dated = f"(?:(?:{_VERSION})?{time}|{_VERSION}-) {_FACILITY}(?:{host} )?{_FACILITY}"
    return f"(?:{dated})?{tag}(?:(?:[[][^][ ]*[]])?:| {_WORD} {_WORD} {data}) +"


def line(tag: str) -> str:
    """Return RE2's pattern of all that may stand before a message of a program, anchored at the start."""
    mark = "[^ -~]?"  # a byte order mark
    return f"^[[:space:]]*{COLOUR}{before(COLOUR)}(?:{named(tag)}{mark})?{COLOUR}"


def program(*names: str) -> str:
    """Return the pattern of a program's tag: one of its names, or its full path."""
    return f"(?:/(?:[^ /:[]+/)*)?(?:{'|'.join(names)})"

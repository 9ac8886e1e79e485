"""Standard input, output and error as every command needs them: open, and able to take any text."""

import io
import os
import sys


def prepare() -> None:
    r"""Open streams that are closed, and let no character that somebody's locale lacks end a command.

    A stream that a cron job or a shell closed (``>&-``) is opened on /dev/null. Otherwise the next file to be
    opened, such as a ledger, would take its number, and what is printed would end up in it; so would the next
    file of a program that the command starts, such as a script on this VM.

    Output to files and pipes is UTF-8, whatever the locale: it is JSON, a filter, a script, or a table. A
    terminal gets its own encoding, with ``\u2026`` for what that lacks.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(opened, True)  # as streams are: what a command starts has them as well
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  a number has no path
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

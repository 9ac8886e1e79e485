"""Standard input, output and error as every command needs them: open, and able to take any text."""

import io
import os
import sys


def prepare() -> None:
    r"""Open closed streams, and make output robust to characters that the locale lacks.

    A stream that a cron job or a shell closed (``>&-``) is opened on /dev/null. Otherwise the next file to be
    opened, such as a ledger, would get its number, and printed text would end up in that file; the same is
    true of a program that the command starts, such as a script on this VM.

    Output to files and pipes is UTF-8, whatever the locale: it is JSON, a filter, a script, or a table. A
    terminal gets its own encoding, with escapes such as ``\u2026`` for characters that it lacks.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            os.set_inheritable(opened, True)  # like any stream: programs that the command starts have it, too
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  a number has no path
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

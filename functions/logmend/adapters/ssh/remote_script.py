"""Run a script over an SSH connection: it arrives whole or does not run, and its output is bounded.

The command line is a constant and never contains anything from an event, a runbook or a setting. The script
is sent on standard input and read to its end *before* it runs. Therefore:

* A command in the script that reads standard input finds it empty, instead of consuming the rest of the
  script (as with ``sh -s`` under bash).
* A connection that dies half-way leaves a script without its last line, and such a script is not run.
* Nothing has to be quoted, and in the process list and sudo's log the text appears only on the command line
  of the shell that runs it.

The line before the script is its only argument: the attempt's mark (32 hex digits that we generate) or empty.

The shell prints a first line of output just before it runs the script. It distinguishes a script that failed
from one that never started: a refused sudo, a login shell that runs nothing, a forced command.
"""

import asyncio
import contextlib
import re

import asyncssh

from logmend.adapters.ssh import errors, refusals
from logmend.errors import Transient
from logmend.model import evidence

OUTPUT_LIMIT = 64 * 1024
"""Bytes of output, both streams together, after which a script is cut off. Less is never lost."""

_MARK = re.compile("(?:[0-9a-f]{32})?")
_END = "# logmend: end of script"
_BEGIN = b"logmend=begin\n"
_TORN = 96

_SHELL = (
    "/bin/sh -c '"
    "PATH=${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin; "
    f'read -r m; s=$(cat); case $s in *"{_END}") echo logmend=begin;'
    ' exec /bin/sh -c "$s" logmend "$m" </dev/null;; esac; '
    f"exit {_TORN}'"
)
AS_USER = _SHELL
"""Command line that runs the script from standard input, as the user who logged in.

The usual directories are appended to the path: sudo's ``secure_path`` may lack the one that is needed.
"""
AS_ROOT = f"env LC_ALL=C sudo -n {_SHELL}"
"""The same as root. ``-n`` never asks for a password; LC_ALL makes messages English on any VM."""

CUT = -1
"""Exit code of a script that was cut off because of its output."""


class Output(asyncssh.SSHClientSession[bytes]):
    """A command's output, up to :data:`OUTPUT_LIMIT`; ``done`` is set when it has ended or is cut off."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.status: int | None = None
        self.signal: str | None = None
        self.cut = False
        self.done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Remember the channel, to be able to end it."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: object) -> None:
        """Keep as much as there is room for."""
        kept = self.stderr if datatype == asyncssh.EXTENDED_DATA_STDERR else self.stdout
        room = OUTPUT_LIMIT - len(self.stdout) - len(self.stderr)
        kept += data[:room]
        if len(data) > room and not self.cut:
            self.cut = True
            self.end()
            self._finish(None)

    def exit_status_received(self, status: int) -> None:
        """Note the exit status."""
        self.status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """Note the signal that killed it."""
        del core_dumped, msg, lang
        self.signal = signal

    def connection_lost(self, exc: Exception | None) -> None:
        """Finish: the command has ended or the connection is lost."""
        self._finish(exc)

    def end(self) -> None:
        """Close the channel. A command still running on the VM ends at its next output at the latest."""
        if self._channel is not None:
            self._channel.abort()

    def _finish(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(exc)


async def run(connection: asyncssh.SSHClientConnection, command: str, script: str, mark: str = "") -> Output:
    """Run a script to its end. The caller limits the time; cancelling closes the channel.

    ``mark`` is the script's argument; ValueError if it is anything but our hex digits.

    Once the script may have started, every error is Transient: only a look at the VM can tell what was done.
    """
    if not _MARK.fullmatch(mark):
        raise ValueError("a mark is 32 hex digits")
    output = Output()
    try:
        channel, _ = await connection.create_session(
            lambda: output, command, encoding=None, window=2 * OUTPUT_LIMIT, request_pty=False
        )
        # A command that ends without reading (sudo refusing) has closed the channel: its answer counts.
        with contextlib.suppress(BrokenPipeError):
            channel.write(f"{mark}\n{script}\n{_END}\n".encode())
            channel.write_eof()
        if (lost := await output.done) is not None:
            # The script may have run, whatever error the library reports.
            raise Transient("connection_lost", errors.classify(lost).detail) from lost
    finally:
        output.end()
    return output


def judged(output: Output, command: str) -> tuple[int, bytes, str]:
    """Return the exit code, the script's own standard output, and the end of its stderr ("" for 100 and 101).

    ``Transient("connection_lost")`` if it is unknown how the script ended. :mod:`.refusals` has the errors
    for a script that did not start.
    """
    stderr = evidence.error_text(bytes(output.stderr))
    _, begun, stdout = bytes(output.stdout).partition(_BEGIN)
    if output.cut:
        return CUT, stdout, f"cut off after {OUTPUT_LIMIT} bytes of output"
    if output.status is None:
        how = f"killed by signal {output.signal}" if output.signal else "no exit status"
        raise Transient("connection_lost", f"the script did not end by itself: {how}")
    as_root = command == AS_ROOT
    if not begun and output.status == _TORN:
        raise refusals.torn(stderr, as_root=as_root)
    if not begun:
        error = stderr or evidence.error_text(bytes(output.stdout)) or f"exit status {output.status}"
        raise refusals.not_begun(error, as_root=as_root)
    return output.status, stdout, "" if output.status in (100, 101) else stderr

"""Write outcomes as JSON lines to standard output or a file: one line each, the document of outcome_json.

On Cloud Run a line on standard output becomes an entry in the service's own log with the document's
``severity``. To record outcomes on the VM's resource, use :mod:`logmend.adapters.google.cloud_logging`.
"""

import asyncio
import errno
import fcntl
import io
import os
import sys
from pathlib import Path

from logmend.errors import Transient
from logmend.model.values import Outcome
from logmend.outcome import document


class NoOutcomeLog:
    """Records nothing: for commands that print their outcomes themselves."""

    async def write(self, outcome: Outcome) -> None:
        """Drop the outcome."""

    async def aclose(self) -> None:
        """Nothing to release."""


class StdoutOutcomeLog:
    """Prints each outcome as one whole line, flushed before the event is answered.

    If ``LOG_EXECUTION_ID`` is set, functions-framework replaces ``sys.stdout`` during a request with a
    text-only stream that adds the execution's id to the document.
    """

    async def write(self, outcome: Outcome) -> None:
        """Print the outcome. ``Transient("outcome_log_unavailable")`` if standard output has been closed."""
        line = document.line(outcome) + "\n"
        try:
            # Bytes, in one call: lines of two tasks never mix, and the stream's encoding does not matter.
            sys.stdout.flush()
            below = getattr(sys.stdout, "buffer", None)
            if isinstance(below, io.BufferedIOBase):
                below.write(line.encode())
                below.flush()
            else:  # a text-only stream stands in for standard output
                sys.stdout.write(line)
                sys.stdout.flush()
        except OSError as error:
            raise Transient("outcome_log_unavailable", f"standard output: {error.strerror}") from error

    async def aclose(self) -> None:
        """Nothing to release."""


class FileOutcomeLog:
    """Appends each outcome to a file. Several processes may share it.

    Guaranteed: a line is whole, or it is missing and was not reported as written. If a full disk cuts a write
    short, it is undone under the lock that every writer holds. Not guaranteed: one line per outcome. If an
    event is delivered again, the same line is appended again, byte for byte (deduplicate by ``outcome_id``).
    Only the owner can read a new file (0600); a symbolic link in its place is not followed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def write(self, outcome: Outcome) -> None:
        """Append. ``Transient("outcome_log_unavailable")`` if writing fails (on a full disk, say)."""
        data = (document.line(outcome) + "\n").encode()
        try:
            await asyncio.to_thread(self._append, data)
        except OSError as error:
            link = "a symbolic link; name the file itself" if error.errno == errno.ELOOP else None
            detail = f"{self._path}: {link or error.strerror or error}"
            raise Transient("outcome_log_unavailable", detail) from error

    async def aclose(self) -> None:
        """Do nothing: the file is opened for each line, so it can be rotated."""

    def _append(self, data: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # released when the file is closed or the process ends
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

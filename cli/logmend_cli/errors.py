"""The messages if something goes wrong, and the exit status of each."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from logmend.errors import ConfigError, LogmendError, Permanent, Transient

if TYPE_CHECKING:
    from logmend.model.enums import Result

DONE, BAD, UNUSABLE = 0, 1, 2
"""Exit statuses: done or nothing to do; a bad result or a failed check; invalid input or options."""

INTERRUPTED, PIPE_CLOSED = 128 + signal.SIGINT, 128 + signal.SIGPIPE
"""Exit statuses after a signal, as shells count them: Ctrl-C; the reader of the output is gone."""

NO_CREDENTIALS = frozenset({"no_credentials", "credentials_unusable"})
"""Reasons of errors with which every further call of Google's APIs would fail as well."""

_BAD = frozenset({"failed", "unverified", "rejected", "unmatched"})


def status_of(results: "Iterable[Result | None]") -> int:
    """Return the exit status for the results of several events: the worst. None is a tick, never bad."""
    return BAD if any(result in _BAD for result in results) else DONE


class Told(click.ClickException):
    """An error with its lines for standard error and its exit status."""

    def __init__(self, lines: Iterable[str], status: int) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))
        setattr(self, "exit_code", status)  # noqa: B010  click declares it of the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print each line after ``logmend:``."""
        for line in self.lines:
            click.echo(
                f"{click.style('logmend:', fg='red')} {_plain(line)}", file or sys.stderr, color=colours()
            )


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The operating system's errors if there is no room to write: not a bug of logmend."""
_KIND = {"FilterError": "filter", "Superseded": "superseded"}


@contextmanager
def told(*, debug: bool = False) -> Iterator[None]:
    """Turn errors into messages for a person. ``debug`` shows the traceback of unexpected ones."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True, color=colours())
        raise click.exceptions.Exit(UNUSABLE) from error
    except click.UsageError as error:
        hint = f"`{error.ctx.command_path} --help` shows what there is" if error.ctx else ""
        raise Told(filter(None, [error.format_message(), hint]), UNUSABLE) from error
    except (click.exceptions.Exit, click.ClickException):
        raise
    except KeyboardInterrupt as error:
        raise click.exceptions.Exit(INTERRUPTED) from error
    except click.Abort as error:  # click's word for Ctrl-C or the end of input at a question, and for a no
        if isinstance(error.__context__, KeyboardInterrupt):
            raise click.exceptions.Exit(INTERRUPTED) from error
        raise Told(["not confirmed: nothing was done"], BAD) from error
    except BrokenPipeError as error:
        _print_no_more()
        raise click.exceptions.Exit(PIPE_CLOSED) from error
    except ConfigError as error:
        raise Told(error.problems, UNUSABLE) from error
    except (Transient, Permanent) as error:
        _trace(debug)
        raise Told([_trouble(error)], BAD) from error
    except (
        LogmendError
    ) as error:  # an invalid filter, shown with its place; or an error that only the pipeline sees
        _trace(debug)
        raise Told([f"{_KIND.get(type(error).__name__, 'error')}: {error}"], UNUSABLE) from error
    except OSError as error:
        _trace(debug)
        if error.errno in _NO_ROOM:
            what = error.filename or "output"
            if error.filename is None:
                _print_no_more()
            raise Told([f"{what}: {error.strerror}; the output is incomplete"], BAD) from error
        if error.filename is None:  # not about a file or folder that was named
            raise _surprise(error, debug=debug) from error
        raise Told([f"{error.filename}: {error.strerror or error}"], UNUSABLE) from error
    except Exception as error:
        _trace(debug)
        raise _surprise(error, debug=debug) from error


def _print_no_more() -> None:
    """Discard output that is left: Python would try again when it exits, and exit with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _surprise(error: Exception, *, debug: bool) -> Told:
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    hint = "" if debug else "; logmend --debug … shows where"
    return Told([f"unexpected error, please report it: {what}{hint}"], BAD)


def warn(text: str) -> None:
    """Print text to standard error; standard output stays the same."""
    click.echo(f"{click.style('logmend:', fg='yellow')} {_plain(text)}", err=True)


def confirm(question: str) -> None:
    """Ask on standard error; if the answer is no, or there is none, end the command with nothing done."""
    click.confirm(f"{click.style('logmend:', fg='yellow')} {_plain(question)}", abort=True, err=True)


def _plain(text: str) -> str:
    """Return text, which may quote the ledger, a VM or an API, without terminal control characters."""
    from logmend_cli.output import printable

    return "\n".join(map(printable, text.split("\n")))


def colours() -> bool | None:
    """Return False if the terminal or the user wants no colours (https://no-color.org), else None."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _trouble(error: Transient | Permanent) -> str:
    from logmend.outcome.reasons import AT_HAND, REASONS, WAIT

    reason = REASONS.get(error.reason)
    # A store names the cause first, whose next step may differ from that for the store's own error.
    cause = error.detail.partition(":")[0]
    step = REASONS[cause].next_step if cause in AT_HAND else reason.next_step if reason else ""
    if step == WAIT:
        step = "run it again" if isinstance(error, Transient) else ""
    parts = [reason.meaning.rstrip(".") if reason else "", error.detail.rstrip(".")]
    text = f"{error.reason}: {': '.join(filter(None, parts))}".rstrip(": ")
    return f"{text}. Next: {step}" if step and "{" not in step else text


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()

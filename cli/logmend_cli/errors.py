"""What a person is told when something goes wrong, and the exit status that goes with it."""

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
"""Exit status: done or nothing to do; a bad result or failing check; invalid input or options."""

INTERRUPTED, PIPE_CLOSED = 128 + signal.SIGINT, 128 + signal.SIGPIPE
"""Exit status of what a signal ends, as shells count it: Ctrl-C; nobody reads on."""

NO_CREDENTIALS = frozenset({"no_credentials", "credentials_unusable"})
"""Reasons of an error that every further call of Google's APIs would end in as well."""

_BAD = frozenset({"failed", "unverified", "rejected", "unmatched"})


def status_of(results: "Iterable[Result | None]") -> int:
    """Return the exit status of what came of several events: the worst. None is a tick: nothing bad."""
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
"""What the operating system says if there is no room to write: nothing to report to us."""
_KIND = {"FilterError": "filter", "Superseded": "superseded"}


@contextmanager
def told(*, debug: bool = False) -> Iterator[None]:
    """Turn errors into what a person is told. ``debug`` shows the traceback of those that are a surprise."""
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
    ) as error:  # a filter that is none, told with its place; or what only the pipeline sees
        _trace(debug)
        raise Told([f"{_KIND.get(type(error).__name__, 'error')}: {error}"], UNUSABLE) from error
    except OSError as error:
        _trace(debug)
        if error.errno in _NO_ROOM:
            what = error.filename or "output"
            if error.filename is None:
                _print_no_more()
            raise Told([f"{what}: {error.strerror}; the output is incomplete"], BAD) from error
        if error.filename is None:  # not a file or folder that somebody named
            raise _surprise(error, debug=debug) from error
        raise Told([f"{error.filename}: {error.strerror or error}"], UNUSABLE) from error
    except Exception as error:
        _trace(debug)
        raise _surprise(error, debug=debug) from error


def _print_no_more() -> None:
    """Let what is left to print go nowhere: Python would try once more at its end, and exit with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _surprise(error: Exception, *, debug: bool) -> Told:
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    hint = "" if debug else "; logmend --debug … shows where"
    return Told([f"unexpected error, please report it: {what}{hint}"], BAD)


def warn(text: str) -> None:
    """Print something to standard error; standard output stays the same."""
    click.echo(f"{click.style('logmend:', fg='yellow')} {_plain(text)}", err=True)


def confirm(question: str) -> None:
    """Ask on standard error; whoever says no, or is not there, ends the command with nothing done."""
    click.confirm(f"{click.style('logmend:', fg='yellow')} {_plain(question)}", abort=True, err=True)


def _plain(text: str) -> str:
    """Return what may quote the ledger, a VM or an API, with nothing that makes a terminal do something."""
    from logmend_cli.output import printable

    return "\n".join(map(printable, text.split("\n")))


def colours() -> bool | None:
    """Return False if this terminal or its owner wants none (https://no-color.org); else click decides."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _trouble(error: Transient | Permanent) -> str:
    from logmend.outcome.reasons import AT_HAND, REASONS, WAIT

    reason = REASONS.get(error.reason)
    # A store names the cause first, which may need another step than what it means for the store.
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

"""What a person is told when something goes wrong, and the exit status that goes with it."""

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from logmend.errors import ConfigError, LogmendError, Permanent, Transient

if TYPE_CHECKING:
    from logmend.model import Result

DONE, BAD, UNUSABLE = 0, 1, 2
"""Exit status: done or nothing to do; a bad result or failing check; input or options that are of no use."""

_BAD = frozenset({"failed", "unverified", "rejected", "unmatched"})


def status_of(results: "Iterable[Result | None]") -> int:
    """Give the exit status of what came of several events: the worst. None is a tick: nothing bad."""
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
            click.echo(f"{click.style('logmend:', fg='red')} {line}", file=file or sys.stderr)


_KIND = {"FilterError": "filter", "Superseded": "superseded"}


@contextmanager
def told(*, debug: bool = False) -> Iterator[None]:
    """Turn errors into what a person is told. ``debug`` shows the traceback of those that are a surprise."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
        raise
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
    except Exception as error:
        _trace(debug)
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        hint = "" if debug else "; logmend --debug … shows where"
        raise Told([f"unexpected error, please report it: {what}{hint}"], BAD) from error


def warn(text: str) -> None:
    """Say something on standard error that does not change what is printed on standard output."""
    click.echo(f"{click.style('logmend:', fg='yellow')} {text}", err=True)


def _trouble(error: Transient | Permanent) -> str:
    from logmend.reasons import REASONS

    known = REASONS.get(error.reason)
    meaning = f" {known.meaning}" if known else ""
    step = f" Next: {known.next_step}" if known and known.next_step and "{" not in known.next_step else ""
    return f"{error.reason}:{meaning} {error.detail}".rstrip() + step


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()

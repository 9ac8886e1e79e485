"""``logmend explain --save-case``: save an event and its result as a golden case of a runbook."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from logmend import catalog
from logmend.errors import ConfigError
from logmend.explain import Explanation, Rules
from logmend.runbook import BUILT_IN
from logmend.runbook.decode import KEBAB
from logmend.settings import Settings
from logmend_cli import cases, output
from logmend_cli.cases import Case, Expected
from logmend_cli.errors import warn
from logmend_cli.explain.facts import Described, Lookup
from logmend_cli.inputs import Input
from logmend_cli.runbook import golden

CHECKOUT = (BUILT_IN.parents[2] / "pyproject.toml").is_file()
"""Whether this is a clone of the repository, where a built-in runbook's cases are kept."""


def case(
    wanted: str,
    found: Input,
    explanation: Explanation,
    facts: Lookup,
    now: datetime | None,
    why: str | None,
    settings: Settings,
) -> None:
    """Write the case and print its path. ``wanted`` is ``NAME`` or ``RUNBOOK/NAME``.

    The case expects the answer for the default settings, with which cases are run.
    """
    runbook, _, name = wanted.rpartition("/")
    runbook = runbook or (explanation.runbook.name if explanation.runbook else "")
    folder = catalog.folders(settings).get(runbook, Path(runbook))
    problems = []
    if not runbook:
        problems.append(f"this event belongs to no runbook: write --save-case RUNBOOK/{name}")
    elif not (folder / "runbook.yaml").is_file():
        problems.append(f"{folder}: no runbook here")
    elif folder.parent == BUILT_IN and not CHECKOUT:
        hint = "copy its folder to one of your own, and write --save-case FOLDER/NAME"
        problems.append(f"{runbook} belongs to the installed package, which an upgrade replaces: {hint}")
    if not re.fullmatch(KEBAB, name):
        problems.append(f"{name!r}: a case's name is lower-case words joined by hyphens")
    if found.payload is None:
        problems.append(f"{found.where}: only JSON can be kept")
    if problems:
        raise ConfigError(problems)
    kept = Case(
        name, why or "", found.payload, golden.answer(explanation), _instance(facts, explanation), now
    )
    expect = _by_default(kept, settings)
    if expect != kept.expect:
        words = output.word(expect.result or "a tick", expect.reason)
        warn(f"with the default settings, which cases run with, it is {words}")
    sentence = (
        why or f"{_words(name)}: {expect.result or 'tick'}{f', {expect.reason}' if expect.reason else ''}."
    )
    try:
        path = cases.write(folder, Case(name, sentence, kept.event, expect, kept.instance, now))
    except FileExistsError as error:
        raise ConfigError([f"{error.filename}: already exists"]) from error
    except OSError as error:
        hint = "set LOGMEND_RUNBOOKS to a folder of your own"
        raise ConfigError([f"{folder}: cannot be written: {error.strerror}; {hint}"]) from error
    warn(f"saved {path}; it contains the event as it came: read it before you share it")


def _instance(facts: Lookup, explanation: Explanation) -> Mapping[str, object] | None:
    if isinstance(facts, Described) and explanation.instance is not None:
        return facts.document(explanation.instance)
    return None


def _by_default(kept: Case, settings: Settings) -> Expected:
    defaults = Settings(runbooks=settings.runbooks)
    ran = golden.ran("", kept, Rules.of(catalog.read_all(defaults, every=True).runbooks, defaults))
    if ran.answered is None:
        raise ConfigError([ran.problem])
    return ran.answered


def _words(name: str) -> str:
    return name.replace("-", " ").capitalize()

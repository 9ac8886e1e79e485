"""Read runbooks' folders. Every problem in every file is reported at once, and nothing is guessed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from logmend.errors import ConfigError
from logmend.runbook import known
from logmend.runbook.decode import Reader, suggestion
from logmend.runbook.definition import runbook_of
from logmend.runbook.scripts import declared_in, rendered, text_of, values_of
from logmend.runbook.types import Problem, Runbook

BUILT_IN = Path(__file__).resolve().parent.parent / "runbooks"
"""Folder of the runbooks that ship with logmend."""

NONE: Mapping[str, str] = MappingProxyType({})


def load(folder: Path, parameters: Mapping[str, str] = NONE) -> Runbook:
    """Read one runbook. ``parameters`` override the defaults that ``runbook.yaml`` declares.

    Raise :class:`ConfigError` with every problem found, each with file, line and a suggestion.
    """
    runbook, problems = read(folder, parameters)
    if problems or runbook is None:
        raise ConfigError([str(problem) for problem in problems])
    return runbook


def load_all(
    folder: Path | None = None, parameters: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> Mapping[str, Runbook]:
    """Read every runbook below ``folder`` (the built-in ones by default), by name.

    ``parameters`` holds what :func:`load` takes, by runbook; parameters for a runbook that does not exist
    are a problem too. Raise :class:`ConfigError` as :func:`load` does.
    """
    root = BUILT_IN if folder is None else folder
    folders = below(root)
    runbooks, problems = load_each(folders, parameters)
    problems += [
        Problem(
            str(root / name), None, f"parameters for {name}, but no such runbook", suggestion(name, folders)
        )
        for name in parameters
        if name not in folders
    ]
    problems += dangling(runbooks, folders)
    if not folders:
        problems = [Problem(str(root), None, "no runbooks here", "expected */runbook.yaml")]
    if problems:
        raise ConfigError([str(problem) for problem in problems])
    return MappingProxyType(runbooks)


def below(root: Path) -> Mapping[str, Path]:
    """Return the folders of the runbooks in ``root``, by name."""
    return {path.parent.name: path.parent for path in sorted(root.glob("*/runbook.yaml"))}


def load_each(
    folders: Mapping[str, Path], parameters: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> tuple[dict[str, Runbook], list[Problem]]:
    """Read these folders; return the valid runbooks by name, and every problem."""
    problems: list[Problem] = []
    runbooks: dict[str, Runbook] = {}
    for name, each in folders.items():
        runbook, wrong = read(each, parameters.get(name, NONE))
        problems += wrong
        if runbook is not None:
            runbooks[runbook.name] = runbook
    return runbooks, problems


def dangling(runbooks: Mapping[str, Runbook], folders: Mapping[str, Path]) -> list[Problem]:
    """Return references to runbooks that do not exist (a follow-up, ``after`` or a cause's), and cycles."""
    return [*_circles(runbooks, folders)] + [
        Problem(
            str(folders[each.name] / "runbook.yaml"),
            None,
            f"{key}: no runbook {name}",
            suggestion(name, folders),
        )
        for each in runbooks.values()
        for key, name in (
            ("follow_up", each.follow_up),
            ("after", each.after),
            *((f"causes.{cause.name}", cause.runbook) for cause in each.causes),
        )
        if name is not None and name not in folders
    ]


def _circles(runbooks: Mapping[str, Runbook], folders: Mapping[str, Path]) -> Iterator[Problem]:
    """Yield a problem for each runbook that comes before itself through ``after`` and ``follow_up``.

    Runbooks that remediate a cause are left out: which one goes first depends on the VM, and none goes first
    twice for one event.
    """
    ahead_of: dict[str, set[str]] = {name: set() for name in runbooks}
    for each in runbooks.values():
        if each.after in ahead_of:
            ahead_of[each.name].add(each.after)
        if each.follow_up in ahead_of:
            ahead_of[each.follow_up].add(each.name)
    for name in runbooks:
        seen: set[str] = set()
        ahead = ahead_of[name]
        while ahead:
            seen |= ahead
            ahead = {first for later in ahead for first in ahead_of[later]} - seen
        if name in seen:
            at = str(folders[name] / "runbook.yaml")
            yield Problem(at, None, f"{name} comes before itself, by after and follow_up")


def read(folder: Path, parameters: Mapping[str, str] = NONE) -> tuple[Runbook | None, list[Problem]]:
    """Do what :func:`load` does, but return the problems instead of raising them."""
    path = folder / "runbook.yaml"
    text, problems = text_of(path)
    if text is None:
        return None, problems
    if (values := known.DOCUMENTS.get(text)) is not None:
        runbook, wrong = _decoded(Reader(str(path), values, [], {}), folder, text, parameters)
        if not wrong:
            return runbook, []
    from logmend.runbook.parse import document  # noqa: PLC0415  most cold starts need no YAML

    return _decoded(document(str(path), text), folder, text, parameters)


def _decoded(
    top: Reader, folder: Path, text: str, parameters: Mapping[str, str]
) -> tuple[Runbook | None, list[Problem]]:
    declared = declared_in(top)
    values = values_of(top, declared, parameters)
    irreversible = bool(top.take("irreversible", bool, "true or false"))
    scripts, wrong = rendered(folder, declared, values, irreversible=irreversible)
    top.problems.extend(wrong)
    runbook = runbook_of(top, folder.resolve().name, text, scripts, values, irreversible=irreversible)
    top.done()
    return (None if top.problems else runbook), sorted(top.problems, key=_order)


def _order(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line or 0, problem.message

"""Reading runbooks' folders. Every problem of every file is reported at once, and nothing is guessed."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from logmend.errors import ConfigError
from logmend.model.values import UNKNOWN, Concerns
from logmend.runbook import known
from logmend.runbook.decode import KEBAB, SNAKE, Reader, suggestion
from logmend.runbook.types import (
    DIAGNOSE,
    EXECUTORS,
    MAX_SCRIPT_CHARACTERS,
    SCRIPT_FILES,
    Cause,
    Condition,
    Limits,
    Problem,
    Runbook,
    Scripts,
    Variant,
)

BUILT_IN = Path(__file__).resolve().parent.parent / "runbooks"
"""Folder of the runbooks that ship with logmend."""

NONE: Mapping[str, str] = MappingProxyType({})

CONCERNS: tuple[Concerns, ...] = ("owner", "fleet", "logmend")

_STEP = r"[^{}\n]*(?:\{(?:vm|instance)\}[^{}\n]*)*"
"""A next step: text whose only placeholders are a VM's."""

VERDICTS: tuple[Literal["act", "refuse"], ...] = ("act", "refuse")

MAX_NAME = 63 - len("logmend--enforce")
"""Characters of a name: ``logmend-NAME-enforce`` is the id of an OS policy assignment, which has at most 63
(cloud.google.com/compute/docs/osconfig/rest/v1/projects.locations.osPolicyAssignments)."""

_WORDS = r"(?=.{8,200}\Z)[ !#-\[\]-~]+"
"""What a query can hold as it is, and no line holds by chance."""

_PLACEHOLDER = re.compile(f"@({SNAKE})@")
_SHELL_SAFE = r"[A-Za-z0-9._:/%+=,~*-]+"
"""Characters that mean nothing to a shell inside double quotes. A parameter's own pattern narrows them."""


def load(folder: Path, parameters: Mapping[str, str] = NONE) -> Runbook:
    """Read one runbook. ``parameters`` replace the defaults of those that ``runbook.yaml`` declares.

    Raises :class:`ConfigError` with every problem found, each with file, line and a suggestion.
    """
    runbook, problems = read(folder, parameters)
    if problems or runbook is None:
        raise ConfigError([str(problem) for problem in problems])
    return runbook


def load_all(
    folder: Path | None = None, parameters: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> Mapping[str, Runbook]:
    """Read every runbook below ``folder`` (the built-in ones by default), by name.

    ``parameters`` holds, by runbook, what :func:`load` takes; parameters of a runbook that is not there
    are a problem too. Raises :class:`ConfigError` as :func:`load` does.
    """
    root = BUILT_IN if folder is None else folder
    folders = below(root)
    found, problems = load_each(folders, parameters)
    problems += [
        Problem(
            str(root / name), None, f"parameters for {name}, but no such runbook", suggestion(name, folders)
        )
        for name in parameters
        if name not in folders
    ]
    problems += dangling(found, folders)
    if not folders:
        problems = [Problem(str(root), None, "no runbooks here", "expected */runbook.yaml")]
    if problems:
        raise ConfigError([str(problem) for problem in problems])
    return MappingProxyType(found)


def below(root: Path) -> Mapping[str, Path]:
    """Return the folders of the runbooks in ``root``, by name."""
    return {path.parent.name: path.parent for path in sorted(root.glob("*/runbook.yaml"))}


def load_each(
    folders: Mapping[str, Path], parameters: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> tuple[dict[str, Runbook], list[Problem]]:
    """Read these folders; what is sound by name, and every problem."""
    problems: list[Problem] = []
    found: dict[str, Runbook] = {}
    for name, each in folders.items():
        runbook, wrong = read(each, parameters.get(name, NONE))
        problems += wrong
        if runbook is not None:
            found[runbook.name] = runbook
    return found, problems


def dangling(found: Mapping[str, Runbook], folders: Mapping[str, Path]) -> list[Problem]:
    """Return what names no runbook, as follow-up, to go first or for a cause; and circles."""
    return [*_circles(found, folders)] + [
        Problem(
            str(folders[each.name] / "runbook.yaml"),
            None,
            f"{key}: no runbook {name}",
            suggestion(name, folders),
        )
        for each in found.values()
        for key, name in (
            ("follow_up", each.follow_up),
            ("after", each.after),
            *((f"causes.{cause.name}", cause.runbook) for cause in each.causes),
        )
        if name is not None and name not in folders
    ]


def _circles(found: Mapping[str, Runbook], folders: Mapping[str, Path]) -> Iterator[Problem]:
    """Yield each runbook that is its own forerunner, by ``after`` and ``follow_up``.

    What remediates a cause is left out: that depends on the VM, and none goes first twice for one event.
    """
    ahead_of: dict[str, set[str]] = {name: set() for name in found}
    for each in found.values():
        if each.after in ahead_of:
            ahead_of[each.name].add(each.after)
        if each.follow_up in ahead_of:
            ahead_of[each.follow_up].add(each.name)
    for name in found:
        seen: set[str] = set()
        ahead = ahead_of[name]
        while ahead:
            seen |= ahead
            ahead = {first for later in ahead for first in ahead_of[later]} - seen
        if name in seen:
            at = str(folders[name] / "runbook.yaml")
            yield Problem(at, None, f"{name} comes before itself, by after and follow_up")


def read(folder: Path, parameters: Mapping[str, str] = NONE) -> tuple[Runbook | None, list[Problem]]:
    """Do what :func:`load` does, and hand back the problems instead of raising them."""
    path = folder / "runbook.yaml"
    text, problems = _text(path)
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
    declared = _declared(top)
    values = _values(top, declared, parameters)
    irreversible = bool(top.take("irreversible", bool, "true or false"))
    scripts, wrong = _scripts(folder, declared, values, irreversible=irreversible)
    top.problems.extend(wrong)
    runbook = _runbook(top, folder.resolve().name, text, scripts, values, irreversible=irreversible)
    top.done()
    return (None if top.problems else runbook), sorted(top.problems, key=_order)


def _order(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line or 0, problem.message


def _text(path: Path) -> tuple[str | None, list[Problem]]:
    try:
        return path.read_bytes().decode(), []
    except UnicodeDecodeError:
        return None, [Problem(str(path), None, "not UTF-8")]
    except OSError as error:
        return None, [Problem(str(path), None, f"cannot be read: {error.strerror}")]


def _runbook(
    top: Reader,
    folder: str,
    text: str,
    scripts: Scripts,
    parameters: Mapping[str, str],
    *,
    irreversible: bool,
) -> Runbook:
    name = top.text("name", "lower-case words joined by hyphens", pattern=KEBAB, required=True)
    if name is not None and name != folder:
        top.wrong("name", f"name: {name} is not the folder's name", f"the folder is {folder}")
    if name is not None and len(name) > MAX_NAME:
        top.wrong("name", f"name: {len(name)} characters, at most {MAX_NAME} fit into an OS policy's id")
    summary = top.text("summary", required=True)
    query = top.text("filter", "a filter in the Logging query language")
    causes = _causes(top)
    variants = _variants(top, (UNKNOWN, *(each.name for each in causes)))
    if query is not None and not top.values.get("variants"):
        top.wrong("filter", "filter without variants: every entry would be refused as unknown_variant")
    if query is None and top.values.get("variants"):
        top.wrong("variants", "variants without a filter: no entry would ever reach them")
    words = top.strings("words", "text without quotes and backslashes", _WORDS)
    if query is None and words:
        top.wrong("words", "words without a filter: nothing would be told apart by them")
    keys = top.strings("approval_keys", "key that validate.sh prints", SNAKE)
    if silent := [key for key in keys if key not in scripts.validate]:
        top.wrong("approval_keys", f"approval_keys: validate.sh never says {', '.join(silent)}")
    if bool(causes) != bool(scripts.diagnose):
        top.wrong("causes", f"causes and {DIAGNOSE}: one without the other")
    said = top.strings("executors", "executor", "|".join(EXECUTORS))
    executors = said or EXECUTORS
    if "ssh" not in executors or top.values.get("executors") == []:
        top.wrong("executors", "executors: ssh belongs to it, since it carries every runbook")
    if "osconfig" in said and scripts.too_long:
        top.wrong("executors", f"executors: osconfig cannot carry it: {scripts.too_long}", "say [ssh]")
    limits = top.mapping("limits")
    budget = Limits(limits.whole("disruption_budget"), limits.duration("budget_window"))
    limits.done()
    return Runbook(
        name=name or "",
        summary=summary or "",
        filter=query,
        variants=variants,
        guards=top.strings("guards", "guard name", SNAKE),
        limits=budget,
        repeats=top.duration("repeats"),
        detached=top.duration("detached"),
        permissions=top.strings("permissions", "IAM permission", r"[a-z]+(?:\.[a-zA-Z]+){2}"),
        follow_up=top.text("follow_up", "name of a runbook", pattern=KEBAB),
        after=top.text("after", "name of a runbook", pattern=KEBAB),
        scripts=scripts,
        digest=_digest(text, scripts),
        programs=top.strings("programs", "program's name", r"[^\s\[\]:/]{1,128}"),
        words=words,
        approval_keys=keys,
        parameters=parameters,
        unless=_conditions(top, top.mapping("unless")),
        only=_conditions(top, top.mapping("only")),
        irreversible=irreversible,
        causes=causes,
        confirmed_by=top.text("confirmed_by", "a filter in the Logging query language"),
        executors=executors,
    )


_KINDS: tuple[tuple[Literal["label", "metadata", "image", "machine_family"], str, str], ...] = (
    ("label", "KEY or KEY=VALUE", r"(?=[^A-Z]*\Z)[^\W\d_][\w-]{0,62}(?:=[\w-]{0,63})?"),
    ("metadata", "KEY or KEY=VALUE", r"[A-Za-z0-9_-]{1,127}(?:=.+)?"),
    ("image", "PROJECT or PROJECT/LICENSE", r"[a-z][a-z0-9.:-]{4,62}(?:/[a-z0-9._-]{1,63})?"),
    ("machine_family", "family of machine types such as e2", r"[a-z][a-z0-9]{1,15}"),
)


def _conditions(top: Reader, each: Reader) -> tuple[Condition, ...]:
    """Read what ``unless`` or ``only`` asks of a VM; neither may be there and ask nothing."""
    found: list[Condition] = []
    name = str(each.path[-1])
    for kind, expected, pattern in _KINDS:
        texts = each.strings(kind, expected, pattern)
        if not texts and each.values.get(kind) == []:
            each.wrong(kind, f"{name}.{kind}: expected at least one")
        found += [Condition(kind, text) for text in texts]
    if top.values.get(name) == {}:
        top.wrong(name, f"{name}: expected at least one condition")
    each.done()
    return tuple(found)


def _causes(top: Reader) -> tuple[Cause, ...]:
    """Read the closed list of causes that ``diagnose.sh`` may name."""
    causes: list[Cause] = []
    for each in top.mappings("causes"):
        name = each.text(
            "name", "snake_case words, at most 40", pattern=f"(?=.{{1,40}}\\Z){SNAKE}", required=True
        )
        concerns: Concerns | None = each.one_of("concerns", CONCERNS)
        summary = each.text("summary", required=True)
        step = each.text(
            "next_step", "text with no braces but {vm} and {instance}", pattern=_STEP, required=True
        )
        runbook = each.text("runbook", "name of a runbook", pattern=KEBAB)
        if (concerns == "logmend") != (runbook is not None):
            each.wrong("runbook", "a cause that concerns logmend names its runbook, and no other does")
        if name == UNKNOWN or name in {other.name for other in causes}:
            each.wrong("name", f"cause {name} is there already")
        each.done()
        if name and concerns and summary and step:
            causes.append(Cause(name, concerns, summary, step, runbook))
    return tuple(causes)


def _variants(top: Reader, causes: tuple[str, ...]) -> tuple[Variant, ...]:
    """Read the variants; ``prefix``, if there is one, begins the pattern of each."""
    prefix = top.joined("prefix") or ""
    variants: list[Variant] = []
    for each in top.mappings("variants"):
        name = each.text("name", "snake_case words", pattern=SNAKE, required=True)
        pattern = each.joined("pattern", required=True)
        verdict: Literal["act", "refuse"] | None = each.one_of("verdict", VERDICTS)
        reason = each.text("reason", "snake_case words", pattern=SNAKE)
        if (verdict == "refuse") != (reason is not None):
            each.wrong("reason", "refuse needs a reason, and act has none")
        cause = each.one_of("cause", causes) if "cause" in each.values else None
        if cause is not None and verdict == "act":
            each.wrong("cause", "act asks the VM for the cause: only what is refused names one")
        if name in {other.name for other in variants}:
            each.wrong("name", f"variant {name} is there twice")
        if pattern is not None:
            pattern = each.checked_regex("pattern", prefix + pattern)
        each.done()
        if name is not None and pattern is not None and verdict is not None:
            variants.append(Variant(name, pattern, verdict, reason, cause))
    return tuple(variants)


def _declared(top: Reader) -> Mapping[str, tuple[str, str]]:
    """Read the parameters' patterns and defaults."""
    declared: dict[str, tuple[str, str]] = {}
    parameters = top.mapping("parameters")
    for name in parameters.values:
        if not re.fullmatch(SNAKE, str(name)):
            parameters.wrong(str(name), f"parameters.{name}: expected snake_case words")
        each = parameters.mapping(str(name))
        pattern, default = each.regex("pattern"), each.text("default", required=True)
        each.text("summary", required=True)
        each.done()
        if pattern is not None and default is not None:
            declared[str(name)] = pattern, default
    return declared


def _values(
    top: Reader, declared: Mapping[str, tuple[str, str]], parameters: Mapping[str, str]
) -> Mapping[str, str]:
    """Return every declared parameter its value, checked against its pattern and the shell."""
    for name in parameters:
        if name not in declared:
            top.wrong("parameters", f"no such parameter {name}", suggestion(name, declared))
    values = {name: parameters.get(name, default) for name, (_, default) in declared.items()}
    for name, value in values.items():
        if not (re.fullmatch(_SHELL_SAFE, value) and re.fullmatch(declared[name][0], value)):
            top.wrong("parameters", f"{name}={value!r} does not match {declared[name][0]}")
    return values


def _scripts(
    folder: Path, declared: Mapping[str, object], values: Mapping[str, str], *, irreversible: bool
) -> tuple[Scripts, list[Problem]]:
    """Read the scripts and fill the parameters in, each written ``@name@``."""
    problems: list[Problem] = []
    rendered: dict[str, str] = {}
    used: set[str] = set()
    if irreversible and (folder / "revert").exists():
        problems.append(Problem(str(folder / "revert"), None, "irreversible, and yet there is a way back"))
    optional = {"diagnose": DIAGNOSE} if (folder / DIAGNOSE).exists() else {}
    for attribute, file in (*SCRIPT_FILES.items(), *optional.items()):
        if irreversible and file.startswith("revert/"):
            continue
        path = folder / file
        text, wrong = _text(path)
        problems += wrong
        names = set(_PLACEHOLDER.findall(text or ""))
        used |= names
        problems += [
            Problem(str(path), None, f"@{name}@ is no parameter of this runbook", suggestion(name, declared))
            for name in sorted(names - declared.keys())
        ]
        full = _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text or "")
        rendered[attribute] = full
        if len(full) > MAX_SCRIPT_CHARACTERS:
            excess = f"{len(full)} characters, {len(full) - MAX_SCRIPT_CHARACTERS} too many"
            problems.append(Problem(str(path), None, excess))
        if text is not None and not (text.startswith("#!/bin/sh\n") and text.endswith("\n")):
            problems.append(Problem(str(path), 1, "expected #!/bin/sh first and a line end last"))
    problems += [
        Problem(str(folder / "runbook.yaml"), None, f"parameters.{name}: no script uses @{name}@")
        for name in sorted(declared.keys() - used)
    ]
    return Scripts(**rendered), problems


def _digest(text: str, scripts: Scripts) -> str:
    """Hash runbook.yaml and the rendered scripts, each preceded by its name and length."""
    parts = {"runbook.yaml": text, **scripts.by_file}
    parts |= {DIAGNOSE: scripts.diagnose} if scripts.diagnose else {}
    digest = hashlib.sha256()
    for name, part in parts.items():
        data = part.encode()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return f"sha256:{digest.hexdigest()}"

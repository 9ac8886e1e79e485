"""``logmend runbook lint``: everything about a runbook that can be checked without a VM, offline.

The loader's strict checks come first; a runbook that passes them is checked against the filter language, the
guards, the permissions that logmend is granted, the rules for scripts and the golden cases.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from logmend import guards, permissions
from logmend.runbook import DIAGNOSE, Problem, Runbook
from logmend.runbook.decode import suggestion
from logmend.runbook.load import NONE, read
from logmend.runbook.parse import document
from logmend_cli import cases
from logmend_cli.runbook import script_rules

_ANCHORED = re.compile(r"(?:\(\?[a-zA-Z]+\))*(?:\^|\\A)")


def lint(folder: Path, parameters: Mapping[str, str] = NONE) -> list[Problem]:
    """Return every problem of the runbook in ``folder``, in order of file and line."""
    found, problems = read(folder, parameters)
    if found is not None:
        problems = [*problems, *_yaml(folder / "runbook.yaml", found), *_scripts(folder, found)]
        problems += _cases(folder, found)
    return sorted(problems, key=lambda each: (each.file, each.line or 0, each.message))


def skipped() -> list[str]:
    """Name the checks that this machine cannot make."""
    return script_rules.unavailable()


def _yaml(path: Path, found: Runbook) -> Iterator[Problem]:
    file, lines = str(path), document(str(path), path.read_text(encoding="utf-8")).lines
    if found.filter is not None:
        yield from _filter(file, lines, path, "filter", found.filter)
    if found.confirmed_by is not None:
        yield from _filter(file, lines, path, "confirmed_by", found.confirmed_by)
    for n, variant in enumerate(found.variants):
        if not _ANCHORED.match(variant.pattern):
            yield Problem(
                file,
                lines[("variants", n)],
                f"variant {variant.name} is not anchored",
                "begin its pattern (or prefix) with ^: another program may quote the line",
            )
    top = lines.get(("guards",), 1)
    for name in found.guards:
        if name not in guards.GUARDS:
            yield Problem(file, top, f"no guard {name}", suggestion(name, guards.GUARDS))
    top = lines.get(("permissions",), 1)
    if not found.permissions:
        yield Problem(
            file, top, "permissions: none declared", "compute.instances.get at least: facts are looked up"
        )
    for name in found.permissions:
        if name not in permissions.GRANTABLE:
            yield Problem(
                file, top, f"logmend is never granted {name}", suggestion(name, permissions.GRANTABLE)
            )


def _filter(
    file: str, lines: Mapping[tuple[str | int, ...], int], path: Path, key: str, text: str
) -> Iterator[Problem]:
    """Compile a filter; its lines are counted from the key, or from the line below it if it is a block."""
    from logmend import lql

    line = lines[(key,)]
    block = re.match(rf"{key}:\s*[|>]", path.read_text(encoding="utf-8").splitlines()[line - 1])
    first = line + 1 if block else line
    try:
        warnings = lql.lint(text)
    except lql.FilterError as error:
        yield Problem(file, first + error.line - 1, f"{key}: {error.message}", error.hint or "")
        return
    for each in warnings:
        yield Problem(file, first + each.line - 1, f"{key}: {each.message}", each.hint)


def _scripts(folder: Path, found: Runbook) -> Iterator[Problem]:
    for name, text in found.scripts.by_file.items():
        kind = "validate" if name.endswith("validate.sh") else "enforce"
        yield from script_rules.check(str(folder / name), text, kind)
    if found.scripts.diagnose:
        file = str(folder / DIAGNOSE)
        yield from script_rules.check(file, found.scripts.diagnose, "diagnose")
        for cause in found.causes:
            if not re.search(rf"\b{cause.name}\b", found.scripts.diagnose):
                yield Problem(file, None, f"never names the cause {cause.name}")


def _cases(folder: Path, found: Runbook) -> Iterator[Problem]:
    """Check that cases are well-formed, name only existing things, and cover every variant."""
    variants = {each.name for each in found.variants}
    named: set[str] = set()
    for path in cases.files(folder):
        case, problems = cases.read(path)
        yield from problems
        if case is None:
            continue
        if case.expect.runbook not in (None, found.name):
            yield Problem(str(path), None, f"expect.runbook: {case.expect.runbook} is another runbook")
        if case.expect.variant is not None:
            named.add(case.expect.variant)
            if case.expect.variant not in variants:
                yield Problem(
                    str(path),
                    None,
                    f"expect.variant: no variant {case.expect.variant}",
                    suggestion(case.expect.variant, variants),
                )
    if not cases.files(folder):
        yield Problem(
            str(folder / "cases"), None, "no golden cases", "logmend explain FILE --save-case makes one"
        )
    for name in sorted(variants - named):
        yield Problem(str(folder / "cases"), None, f"no case for variant {name}")

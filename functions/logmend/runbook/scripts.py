"""A runbook's scripts: parameters are checked and filled in, and the digest covers exactly what will run."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from logmend.runbook.decode import SNAKE, Reader, suggestion
from logmend.runbook.types import DIAGNOSE, MAX_SCRIPT_CHARACTERS, SCRIPT_FILES, Problem, Scripts

_PLACEHOLDER = re.compile(f"@({SNAKE})@")

_SHELL_SAFE = r"[A-Za-z0-9._:/%+=,~*-]+"
"""Characters without a meaning to a shell inside double quotes. A parameter's own pattern narrows them."""


def text_of(path: Path) -> tuple[str | None, list[Problem]]:
    """Return a file's text; None and the problem if it cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode(), []
    except UnicodeDecodeError:
        return None, [Problem(str(path), None, "not UTF-8")]
    except OSError as error:
        return None, [Problem(str(path), None, f"cannot be read: {error.strerror}")]


def declared_in(top: Reader) -> Mapping[str, tuple[str, str]]:
    """Return each declared parameter's pattern and default."""
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


def values_of(
    top: Reader, declared: Mapping[str, tuple[str, str]], parameters: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the value of every declared parameter, checked against its pattern and for shell safety."""
    for name in parameters:
        if name not in declared:
            top.wrong("parameters", f"no such parameter {name}", suggestion(name, declared))
    values = {name: parameters.get(name, default) for name, (_, default) in declared.items()}
    for name, value in values.items():
        if not (re.fullmatch(_SHELL_SAFE, value) and re.fullmatch(declared[name][0], value)):
            top.wrong("parameters", f"{name}={value!r} does not match {declared[name][0]}")
    return values


def rendered(
    folder: Path, declared: Mapping[str, object], values: Mapping[str, str], *, irreversible: bool
) -> tuple[Scripts, list[Problem]]:
    """Return the scripts with the parameters, written ``@name@``, filled in, and the problems found."""
    problems: list[Problem] = []
    texts: dict[str, str] = {}
    used: set[str] = set()
    if irreversible and (folder / "revert").exists():
        problems.append(Problem(str(folder / "revert"), None, "irreversible, but there is a revert"))
    optional = {"diagnose": DIAGNOSE} if (folder / DIAGNOSE).exists() else {}
    for attribute, file in (*SCRIPT_FILES.items(), *optional.items()):
        if irreversible and file.startswith("revert/"):
            continue
        path = folder / file
        text, wrong = text_of(path)
        problems += wrong
        names = set(_PLACEHOLDER.findall(text or ""))
        used |= names
        problems += [
            Problem(str(path), None, f"@{name}@ is no parameter of this runbook", suggestion(name, declared))
            for name in sorted(names - declared.keys())
        ]
        full = _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text or "")
        texts[attribute] = full
        if len(full) > MAX_SCRIPT_CHARACTERS:
            excess = f"{len(full)} characters, {len(full) - MAX_SCRIPT_CHARACTERS} too many"
            problems.append(Problem(str(path), None, excess))
        if text is not None and not (text.startswith("#!/bin/sh\n") and text.endswith("\n")):
            problems.append(Problem(str(path), 1, "expected #!/bin/sh first and a line end last"))
    problems += [
        Problem(str(folder / "runbook.yaml"), None, f"parameters.{name}: no script uses @{name}@")
        for name in sorted(declared.keys() - used)
    ]
    return Scripts(**texts), problems


def digest_of(text: str, scripts: Scripts) -> str:
    """Return the hash of runbook.yaml and the rendered scripts, each preceded by its name and length."""
    parts = {"runbook.yaml": text, **scripts.by_file}
    parts |= {DIAGNOSE: scripts.diagnose} if scripts.diagnose else {}
    digest = hashlib.sha256()
    for name, part in parts.items():
        data = part.encode()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return f"sha256:{digest.hexdigest()}"

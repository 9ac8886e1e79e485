"""The text of ``runbook.yaml`` to the values in it, and the line that each key stands on."""

from typing import Any

import yaml

from logmend.runbook.decode import Reader, described
from logmend.runbook.types import Problem

DEEPEST = 20
"""How deep values may lie. A YAML alias can hold itself."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader (in C if built so), which lets later duplicates win unless told otherwise."""


def document(file: str, text: str) -> Reader:
    """Parse one YAML document whose top is a mapping. ``problems`` of the result holds what is wrong."""
    problems: list[Problem] = []
    lines: dict[tuple[str | int, ...], int] = {}
    values: Any = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _locate(file, node, (), lines, problems)
            values = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or str(error)
        problems.append(Problem(file, mark.line + 1 if mark else None, f"no YAML: {why}"))
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        problems.append(Problem(file, 1, f"expected a mapping of keys to values, found {described(values)}"))
        values = {}
    return Reader(file, values, problems, lines)


def _locate(
    file: str,
    node: yaml.Node,
    path: tuple[str | int, ...],
    lines: dict[tuple[str | int, ...], int],
    problems: list[Problem],
) -> None:
    """Note the line of every key, and report keys that a mapping has twice."""
    lines.setdefault(path, node.start_mark.line + 1)
    if len(path) > DEEPEST:
        problems.append(Problem(file, node.start_mark.line + 1, "nested too deeply, or in itself"))
        return
    if isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            _locate(file, item, (*path, n), lines, problems)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if str(key.value) in seen:
                problems.append(Problem(file, line, f"key {key.value} is there twice"))
            seen.add(str(key.value))
            lines[(*path, str(key.value))] = line
            _locate(file, value, (*path, str(key.value)), lines, problems)

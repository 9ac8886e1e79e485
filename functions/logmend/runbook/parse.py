"""Parse the text of ``runbook.yaml`` into its values and the line number of each key."""

from typing import Any

import yaml

from logmend.runbook.decode import Reader, described
from logmend.runbook.types import Problem

DEEPEST = 20
"""How deeply values may be nested. A YAML alias can contain itself."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader (in C if available). It accepts duplicate keys; :func:`_locate` reports them."""


def document(file: str, text: str) -> Reader:
    """Parse one YAML document whose top level is a mapping. The result's ``problems`` say what is wrong."""
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
    """Record the line of every key, and report duplicate keys."""
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

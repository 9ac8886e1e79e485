"""Names mean one thing: no public class or type of one package is called as one of the other."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import logmend
import logmend_cli

PACKAGES = tuple(Path(each.__file__).parent for each in (logmend, logmend_cli) if each.__file__)


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of both packages with its path."""
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            yield str(path.relative_to(package.parent)), ast.parse(path.read_text())


def types_of(tree: ast.Module) -> Iterator[str]:
    """Yield the public classes and type aliases that a module defines."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper():
                yield name


def test_no_public_type_is_named_twice() -> None:
    """Whoever searches for a name finds the one thing that it means."""
    where = defaultdict[str, list[str]](list)
    for path, tree in trees():
        for name in types_of(tree):
            where[name].append(path)
    assert len(where) > 200
    assert {name: paths for name, paths in where.items() if len(paths) > 1 and name[0] != "_"} == {}


def test_only_one_module_makes_intents() -> None:
    """Each kind of intent has a named constructor there."""
    makers = {
        path
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Intent"
    }
    assert makers == {"logmend/stages/intents.py"}

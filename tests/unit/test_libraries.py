"""Heavy libraries are imported one at a time, wherever an adapter first needs one."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from logmend import adapters

FOLDER = Path(adapters.__path__[0])
HEAVY = ("asyncssh", "cryptography", "google", "grpc", "requests", "urllib3")


def modules(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [each.name for each in node.names]
        case ast.ImportFrom(module=str(module)):
            return [module, *(f"{module}.{each.name}" for each in node.names)]
    return []


def imports(
    node: ast.AST, *, alone: bool = False, inside: bool = False
) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Give every import that runs, whether it is ``with ALONE``, and whether it is in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if modules(child):
            yield child, alone, inside
        held = isinstance(child, ast.With) and any(ast.unparse(each) == "ALONE" for each in child.items)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from imports(child, alone=alone or held, inside=inside or function)


def heavy(node: ast.AST, own: frozenset[str] = frozenset()) -> bool:
    return any(name.partition(".")[0] in HEAVY or name in own for name in modules(node))


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Give every adapter's syntax tree by module name."""
    return {
        ".".join(("logmend.adapters", *path.relative_to(FOLDER).with_suffix("").parts)): ast.parse(
            path.read_text()
        )
        for path in sorted(FOLDER.rglob("*.py"))
    }


@functools.cache
def loaders() -> frozenset[str]:
    """Name the adapters that load a heavy library themselves when they are imported, or through another."""
    found: frozenset[str] = frozenset()
    while True:
        more = frozenset(
            name
            for name, tree in trees().items()
            if any(heavy(each, found) and not inside for each, _, inside in imports(tree))
        )
        if more == found:
            return found
        found = more


def test_some_adapters_load_their_library_when_they_are_imported() -> None:
    """So that the test below has something to look for."""
    assert {"logmend.adapters.ssh.remote_script", "logmend.adapters.stores.firestore_wire"} <= loaders()


@pytest.mark.parametrize("name", sorted(trees()))
def test_a_heavy_library_is_imported_by_one_thread_at_a_time(name: str) -> None:
    """Two that import cryptography by different ways would break each other's imports off, now and then."""
    own = loaders()
    found = [(each, alone) for each, alone, inside in imports(trees()[name]) if inside and heavy(each, own)]
    assert [ast.unparse(each) for each, alone in found if not alone] == []

"""What is installed and what is deployed is pinned to the last package and the last byte."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ROOT = Path(__file__).parents[2]
SHIPPED, ALL = ROOT / "functions" / "requirements.txt", ROOT / "requirements.txt"
ELSEWHERE = frozenset({"colorama"})
"""What only Windows needs."""


def locked(file: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Give version and hashes by package."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for entry in file.read_text().replace("\\\n", " ").splitlines():
        if entry.strip() and not entry.lstrip().startswith("#"):
            named = Requirement(entry.partition("--hash")[0])
            (version,) = named.specifier
            assert version.operator == "==", entry
            hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
            found[canonicalize_name(named.name)] = version.version, hashes
    return found


def pinned(file: Path) -> dict[str, str]:
    """Give the version by package of what a person wrote."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    parts = (line.split("==") for line in lines if line and not line.startswith("-r"))
    return {canonicalize_name(name): version for name, version in parts}


@pytest.mark.parametrize("file", [SHIPPED, ALL], ids=["function", "all"])
def test_every_package_is_locked_with_its_hashes_at_the_version_that_people_wrote(file: Path) -> None:
    """If this fails: `make lock`."""
    found, written = locked(file), pinned(ROOT / "constraints.txt")
    assert len(found) > 40
    assert [name for name, (_, hashes) in found.items() if not hashes] == []
    assert {name: version for name, (version, _) in found.items() if written.get(name) != version} == {}
    asked = pinned(file.with_suffix(".in"))
    assert asked.keys() <= found.keys()
    assert {name for name, version in asked.items() if found[name][0] != version} == set()


def test_nothing_is_shipped_but_what_was_tested() -> None:
    """The function's lock is part of the tests', byte for byte; and no constraint binds nothing."""
    shipped, everything = locked(SHIPPED), locked(ALL)
    assert shipped.items() <= everything.items()
    assert pinned(ROOT / "constraints.txt").keys() == everything.keys()
    assert {name for name in everything if name not in ELSEWHERE and _installed(name) is None} == set()


@pytest.mark.parametrize("file", [SHIPPED, ALL], ids=["function", "all"])
def test_whatever_a_locked_package_needs_is_locked_too(file: Path) -> None:
    """Else pip, which is told to check hashes, would refuse; and without, take whatever is newest."""
    found = locked(file)
    missing = {
        f"{name} needs {each.name}"
        for name in found
        for each in map(Requirement, (_installed(name) and metadata.requires(name)) or ())
        if each.marker is None or each.marker.evaluate({"extra": ""})
        if canonicalize_name(each.name) not in found
    }
    assert missing == set()


def test_make_installs_by_hash_alone() -> None:
    """`make` insists; the function's builder hands requirements.txt to pip, which then checks them too."""
    install = next(
        line for line in (ROOT / "Makefile").read_text().splitlines() if "-r requirements.txt" in line
    )
    assert "--require-hashes" in install


def test_the_server_reads_http_with_the_parser_that_ships() -> None:
    """Uvicorn takes httptools if it is there; its own alternative costs more than all of an event."""
    assert "httptools" in locked(SHIPPED)
    assert AutoHTTPProtocol is HttpToolsProtocol


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

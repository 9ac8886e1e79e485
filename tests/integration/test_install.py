"""An installed logmend, outside any clone: every command works with what the package itself declares."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest
from tests.conftest import lacking, needs

from logmend import __version__
from logmend.runbook.load import BUILT_IN
from logmend_cli.main import COMMANDS
from logmend_cli.pretend.fleet import free_port

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "tests/fixtures/entries/rfc5424_whole_line.json"
VM = "demo-project/us-west1-a/4775836342981993096"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("LOGMEND_", "PYTHON", "VIRTUAL_ENV"))}

pytestmark = pytest.mark.timeout(900)

OFFLINE: dict[str, list[tuple[str, ...]]] = {
    "explain": [("explain", "entry.json")],
    "scan": [("scan", "--offline", "entry.json")],
    "demo": [("demo", "--pubsub", "direct", "--out", "demo")],
    "run": [("run", VM, "--via-function", "--enforce", "--yes")],
    "revert": [("revert", VM, "--via-function", "--enforce", "--yes")],
    "replay": [("replay", "entry.json")],
    "approvals": [("approvals", "list")],
    "cancel": [("cancel", "--all", "--yes")],
    "freeze": [("freeze", "--for", "2h")],
    "resume": [("resume",)],
    "status": [("status",), ("status", "demo/outcomes.jsonl")],
    "history": [("history", VM)],
    "export": [("export", "--changes", "demo/outcomes.jsonl")],
    "report": [("report", "demo/outcomes.jsonl", "--out", "report.html")],
    "tick": [("tick",)],
    "use": [("use",)],
    "filter": [("filter", "show"), ("filter", "match", "--runbook", "workload-cert-refresh", "entry.json")],
    "runbook": [("runbook", "list"), ("runbook", "lint"), ("runbook", "test")],
    "policy": [("policy", "render")],
}
"""A happy path of each command that needs neither Google nor a VM; the order is the order of work."""
CLOUD = {"diagnose", "doctor"}
"""These ask Google or VMs first: only their help is read here."""


def ran(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=CLEAN | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist and wheel of what is here, and the wheel of the sdist; give their folder."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    for name in ("functions", "cli"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    tools = folder / "setuptools"
    made = ran(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    assert made.returncode == 0, made.stderr
    python = folder / "venv" / "bin" / "python"
    got = ran(python, *PIP, "install", "--target", tools, "setuptools>=80", folder=folder)
    if got.returncode and "No matching distribution" in got.stderr:
        lacking("a package index that pip can reach")
    assert got.returncode == 0, got.stderr
    build = "from setuptools import build_meta; build_meta.build_sdist('..')"
    sdist = ran(python, "-c", build, folder=source, PYTHONPATH=str(tools))
    assert sdist.returncode == 0, sdist.stderr
    (archive,) = folder.glob("logmend-*.tar.gz")
    for what, into in ((source, "from-tree"), (archive, "from-sdist")):
        wheel = ran(python, *PIP, "wheel", "--no-deps", "-w", folder / into, what, folder=folder)
        assert wheel.returncode == 0, wheel.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have pipx install the wheel, with what it declares; give its folder of commands."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = (built / "from-sdist").glob("logmend-*.whl")
    programs = built / "venv" / "bin"
    got = ran(programs / "python", *PIP, "install", "pipx>=1.7", folder=folder)
    assert got.returncode == 0, got.stderr
    places = {
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_MAN_DIR": str(folder / "man"),
    }
    pinned = f"--pip-args=-c {ROOT / 'constraints.txt'}"
    got = ran(programs / "pipx", "install", pinned, wheel, folder=folder, **places)
    assert got.returncode == 0, got.stdout + got.stderr
    return folder / "bin"


def test_the_sdist_makes_the_same_wheel(built: Path) -> None:
    """Whichever of the two somebody installs, they get the same files, runbooks and grammar among them."""

    def contents(folder: str) -> dict[str, bytes]:
        (wheel,) = (built / folder).glob("logmend-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    tree, sdist = contents("from-tree"), contents("from-sdist")
    assert tree == sdist
    assert {
        "logmend/function.py",
        "logmend/runbooks/workload-cert-refresh/enforce.sh",
        "logmend/lql/grammar.lark",
        "logmend_cli/report/report.html.j2",
        "logmend_cli/machine/launch.sh",
        "logmend_cli/runbook/unit.sh",
        f"logmend-{__version__}.data/data/share/man/man1/logmend.1",
    } <= set(tree)
    assert {name.partition("/")[0].partition("-")[0] for name in tree} == {"logmend", "logmend_cli"}


def test_every_command_works_outside_a_clone(installed: Path, tmp_path: Path) -> None:
    """Each ends with 0 in a folder that has nothing but an entry, and none needs a file of the repository."""
    assert OFFLINE.keys() | CLOUD | {"serve"} == COMMANDS.keys()
    shutil.copy(ENTRY, tmp_path / "entry.json")
    state = f"sqlite:{tmp_path / 'ledger.sqlite'}"
    home = {
        "HOME": str(tmp_path),
        "LOGMEND_STATE": state,
        "LOGMEND_OUTCOMES": f"file:{tmp_path / 'o.jsonl'}",
        "LOGMEND_MODE": "observe",
    }
    for name, paths in OFFLINE.items():
        for path in paths:
            done = ran(installed / "logmend", *path, folder=tmp_path, **home)
            said = f"logmend {' '.join(path)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            assert done.returncode == 0, said
            assert "Traceback" not in done.stderr, said
            assert done.stdout.strip() or name == "cancel", said
    for name in CLOUD:
        assert ran(installed / "logmend", name, "--help", folder=tmp_path, **home).returncode == 0
    assert (tmp_path / "report.html").is_file()
    outcomes = [json.loads(line) for line in (tmp_path / "demo" / "outcomes.jsonl").read_text().splitlines()]
    assert sum(each["result"] == "remediated" for each in outcomes) >= 12


def test_its_man_page_is_where_man_looks(installed: Path) -> None:
    """Pipx links it beside the command."""
    page = installed.parent / "man" / "man1" / "logmend.1"
    assert page.read_text() == (ROOT / "cli/logmend.1").read_text()


def test_the_installed_function_serves_and_stops_at_once(installed: Path, tmp_path: Path) -> None:
    """`logmend serve` needs no clone either: it answers /health and a delivery, and ends on SIGINT."""
    port = free_port()
    with subprocess.Popen(
        [installed / "logmend", "serve", "--port", str(port)],
        cwd=tmp_path,
        env=CLEAN | {"LOGMEND_OUTCOMES": f"file:{tmp_path / 'o.jsonl'}", "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "serving on" in process.stderr.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
            assert (answer.status, answer.read()) == (200, b"serving")
        push = (ROOT / "tests/fixtures/pushes/sink_export.json").read_bytes()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", push, timeout=60) as answer:
            assert json.loads(answer.read())["reason"] == "stale"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert time.monotonic() - started < 29  # a server that waits for a worker takes thirty


def test_an_installation_says_what_it_is(installed: Path, tmp_path: Path) -> None:
    """The version is the package's; a build from a folder without history knows no commit, and says so."""
    needs(linux=True)
    lines = ran(installed / "logmend", "--version", folder=tmp_path).stdout.splitlines()
    shown = ran(
        installed.parent / "pipx/venvs/logmend/bin/python",
        "-c",
        "import importlib.metadata as m; print(m.version('logmend'))",
        folder=tmp_path,
    )
    assert lines[:2] == [f"logmend {shown.stdout.strip()}", "commit unknown"]
    assert [line.split()[1] for line in lines[2:]] == sorted(
        each.parent.name for each in BUILT_IN.glob("*/runbook.yaml")
    )

"""The Containerfile: no builder runs here, so each line is held to rules, and what it starts is started."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from logmend_cli.pretend.fleet import free_port
from logmend_cli.serve import HEALTH

ROOT = Path(__file__).resolve().parents[2]
LINES = [
    line for line in (ROOT / "Containerfile").read_text().splitlines() if line and not line.startswith("#")
]
PAIRS = [tuple(line.split(" ", 1)) for line in LINES]
LAST = PAIRS[max(n for n, (word, _) in enumerate(PAIRS) if word == "FROM") :]


def of(word: str, pairs: list[tuple[str, ...]] = PAIRS) -> list[str]:
    return [rest for first, rest in pairs if first == word]


def test_images_are_named_whole_and_of_the_python_that_is_deployed() -> None:
    """Registry, version and distribution: neither a default nor `latest` decides."""
    runtime = re.search(r'runtime += "python3(\d+)"', (ROOT / "deploy/function.tf").read_text())
    assert runtime is not None
    for image in of("FROM"):
        assert re.fullmatch(rf"docker\.io/library/python:3\.{runtime[1]}-slim-\w+( AS \w+)?", image)


def test_it_runs_as_nobody_and_without_a_shell() -> None:
    """A numeric user (so that it is seen not to be root), arguments as a list: signals reach logmend."""
    (user,) = of("USER", LAST)
    assert all(int(each) >= 10_000 for each in user.split(":"))
    for command in (*of("RUN"), *of("ENTRYPOINT", LAST)):
        assert json.loads(command)[0]
    assert not of("ADD")
    assert not of("CMD")


def test_what_is_copied_is_there_and_in_the_context() -> None:
    """A file that was moved is missed here, not in somebody's build."""
    let_in = (ROOT / ".containerignore").read_text().splitlines()
    for line in of("COPY"):
        if not line.startswith("--from"):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.partition('/')[0]}" in let_in


def test_packages_are_held_to_their_hashes() -> None:
    """As in the deployed function; logmend itself brings no further package along."""
    installs = [json.loads(line) for line in of("RUN") if '"install"' in line]
    assert len(installs) == 2
    assert {"--require-hashes", "functions/requirements.txt"} <= set(installs[0])
    assert "--no-deps" in installs[1]


def test_what_it_starts_serves_with_the_functions_packages_alone() -> None:
    """The entry point and the health check as they are written, without what only other commands need."""
    port = str(free_port())
    without = "import sys; sys.modules.update(rich=None, pytest=None, httpx=None)\n"
    code = without + "from logmend_cli.main import main; main()"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
    environment = clean | {"PORT": port, "LOGMEND_OUTCOMES": "file:/dev/null"}
    (entry,) = of("ENTRYPOINT", LAST)
    command = [sys.executable, "-c", code, *json.loads(entry)[1:]]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert f":{port}/" in process.stderr.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{HEALTH}", timeout=60) as answer:
            assert answer.status == 200
        (health,) = of("HEALTHCHECK", LAST)
        check = json.loads(health.partition(" CMD ")[2])
        assert subprocess.run([sys.executable, *check[1:]], env=environment, check=False).returncode == 0
        process.terminate()
        process.wait(60)
        down = subprocess.run([sys.executable, *check[1:]], env=environment, capture_output=True, check=False)
        assert down.returncode != 0

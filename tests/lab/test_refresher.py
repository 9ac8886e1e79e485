"""The lab's stand-in for ``gce_workload_cert_refresh`` does what the real one was seen to do, tag by tag."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import pytest

from tests.conftest import needs
from tests.lab.disk import GUEST, Agent
from tests.lab.metadata import BODIES, OPTED_IN, MetadataServer
from tests.refresher import RUNS, UNDATED, Run

PROJECT = "demo-project"
CREDENTIALS = '{"status": "OK", "workloadCredentials": {}}'
PAGES = {
    text[text.index("reason: ") + len("reason: ") : -1]
    for run in RUNS
    if run.answer in ("404html", "404nl") and run.tag == "20260724.00"
    for text in run.lines
    if "reason: " in text
}
"""The longer bodies: Google's page, and one that begins with a line end."""
ANSWERS: dict[str, tuple[int | None, str | None]] = {
    "200": (200, CREDENTIALS),
    "404": (404, BODIES[404]),
    "404empty": (404, ""),
    "404html": (404, next(page for page in PAGES if page.startswith("<!DOCTYPE"))),
    "404nl": (404, next(page for page in PAGES if page.startswith("\n"))),
    "412": (412, "config never valid"),
    "503": (503, "upstream connect error"),
    "silence": (None, None),
}
"""Answer of an observation → status and body; "refused" and "unreach" have no server."""
GO_TIME = re.compile(r"(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d: ")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)")
ASK = """
mount -t tmpfs none /run && mkdir /run/secrets
timeout "$2" sh "$0" "$1"
echo "exit $?"
cd /run/secrets && find . -mindepth 1 -printf '%P -> %l\\n' | sed 's/ -> $//' | sort
"""
"""Runs the program for so many seconds with a folder of its own for secrets; says how it ended."""


@dataclass
class Network:
    """A network namespace: with a metadata server, with its address and nobody there, or without a route."""

    pid: int
    metadata: MetadataServer | None = None


@pytest.fixture(scope="module")
def networks() -> Iterator[dict[str, Network]]:
    """Give the three networks by what they do: answer, refuse, unreach."""
    needs(commands=("ip", "nsenter", "unshare", "curl"), root=True, linux=True)
    held = [
        subprocess.Popen(["unshare", "--net", "sh", "-c", f"{command}; echo; exec sleep 900"], stdout=-1)
        for command in ("ip link set lo up; ip address add 169.254.169.254/32 dev lo",) * 2 + ("true",)
    ]
    found = [Network(process.pid) for process in held]
    for process in held:
        assert process.stdout is not None
        process.stdout.readline()
    found[0].metadata = MetadataServer(found[0].pid, config_status=404, attributes={})
    yield dict(zip(("answer", "refused", "unreach"), found, strict=True))
    found[0].metadata.close()
    for process in held:
        process.kill()
        process.communicate()


def waits_in_vain(run: Run) -> bool:
    """Say whether the program gives up waiting for an answer, so that the run takes as long as it waits."""
    return run.answer == "silence" and run.exit == 0 and run.seconds > 10


def did(run: Run, networks: dict[str, Network]) -> tuple[list[str], int, list[str]]:
    """Run the stand-in as one observation was made; give lines, status and files in its words."""
    network = networks.get(run.answer, networks["answer"])
    if network.metadata:
        network.metadata.config_status, network.metadata.config_body = ANSWERS[run.answer]
        network.metadata.attributes = {"project/project-id": PROJECT} | (
            {OPTED_IN: "true"} if run.opted_in else {}
        )
    program = GUEST / "gce_workload_cert_refresh"
    ended = subprocess.run(
        [
            *("nsenter", "--target", str(network.pid), "--net", "unshare", "--mount"),
            *("sh", "-c", ASK, str(program), run.tag, "1" if run.exit == 124 else "100"),
        ],
        env={**os.environ, "LAB_WAIT": "0.6" if waits_in_vain(run) else "9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    undated, *dated = (
        part.removesuffix("\n") for part in GO_TIME.split(RFC3339.sub("<RFC3339>", ended.stderr))
    )
    status, *files = RFC3339.sub("<RFC3339>", ended.stdout).splitlines()
    lines = [f"{UNDATED}{undated}", *dated] if undated else dated
    return lines, int(status.removeprefix("exit ")), files


def test_the_tags_that_can_be_booted_are_those_that_were_observed() -> None:
    """Neither is longer than the other."""
    assert set(get_args(Agent)) == {run.tag for run in RUNS}


@pytest.mark.parametrize("run", [run for run in RUNS if run.tag != "20250327.00"], ids=str)
def test_the_stand_in_prints_ends_and_leaves_what_the_real_one_did(
    networks: dict[str, Network], run: Run
) -> None:
    """Every line in order, the exit status, the files and where links go."""
    lines, status, files = did(run, networks)
    assert lines == list(run.lines)
    assert status == run.exit
    assert files == sorted(run.files)


def test_one_tag_says_undated_that_the_vm_is_in_no_group(networks: dict[str, Network]) -> None:
    """20250327.00 complains of created-by whatever is enabled; the page that it quotes is another."""
    (run,) = (run for run in RUNS if run.tag == "20250327.00")
    lines, status, files = did(run, networks)
    assert [line.partition("reason: ")[0] for line in lines] == [
        line.partition("reason: ")[0] for line in run.lines
    ]
    assert (status, files) == (run.exit, [])

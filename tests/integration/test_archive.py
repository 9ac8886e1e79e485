"""What Terraform packs, unpacked in a clean environment of its own, really starts and answers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.conftest import needs
from tests.e2e.function_process import PLATFORM
from tests.provider_schema import ROOT
from tests.terraform_run import PROJECT, Terraform

from logmend import lql

pytestmark = pytest.mark.timeout(400)


def deployed_version() -> str:
    """Give the version of Python that the function is deployed on, ``3.13`` for ``python313``."""
    found = re.search(r'runtime += "python3(\d+)"', (ROOT / "deploy" / "function.tf").read_text())
    assert found is not None
    return f"3.{found[1]}"


def interpreter(version: str) -> str:
    """Give an interpreter of this version: in the path, or one of pyenv's; skips where there is none."""
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}*/bin/python{version}"))
    for each in (f"python{version}", "/usr/bin/python3", *map(str, installed)):
        if shutil.which(each):
            said = subprocess.run([each, "-V"], capture_output=True, text=True, check=False).stdout
            if said.startswith(f"Python {version}."):
                return each
    needs(commands=(f"python{version} that starts",))
    raise AssertionError


@pytest.fixture(scope="module", params=["oldest supported", "deployed"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Serve the archive with nothing but what its own requirements.txt names; give its address and output."""
    needs(commands=("terraform",))
    chosen = interpreter("3.11" if request.param == "oldest supported" else deployed_version())
    folder = tmp_path_factory.mktemp("archive")
    deploy = Terraform(folder / "terraform", "deploy")
    deploy.plan()
    with zipfile.ZipFile(deploy.module / ".terraform" / "logmend-source.zip") as archive:
        archive.extractall(folder / "workspace")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([chosen, "-m", "venv", str(folder / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", "requirements.txt"], cwd=folder / "workspace", check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = folder / "output"
    environ = {"PATH": os.environ["PATH"], "PORT": str(port)} | PLATFORM
    with output.open("wb") as out:
        process = subprocess.Popen(
            [str(python.parent / "functions-framework"), "--host=127.0.0.1"],
            cwd=folder / "workspace",
            env=environ | {"LOGMEND_PROJECT": PROJECT},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(port, process, output)
        yield f"http://127.0.0.1:{port}/", output
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    for _ in range(1500):
        assert process.poll() is None, output.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(output.read_text())


def _post(url: str, document: object) -> int:
    return httpx.post(url, json=document, timeout=120, trust_env=False).status_code


def test_the_archive_starts_in_a_clean_environment_and_answers(served):
    """The pinned requirements are enough; garbage is acknowledged with an outcome, as everywhere."""
    url, output = served
    assert _post(url, {"message": {"data": "bm90IEpTT04=", "messageId": "1"}, "subscription": "s"}) == 200
    last = json.loads(output.read_text().splitlines()[-1])
    assert (last["result"], last["severity"]) == ("rejected", "WARNING")


def test_a_finished_tick_leaves_the_line_that_the_missed_tick_alert_counts(served):
    """The log-based metric's own filter, evaluated on the line that the function really printed."""
    url, output = served
    assert _post(url, {"message": {"data": "eyJsb2dtZW5kIjoidGljayJ9", "messageId": "2"}}) == 200
    line = next(line for line in output.read_text().splitlines() if '"tick"' in line)
    text = (ROOT / "deploy" / "metrics.tf").read_text()
    found = re.search(r'(?s)"google_logging_metric" "ticks".*?filter +?= "(.*?)"\n', text)
    assert found is not None
    selects = lql.compile(found[1].replace('\\"', '"').replace("${var.name}", "logmend"))
    entry = {
        "logName": f"projects/{PROJECT}/logs/run.googleapis.com%2Fstdout",
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": "logmend"}},
        "jsonPayload": json.loads(line),
    }
    assert selects.matches(entry)
    assert not selects.matches(entry | {"jsonPayload": {"result": "rejected"}})

"""deploy/monitoring.py, which makes for ``deploy/gcloud.sh`` the metrics, alerts and dashboard of Terraform.

Run against a server that keeps what is put into it (:class:`tests.integration.test_gcloud_script.Google`).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.test_gcloud_script import PROJECT, Google
from tests.provider_schema import ROOT
from tests.threaded import serving

CHANNEL = f"projects/{PROJECT}/notificationChannels/7"


class Stopping(Google):
    """Refuses alerts on metrics that are not there yet, and everything from the ``stop``-th change on."""

    def __init__(self) -> None:
        super().__init__()
        self.not_yet = 0
        self.stop: int | None = None

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method != "GET" and self.stop is not None:
            self.stop -= 1
            if self.stop < 0:
                return 503, {"error": {"code": 503, "status": "UNAVAILABLE"}}
        if method in ("POST", "PATCH") and "/alertPolicies" in path and self.not_yet:
            self.not_yet -= 1
            return 404, {"error": {"code": 404, "message": "Cannot find metric that matches type"}}
        return super().answer(method, path, body)

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Give the alerts that there are, by key and deployment; each has to be there once."""
        every = [each for name, each in self.kept.items() if "/alertPolicies/" in name]
        found = {f"{e['userLabels']['logmend-name']}/{e['userLabels']['logmend-alert']}": e for e in every}
        assert len(found) == len(every)
        return found

    def changes(self) -> list[tuple[str, str]]:
        """Give every request so far that changed something."""
        return [(method, path) for method, path, _ in self.requests if method != "GET"]


@pytest.fixture
def google() -> Iterator[Stopping]:
    """Give an empty project."""
    with serving(Stopping()) as server:
        yield server


def run(google: Google, *arguments: str, name: str = "logmend", **environ: str) -> int:
    """Run the program, and give its exit status."""
    known = {
        "PATH": os.environ["PATH"],
        "ACCESS_TOKEN": "t",
        "PAUSE": "0",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": f"{google.url}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": f"{google.url}/",
    }
    command = [sys.executable, str(ROOT / "deploy" / "monitoring.py"), PROJECT, name, *arguments]
    return subprocess.run(
        command, env=known | environ, capture_output=True, check=False, timeout=120
    ).returncode


def defined(name: str = "logmend") -> dict[str, Any]:
    text = (ROOT / "deploy" / "monitoring.json").read_text()
    for word, worth in (("PROJECT", PROJECT), ("NAME", name), ("PREFIX", name.replace("-", "_"))):
        text = text.replace(f"@{word}@", worth)
    found: dict[str, Any] = json.loads(text)
    return found


def test_it_makes_what_is_defined_and_tells_who_is_to_be_told(google: Stopping) -> None:
    """Also if Monitoring does not know the metrics yet; links to a guide only if there is one."""
    google.not_yet = 3
    assert run(google, ALERT_CHANNELS=CHANNEL, GUIDE_URL="https://git.example/operations.md") == 0
    policies = {f"logmend/{each['userLabels']['logmend-alert']}": each for each in defined()["policies"]}
    assert google.alerts().keys() == policies.keys()
    for name, each in google.alerts().items():
        assert each["notificationChannels"] == [CHANNEL]
        assert each["conditions"] == policies[name]["conditions"]
        link = each["documentation"]["links"][0]["url"]
        assert link == f"https://git.example/operations.md#{name.partition('/')[2]}"
    for metric in defined()["metrics"]:
        assert google.kept[f"v2/projects/{PROJECT}/metrics/{metric['name']}"] == metric
    (board,) = [each for name, each in google.kept.items() if "/dashboards/" in name]
    assert board["mosaicLayout"] == defined()["dashboard"]["mosaicLayout"]


def test_again_it_makes_nothing_twice_keeps_channels_and_leaves_others_alone(google: Stopping) -> None:
    """What is not defined any more goes; another deployment's and a person's own stay."""
    assert run(google, name="logmend-two") == 0
    assert run(google, ALERT_CHANNELS=CHANNEL) == 0
    old = {
        "userLabels": {"logmend-name": "logmend", "logmend-alert": "gone"},
        "name": f"projects/{PROJECT}/alertPolicies/1",
    }
    google.kept[f"v3/{old['name']}"] = old
    own = {"displayName": "mine", "name": f"projects/{PROJECT}/alertPolicies/2", "userLabels": {}}
    before = len(google.changes())
    assert run(google) == 0
    methods = {method for method, _ in google.changes()[before:]}
    assert methods == {"PUT", "PATCH", "DELETE"}
    assert all(
        CHANNEL in each["notificationChannels"] for name, each in google.alerts().items() if "two" not in name
    )
    assert "logmend/gone" not in google.alerts()
    google.kept[f"v3/{own['name']}"] = own
    assert run(google, "--remove") == 0
    google.kept.pop(f"v3/{own['name']}")
    assert {name.partition("/")[0] for name in google.alerts()} == {"logmend-two"}
    assert f"v2/projects/{PROJECT}/metrics/logmend/outcomes" not in google.kept
    assert f"v2/projects/{PROJECT}/metrics/logmend-two/outcomes" in google.kept


def test_an_alert_that_is_changed_waits_for_its_metric_as_a_new_one_does(google: Stopping) -> None:
    """A change that Monitoring refused for a metric that it does not know yet is made in the end."""
    assert run(google, ALERT_CHANNELS=CHANNEL) == 0
    for each in google.alerts().values():
        each["severity"] = each["conditions"] = "of an earlier release"
    google.not_yet = 1
    assert run(google) == 0
    policies = {f"logmend/{each['userLabels']['logmend-alert']}": each for each in defined()["policies"]}
    for name, each in google.alerts().items():
        assert each["conditions"] == policies[name]["conditions"], name
        assert each["notificationChannels"] == [CHANNEL]
    google.not_yet = 1000
    assert run(google) != 0


def test_wherever_it_stopped_the_next_run_comes_to_the_same(google: Stopping) -> None:
    """Among the metrics, among the alerts, before the dashboard; and so does removing."""
    for stop in (2, 7, 12, 18, None):
        google.stop = stop
        assert (run(google) == 0) is (stop is None)
    assert len(google.alerts()) == len(defined()["policies"])
    assert len([name for name in google.kept if "/dashboards/" in name]) == 1
    for stop in (5, 14, None):
        google.stop = stop
        assert (run(google, "--remove") == 0) is (stop is None)
    assert google.alerts() == {}
    assert not [name for name in google.kept if "/metrics/" in name or "/dashboards/" in name]

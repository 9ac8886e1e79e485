"""`logmend use`: the deployed function's settings are read once, and every command speaks of that fleet."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.google_home import HOME, TOPIC, GoogleHome
from tests.integration.cli.test_doctor import served
from tests.unit.cli.conftest import run

from logmend_cli import profiles

__all__ = ["run"]

ANYWHERE = f"/v2/projects/{HOME}/locations/-/functions"
Use = Callable[..., Result]


def function(name: str = "logmend", region: str = "us-central1", **variables: str) -> dict[str, Any]:
    """Give a deployed function as the API lists it."""
    return {
        "name": f"projects/{HOME}/locations/{region}/functions/{name}",
        "state": "ACTIVE",
        "serviceConfig": {"environmentVariables": variables},
    }


DEPLOYED = {
    "LOGMEND_MODE": "approve",
    "LOGMEND_STATE": f"firestore:{HOME}/logmend",
    "LOGMEND_SCOPE_PROJECTS": HOME,
    "LOGMEND_EXEMPT_LABEL": "keep=out",
    "LOGMEND_SSH_KEY": "/secrets/key",
    "LOGMEND_SSH_HOST_KEYS": "known-hosts:/secrets/known",
    "OTHER": "x",
}


@pytest.fixture
def use(run: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Use:
    """Run `logmend use` against a project with these functions, in a configuration folder of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def invoke(
        *args: str,
        functions: tuple[dict[str, Any], ...] = (),
        endpoint: bool = True,
        home: GoogleHome | None = None,
        **answers: Any,
    ) -> Result:
        home = home or GoogleHome()
        home.answers[ANYWHERE] = {"functions": list(functions)} | answers
        with served(home.app) as url:
            return run("use", *args, *(("--endpoint", url) if endpoint else ()))

    return invoke


def test_a_fleet_is_found_and_every_command_speaks_of_it(use: Use, run: Use) -> None:
    """The settings are the function's, the line names the fleet, and what is set in the shell wins."""
    done = use(HOME, functions=(function("other", LANG="C"), function(**DEPLOYED)))
    assert done.exit_code == 0, done.stderr
    assert f"using {HOME}/us-central1/logmend" in done.stdout
    used = profiles.current()
    assert used is not None
    assert used.variables["LOGMEND_TOPIC"] == TOPIC
    assert used.variables["LOGMEND_PROJECT"] == HOME
    assert "OTHER" not in used.variables
    listed = run("runbook", "list", "--format", "json")
    assert f"logmend: fleet {HOME}/us-central1/logmend, settings of " in listed.stderr
    assert modes(listed) == {"approve"}
    assert modes(run("runbook", "list", "--format", "json", mode="observe")) == {"observe"}


def modes(listed: Result) -> set[str]:
    """Give the modes that runbooks are in."""
    values = [each for runbook in json.loads(listed.stdout) for each in runbook["values"]]
    return {each["value"] for each in values if each["name"] == "mode"}


def test_what_names_a_file_of_the_function_is_left_out_and_said(use: Use) -> None:
    """A key of the function's machine is not there here: it is never looked for."""
    done = use(HOME, functions=(function(**DEPLOYED),))
    used = profiles.current()
    assert used is not None
    for name in ("LOGMEND_SSH_KEY", "LOGMEND_SSH_HOST_KEYS"):
        assert name not in used.variables
        assert f"left out: {name}" in done.stdout


def test_several_are_named_and_one_is_chosen_by_its_whole_name(use: Use) -> None:
    """Nothing is chosen for the user."""
    both = (function(**DEPLOYED), function("staging", "europe-west1", **DEPLOYED))
    done = use(HOME, functions=both)
    assert done.exit_code == 2
    assert f"which one? {HOME}/us-central1/logmend, {HOME}/europe-west1/staging" in done.stderr
    assert profiles.current() is None


@pytest.mark.parametrize(
    ("args", "functions", "more", "said"),
    [
        ((HOME,), (), {}, "no function with logmend's settings there"),
        (
            (HOME,),
            (),
            {"unreachable": [f"projects/{HOME}/locations/asia-east1"]},
            "did not answer: asia-east1",
        ),
        ((HOME,), (function(LOGMEND_MODE="enforce", LOGMEND_COLOUR="red"),), {}, "LOGMEND_COLOUR: no such"),
        (("Not A Project",), (), {}, "'Not A Project' is not a project id"),
        ((f"{HOME}/a/b/c",), (), {}, "write PROJECT, PROJECT/REGION or PROJECT/REGION/FUNCTION"),
        ((HOME, "--none"), (), {}, "do not give a name with --none"),
    ],
)
def test_what_cannot_be_used_is_said_and_changes_nothing(
    use: Use, args: tuple[str, ...], functions: tuple[dict[str, Any], ...], more: dict[str, Any], said: str
) -> None:
    """The profile in use stays."""
    assert use(HOME, functions=(function(**DEPLOYED),)).exit_code == 0
    before = profiles.current()
    done = use(*args, functions=functions, **more)
    assert done.exit_code == 2
    assert said in done.stderr
    assert profiles.current() == before


def test_what_the_api_refuses_is_told_as_what_it_is(use: Use) -> None:
    """A role helps against a missing permission, and against nothing else."""
    for home, reason, step in (
        (GoogleHome(refused={ANYWHERE}), "not_permitted", "x.y.get"),
        (GoogleHome(broken={ANYWHERE}), "api_unavailable", "run it again"),
        (GoogleHome(unused={ANYWHERE}), "api_disabled", "gcloud services enable"),
    ):
        done = use(HOME, home=home)
        assert done.exit_code == 1
        assert f"{reason}: " in done.stderr
        assert step in done.stderr
        assert ("not_permitted" in done.stderr) == (reason == "not_permitted")


def test_without_credentials_it_says_so(use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And how to get some."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    done = use(HOME, endpoint=False)
    assert done.exit_code == 1
    assert "no_credentials: " in done.stderr
    assert "gcloud auth application-default login" in done.stderr


def test_a_topic_that_the_function_names_is_kept_and_not_asked_about(use: Use) -> None:
    """What is not asked about is not said to be left out either."""
    home = GoogleHome()
    home.answers[f"/v1/{TOPIC}"] = None
    done = use(
        HOME, functions=(function(**DEPLOYED, LOGMEND_TOPIC="projects/ops-project/topics/own"),), home=home
    )
    used = profiles.current()
    assert used is not None
    assert used.variables["LOGMEND_TOPIC"] == "projects/ops-project/topics/own"
    assert "LOGMEND_TOPIC (" not in done.stdout
    assert f"GET /v1/{TOPIC}" not in home.asked
    again = use(HOME, functions=(function(**DEPLOYED),), home=home)
    assert f"left out: LOGMEND_TOPIC ({TOPIC}" in again.stdout


def test_a_page_token_is_quoted(use: Use) -> None:
    """What it is made of is Google's to say."""
    home = GoogleHome()
    use(HOME, functions=(function("other"),), nextPageToken="a&b=c+/d", home=home)
    assert "a&b=c+/d" in home.pages


def test_one_function_that_is_found_may_not_be_the_only_one(use: Use) -> None:
    """A region that did not answer is named, since the fleet that is meant may be there."""
    done = use(HOME, functions=(function(**DEPLOYED),), unreachable=[f"projects/{HOME}/locations/asia-east1"])
    assert (done.exit_code, "regions that did not answer: asia-east1" in done.stderr) == (0, True)


def test_the_next_page_is_asked_for(use: Use) -> None:
    """A project with many functions has several; a page that never ends is given up."""
    done = use(HOME, functions=(function("other"),), nextPageToken="2")
    assert done.exit_code == 1
    assert "name the region" in done.stderr


def test_none_does_without_and_a_name_alone_shows(use: Use, run: Use) -> None:
    """Kept profiles stay on the list."""
    assert "no profile is in use" in run("use").stdout
    use(HOME, functions=(function(**DEPLOYED),))
    assert f"using {HOME}/us-central1/logmend" in run("use").stdout
    run("use", "--none")
    shown = run("use").stdout
    assert "no profile is in use" in shown
    assert f"kept: {HOME}/us-central1/logmend" in shown
    assert run("runbook", "list").stderr == ""


def test_a_profile_that_cannot_be_read_stops_the_command(use: Use, run: Use) -> None:
    """It never falls back to the defaults in silence: the user would speak of another fleet."""
    use(HOME, functions=(function(**DEPLOYED),))
    path = next((profiles.folder() / "profiles").glob("*.json"))
    path.write_text("{")
    done = run("runbook", "list")
    assert done.exit_code == 2
    assert "logmend use --none does without" in done.stderr

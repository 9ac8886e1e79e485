"""Settings are strict, and documented as they are."""

from datetime import timedelta
from pathlib import Path

import pytest

from logmend.errors import ConfigError
from logmend.model.enums import Mode
from logmend.settings import Budget, Settings, described

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def problems(**environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environment({f"LOGMEND_{name}": value for name, value in environ.items()})
    return caught.value.problems


def test_no_setting_at_all_observes() -> None:
    """The function with no setting starts, and changes nothing."""
    assert Settings.from_environment({}).mode is Mode.OBSERVE


def test_an_unknown_name_gets_a_suggestion() -> None:
    """A misspelt guard must not silently vanish."""
    assert problems(EXEMPT_LABLE="x=y") == (
        "LOGMEND_EXEMPT_LABLE: no such setting; did you mean LOGMEND_EXEMPT_LABEL?",
    )


def test_every_problem_is_reported_at_once() -> None:
    """A person mends them in one go."""
    assert len(problems(MODE="on", LEASE="soon", FOLLOW_UP="yes", SSH_PORT="0", STATE="redis:x")) == 5


@pytest.mark.parametrize("value", ["1", "yes", "True", "TRUE", "on", ""])
def test_a_boolean_is_true_or_false_and_nothing_else(value: str) -> None:
    """A value that quietly means no is a trap."""
    assert "expected true or false" in problems(FOLLOW_UP=value)[0]


@pytest.mark.parametrize("value", ["10", "m", "-5m", "5 m", "1w", "1e9s", "٣m"])
def test_a_duration_has_a_number_and_a_unit(value: str) -> None:
    """Anything else stops the start."""
    assert "duration" in problems(LEASE=value)[0]


def test_values_are_read_as_documented() -> None:
    """One of each kind."""
    found = Settings.from_environment(
        {
            "LOGMEND_MODE": "enforce",
            "LOGMEND_SCOPE_PROJECTS": "web-prod, web-test",
            "LOGMEND_SCOPE_LABELS": "env=prod,tier=web",
            "LOGMEND_DISRUPTION_BUDGET": "5/1h",
            "LOGMEND_MAX_EVENT_AGE": "1.5h",
            "GOOGLE_CLOUD_PROJECT": "here",
            "PATH": "/bin",
        }
    )
    assert found.scope_projects == ("web-prod", "web-test")
    assert found.scope_labels == (("env", "prod"), ("tier", "web"))
    assert found.disruption_budget == Budget(5, timedelta(hours=1))
    assert found.max_event_age == timedelta(minutes=90)
    assert found.project == "here"


@pytest.mark.parametrize("mode", ["approve", "enforce"])
@pytest.mark.parametrize("state", ["memory:", "sqlite:/tmp/x"])
def test_in_the_cloud_acting_takes_the_shared_ledger(mode: str, state: str) -> None:
    """Leases and the freeze must outlive one instance."""
    with pytest.raises(ConfigError, match="firestore"):
        Settings.from_environment({"K_SERVICE": "logmend", "LOGMEND_MODE": mode, "LOGMEND_STATE": state})


@pytest.mark.parametrize(("name", "value"), [("SCOPE_PROJECTS", "Bad Project,,x"), ("SCOPE_ZONES", "mars")])
def test_a_scope_that_can_name_nothing_stops_the_start(name: str, value: str) -> None:
    """It would put every VM out of reach in silence."""
    assert " is no " in problems(**{name: value})[0]


def test_deadlines_have_to_fit_together() -> None:
    """Attempt below function below lease."""
    assert "does not hold" in problems(LEASE="1m")[0]


def test_key_and_user_go_together() -> None:
    """One without the other is a mistake."""
    assert problems(SSH_KEY="/k") == ("LOGMEND_SSH_KEY and LOGMEND_SSH_USER go together",)


@pytest.mark.parametrize("url", ["ws://tunnel.example/v4", "http://127.0.0.1:1/v4", "https://tunnel.example"])
def test_a_token_is_not_sent_in_the_clear(url: str) -> None:
    """The relay gets an access token."""
    assert "has to be wss" in problems(IAP_ENDPOINT=url)[0]


def document() -> str:
    """Give docs/settings.md as it has to be."""
    rows = "\n".join(
        f"| `{name}` | {f'`{default}`' if default else ''} | {doc} |" for name, default, doc in described()
    )
    return (
        "# Settings\n\n"
        "Environment variables, read once at start. An unknown `LOGMEND_*` name or a value that cannot be\n"
        "parsed stops the start, with every problem in one message. Durations are `90s`, `10m`, `1h`, `1d`;\n"
        "lists are comma-separated; Booleans are `true` or `false`.\n\n"
        "| variable | default | meaning |\n|---|---|---|\n" + rows + "\n"
    )


def test_the_document_lists_every_setting_with_its_default() -> None:
    """Write it anew with ``DOCUMENT.write_text(document())`` from this module."""
    assert DOCUMENT.read_text() == document()

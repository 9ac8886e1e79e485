"""Settings are strict, and documented as they are."""

import json
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import asyncssh
import pytest
from google.auth.exceptions import DefaultCredentialsError

from logmend.adapters.google import errors
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
            "GOOGLE_CLOUD_PROJECT": "over-here",
            "PATH": "/bin",
        }
    )
    assert found.scope_projects == ("web-prod", "web-test")
    assert found.scope_labels == (("env", "prod"), ("tier", "web"))
    assert found.disruption_budget == Budget(5, timedelta(hours=1))
    assert found.max_event_age == timedelta(minutes=90)
    assert found.project == "over-here"


@pytest.mark.parametrize("mode", ["approve", "enforce"])
@pytest.mark.parametrize("state", ["memory:", "sqlite:/tmp/x"])
def test_in_the_cloud_acting_takes_the_shared_ledger(mode: str, state: str) -> None:
    """Leases and the freeze must outlive one instance."""
    with pytest.raises(ConfigError, match="firestore"):
        Settings.from_environment({"K_SERVICE": "logmend", "LOGMEND_MODE": mode, "LOGMEND_STATE": state})


UUID_LIKE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
NAMES_NOTHING = [
    (
        "SCOPE_PROJECTS",
        ["", ",", "web-prod,", "web-prod,,web-test", "Bad Project", "123456789012", "shop", "a:b"],
    ),
    ("SCOPE_PROJECTS", ["web-prod,web-prod", "projects/web-prod"]),
    ("SCOPE_ZONES", ["", ",", "mars", "us-west1", "us-west1-a,", "US-WEST1-A", "zones/us-west1-a"]),
    ("SCOPE_LABELS", ["", ",", "env", "=prod", "env=prod,", "Env=prod", "env=Prod", "1env=x", "env=a,env=b"]),
    ("SCOPE_LABELS", ["env=a.b", f"{'k' * 64}=v", f"k={'v' * 64}", "env==x", "env = prod"]),
    ("EXEMPT_LABEL", ["", "Logmend=off", "logmend=OFF", "logmend", "=off", "-a=b", "logmend=off=yes"]),
    ("PROJECT", ["", "here", "123456789012", "Web-Prod", "projects/web-prod"]),
    (
        "STATE",
        ["", "memory", "memory:x", "sqlite:", "sqlite:a\nb", "firestore:", "firestore:web-prod/", "redis:x"],
    ),
    ("STATE", ["firestore:web-prod/db", "firestore:web-prod/Logmend", f"firestore:web-prod/{UUID_LIKE}"]),
    ("OUTCOMES", ["", "stdout:", "cloud:x", "file:", "file", "syslog"]),
    (
        "TOPIC",
        [
            "",
            "events",
            "projects/web-prod/topics/",
            "projects/web-prod/topics/goog-x",
            "projects/x/topics/abc",
        ],
    ),
    ("OUTCOME_TOPIC", ["outcomes", "projects/web-prod/subscriptions/abc"]),
    ("DEAD_LETTER_TOPIC", ["projects/web-prod/topics/ab", "projects/web-prod/subscriptions/abc", "a b"]),
    (
        "SERVICE_ACCOUNT",
        ["", "logmend", "someone@gmail.com", "@web-prod.iam.gserviceaccount.com", "serviceAccount:a"],
    ),
    ("SSH_HOST_KEYS", ["", "known-hosts:", "known-hosts", "insecure:", "yes"]),
    ("SSH_PORT", ["", "0", "65536", "22,23", "ssh"]),
    (
        "COMPUTE_ENDPOINT",
        ["", "compute.example", "https://", "wss://a", "https://a:b/", "https://me:pw@a", "https://a?k=v"],
    ),
    ("IAP_ENDPOINT", ["https://a", "ws://a", "ws://127.0.0.1.evil.example/v4", "wss://", "wss://me:pw@a"]),
    ("BREAKER_RATIO", ["", "0", "1.01", "nan", "inf", "-1", "half"]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NAMES_NOTHING for value in values]
)
def test_a_value_that_can_name_nothing_stops_the_start(name: str, value: str) -> None:
    """It would exempt nobody, or put everybody in reach or out of it, in silence."""
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"LOGMEND_{name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCOPE_PROJECTS", "web-prod, example.com:web-test"),
        ("SCOPE_ZONES", "us-west1-a,northamerica-northeast1-b,us-south1-ai1b"),
        ("SCOPE_LABELS", "env=,größe=groß,team_1=a-b_9"),
        ("EXEMPT_LABEL", "logmend="),
        ("PROJECT", "example.com:web-prod"),
        ("STATE", "firestore:example.com:web-prod/(default)"),
        ("STATE", "firestore:web-prod"),
        ("STATE", "sqlite:ledger.sqlite"),
        ("TOPIC", "projects/example.com:web-prod/topics/Log.mend~x+%"),
        ("SERVICE_ACCOUNT", "logmend@web-prod.example.com.iam.gserviceaccount.com"),
        ("SERVICE_ACCOUNT", "123456789012-compute@developer.gserviceaccount.com"),
        ("SERVICE_ACCOUNT", "web-prod@appspot.gserviceaccount.com"),
        ("SSH_HOST_KEYS", "known-hosts:/secrets/known hosts"),
        ("COMPUTE_ENDPOINT", "http://[::1]:8080"),
        ("IAP_ENDPOINT", "ws://[::1]:8080/v4"),
        ("IAP_ENDPOINT", "wss://tunnel.example/v4"),
        ("BREAKER_RATIO", "1"),
        ("BREAKER_RATIO", ".25"),
    ],
)
def test_what_the_platform_allows_is_allowed(name: str, value: str) -> None:
    """Domains in project ids, labels in any script, every kind of service account."""
    Settings.from_environment({f"LOGMEND_{name}": value})


def test_a_problem_of_two_settings_is_told_with_those_of_single_ones() -> None:
    """One go again; a setting that is itself bad is not blamed a second time."""
    found = problems(MODE="on", SSH_USER="ada", LEASE="soon", EXEMPT_LABEL="env=x", SCOPE_LABELS="env=x")
    assert [each.split()[0] for each in found] == [
        "LOGMEND_LEASE='soon':",
        "LOGMEND_MODE='on':",
        "LOGMEND_SSH_KEY",
        "LOGMEND_SCOPE_LABELS",
    ]
    assert problems(SSH_KEY="key", SSH_USER="ada") == problems(SSH_KEY="key")


def test_settings_that_undo_each_other_stop_the_start() -> None:
    """A bound below what it bounds; a topic whose dead letters or outcomes come back as events."""
    topic = "projects/web-prod/topics/events"
    assert "loop" in problems(TOPIC=topic, DEAD_LETTER_TOPIC=topic)[0]
    assert "loop" in problems(TOPIC=topic, OUTCOME_TOPIC=topic)[0]
    assert "loop" in problems(DEAD_LETTER_TOPIC=topic, OUTCOME_TOPIC=topic)[0]
    assert "upper bound" in problems(COOLDOWN_FAILED="2h", COOLDOWN_FAILED_MAX="1h")[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zone", "expected zone=N"),
        ("rack=2", "expected zone=N"),
        ("zone=0", "at least 1"),
        ("mig=501", "at most 500"),
        ("label:Role=1", "no VM can carry this label"),
        ("zone=1,zone=2", "twice"),
    ],
)
def test_a_limit_of_nothing_that_vms_share_is_refused(text: str, said: str) -> None:
    """Whoever misspells a limit has none otherwise."""
    assert said in problems(DISRUPTION_LIMITS=text)[0]


def test_limits_are_read_and_written_alike() -> None:
    """As docs/settings.md shows them."""
    settings = Settings.from_environment({"LOGMEND_DISRUPTION_LIMITS": "zone=2, mig=1,label:role=1"})
    assert settings.disruption_limits == (("zone", 2), ("mig", 1), ("label:role", 1))


def secrets() -> list[str]:
    """Give what a secret may look like: keys in both formats, in base64 alone or in one line; a token."""
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    pem = key.export_private_key("pkcs8-pem").decode()
    body = "".join(pem.splitlines()[1:-1])
    in_one_line = pem.replace("\n", "\\n")
    return [pem, key.export_private_key().decode(), body, in_one_line, "ya29.a0AfH6SMB" + "x" * 150]


def test_a_secret_in_the_place_of_a_setting_is_refused_and_never_printed() -> None:
    """A secret mapped to the wrong variable, whichever it is; also to LOGMEND_SSH_KEY, which wants a path."""
    for secret in secrets():
        for name, _, _ in described():
            try:
                Settings.from_environment({"LOGMEND_SSH_USER": "ada", name: secret})
            except ConfigError as error:
                said = "\n".join(error.problems)
                assert not [line for line in secret.splitlines() if line[:16] in said]
            else:
                assert name == "LOGMEND_RUNBOOKS", f"{name} takes {secret!r}"  # any line may be a path


def test_googles_own_credentials_are_a_path_too_and_never_printed() -> None:
    """A service account's key in the variable is refused at start; google-auth's words are not passed on."""
    key = json.dumps({"type": "service_account", "private_key": secrets()[0]})
    with pytest.raises(ConfigError) as caught:
        Settings.from_environment({"GOOGLE_APPLICATION_CREDENTIALS": key})
    assert "path of a file" in caught.value.problems[0]
    assert "PRIVATE" not in caught.value.problems[0]
    for word in ("File {} was not found.", "The file {} does not have a valid type."):
        for value in (key, key * 30, b64encode(key.encode()).decode(), "/run/key.json"):
            error = errors.classify(DefaultCredentialsError(word.format(value)))  # type: ignore[no-untyped-call]
            assert value[:12] not in str(error)
            assert "no_credentials" in str(error)


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

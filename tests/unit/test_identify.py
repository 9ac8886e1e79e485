"""Which VM is meant: from resource labels alone, and only where they are beyond doubt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.corpus import EXPECTED, names, value

from logmend.errors import ConfigError
from logmend.model.values import Incident, InstanceRef, LogEntry, Verdict
from logmend.stages import decode, identify
from logmend.stages.identify import NameRef

VM = InstanceRef("example-prod-4711", "us-west1-a", "4775836342981993096")


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in ("entries", "incidents") for n in names(k)])
def test_every_fixture_names_its_vm_or_is_rejected(kind: str, name: str) -> None:
    """The three resource labels are the identity, to the letter, or there is none."""
    raw = value(kind, name)
    event = decode.document(raw)
    assert isinstance(event, LogEntry | Incident)
    found = identify.event(event)
    if EXPECTED[kind][name].get("identity") == "bad_identity":
        assert isinstance(found, Verdict)
    else:
        labels = (raw if kind == "entries" else raw["incident"])["resource"]["labels"]
        assert found == InstanceRef(labels["project_id"], labels["zone"], labels["instance_id"])


@given(st.text(), st.text(), st.text())
def test_no_text_passes_that_could_leave_a_url_path(project: str, zone: str, number: str) -> None:
    """Whatever passes is made of letters, digits, hyphens, dots and a colon, all ASCII."""
    found = identify.instance(project, zone, number)
    if isinstance(found, InstanceRef):
        assert str(found).isascii()
        assert str(found).replace("/", "").replace("-", "").replace(".", "").replace(":", "").isalnum()


@pytest.mark.parametrize(
    ("part", "bad"),
    [
        (
            "project_id",
            ["", "Prod", "p", "1prod", "prod-", "prod/x", "prod\n", "../prod", "x" * 200, None, 7],
        ),
        ("zone", ["", "us-west1", "US-WEST1-A", "us-west1-a\n", "us-west1-a/x", "-", "us_west1-a", None, 1]),
        ("instance_id", ["", "0", "-1", "+1", "1.0", "1e3", "\uff10", "x", "1 ", "1\n", "9" * 30, None, 12]),
    ],
)
def test_a_part_that_is_off_pattern_makes_no_identity(part: str, bad: list[object]) -> None:
    """Each part is matched whole, and only text counts."""
    for each in bad:
        parts: dict[str, object] = {
            "project_id": VM.project_id,
            "zone": VM.zone,
            "instance_id": VM.instance_id,
        }
        parts[part] = each
        found = identify.instance(**parts)
        assert isinstance(found, Verdict), each
        assert part in found.detail


@pytest.mark.parametrize(
    "text",
    [
        "example-prod-4711/us-west1-a/4775836342981993096",
        " example-prod-4711/us-west1-a/4775836342981993096\n",
        "projects/example-prod-4711/zones/us-west1-a/instances/4775836342981993096",
        "https://www.googleapis.com/compute/v1/projects/example-prod-4711/zones/us-west1-a/instances/4775836342981993096",
        "https://compute.googleapis.com/compute/beta/projects/example-prod-4711/zones/us-west1-a/instances/4775836342981993096",
        "//compute.googleapis.com/projects/example-prod-4711/zones/us-west1-a/instances/4775836342981993096",
    ],
)
def test_an_operator_may_write_an_instance_in_any_of_googles_ways(text: str) -> None:
    """What gcloud and the console print can be pasted."""
    assert identify.parse(text) == VM
    assert identify.parse(text.replace(VM.instance_id, "web-1")) == NameRef(VM.project_id, VM.zone, "web-1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("web-1", "PROJECT/ZONE/ID"),
        ("us-west1-a/web-1", "PROJECT/ZONE/ID"),
        ("example-prod-4711/us-west1/web-1", "zone"),
        ("Example/us-west1-a/web-1", "project_id"),
        ("example-prod-4711/us-west1-a/Web_1", "instance_id"),
        ("example-prod-4711/us-west1-a/0", "leading zeros"),
        ("http://evil.example/compute/v1/projects/p-rojects/zones/us-west1-a/instances/1", "PROJECT/ZONE/ID"),
        ("", "PROJECT/ZONE/ID"),
    ],
)
def test_an_instance_that_cannot_be_one_is_explained(text: str, says: str) -> None:
    """The error names the part that is wrong, or the forms that are read."""
    with pytest.raises(ConfigError, match=says):
        identify.parse(text)


def test_a_ref_prints_as_the_command_reads_it() -> None:
    """What logmend prints for a VM can be given back to it."""
    assert identify.parse(str(VM)) == VM

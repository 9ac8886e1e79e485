"""``unless`` and ``only`` of a runbook: label, metadata, image and machine family, up to the last moment."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import REF, World, entry, push, world
from tests.unit.test_guards import replace_pipeline
from tests.unit.test_pipeline import ENFORCE, operator

from logmend import conditions, instance_json
from logmend.errors import ConfigError
from logmend.model.enums import Action
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts
from logmend.outcome.reasons import ABOUT, About
from logmend.runbook import BUILT_IN, Condition, load, load_all

RUNBOOK = "workload-cert-refresh"
LICENSE = "debian-cloud/debian-12-bookworm"


def condition(said: str) -> Condition:
    """Give the condition that is written ``KIND TEXT``."""
    kind, _, text = said.partition(" ")
    return Condition(kind, text)  # type: ignore[arg-type]


def guarded(unless: str = "", only: tuple[str, ...] = (), **facts: Any) -> World:
    """Give a world whose runbook has these conditions, and whose VM these facts."""
    w = world(**ENFORCE)
    own: dict[str, Any] = {
        "unless": (condition(unless),) if unless else (),
        "only": tuple(map(condition, only)),
    }
    runbooks = {name: replace(each, **own) for name, each in load_all().items()}
    router = type(w.pipeline.router())(runbooks)
    known = {"licenses": (LICENSE,), "machine_type": "e2-medium"}
    w.fleet.add(REF, **known | facts)
    return replace_pipeline(w, runbooks=runbooks, router=lambda: router)


HOLDS = [
    ("label team", {"labels": {"team": "shop"}}, True),
    ("label team=shop", {"labels": {"team": "shop"}}, True),
    ("label team=shop", {"labels": {"team": "shop-2"}}, False),
    ("label team", {}, False),
    ("metadata managed", {"metadata": {"managed": ""}}, True),
    ("metadata managed=true", {"metadata": {"managed": " TRUE "}}, True),
    ("metadata managed=true", {"project_metadata": {"managed": "true"}}, True),
    (
        "metadata managed=true",
        {"metadata": {"managed": "no"}, "project_metadata": {"managed": "true"}},
        False,
    ),
    ("metadata managed", {}, False),
    ("metadata managed", {"project_metadata": None}, None),
    ("metadata managed", {"project_metadata": None, "metadata": {"managed": "x"}}, True),
    (f"image {LICENSE}", {}, True),
    ("image debian-cloud", {}, True),
    ("image debian", {}, False),
    ("image debian-cloud", {"licenses": ()}, False),
    ("image debian-cloud", {"licenses": None}, None),
    ("machine_family e2", {}, True),
    ("machine_family e", {}, False),
    ("machine_family n1", {"machine_type": "custom-4-8192"}, True),
    ("machine_family n2", {"machine_type": "n2d-standard-2"}, False),
    ("machine_family n2", {"machine_type": None}, None),
]


@pytest.mark.parametrize(("said", "facts", "expected"), HOLDS)
def test_a_condition_holds_by_the_whole_word_and_is_unknown_rather_than_guessed(
    said: str, facts: dict[str, Any], expected: bool | None
) -> None:
    """Keys and values whole; None where Compute did not say."""
    known = InstanceFacts(
        REF, "vm", "RUNNING", project_metadata={}, licenses=(LICENSE,), machine_type="e2-medium"
    )
    assert conditions.holds(condition(said), replace(known, **facts)) is expected


@pytest.mark.parametrize(
    ("asked", "facts", "expected"),
    [
        ({"unless": "label team"}, {"labels": {"team": "shop"}}, "refused:excluded_by_runbook"),
        ({"unless": "label team"}, {}, "remediated"),
        ({"only": ("label team", "label crew")}, {}, "refused:not_for_this_vm"),
        ({"only": ("label team", "label crew")}, {"labels": {"crew": "a"}}, "remediated"),
        ({"only": ("label team", "machine_family n2")}, {"labels": {"team": "a"}}, "refused:not_for_this_vm"),
        ({"unless": "image cos-cloud"}, {"licenses": None}, "refused:facts_unknown"),
        ({"only": ("image cos-cloud",)}, {"licenses": None}, "refused:facts_unknown"),
        (
            {"unless": "metadata managed"},
            {"project_metadata": None, "unknown": {"project_metadata": "403"}},
            "refused:facts_unknown",
        ),
    ],
)
async def test_a_vm_is_left_alone_by_its_runbooks_word(
    asked: dict[str, Any], facts: dict[str, Any], expected: str
) -> None:
    """Of an event as of an order; what is not known is a no, and nothing is opened for it."""
    for order in (False, True):
        w = guarded(**asked, **facts)
        # The certificate guard of this runbook would answer first where project metadata is missing.
        runbooks = {name: replace(each, guards=()) for name, each in w.pipeline.runbooks.items()}
        router = type(w.pipeline.router())(runbooks)
        w = replace_pipeline(w, runbooks=runbooks, router=lambda router=router: router)
        await (w.pipeline.work(operator()) if order else w.deliver(push(entry())))
        assert w.outcomes.results == [expected]
        assert "not looked up yet" not in w.outcomes.written[-1].detail
        assert w.fleet.opened == (1 if expected == "remediated" else 0)


async def test_they_are_asked_again_right_before_enforcing() -> None:
    """A label that appears while the check runs is obeyed: nothing is enforced."""
    w = guarded("label team")

    def labelled() -> None:
        known = w.fleet.facts_of[REF.instance_id]
        w.fleet.facts_of[REF.instance_id] = replace(known, labels={"team": "shop"})

    w.fleet.vms[REF.instance_id].on_check = [labelled]
    assert (await w.deliver(push(entry()))).reason == "excluded_by_runbook"
    assert w.fleet.vms[REF.instance_id].enforcements == 0


async def test_a_revert_is_not_held_up_by_them() -> None:
    """What logmend did itself is taken back, also from a VM that was excluded since."""
    w = guarded("label team")
    await w.deliver(push(entry()))
    known = w.fleet.facts_of[REF.instance_id]
    w.fleet.facts_of[REF.instance_id] = replace(known, labels={"team": "shop"})
    assert (await w.pipeline.work(operator(Action.REVERT))).result == "reverted"


async def test_a_value_of_metadata_is_never_told() -> None:
    """It may be a secret: the outcome names the condition as the runbook has it."""
    w = guarded("metadata managed", metadata={"managed": "hunter2"})
    said = await w.deliver(push(entry()))
    assert said.detail.startswith("the runbook leaves VMs with metadata managed alone")
    assert "hunter2" not in repr(said)


def test_their_reasons_are_the_vms_own() -> None:
    """They start a cooldown of the VM, as other words of Compute about it do."""
    for reason in ("excluded_by_runbook", "not_for_this_vm", "facts_unknown"):
        assert ABOUT[reason] is About.VM


def test_the_image_is_known_by_the_boot_disks_licenses() -> None:
    """As instances.get writes them; a document without disks leaves it unknown."""
    document = {
        "id": REF.instance_id,
        "name": "vm",
        "status": "RUNNING",
        "zone": f"projects/{REF.project_id}/zones/{REF.zone}",
        "labelFingerprint": "x",
        "machineType": "https://www.googleapis.com/compute/v1/projects/p/zones/z/machineTypes/n2d-highmem-4",
    }
    prefix = "https://www.googleapis.com/compute/v1/projects/"
    disks = [
        {"boot": False, "licenses": [f"{prefix}suse-cloud/global/licenses/sles-12"]},
        {"boot": True, "licenses": [f"{prefix}debian-cloud/global/licenses/debian-12-bookworm"]},
    ]
    found = instance_json.facts(document | {"disks": disks}, REF.project_id)
    assert (found.licenses, found.machine_type) == ((LICENSE,), "n2d-highmem-4")
    assert instance_json.facts(document, REF.project_id).licenses is None
    assert instance_json.facts(document | {"disks": [{"boot": True}]}, REF.project_id).licenses == ()


# In runbook.yaml


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Copy the built-in runbook to where a test may change it."""
    shutil.copytree(BUILT_IN / RUNBOOK, tmp_path / RUNBOOK)
    return tmp_path / RUNBOOK


def test_they_are_read_in_order(mine: Path) -> None:
    """Every kind, both words."""
    with (mine / "runbook.yaml").open("a") as file:
        file.write(
            "\nunless: {label: [goog-gke-node, team=shop], image: [cos-cloud]}\n"
            "only: {metadata: [enable-osconfig=true], machine_family: [e2, n2d]}\n"
        )
    found = load(mine)
    assert [str(each) for each in found.unless] == [
        "label goog-gke-node",
        "label team=shop",
        "image cos-cloud",
    ]
    assert [str(each) for each in found.only] == [
        "metadata enable-osconfig=true",
        "machine_family e2",
        "machine_family n2d",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unless: {labels: [a]}", "unknown key unless.labels; did you mean label?"),
        ("unless: {label: a}", "unless.label: expected a list of KEY or KEY=VALUEs"),
        ("unless: {label: []}", "unless.label: expected at least one"),
        ("only: {}", "only: expected at least one condition"),
        ("only: {label: [Team]}", "only.label[0]: expected KEY or KEY=VALUE"),
        ("only: {machine_family: [e2-medium]}", "only.machine_family[0]: expected"),
        ("only: {image: [projects/x/global/images/y]}", "only.image[0]: expected"),
        ("only: [label]", "only: expected a mapping"),
    ],
)
def test_a_mistake_in_them_is_told_and_never_means_no_guard(mine: Path, text: str, said: str) -> None:
    """With its line."""
    with (mine / "runbook.yaml").open("a") as file:
        file.write(f"\n{text}\n")
    with pytest.raises(ConfigError) as error:
        load(mine)
    assert said in error.value.problems[0]

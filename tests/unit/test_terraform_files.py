"""The Terraform files against the provider's own schema, read without a network."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from tests import provider_schema as provider

from logmend.model.enums import Mode
from logmend.permissions import (
    ACT_AS,
    DEAD_LETTER,
    GRANTABLE,
    GROUPS,
    LEDGER,
    LOOKUP,
    OPERATOR,
    OSCONFIG,
    OUTCOMES,
    SSH,
    SSH_IAP,
    SSH_ROOT,
    fleet,
)
from logmend.runbook import load_all
from logmend.settings import ExecutorChoice, SshRoute

SINK = """
resource "google_logging_project_sink" "this" {
  name                   = "logmend"
  destination            = "pubsub.googleapis.com/projects/p/topics/t"
  unique_writer_identity = true
}
"""


def problems_of(text: str) -> list[str]:
    return provider.problems(text, provider.kept())


@pytest.mark.parametrize("path", provider.files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_resource_block_and_argument_is_one_that_the_provider_knows(path):
    """Unknown, missing, misplaced and read-only arguments are all absent from our files."""
    assert problems_of(path.read_text()) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (SINK.replace("destination ", "destinaton "), "destinaton: no such argument"),
        (SINK.replace("destination ", "destinaton "), "destination: required argument missing"),
        (SINK.replace("google_logging_project_sink", "google_logging_sink"), "the provider has no resource"),
        (SINK.replace("true", '"yes please"'), "is no bool"),
        (SINK.replace("\n}", '\n  exclusion {\n    name = "x"\n  }\n}'), "exclusion: no such block"),
        (SINK.replace("\n}", "\n  exclusions = []\n}"), "exclusions: no such argument (it is a block)"),
        (
            SINK.replace("\n}", '\n  exclusions {\n    name = "x"\n  }\n}'),
            "exclusions.filter: required argument",
        ),
        (SINK.replace("\n}", "\n  filter {\n    x = 1\n  }\n}"), "filter: no such block (it is an argument)"),
        (SINK.replace("\n}", '\n  writer_identity = "me"\n}'), "writer_identity: read-only"),
        (
            SINK.replace("\n}", "\n  bigquery_options {}\n  bigquery_options {}\n}"),
            "bigquery_options: at most one such block",
        ),
        (
            SINK.replace(
                "\n}",
                '\n  dynamic "exclusions" {\n    for_each = []\n    content {\n      nme = 1\n    }\n  }\n}',
            ),
            "exclusions.nme: no such argument",
        ),
    ],
)
def test_a_deliberate_mistake_is_found(broken, said):
    """The check above can fail: each kind of mistake is named with where it stands."""
    assert any(said in problem for problem in problems_of(broken)), problems_of(broken)


def test_a_value_that_the_provider_does_not_list_is_found():
    """Where the schema lists the possible values, a literal has to be one of them."""
    text = """
resource "google_firestore_database" "x" {
  name        = "x"
  location_id = "nam5"
  type        = "FIRESTORE"
}
"""
    assert problems_of(text) == [
        'resource.google_firestore_database.x.type: "FIRESTORE" is none of FIRESTORE_NATIVE, DATASTORE_MODE'
    ]


def test_a_misspelt_argument_in_a_real_file_is_found():
    """Every argument of every resource of one of our files, misspelt in turn, is found."""
    text = (provider.ROOT / "deploy" / "ledger.tf").read_text()
    arguments = sorted(
        set(re.findall(r"(?m)^ {2,4}([a-z_]+) +=", text)) - {"order", "for_each", "depends_on"}
    )
    assert len(arguments) > 8
    for argument in arguments:
        broken = re.sub(rf"(?m)^( +){argument}( +=)", rf"\g<1>{argument}x\g<2>", text, count=1)
        assert any(f"{argument}x: no such argument" in problem for problem in problems_of(broken)), argument


@pytest.mark.parametrize("module", provider.MODULES, ids=lambda path: path.name)
def test_every_variable_is_described_and_validated_and_every_output_described(module):
    """Nobody has to read the code to know what a variable means, and a wrong value is refused."""
    variables = variables_of(module)
    outputs: dict[str, dict[str, Any]] = {}
    for path in provider.files((module,)):
        outputs |= dict(provider.labelled(provider.parse(path.read_text()), "output"))
    assert len(variables) > 5
    for name, body in variables.items():
        assert len(body.get("description", "")) > 20, name
        assert "type" in body, name
        assert body.get("validation"), name
    for name, body in outputs.items():
        assert body.get("description"), name


def variables_of(module: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in provider.files((module,)):
        found |= dict(provider.labelled(provider.parse(path.read_text()), "variable"))
    return found


@pytest.mark.parametrize("guide", ["deploy/README.md", "sink/README.md", "docs/deploy.md"])
def test_the_examples_of_the_guides_pass_only_what_exists(guide):
    """A module call that is copied from a guide names real variables and gives all that are required."""
    examples = re.findall(r"(?s)```hcl\n(.*?)```", (provider.ROOT / guide).read_text())
    calls = [call for example in examples for call in provider.labelled(provider.parse(example), "module")]
    assert calls
    for _, body in calls:
        module = provider.ROOT / body["source"].strip('"').partition("?")[0].rpartition("/")[2]
        variables = variables_of(module)
        given = {key for key in body if not key.startswith("__")} - {"source", "providers"}
        assert given <= variables.keys(), given - variables.keys()
        assert {name for name, each in variables.items() if "default" not in each} <= given


def test_the_permissions_in_terraform_are_those_of_the_python_list_group_by_group():
    """Removing one permission from either side fails here."""
    parsed = provider.parse((provider.ROOT / "deploy" / "permissions.tf").read_text())
    locals_ = {key: value for block in parsed["locals"] for key, value in block.items()}
    groups = {
        "ledger": LEDGER,
        "outcomes": OUTCOMES,
        "dead_letter": DEAD_LETTER,
        "lookup": LOOKUP,
        "groups": GROUPS,
        "ssh": SSH,
        "ssh_root": SSH_ROOT,
        "ssh_iap": SSH_IAP,
        "act_as": ACT_AS,
        "osconfig": OSCONFIG,
    }
    for name, permissions in groups.items():
        stated = [each.strip('"') for each in locals_[f"permissions_{name}"]]
        assert sorted(stated) == sorted(permissions), name
    assert OPERATOR >= LEDGER
    grantable = re.findall(r"local\.permissions_(\w+)", str(locals_["permissions_grantable"]))
    assert frozenset().union(*(groups[name] for name in grantable)) == GRANTABLE


def test_every_suppression_of_the_scanner_says_why():
    """A scanner's finding is turned off only inline, with a reason behind the colon."""
    for path in provider.files():
        for line in path.read_text().splitlines():
            if "checkov:skip" in line:
                assert re.search(r"checkov:skip=CKV2?_[A-Z]+_\d+: .{30,}", line), f"{path.name}: {line}"


def test_the_list_holds_what_the_adapters_name_at_their_calls_and_nothing_else():
    """An adapter names the permission that each call takes; a call or a permission too many fails here."""
    calls = r"\b(?:compute|osconfig)\.(?!googleapis)[a-z][a-zA-Z]+\.[a-z][a-zA-Z]+\b"
    named: set[str] = set()
    for path in (provider.ROOT / "functions" / "logmend" / "adapters").rglob("*.py"):
        named |= set(re.findall(calls, path.read_text()))
    # Asked for when a VM lets somebody in, not by a call.
    login = {"compute.instances.osLogin", "compute.instances.osAdminLogin"}
    assert (
        named
        == {each for each in LOOKUP | GROUPS | SSH | SSH_ROOT | OSCONFIG if re.fullmatch(calls, each)} - login
    )


@pytest.mark.parametrize(("mode", "executor", "route"), [*itertools.product(Mode, ExecutorChoice, SshRoute)])
def test_what_a_runbook_declares_is_granted_in_every_mode(mode, executor, route):
    """A runbook cannot ask for more than Terraform grants."""
    for runbook in load_all().values():
        assert set(runbook.permissions) <= fleet(mode, executor, route), runbook.name

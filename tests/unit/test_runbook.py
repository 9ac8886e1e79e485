"""Runbooks are data, decoded strictly: what is wrong with one is said in full, with file and line."""

import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from logmend import runbook
from logmend.errors import ConfigError
from logmend.model.enums import Action
from logmend.osconfig.assignment import assignment_id

SCRIPT = "#!/bin/sh\nexit 100\n"
MINIMAL: dict[str, Any] = {"name": "mine", "summary": "Mend mine."}
MATCHING = MINIMAL | {
    "filter": 'resource.type = "gce_instance"',
    "variants": [{"name": "plain", "pattern": "broken", "verdict": "act"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a runbook's folder that is right, but for the runbook.yaml that a test writes."""
    found = tmp_path / "mine"
    (found / "revert").mkdir(parents=True)
    for name in runbook.SCRIPT_FILES.values():
        (found / name).write_text(SCRIPT)
    return found


def load(folder: Path, content: dict[str, Any] | str, **parameters: str) -> runbook.Runbook:
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    (folder / "runbook.yaml").write_text(text)
    return runbook.load(folder, parameters)


def problems(folder: Path, content: dict[str, Any] | str, **parameters: str) -> list[str]:
    """Say what is wrong, without the folder."""
    with pytest.raises(ConfigError) as error:
        load(folder, content, **parameters)
    return [problem.removeprefix(f"{folder}/") for problem in error.value.problems]


def test_the_least_runbook_has_a_name_a_summary_and_four_scripts(folder: Path) -> None:
    """Everything else is optional: without a filter it is run by incident or operator only."""
    found = load(folder, MINIMAL)
    assert (found.name, found.filter, found.variants, found.guards) == ("mine", None, (), ())
    assert found.scripts.revert_enforce == SCRIPT
    assert found.limits == runbook.Limits(None, None)


def test_every_key_is_read(folder: Path) -> None:
    """What runbook.yaml says is what the values hold."""
    found = load(
        folder,
        MATCHING
        | {
            "guards": ["in_scope"],
            "limits": {"disruption_budget": 3, "budget_window": "1h"},
            "repeats": "90s",
            "detached": "15m",
            "permissions": ["compute.instances.get"],
            "follow_up": "other",
        },
    )
    assert found.limits == runbook.Limits(3, timedelta(hours=1))
    assert (found.repeats, found.detached) == (timedelta(seconds=90), timedelta(minutes=15))
    assert (found.guards, found.permissions) == (("in_scope",), ("compute.instances.get",))
    assert found.follow_up == "other"


def test_a_misspelt_key_is_an_error_with_a_suggestion(folder: Path) -> None:
    """A guard list that nobody reads would be a guard that vanished."""
    assert problems(folder, MINIMAL | {"gaurds": ["in_scope"]}) == [
        "runbook.yaml:3: unknown key gaurds; did you mean guards?"
    ]


def test_a_misspelt_key_inside_is_found_too(folder: Path) -> None:
    """Strictness goes all the way down, and the line is the key's own."""
    content = MATCHING | {
        "variants": [{"name": "a", "pattern": "x", "verdict": "act"}, {"name": "b", "patern": "x"}],
        "limits": {"disruption_budgets": 3},
    }
    assert problems(folder, content) == [
        "runbook.yaml:8: variants.1.pattern: a pattern, or a list of its parts is missing",
        "runbook.yaml:8: variants.1.verdict: act or refuse is missing",
        "runbook.yaml:9: unknown key variants.1.patern; did you mean pattern?",
        "runbook.yaml:11: unknown key limits.disruption_budgets; did you mean disruption_budget?",
    ]


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("summary", 3, "summary: expected text, found a number (3)"),
        ("summary", "", "summary: expected text, found ''"),
        ("repeats", 600, "repeats: expected a duration such as 90s, 10m, 1h or 1d, found a number (600)"),
        ("repeats", "0m", "repeats: expected a duration such as 90s, 10m, 1h or 1d, found '0m'"),
        ("repeats", "10 minutes", "found '10 minutes'"),
        ("guards", "in_scope", "guards: expected a list of guard names, found 'in_scope'"),
        ("guards", ["in_scope", True], "guards[1]: expected guard name, found true or false (true)"),
        ("guards", ["in_scope", "in_scope"], "guards[1]: in_scope is listed twice"),
        ("permissions", ["roles/owner"], "permissions[0]: expected IAM permission, found 'roles/owner'"),
        ("limits", [], "limits: expected a mapping of keys to values, found a list"),
        ("limits", {"disruption_budget": 0}, "expected a whole number of at least 1, found 0"),
        ("limits", {"disruption_budget": True}, "found true or false (true)"),
        ("limits", {"disruption_budget": 1.5}, "found a number (1.5)"),
        ("follow_up", "Other Runbook", "follow_up: expected name of a runbook, found 'Other Runbook'"),
        ("filter", None, "filter: a filter in the Logging query language is missing"),
        ("parameters", {"version": {"default": "1"}}, "parameters.version.pattern"),
    ],
)
def test_a_value_of_another_type_is_an_error(folder: Path, key: str, value: Any, complaint: str) -> None:
    """YAML's guesses (numbers, true and false) are not taken for text, nor one kind for another."""
    assert complaint in "\n".join(problems(folder, MINIMAL | {key: value}))


def test_every_problem_of_every_file_is_reported_at_once(folder: Path) -> None:
    """Nobody mends a runbook one error at a time."""
    (folder / "enforce.sh").unlink()
    (folder / "revert/validate.sh").write_text("exit 100")
    (folder / "validate.sh").write_text(SCRIPT + "#" * 32768 + "\n")
    found = problems(folder, MINIMAL | {"name": "yours", "repeats": "soon"})
    assert found == [
        "enforce.sh: cannot be read: No such file or directory",
        "revert/validate.sh:1: expected #!/bin/sh first and a line end last",
        "runbook.yaml:1: name: yours is not the folder's name; the folder is mine",
        "runbook.yaml:3: repeats: expected a duration such as 90s, 10m, 1h or 1d, found 'soon'",
        "validate.sh: 32788 characters, 20 too many",
    ]


def test_a_script_that_an_os_policy_does_not_take_is_for_ssh_only(folder: Path) -> None:
    """To the character, and it says which script; of what ships the first runbook fits."""
    (folder / "runbook.yaml").write_text(yaml.safe_dump(MINIMAL))
    (folder / "validate.sh").write_text(SCRIPT + "#" * (1024 - len(SCRIPT) - 1) + "\n")
    assert runbook.load(folder).ssh_only == ""
    (folder / "validate.sh").write_text(SCRIPT + "#" * (1024 - len(SCRIPT)) + "\n")
    assert runbook.load(folder).ssh_only == "validate.sh has 1,025 characters; an OS policy takes 1,024"
    told = {name: bool(each.ssh_only) for name, each in runbook.load_all().items()}
    assert {name for name, only in told.items() if only} == {"ops-agent", "os-config-agent"}


def test_an_author_keeps_a_runbook_away_from_os_config(folder: Path) -> None:
    """Whatever the length of its scripts; ssh carries each, so that it cannot be left out."""
    assert load(folder, MINIMAL).executors == ("ssh", "osconfig")
    assert load(folder, MINIMAL | {"executors": ["osconfig", "ssh"]}).ssh_only == ""
    told = load(folder, MINIMAL | {"executors": ["ssh"]}).ssh_only
    assert told == "its runbook.yaml says executors: [ssh]"
    assert "ssh belongs to it" in "\n".join(problems(folder, MINIMAL | {"executors": ["osconfig"]}))


def test_an_author_does_not_promise_os_config_what_it_cannot_carry(folder: Path) -> None:
    """Said in so many words, it is a contradiction; by default, a long script goes over SSH."""
    (folder / "enforce.sh").write_text(SCRIPT + "#" * 1024 + "\n")
    assert "enforce.sh has" in load(folder, MINIMAL).ssh_only
    (said,) = problems(folder, MINIMAL | {"executors": ["ssh", "osconfig"]})
    assert "executors: osconfig cannot carry it: enforce.sh has" in said
    assert said.endswith("an OS policy takes 1,024; say [ssh]")


def test_a_name_fits_into_the_id_of_an_assignment(folder: Path) -> None:
    """The longest that does is taken; one more is told of here, not by the API when it is applied."""
    longest, longer = "n" * 47, "n" * 48
    assert len(assignment_id(longest, Action.ENFORCE)) == 63
    assert load(folder.rename(folder.parent / longest), MINIMAL | {"name": longest}).name == longest
    made = (folder.parent / longest).rename(folder.parent / longer)
    assert problems(made, MINIMAL | {"name": longer}) == [
        "runbook.yaml:1: name: 48 characters, at most 47 fit into an OS policy's id"
    ]


def test_a_key_written_twice_is_an_error(folder: Path) -> None:
    """YAML would let the second one win in silence."""
    assert problems(folder, "name: mine\nsummary: one\nsummary: two\n") == [
        "runbook.yaml:3: key summary is there twice"
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", "no YAML"),
        ("- name", "expected a mapping of keys to values, found a list"),
        ("", "name: lower-case words joined by hyphens is missing"),
        ("name: !!python/object:os.system {}", "no YAML: could not determine a constructor"),
        ("name: mine\nsummary: x\n? [a, b]\n: c\n", "no YAML"),
    ],
)
def test_what_is_no_such_yaml_is_an_error(folder: Path, text: str, complaint: str) -> None:
    """Broken syntax, another shape and foreign tags are told apart from a missing key."""
    assert complaint in "\n".join(problems(folder, text))


def test_bytes_that_are_no_text_are_an_error(folder: Path) -> None:
    """A file that is not UTF-8 is named as such."""
    (folder / "runbook.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        runbook.load(folder)


def test_a_pattern_that_re2_does_not_take_is_found_at_load(folder: Path) -> None:
    """Backreferences and look-aheads are not RE2; the line says where."""
    variants = [{"name": "plain", "pattern": r"(a)\1", "verdict": "act"}]
    assert problems(folder, MATCHING | {"variants": variants}) == [
        r"runbook.yaml:6: variants.0.pattern: no RE2 pattern: invalid escape sequence: \1"
    ]


def test_refusing_needs_a_reason_and_acting_has_none(folder: Path) -> None:
    """The reason goes into the outcome: a refusal without one would be a riddle."""
    variants = [
        {"name": "one", "pattern": "x", "verdict": "refuse"},
        {"name": "two", "pattern": "y", "verdict": "act", "reason": "certificates_in_use"},
    ]
    found = problems(folder, MATCHING | {"variants": variants})
    assert [line.partition(": ")[2] for line in found] == ["refuse needs a reason, and act has none"] * 2


def test_a_filter_and_variants_come_together(folder: Path) -> None:
    """One without the other would select entries only to refuse them, or wait for what never comes."""
    assert "filter without variants" in problems(folder, MINIMAL | {"filter": "severity = ERROR"})[0]
    assert "variants without a filter" in problems(folder, MATCHING | {"filter": None})[-1]


def test_the_first_variant_that_is_found_wins(folder: Path) -> None:
    """Patterns are looked for anywhere unless anchored; the prefix begins each; none is None."""
    content = MATCHING | {
        "prefix": ["^prog: ", "(?i)"],
        "variants": [
            {"name": "special", "pattern": ["broken ", "glass"], "verdict": "refuse", "reason": "exempt"},
            {"name": "plain", "pattern": "broken", "verdict": "act"},
        ],
    }
    found = load(folder, content)
    assert [
        variant.name if (variant := found.variant_of(text)) else None
        for text in ("prog: BROKEN glass", "prog: broken", "other: broken", "prog: whole")
    ] == ["special", "plain", None, None]


def test_a_parameter_is_rendered_into_the_scripts_and_the_digest(folder: Path) -> None:
    """What runs on a VM is the rendered text, so that is what the digest covers."""
    content = MINIMAL | {
        "parameters": {"version": {"summary": "Which.", "default": "latest", "pattern": "latest|[0-9.]+"}}
    }
    (folder / "enforce.sh").write_text('#!/bin/sh\ninstall "@version@" "$@"\nexit 100\n')
    default, pinned = load(folder, content), load(folder, content, version="2.50.0")
    assert 'install "latest" "$@"' in default.scripts.enforce
    assert 'install "2.50.0" "$@"' in pinned.scripts.enforce
    assert default.digest != pinned.digest
    assert default.digest == load(folder, content, version="latest").digest


@pytest.mark.parametrize("value", ["", "1; reboot", "$(reboot)", "`reboot`", '1" reboot "', "1\n2", "1'"])
def test_a_parameter_cannot_reach_the_shell(folder: Path, value: str) -> None:
    """Even a careless pattern lets nothing through that a shell would act on."""
    content = MINIMAL | {
        "parameters": {"version": {"summary": "Which.", "default": "1", "pattern": "(?s).*"}}
    }
    (folder / "enforce.sh").write_text('#!/bin/sh\ninstall "@version@"\nexit 100\n')
    assert problems(folder, content, version=value) == [
        f"runbook.yaml:3: version={value!r} does not match (?s).*"
    ]


def test_parameters_and_placeholders_have_to_agree(folder: Path) -> None:
    """A setting that no script uses, or a placeholder that nobody declared, is a typing error."""
    content = MINIMAL | {"parameters": {"version": {"summary": "Which.", "default": "1", "pattern": "[0-9]"}}}
    (folder / "enforce.sh").write_text("#!/bin/sh\ninstall @versoin@\nexit 100\n")
    assert problems(folder, content, vresion="2") == [
        "enforce.sh: @versoin@ is no parameter of this runbook; did you mean version?",
        "runbook.yaml: parameters.version: no script uses @version@",
        "runbook.yaml:3: no such parameter vresion; did you mean version?",
    ]


def test_the_digest_changes_with_every_file_that_counts(folder: Path) -> None:
    """An outcome names exactly what was run; golden cases do not run anywhere."""
    seen = {load(folder, MINIMAL).digest}
    for n, name in enumerate(runbook.SCRIPT_FILES.values()):
        (folder / name).write_text(SCRIPT + f"# {n}\n")
        seen.add(load(folder, MINIMAL).digest)
    seen.add(load(folder, MINIMAL | {"repeats": "10m"}).digest)
    assert len(seen) == 6
    last = load(folder, MINIMAL).digest
    (folder / "cases").mkdir()
    (folder / "cases/new.json").write_text("{}")
    assert load(folder, MINIMAL).digest == last
    assert last.startswith("sha256:")
    assert len(last) == 71


def test_a_folder_of_runbooks_is_read_by_name(folder: Path) -> None:
    """Their parameters come by name too, and follow-ups have to exist."""
    load(folder, MINIMAL)
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    (other / "runbook.yaml").write_text("name: other\nsummary: Mend other.\nfollow_up: mine\n")
    assert list(runbook.load_all(folder.parent)) == ["mine", "other"]
    (other / "runbook.yaml").write_text("name: other\nsummary: Mend other.\nfollow_up: mien\n")
    with pytest.raises(ConfigError) as error:
        runbook.load_all(folder.parent, {"othr": {"version": "1"}})
    assert [problem.partition(": ")[2] for problem in error.value.problems] == [
        "parameters for othr, but no such runbook; did you mean other?",
        "follow_up: no runbook mien; did you mean mine?",
    ]


@pytest.mark.parametrize(
    ("mine", "other", "circle"),
    [
        ("after: mine", "", {"mine"}),
        ("after: other", "after: mine", {"mine", "other"}),
        ("follow_up: other", "follow_up: mine", {"mine", "other"}),
        ("follow_up: other", "after: other", {"other"}),
        ("after: other", "follow_up: mine", set()),
        ("after: other", "", set()),
    ],
)
def test_no_runbook_comes_before_itself(folder: Path, mine: str, other: str, circle: set[str]) -> None:
    """By what goes first and what follows alike: it would never end, or never begin."""
    load(folder, MINIMAL)
    shutil.copytree(folder, folder.parent / "other")
    for name, key in (("mine", mine), ("other", other)):
        path = folder.parent / name / "runbook.yaml"
        path.write_text(f"name: {name}\nsummary: Mend {name}.\n{key}\n")
    found: set[str] = set()
    try:
        runbook.load_all(folder.parent)
    except ConfigError as error:
        found = {re.findall(r"(\w+) comes before itself", each)[0] for each in error.problems}
    assert found == circle


def test_a_folder_without_runbooks_is_an_error(tmp_path: Path) -> None:
    """A path that is wrong must not quietly mean "no runbooks"."""
    with pytest.raises(ConfigError, match="no runbooks here"):
        runbook.load_all(tmp_path)


def test_the_built_in_runbooks_load() -> None:
    """What ships is right, and frozen."""
    found = runbook.load_all()
    assert {"workload-cert-refresh"} <= set(found)
    assert found["workload-cert-refresh"].repeats == timedelta(minutes=10)
    with pytest.raises(TypeError):
        found["new"] = found["workload-cert-refresh"]  # type: ignore[index]

"""What GitHub reads from this repository holds to its schemas, and what it runs is there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.github-issue-forms": [
        GITHUB / "ISSUE_TEMPLATE" / "bug.yml",
        GITHUB / "ISSUE_TEMPLATE" / "line.yml",
    ],
}
CALLERS = (
    *(".github/workflows/check.yml", ".github/workflows/release.yml", ".ci/run", ".pre-commit-config.yaml"),
    *("README.md", "CONTRIBUTING.md", "docs/release.md", "tests/README.md"),
)


def judged(schema: str, files: list[Path]) -> subprocess.CompletedProcess[str]:
    """Check files against a schema that comes with check-jsonschema; no network."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_github_reads_holds_to_its_schema(schema: str) -> None:
    """Workflows, each job with a timeout; dependabot; issue forms."""
    assert SCHEMAS[schema]
    answer = judged(schema, SCHEMAS[schema])
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_misspelt_key_of_a_workflow_is_found(tmp_path: Path) -> None:
    """So that the check above means something."""
    text = WORKFLOWS[0].read_text()
    (tmp_path / "workflow.yml").write_text(text.replace("runs-on:", "run-on:"))
    assert "run-on:" not in text
    assert judged("vendor.github-workflows", [tmp_path / "workflow.yml"]).returncode == 1


def test_every_action_is_pinned_to_a_commit() -> None:
    """A tag can be moved by whoever owns the action; dependabot proposes newer commits."""
    used = [each for file in WORKFLOWS for each in re.findall(r"uses: (.+)", file.read_text())]
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", each)] == []


def test_no_workflow_may_write_but_the_release() -> None:
    """A pull request's own code runs in the checks."""
    may = {file.name: yaml.safe_load(file.read_text())["permissions"] for file in WORKFLOWS}
    assert all(rights == {"contents": "read"} for rights in may.values())
    assert [file.name for file in WORKFLOWS if ": write" in file.read_text()] == ["release.yml"]


def test_every_python_from_the_oldest_on_is_tested() -> None:
    """The oldest is the one that the package asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    jobs = yaml.safe_load((GITHUB / "workflows" / "check.yml").read_text())["jobs"]
    pythons = jobs["unit"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={pythons[0]}"
    minors = [int(each.removeprefix("3.")) for each in pythons]
    assert minors == list(range(minors[0], minors[-1] + 1))


@pytest.mark.parametrize("file", CALLERS)
def test_every_target_that_is_called_is_in_the_makefile(file: str) -> None:
    """In workflows, the hook and what contributors read."""
    text = (ROOT / file).read_text()
    called = re.findall(r"(?m)(?:`|run: |entry: |\$ |=1 |^ *)make ((?:[a-z]+ ?)+)", text)
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    assert called
    assert {word for words in called for word in words.split()} <= targets


def test_owners_are_named_for_what_is_there() -> None:
    """A pattern of CODEOWNERS that matches nothing protects nothing."""
    lines = [line.split() for line in (GITHUB / "CODEOWNERS").read_text().splitlines()]
    patterns = [words[0] for words in lines if words and words[0] not in ("#", "*")]
    assert len(patterns) >= 5
    assert [each for each in patterns if not (ROOT / each.strip("/")).is_dir()] == []


def test_the_version_is_in_one_place() -> None:
    """The package takes it from the code, and what is being released heads the changelog."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert "version" in project["dynamic"]
    (version,) = re.findall(r'__version__ = "(.+)"', (ROOT / "functions/logmend/__init__.py").read_text())
    first = re.search(r"(?m)^## (\S+)", (ROOT / "CHANGELOG.md").read_text())
    assert first
    assert first[1] == version

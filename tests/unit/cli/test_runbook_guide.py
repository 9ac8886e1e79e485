"""docs/runbooks.md says what there is: every key, variant and reason, and no other."""

import re
from pathlib import Path

from logmend.model.enums import Result
from logmend.outcome.reasons import REASONS
from logmend.runbook import BUILT_IN, load

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/runbooks.md").read_text()


def test_every_key_of_runbook_yaml_is_described() -> None:
    """The table names the keys that the loader takes, and no other."""
    section = PAGE.partition("## runbook.yaml\n")[2].partition("\n## ")[0]
    described = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    folder = ROOT / "functions/logmend/runbook"
    readers = ("load", "definition", "scripts")
    source = "".join((folder / f"{name}.py").read_text() for name in readers)
    taken = set(re.findall(r'\btop\.\w+\(\s*"([a-z_]+)"', source)) - {"wrong"}
    assert described == taken


def test_the_variants_of_the_built_in_runbook_are_listed() -> None:
    """Each with its verdict, in the order in which they are asked."""
    section = PAGE.partition("## The lines of workload-cert-refresh\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|.*\| (act|refuse: `\w+`) \|$", section, re.MULTILINE)
    real = [
        (each.name, "act" if each.verdict == "act" else f"refuse: `{each.reason}`")
        for each in load(BUILT_IN / "workload-cert-refresh").variants
    ]
    assert listed == real


def test_reasons_named_on_the_page_exist() -> None:
    """What the page calls a reason is one of the code's."""
    results = "|".join(Result)
    named = re.findall(rf"`({results}): ([a-z_]+)`", PAGE) + re.findall(r"(refuse): `(\w+)`", PAGE)
    assert len(named) > 6
    assert {reason for _, reason in named} <= set(REASONS)
    assert {result for result, _ in named} <= {each.value for each in Result} | {"refuse"}

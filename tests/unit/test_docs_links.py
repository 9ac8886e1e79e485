"""What README and guides point at is there, and what README shows is what the program prints."""

import configparser
import json
import pkgutil
import re
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run, run

from logmend.guards import GUARDS
from logmend_cli.pretend import story
from logmend_cli.pretend.entries import entry

__all__ = ["run"]

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "tests/README.md",
    *sorted(str(each.relative_to(ROOT)) for each in ROOT.glob("docs/**/*.md")),
]
SUFFIXES = "py|md|tf|sh|yaml|lql|toml|txt|json"
_RUNBOOKS = "functions/logmend/runbooks"
BASES = (
    *("", "functions", "functions/logmend"),
    *(f"{_RUNBOOKS}/workload-cert-refresh", f"{_RUNBOOKS}/ops-agent"),
)
"""Folders from which the pages name files: the checkout, what ships, the package, runbooks."""


def page(name: str) -> str:
    return (ROOT / name).read_text()


def made_by_the_reader(text: str) -> set[str]:
    """Give the files that a guide has its reader write: each is named before the block with its text."""
    return set(re.findall(r"(?m)^`([^`]+)`:$", text))


def anchors(text: str) -> set[str]:
    """Give the headings of a page as GitHub links to them."""
    headings = re.findall(r"(?m)^#+ +(.+)$", re.sub(r"(?s)```.*?```", "", text))
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    """To a file or folder of the checkout, and to a heading where it names one."""
    dead = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page(name)):
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_is_named_exists(name: str) -> None:
    """In backticks, from the checkout, the package or a runbook; a reader finds it without searching.

    What is below ``out/`` is made by the targets that the page names.
    """
    text = page(name)
    spans = re.findall(rf"`([\w.-][\w./-]*(?:\.(?:{SUFFIXES})|/))`", re.sub(r"(?s)```.*?```", "", text))
    own = made_by_the_reader(text)
    assert [
        each
        for each in spans
        if each not in own
        and not each.startswith("out/")
        and not any((ROOT / base / each).exists() for base in BASES)
    ] == []


def printed_after(text: str, words: str) -> list[str]:
    """Give the lines of the first block of plain output after some words."""
    blocks = re.finditer(r"(?ms)^```(\w*)\n(.*?)^```$", text)
    return next(
        each[2].rstrip("\n").splitlines()
        for each in blocks
        if each.start() > text.index(words) and not each[1]
    )


def test_what_is_shown_of_the_demo_is_the_story_that_it_tells(tmp_path: Path) -> None:
    """Every scene has its row, in order, with the result that the demo insists on; README has some."""
    fleet, scenes = story.tell(tmp_path)
    header, *lines = printed_after(page("docs/demo.md"), "make demo")
    excerpt = printed_after(page("README.md"), "in part:")
    assert len(excerpt) < 20
    assert [line for line in excerpt if line not in [header, *lines, "..."]] == []
    columns = [header.index(title) for title in ("VM", "what was logged", "result", "why")]
    cells = [
        [line[begin:end].strip() for begin, end in zip(columns, [*columns[1:], None], strict=True)]
        for line in lines[: lines.index("")]
    ]
    rows = [tuple(cell[:3]) for cell in cells if cell[0]]
    assert rows == [(scene.machine, scene.what, scene.expected) for scene in scenes]
    told = "\n".join(lines[lines.index("") :])
    counts: dict[str, int] = {}
    for scene in scenes:
        word = scene.expected.partition(":")[0]
        counts[word] = counts.get(word, 0) + 1
    assert f"{len(scenes)} messages by direct pushes" in told
    assert sorted(re.findall(r"(\d+) ([a-z_]+)[,.]", told.partition(" s: ")[2].partition("\n")[0])) == sorted(
        (str(number), word) for word, number in counts.items()
    )
    # One remediated machine is reverted afterwards; the one whose timer was off already stays off.
    off = len({scene.machine for scene in scenes if scene.expected == "remediated"})
    assert f"{off} of {len(fleet.machines)} timers are off now" in told
    assert f"{len(fleet.machines)} pretend machines" in page("README.md")


def test_what_the_readme_shows_of_explain_is_what_it_prints(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words, the same digest: whoever changes either changes both."""
    shown = printed_after(page("README.md"), "logmend explain entry.json")
    document = entry(("my-project", "us-west1-a", "4775836342981993096"))
    document |= {"timestamp": "2026-11-22T10:00:00Z", "receiveTimestamp": "2026-11-22T10:00:01Z"}
    (tmp_path / "entry.json").write_text(json.dumps([document]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    said = run("explain", "entry.json")
    assert said.stdout.splitlines() == shown


def test_the_dependency_rule_on_the_page_is_the_one_that_lint_enforces() -> None:
    """docs/architecture.md and .importlinter name the same layers, in the same order."""
    rules = configparser.ConfigParser()
    rules.read(ROOT / ".importlinter")
    shown = re.findall(
        r"`([a-z_]+(?:, [a-z_]+)*(?: > [a-z_]+(?:, [a-z_]+)*)+)`", page("docs/architecture.md")
    )
    whole, stages = ([set(layer.split(", ")) for layer in each.split(" > ")] for each in shown)
    for name, said in (("layers", whole), ("stages", stages)):
        lines = rules[f"importlinter:contract:{name}"]["layers"].split("\n")
        enforced = [set(line.split(" | ")) for line in lines if line]
        assert [layer for layer in said if layer != {"logmend_cli"}] == enforced, name


def test_no_module_but_the_adapters_may_import_a_client() -> None:
    """The rule names each of them: one that it left out could import anything."""
    rules = configparser.ConfigParser()
    rules.read(ROOT / ".importlinter")
    bound = rules["importlinter:contract:clients"]["source_modules"].split()
    every = {f"logmend.{each.name}" for each in pkgutil.iter_modules([str(ROOT / "functions/logmend")])}
    assert set(bound) == every - {"logmend.adapters"} | {"logmend_cli"}


def test_the_pictures_of_the_readme_are_there_and_small() -> None:
    """``make pictures`` takes them anew; whoever clones this carries them all."""
    shown = re.findall(r"\]\((docs/pictures/[^)]+)\)", page("README.md"))
    assert {Path(each).name for each in shown} == {each.name for each in (ROOT / "docs/pictures").iterdir()}
    for each in shown:
        picture = (ROOT / each).read_bytes()
        assert picture[:4] + picture[8:12] == b"RIFFWEBP"
        assert len(picture) < 100_000


@pytest.mark.parametrize("name", ["docs/safety.md", "docs/runbooks.md"])
def test_the_pages_name_every_guard(name: str) -> None:
    """A reader learns what each guard prevents, and that a runbook may ask for it."""
    text = page(name)
    assert [guard for guard in GUARDS if f"`{guard}`" not in text] == []

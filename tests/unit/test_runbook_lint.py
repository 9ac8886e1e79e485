"""Lint finds what would go wrong on a VM, says where, and finds nothing wrong with what ships."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.conftest import needs

from logmend import guards, runbook
from logmend_cli import cases
from logmend_cli.runbook import lint as runbook_lint
from logmend_cli.runbook import script_rules

VALIDATE = """#!/bin/sh
{
i=$(timeout 5 curl -fs -H Metadata-Flavor:Google 169.254.169.254/computeMetadata/v1/instance/id)
echo "instance_id=$i"
cat "${LOGMEND_ROOT:-}/var/lib/logmend/mine.mark"
[ -e "${LOGMEND_ROOT:-}/etc/broken" ] && exit 101
exit 100
} </dev/null
"""
ENFORCE = """#!/bin/sh
{
set -e
f=${LOGMEND_ROOT:-}/var/lib/logmend/mine
mkdir -p "${f%/*}"
exec 9>"$f.lock"
timeout 60 flock 9
rm -f "${LOGMEND_ROOT:-}/etc/broken"
echo "mark=$1" >"$f.mark"
exit 100
} </dev/null
"""
CONTENT = {
    "name": "mine",
    "summary": "Mend mine.",
    "filter": 'resource.type = "gce_instance" AND textPayload : "broken"',
    "variants": [{"name": "plain", "pattern": "^broken", "verdict": "act"}],
    "guards": ["project_matches", "in_scope", "instance_running", "not_exempt"],
    "permissions": ["compute.instances.get"],
}
CASE = {
    "why": "The plain line.",
    "event": {"textPayload": "broken"},
    "expect": {"result": "planned", "reason": None, "runbook": "mine", "variant": "plain"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a runbook's folder that lint has nothing to say about."""
    found = tmp_path / "mine"
    (found / "revert").mkdir(parents=True)
    (found / "cases").mkdir()
    (found / "runbook.yaml").write_text(yaml.safe_dump(CONTENT, sort_keys=False))
    for name in runbook.SCRIPT_FILES.values():
        (found / name).write_text(VALIDATE if name.endswith("validate.sh") else ENFORCE)
    (found / "cases/plain.json").write_text(json.dumps(CASE))
    return found


def lint(folder: Path, **changes: object) -> list[str]:
    """Change keys of runbook.yaml (None drops one), and give what lint says, without the folder."""
    content = {key: value for key, value in (CONTENT | changes).items() if value is not None}
    (folder / "runbook.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return [str(problem).removeprefix(f"{folder}/") for problem in runbook_lint.lint(folder)]


@pytest.mark.parametrize("name", ["workload-cert-refresh", "ops-agent"])
def test_what_ships_has_no_problem(name: str) -> None:
    """The built-in runbooks keep to every rule that they set for others."""
    assert runbook_lint.lint(runbook.BUILT_IN / name) == []


def test_a_good_runbook_has_no_problem(folder: Path) -> None:
    """The rules can be kept in a dozen lines."""
    assert lint(folder) == []


def test_what_the_loader_refuses_is_all_that_is_said(folder: Path) -> None:
    """A runbook that cannot be read is not guessed at."""
    assert lint(folder, gaurds=[]) == ["runbook.yaml:15: unknown key gaurds; did you mean guards?"]


def test_a_guard_that_does_not_exist_is_named(folder: Path) -> None:
    """The name of a guard is checked against the guards themselves."""
    assert lint(folder, guards=[*guards.ALWAYS, "workload_certificate_unused"]) == [
        "runbook.yaml:8: no guard workload_certificate_unused; did you mean workload_certificates_unused?"
    ]


def test_guards_that_every_runbook_has_need_not_be_listed(folder: Path) -> None:
    """They are asked in code, so that a forgotten line leaves nothing out."""
    assert lint(folder, guards=[]) == []


def test_a_permission_that_logmend_never_has_is_named(folder: Path) -> None:
    """What the deployment does not grant cannot be counted on."""
    assert (
        "logmend is never granted compute.instances.delete"
        in lint(folder, permissions=["compute.instances.get", "compute.instances.delete"])[0]
    )
    assert "permissions: none declared" in lint(folder, permissions=None)[0]


def test_a_filter_that_does_not_compile_is_found_on_its_own_line(folder: Path) -> None:
    """The line is the file's, not the filter's."""
    text = (folder / "runbook.yaml").read_text()
    start = text.index("filter:")
    block = 'filter: |\n  resource.type = "gce_instance"\n  AND textPayload ~ "x"\n'
    (folder / "runbook.yaml").write_text(text[:start] + block + text[text.index("variants:") :])
    found = runbook_lint.lint(folder)
    assert [(Path(each.file).name, each.line) for each in found] == [("runbook.yaml", 5)]
    assert found[0].message.startswith("filter: ")


def test_a_likely_mistake_in_a_filter_is_pointed_out(folder: Path) -> None:
    """A bare word after OR is a search of everything."""
    found = lint(folder, filter='textPayload = "a" OR "b"')
    assert len(found) >= 1
    assert all(each.startswith("runbook.yaml:3: filter: ") for each in found)


def test_a_variant_that_quoting_lines_would_meet_is_named(folder: Path) -> None:
    """Unanchored, a grep for the line would be taken for the line."""
    variants = [{"name": "plain", "pattern": "broken", "verdict": "act"}]
    found = [each.partition(";")[0] for each in lint(folder, variants=variants)]
    assert found == ["runbook.yaml:5: variant plain is not anchored"]
    assert lint(folder, prefix="(?s)^", variants=variants) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("systemctl restart mine", "systemctl can block"),
        ("x=$(curl -s http://h)", "curl can block"),
        ('echo "$(dpkg -l)"', "dpkg can block"),
        ("if apt-get update; then :; fi", "apt-get can block"),
        ("A=1 wget http://h", "wget can block"),
        ("[[ -e x ]] && :", "[[ ]] is not POSIX"),
        ("echo x &>/dev/null", "&> is not POSIX"),
        ("cat <<<x", "<<< is not POSIX"),
        ("x=(a b)", "arrays are not POSIX"),
        ("echo ${x//a/b}", "this expansion is not POSIX"),
        ("set -o pipefail", "pipefail is not in every /bin/sh"),
        ('[ "$x" == y ]', "== is not POSIX"),
        ("local x=1", "not POSIX"),
        ("echo -n x", "options of echo are not POSIX"),
        ("echo x >/etc/mine", "/etc is an absolute path"),
        ("cat '/var/log/syslog'", "/var is an absolute path"),
        ("exit 0", "exit 0 is an error to both executors"),
        ("if true; then", "dash -n: "),
    ],
)
def test_a_line_that_would_go_wrong_is_found_where_it_stands(folder: Path, line: str, complaint: str) -> None:
    """Every rule for scripts has a line that breaks it, with its number, or the end for an open one."""
    needs(commands=("dash",))
    (folder / "enforce.sh").write_text(ENFORCE.replace("rm -f", f"{line}\nrm -f"))
    found = [each for each in runbook_lint.lint(folder) if complaint in each.message]
    assert found, lint(folder)
    assert {Path(each.file).name for each in found} == {"enforce.sh"}
    assert "dash" in complaint or {each.line for each in found} == {8}


@pytest.mark.parametrize(
    "line",
    [
        "timeout 9 systemctl restart mine",
        ': "$(timeout 9 curl -s http://h)"',
        "# systemctl restart it's what people do, in /etc of all places",
        "echo service=running",
        "timeout 9 systemd-run sh -c 'systemctl restart mine; curl http://h'",
        "echo 'systemctl; curl'",
        'x=${f#/*}; z="${LOGMEND_ROOT:-}/var/x"; : "$x$z" >/dev/null',
        "timeout 9 \\\n  curl -s http://h/var/x",
        'cd "${LOGMEND_ROOT:-}/"; [ -e var/x ] || [ -e x/etc ]',
    ],
)
def test_a_line_that_is_fine_is_let_alone(folder: Path, line: str) -> None:
    """A rule that cries wolf would be switched off."""
    (folder / "enforce.sh").write_text(ENFORCE.replace("rm -f", f"{line}\nrm -f"))
    assert lint(folder) == []


def test_shellcheck_speaks_up_where_it_is_installed(folder: Path) -> None:
    """Its warnings come with the page that explains them."""
    needs(commands=("shellcheck",))
    (folder / "enforce.sh").write_text(ENFORCE.replace('rm -f "', 'x="unused"\nrm -f "'))
    found = lint(folder)
    assert len(found) == 1
    assert found[0].startswith("enforce.sh:8: shellcheck SC2034: ")
    assert found[0].endswith("shellcheck.net/wiki/SC2034")


def test_checks_that_this_machine_cannot_make_are_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Without shells and shellcheck lint still reads, and says what it left out."""
    monkeypatch.setenv("PATH", str(folder))
    assert runbook_lint.skipped() == [
        "dash -n: no dash here",
        "bash -n: no bash here",
        "busybox -n: no busybox here",
        "shellcheck: not installed",
    ]
    (folder / "enforce.sh").write_text(ENFORCE + "exit 0\n")
    assert lint(folder) == ["enforce.sh:12: exit 0 is an error to both executors; exit 100 when all is well"]


def test_scripts_that_miss_their_part_of_the_contract_are_named(folder: Path) -> None:
    """A check that cannot see the fault, an enforcement without lock or record, evidence from nowhere."""
    (folder / "validate.sh").write_text("#!/bin/sh\ntimeout 9 systemctl start mine\nexit 100\n")
    (folder / "revert/enforce.sh").write_text("#!/bin/sh\nexit 100\n")
    assert [each.partition(";")[0] for each in lint(folder)] == [
        "revert/enforce.sh: keeps no record",
        "revert/enforce.sh: leaves no mark",
        "revert/enforce.sh: takes no lock",
        "validate.sh: never exits 101",
        "validate.sh: prints no instance_id",
        "validate.sh: prints no mark",
        "validate.sh:2: systemctl start changes the VM",
    ]


def test_every_script_of_what_ships_breaks_when_its_timeouts_go() -> None:
    """The rule sees through the real scripts' functions, substitutions and continued lines."""
    for found in runbook.load_all().values():
        for text in (found.scripts.validate, found.scripts.enforce):
            bare = text.replace("timeout 9 ", "").replace("timeout 5 ", "").replace("timeout 60 ", "")
            said = {each.message for each in script_rules.check("f", bare, "enforce")}
            assert any(each.endswith(" can block") for each in said)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"because": "x"}, "cases/plain.json: unknown key because; known: event, expect, instance, now, why"),
        ({"why": ""}, "cases/plain.json: why: a sentence that says what is odd about the event is missing"),
        ({"now": "2026-07-08"}, "cases/plain.json: now: expected a time with its zone"),
        ({"instance": []}, "cases/plain.json: instance: expected an object"),
        ({"expect": {"result": "planed"}}, "expect.result: no such result planed; did you mean planned?"),
        ({"expect": {"result": "planned"}}, "expect.variant is missing; null where it does not apply"),
        (
            {"expect": CASE["expect"] | {"variant": "plane"}},  # type: ignore[operator]
            "cases/plain.json: expect.variant: no variant plane; did you mean plain?",
        ),
        ({"expect": CASE["expect"] | {"runbook": "yours"}}, "yours is another runbook"),  # type: ignore[operator]
    ],
)
def test_a_golden_case_is_read_strictly(folder: Path, change: dict[str, object], complaint: str) -> None:
    """A case that expects what cannot be would pass for a test."""
    (folder / "cases/plain.json").write_text(json.dumps(CASE | change))
    assert complaint in "\n".join(lint(folder))


def test_a_variant_without_a_case_is_named(folder: Path) -> None:
    """Every form of the line has its example."""
    (folder / "cases/plain.json").unlink()
    assert [each.partition(";")[0] for each in lint(folder)] == [
        "cases: no case for variant plain",
        "cases: no golden cases",
    ]


def test_a_case_that_is_no_json_is_named_with_its_line(folder: Path) -> None:
    """Whoever edits by hand learns where."""
    (folder / "cases/plain.json").write_text('{"why": "x",\n!}')
    assert "cases/plain.json:2: no JSON: " in lint(folder)[0] + lint(folder)[-1]


def test_a_case_is_written_as_it_is_read(folder: Path) -> None:
    """What explain saves is a case that lint takes, and it replaces none."""
    shutil.rmtree(folder / "cases")
    expect = cases.Expected(None, None, None, "plain")
    case = cases.Case("saved-by-hand", "Why not.", {"a": "ä"}, expect, {"id": "1"})
    path = cases.write(folder, case)
    assert cases.read(path) == (case, [])
    with pytest.raises(FileExistsError):
        cases.write(folder, case)

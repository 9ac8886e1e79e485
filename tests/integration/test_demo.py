"""`logmend demo`, as `make demo` runs it: the story holds, and ends in a report that is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def demo(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run it in a folder, with direct pushes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOGMEND_")}
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from logmend_cli.main import main; main()",
            "demo",
            "--pubsub",
            "direct",
            *args,
        ],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT / "functions")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_demo_holds_and_ends_by_naming_its_report(tmp_path: Path) -> None:
    """out/demo/report.html, made of the very outcomes."""
    ran = demo(tmp_path)
    assert ran.returncode == 0, ran.stderr
    page = tmp_path / "out/demo/report.html"
    assert "Report: out/demo/report.html" in ran.stdout.strip().splitlines()[-1]
    text = page.read_text()
    assert "From events to verified fixes" in text
    assert text.count('<details class="vm"') > 30
    assert (tmp_path / "out/demo/outcomes.jsonl").read_text().count("\n") > 40


def test_the_demo_in_json_names_the_report_too(tmp_path: Path) -> None:
    """One object; no problem in it."""
    ran = demo(tmp_path, "--format", "json", "--out", str(tmp_path / "elsewhere"))
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["problems"] == []
    assert Path(told["report"]).is_file()

"""A security scanner's opinion of the Terraform files."""

import json
import os
import subprocess

import pytest
from tests.conftest import needs
from tests.provider_schema import MODULES, ROOT

pytestmark = pytest.mark.timeout(300)

CHECKOV = os.environ.get("LOGMEND_CHECKOV") or str(ROOT / "out" / "tools" / "checkov" / "bin" / "checkov")


def test_the_scanner_finds_nothing_that_is_not_explained():
    """Checkov passes on both modules; what it is told to pass over says why, inline."""
    needs(commands=(CHECKOV,))
    for module in MODULES:
        command = [CHECKOV, "--directory", str(module), "--framework", "terraform"]
        done = subprocess.run(
            [*command, "--skip-download", "--compact", "--output", "json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=140,
        )
        report = json.loads(done.stdout)
        failed = [f"{each['check_id']} {each['resource']}" for each in report["results"]["failed_checks"]]
        assert failed == []
        assert report["summary"]["passed"] >= 5
        assert report["summary"]["parsing_errors"] == 0

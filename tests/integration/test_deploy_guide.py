"""What docs/deploy.md has its reader write is planned by real Terraform, from a repository with that tag."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.conftest import needs
from tests.provider_schema import ROOT
from tests.terraform_run import PROJECT, Plan, Terraform

pytestmark = pytest.mark.timeout(300)

GUIDE = (ROOT / "docs" / "deploy.md").read_text()


class Root:
    """A folder with the guide's ``main.tf``, whose module comes from a repository beside it."""

    def __init__(self, folder: Path) -> None:
        text = re.findall(r"(?s)`main\.tf`:\n\n```hcl\n(.*?)```", GUIDE)[0]
        self.terraform = Terraform(folder / "repository", "deploy")
        self.tag = re.findall(r"\?ref=([\w.]+)", text)[0]
        self._tagged()
        self.terraform.module = folder / "root"
        self.terraform.module.mkdir()
        text = text.replace("https://YOUR_HOST/logmend.git", f"file://{self.terraform.folder}")
        self.main = self.terraform.module / "main.tf"
        self.main.write_text(text.replace("PROJECT", PROJECT))
        # Terraform's own way to replace a block; what is in the guide is checked as it stands.
        override = 'terraform {\n  backend "local" {}\n}\n'
        (self.terraform.module / "backend_override.tf").write_text(override)

    def _tagged(self) -> None:
        identity = ["-c", "user.name=guide", "-c", "user.email=guide@example.com", "-c", "tag.gpgsign=false"]
        for command in (
            ["init", "--quiet"],
            ["add", "deploy", "sink", "functions"],
            ["commit", "--quiet", "--message=release"],
            ["tag", "--message=release", self.tag],
        ):
            environ = {"PATH": os.environ["PATH"], "HOME": str(self.terraform.folder)}
            done = subprocess.run(
                ["git", *identity, *command],
                cwd=self.terraform.folder,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr

    def plan(self) -> Plan:
        """Initialise and plan as the guide does: without a variable on the command line."""
        self.terraform.plans.clear()
        done = self.terraform.run("init", "-input=false")
        assert done.returncode == 0, done.stderr
        return self.terraform.plan(known=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Give the reader's folder."""
    needs(commands=("terraform", "git"))
    return Root(tmp_path_factory.mktemp("guide"))


def mode(plan: Plan) -> str:
    (function,) = plan.of_type("google_cloudfunctions2_function").values()
    found: str = function["service_config"][0]["environment_variables"]["LOGMEND_MODE"]
    return found


def test_the_module_is_taken_by_its_tag_and_its_mode_is_the_one_in_the_file(root):
    """Paths between the folders hold in what is fetched, and no option is needed to go on enforcing."""
    assert mode(root.plan()) == "observe"
    root.main.write_text(root.main.read_text().replace('"observe"', '"enforce"'))
    assert mode(root.plan()) == "enforce"

"""Real Terraform on a copy of our modules, with the stand-in providers of :mod:`tests.terraform_stub`."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import terraform_stub
from tests.provider_schema import ROOT

PROJECT = "logmend-home"


class Plan:
    """What a plan would create, by address. Values are as they would be applied; unknown ones are absent."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.resources: dict[str, dict[str, Any]] = {}
        self._collect(document["planned_values"].get("root_module", {}))
        self.outputs = {
            name: each.get("value") for name, each in document["planned_values"].get("outputs", {}).items()
        }

    def _collect(self, module: Mapping[str, Any]) -> None:
        for each in module.get("resources", []):
            self.resources[each["address"]] = each["values"]
        for child in module.get("child_modules", []):
            self._collect(child)

    def of_type(self, name: str) -> dict[str, dict[str, Any]]:
        """Give the resources of one type, by address."""
        return {at: values for at, values in self.resources.items() if f"{name}." in at.split("[")[0]}

    def one(self, address: str) -> dict[str, Any]:
        """Give one resource's values."""
        return self.resources[address]


class Terraform:
    """A copy of ``deploy/``, ``sink/`` and ``functions/`` in a folder of its own, initialised."""

    def __init__(self, folder: Path, module: str) -> None:
        self.folder = folder
        for name in ("deploy", "sink", "functions"):
            ignored = shutil.ignore_patterns("__pycache__", ".terraform*", "*.tfstate*", "terraform.tfvars")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
        self.module = folder / module
        self.config = terraform_stub.mirror(folder / "mirror")
        self.plans: dict[tuple[Any, ...], Plan] = {}
        done = self.run("init", "-input=false")
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str, known: bool = False, speed: float = 0) -> subprocess.CompletedProcess[str]:
        """Run one command of Terraform in the module; with ``speed`` against a slow Google."""
        environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environ |= {
            "TF_CLI_CONFIG_FILE": str(self.config),
            "TF_DISABLE_PLUGIN_TLS": "1",
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "GOGC": "400",  # Terraform is short-lived: a sixth less of its time goes to its garbage
            "STUB_KNOWN": "1" if known else "0",
            "STUB_SPEED": str(speed),
        }
        command = ["terraform", arguments[0], "-no-color", *arguments[1:]]
        return subprocess.run(
            command, cwd=self.module, env=environ, capture_output=True, text=True, timeout=120, check=False
        )

    def plan(self, *, known: bool = False, **variables: Any) -> Plan:
        """Plan from nothing with these variables; the same plan is made only once."""
        key = (known, json.dumps(variables, sort_keys=True))
        if key not in self.plans:
            done = self.try_plan(known=known, **variables)
            assert done.returncode == 0, done.stderr + done.stdout
            shown = self.run("show", "-json", "plan.bin", known=known)
            assert shown.returncode == 0, shown.stderr
            self.plans[key] = Plan(json.loads(shown.stdout))
        return self.plans[key]

    def try_plan(self, *, known: bool = False, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Plan, whether or not that works out."""
        given = {"project_id": PROJECT} | variables
        (self.module / "terraform.tfvars.json").write_text(json.dumps(given))
        return self.run("plan", "-input=false", "-refresh=false", "-out=plan.bin", known=known)

"""What Terraform would make of metrics, alerts and dashboard, as the APIs take it; and who feeds what.

``deploy/monitoring.json`` is that, for ``deploy/gcloud.sh``, with ``@PROJECT@``, ``@NAME@``, ``@PREFIX@`` and
``@GUIDE@`` to be filled in. ``python -m tests.monitoring`` writes it anew; a test compares.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from logmend import lql
from tests.provider_schema import ROOT
from tests.terraform_run import Plan, Terraform

FILE = ROOT / "deploy" / "monitoring.json"
HOLDERS = {
    "project-holder": "@PROJECT@",
    "name-holder": "@NAME@",
    "name_holder": "@PREFIX@",
    "https://guide-holder": "@GUIDE@",
}
VARIABLES: dict[str, Any] = {
    "project_id": "project-holder",
    "name": "name-holder",
    "guide_url": "https://guide-holder",
    "outcome_topic": True,
}
_MANY = {"conditions", "aggregations", "links"}
_OWN = {"project", "id", "timeouts", "deletion_policy"}
VM_LABELS = {"project_id", "zone", "instance_id"}
"""Labels of a ``gce_instance`` (cloud.google.com/monitoring/api/resources)."""


def rest(value: Any, *, many: bool = False) -> Any:
    """Turn Terraform's form (snake_case, lists of one for blocks, null for absent) into that of REST."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        items = [rest(each) for each in value]
        return items if many or len(items) > 1 else items[0]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, each in value.items():
        if each is None or each == [] or key in _OWN:
            continue
        name = re.sub(r"_([a-z])", lambda m: m[1].upper(), key)
        plain = key in ("user_labels", "label_extractors")
        found[name] = each if plain else rest(each, many=key in _MANY or (key == "labels" and many is False))
    return found


def definitions(plan: Plan) -> dict[str, Any]:
    """Give the planned log-based metrics, alert policies and the dashboard, as REST documents."""
    metrics = [
        rest(each)
        for at, each in plan.of_type("google_logging_metric").items()
        if ".certificate_line" not in at
    ]
    policies = [
        rest(each)
        for at, each in plan.of_type("google_monitoring_alert_policy").items()
        if ".alert[" in at  # those that start runbooks are Terraform's alone
    ]
    dashboard = json.loads(plan.one("google_monitoring_dashboard.logmend")["dashboard_json"])
    return {"metrics": metrics, "policies": policies, "dashboard": dashboard}


def page(terraform: Terraform) -> str:
    """Write ``deploy/monitoring.json``."""
    text = json.dumps(definitions(terraform.plan(**VARIABLES)), indent=1, sort_keys=True) + "\n"
    for holder, word in HOLDERS.items():
        text = text.replace(holder, word)
    return text


def _field(entry: Mapping[str, Any], path: str) -> str:
    found: Any = entry
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return "" if found is None else str(found)


def _extracted(entry: Mapping[str, Any], how: str) -> str:
    if plain := re.fullmatch(r"EXTRACT\(([\w.]+)\)", how):
        return _field(entry, plain[1])
    parts = re.fullmatch(r'REGEXP_EXTRACT\(([\w.]+), "(.*)"\)', how)
    assert parts is not None, how
    found = re.search(parts[2], _field(entry, parts[1]))
    return found[1] if found else ""


def series(metric: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Give the labels, those of the resource included, that each entry counts under; nothing for the others.

    What is extracted is what the metric's own text says; the filter is evaluated by our reading of Google's
    language (:mod:`logmend.lql`).
    """
    counts = lql.compile(metric["filter"])
    return [
        {label: _extracted(entry, how) for label, how in metric.get("labelExtractors", {}).items()}
        | {"resource.type": entry["resource"]["type"]}
        | {name: value for name, value in entry["resource"]["labels"].items() if name in VM_LABELS}
        | {"#": str(number)}
        for number, entry in enumerate(entries)
        if counts.matches(entry)
    ]


def selectors(query: str) -> list[tuple[str, dict[str, str]]]:
    """Give the metrics that a PromQL query asks for, each with its matchers: label → regular expression."""
    found = re.findall(r"(\w+:\w+)\{([^}]*)\}\[1h\]", query)
    return [(name, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))) for name, matchers in found]


def main() -> None:
    """Write the file anew."""
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(page(Terraform(Path(folder), "deploy")))
    sys.stdout.write(f"{FILE} is written\n")


if __name__ == "__main__":
    main()

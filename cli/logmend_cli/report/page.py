"""A report as one HTML file that needs no network; its content security policy forbids any use of one.

The content of outcomes is untrusted: the template engine escapes text, and only the page's own script,
identified by its digest, may run.
"""

import base64
import hashlib
import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from logmend_cli.output import duration_text, printable, write_csv
from logmend_cli.report import charts
from logmend_cli.report.data import TROUBLES, VMS, Report
from logmend_cli.report.vm import Vm
from logmend_cli.status.fleet_rows import quantiles

REASONS = 24
"""Most reasons that are shown: the most frequent."""
NEVER = "\N{EN DASH}"
COLUMNS = (
    "project_id", "zone", "instance_id", "name", "runbook", "result", "reason", "detail", "at", "outcomes",
    "fixes", "next_step", "labels",
)  # fmt: skip
"""Columns of the CSV file, which has every VM."""

_HERE = Path(__file__).parent


def render(report: Report) -> str:
    """Return the page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": printable,
        "time": _time,
        "duration": duration_text,
        "thousands": "{:,}".format,
    }
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    every = report.rows()
    timeline, causes = charts.over_time(report), charts.causes(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        rows=every[:VMS],
        most=VMS,
        reasons_shown=REASONS,
        troubles_shown=TROUBLES,
        vms=len({instance for instance, _ in report.vms}),
        latencies={name: quantiles(values) for name, values in report.latencies.items()},
        colours=charts.COLOURS,
        charts={
            "funnel": charts.funnel(report),
            "latency": charts.latencies(report),
            "zones": charts.shares(report.shares(report.by_zone)),
            "groups": charts.shares(report.shares(report.by_group)),
            "owners": charts.shares(report.shares(report.by_owner)),
            "runbooks": charts.shares(report.shares(report.by_runbook)),
            "alike": charts.alike(report),
        },
        labels={key: charts.shares(report.shares(each)) for key, each in sorted(report.by_label.items())},
        columns_of={"time": timeline, "causes": causes},
        legends={"time": charts.legend(timeline), "causes": charts.legend(causes)},
        csv=_csv(every),
        script=script,
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        digest="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _csv(every: Sequence[Vm]) -> str:
    """Return a link whose content is a CSV file with every VM."""
    text = io.StringIO()
    write_csv(text, COLUMNS, (_row(vm) for vm in every))
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(text.getvalue().encode()).decode()


def _row(vm: Vm) -> tuple[object, ...]:
    latest = vm.latest
    return (
        *(vm.instance.project_id, vm.instance.zone, vm.instance.instance_id, vm.name, vm.runbook),
        *(latest.result, latest.reason, latest.detail, latest.at.isoformat(), vm.count, vm.fixes),
        *(latest.next_step, vm.labelled),
    )


def _time(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else NEVER

"""A report as one HTML file that needs no network, and could not use one: its policy forbids it.

What outcomes say is untrusted: text is escaped by the template engine, data in scripts is escaped JSON, and
only the page's own two scripts, named by their digests, may run.
"""

import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path

from logmend_cli.fleet_state import quantiles
from logmend_cli.output import printable
from logmend_cli.report import charts
from logmend_cli.report.data import STEPS, VMS, Report
from logmend_cli.status import duration_text

REASONS = 24
"""Reasons that are shown, the most frequent."""
NEVER = "\N{EN DASH}"

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
    library, script = charts.library(), (_HERE / "report.js").read_text()
    return environment.get_template("report.html.j2").render(
        report=report,
        rows=report.rows(),
        most=VMS,
        reasons_shown=REASONS,
        tiles=_tiles(report),
        latencies={name: quantiles(values) for name, values in report.latencies.items()},
        colours=charts.COLOURS,
        figures=_data(charts.figures(report)),
        library=library,
        script=script,
        style=(_HERE / "report.css").read_text(),
        digests=[_digest(library), _digest(script)],
    )


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """Return the numbers at the top: what, how many, and in which colour's name."""
    funnel, results = dict(report.funnel()), report.results
    bad = results["failed"] + results["unverified"] + results["rejected"]
    typical = quantiles(report.latencies["total"])["p50"]
    return [
        ("events", f"{funnel[STEPS[0]]:,}", ""),
        ("VMs", f"{len({instance for instance, _ in report.vms}):,}", ""),
        ("fixes verified", f"{funnel[STEPS[-1]]:,}", "remediated"),
        ("planned", f"{results['planned']:,}", "planned"),
        ("left alone", f"{results['refused'] + results['nothing_to_do']:,}", "refused"),
        ("failed, unverified, rejected", f"{bad:,}", "failed" if bad else ""),
        ("typical time to an outcome", duration_text(typical) or NEVER, ""),
    ]


def _data(value: object) -> str:
    """Write JSON that can stand in an HTML script element, whatever its strings hold."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _time(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else NEVER

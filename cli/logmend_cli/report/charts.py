"""The charts of a report, as plotly figures in JSON. Colours of text and grid are the page's own."""

import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from logmend.model.values import Lineage
from logmend_cli.output import printable
from logmend_cli.report.data import Report

COLOURS = {
    "remediated": "#2f9e63",
    "reverted": "#6ebf9a",
    "nothing_to_do": "#9ccfb5",
    "planned": "#d6a419",
    "requested": "#2fa3b5",
    "parked": "#5f87c4",
    "refused": "#8d6cc9",
    "skipped": "#94a1b2",
    "unmatched": "#bcc5d0",
    "deferred": "#b8925a",
    "interrupted": "#c77f3f",
    "unverified": "#e58a1f",
    "rejected": "#b4436c",
    "failed": "#d64545",
    "controlled": "#7a8ea8",
}
"""One colour for each result, readable on white and on black; good is green, bad is red."""

_LABEL = 48
_FUNNEL = ("#5f87c4", "#5592bb", "#4a9cae", "#3fa59c", "#37a588", "#32a275", "#2f9e63")


def figures(report: Report) -> dict[str, Any]:
    """Return every chart that has something to show, by the id of its place on the page."""
    go = _objects()

    found: dict[str, Any] = {}
    steps = report.funnel()
    found["funnel"] = go.Figure(
        go.Funnel(
            y=[name for name, _ in steps],
            x=[count for _, count in steps],
            text=[f"{count:,}" for _, count in steps],
            textinfo="text",
            textposition="auto",
            constraintext="none",
            insidetextfont={"color": "#ffffff", "size": 13},
            marker={"color": list(_FUNNEL)},
            connector={"fillcolor": "rgba(128,140,160,0.12)"},
            hovertemplate="%{y}: %{text}<extra></extra>",
        ),
        {"height": 330},
    )
    _, buckets = report.buckets()
    times = [at.strftime("%Y-%m-%d %H:%M:%S") for at, _ in buckets]
    bars = [
        go.Bar(
            name=name.replace("_", " "),
            x=times,
            y=[counts[name] for _, counts in buckets],
            marker={"color": colour},
        )
        for name, colour in _present(report)
    ]
    found["time"] = go.Figure(
        bars,
        {
            "barmode": "stack",
            "height": 330,
            "xaxis": {"type": "date"},
            "yaxis": {"title": {"text": "outcomes"}},
        },
    )
    slots = report.histogram("total")
    found["latency"] = go.Figure(
        go.Bar(
            x=[name for name, _ in slots],
            y=[count for _, count in slots],
            marker={"color": "#5f87c4"},
            hovertemplate="%{x}: %{y}<extra></extra>",
        ),
        {
            "height": 300,
            "bargap": 0.06,
            "xaxis": {"type": "category", "title": {"text": "from the start of the work to its outcome"}},
            "yaxis": {"title": {"text": "outcomes"}},
        },
    )
    found["zones"] = _shares(report, report.shares(report.by_zone))
    found["runbooks"] = _shares(report, report.shares(report.by_runbook))
    if report.causes_over_time:
        found["causes"] = _causes(report)
        found["alike"] = _alike(report)
    return {name: json.loads(figure.to_json()) for name, figure in found.items()}


def library() -> str:
    """Return plotly's own script, to stand in the page."""
    offline: Any = import_module("plotly.offline")
    return str(offline.get_plotlyjs())


def _objects() -> Any:
    """Return plotly's classes of figures, which check what they are given; they come without types."""
    return import_module("plotly.graph_objects")


def _shares(report: Report, rows: Sequence[tuple[str, Counter[str]]]) -> Any:
    go = _objects()

    names = [_text(name) for name, _ in rows]
    bars = [
        go.Bar(
            name=result.replace("_", " "),
            y=names,
            x=[counts[result] for _, counts in rows],
            orientation="h",
            marker={"color": colour},
            hovertemplate="%{y}: %{x} %{fullData.name}<extra></extra>",
        )
        for result, colour in _present(report)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.35,
        "height": 90 + 34 * len(rows),
        "yaxis": {"type": "category"},
        "showlegend": False,
    }
    return go.Figure(bars, layout)


def _causes(report: Report) -> Any:
    """Draw the causes that were found over time, the most frequent first."""
    go = _objects()
    buckets = report.cause_buckets()
    total = sum((counts for _, counts in buckets), Counter[str]())
    times = [at.strftime("%Y-%m-%d %H:%M:%S") for at, _ in buckets]
    bars = [
        go.Bar(name=_text(cause.replace("_", " ")), x=times, y=[counts[cause] for _, counts in buckets])
        for cause, _ in total.most_common()
    ]
    layout = {
        "barmode": "stack",
        "height": 330,
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": "VMs asked"}},
    }
    return go.Figure(bars, layout)


def _alike(report: Report) -> Any:
    """Draw how many VMs each cause and origin has, the most at the top."""
    go = _objects()
    rows = report.alike()[::-1]
    names = [_text(f"{each.cause.replace('_', ' ')}: {_origin(each.made)}") for each in rows]
    bar = go.Bar(
        y=names,
        x=[each.instances for each in rows],
        customdata=[_text(each.made.group or "") for each in rows],
        orientation="h",
        marker={"color": "#d6a419"},
        hovertemplate="%{y}: %{x} VMs %{customdata}<extra></extra>",
    )
    return go.Figure(bar, {"bargap": 0.35, "height": 90 + 34 * len(rows), "yaxis": {"type": "category"}})


def _origin(made: Lineage) -> str:
    return (made.template or made.image or "by itself").rpartition("/")[2]


def _text(name: str) -> str:
    """Return text of an outcome as plotly may show it: it reads some HTML in labels, links among it."""
    return html.escape(printable(name)[:_LABEL])


def _present(report: Report) -> Iterable[tuple[str, str]]:
    """Return the results that occur, each with its colour, in the order of the colours' table."""
    return [(name, colour) for name, colour in COLOURS.items() if report.results[name]]

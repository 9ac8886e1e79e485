"""The figures of a benchmark: mostly ratios to a named alternative measured in the same run."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    ``ratio`` is ours divided by theirs, the median over the rounds' pairs; ``low`` and ``high`` are the
    smallest and the greatest. ``ours`` and ``theirs`` are medians with their unit, for reading. ``met`` is
    None if there is no target. ``gain`` is what it means for a user; if empty, the benchmark's ``GAINS``.
    """

    bench: str
    measure: str
    against: str
    ours: str = ""
    theirs: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    aim: str = ""
    met: bool | None = None
    note: str = ""
    gain: str = ""


class Skipped(Exception):
    """A benchmark cannot run here; the text names what is missing."""


def paired(
    bench: str,
    measure: str,
    against: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    unit: str = "ms",
    most: float | None = None,
    least: float | None = None,
    note: str = "",
    gain: str = "",
) -> Figure:
    """Compare rounds that were run in turn. ``most`` or ``least`` is the target for the ratio."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = median(ratios)
    aim, met = "", None
    if most is not None:
        aim, met = f"≤ {most:g}", ratio <= most
    if least is not None:
        aim, met = f"≥ {least:g}", ratio >= least
    return Figure(
        bench,
        measure,
        against,
        written(median(ours), unit),
        written(median(theirs), unit),
        round(ratio, 3),
        round(min(ratios), 3),
        round(max(ratios), 3),
        len(ratios),
        aim,
        met,
        note,
        gain,
    )


def plain(
    bench: str,
    measure: str,
    value: str,
    *,
    against: str = "",
    aim: str = "",
    met: bool | None = None,
    note: str = "",
    gain: str = "",
) -> Figure:
    """Return a figure that is not a ratio."""
    return Figure(bench, measure, against, ours=value, aim=aim, met=met, note=note, gain=gain)


def written(value: float, unit: str) -> str:
    """Return a value with three significant digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def table(figures: Sequence[Figure]) -> str:
    """Return the Markdown table of figures for docs/performance.md."""
    lines = [
        "| bench | measure | against | ours | theirs | ratio (spread) | aim | met | what a user gains |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in figures:
        ratio = "" if each.ratio is None else f"**{each.ratio:.2f}** ({each.low:.2f} to {each.high:.2f})"
        met = {None: "", True: "yes", False: "**no**"}[each.met]
        measure = each.measure + (f" ({each.note})" if each.note else "")
        lines.append(
            f"| {each.bench} | {measure} | {each.against} | {each.ours} | {each.theirs} | {ratio} "
            f"| {each.aim} | {met} | {each.gain} |"
        )
    return "\n".join(lines)

"""What the real ``gce_workload_cert_refresh`` did, tag by tag: observations to judge our reading by.

``tests/data/refresher.jsonl`` is what Google's own program printed, ended with and left behind, built from
the public repository guest-agent at 16 tags and run against a metadata server that gave one answer to every
question about certificates (or refused, kept silent, could not be reached), on a VM whose own attribute
``enable-workload-certificate`` was ``true`` or unset. One JSON object a line, for all runs that went alike:

* ``answer``: ``200``, ``412``, ``503``; ``404`` with the body "workload certificate feature not enabled",
  ``404empty`` without a body, ``404html`` with Google's page, ``404nl`` with a body that begins with a line
  end; ``refused``, ``unreach`` (no route) and ``silence`` (config-status is never answered);
* ``exit``: status of the process; 124 was still at work after 700 seconds;
* ``lines``: what it printed, in order, as ``LINE`` or ``[TIMES, LINE]``, without the Go time stamp that the
  program puts before each; a line that had none begins with ``UNDATED``. A text may go over several lines;
* ``files``: what was under ``/run/secrets`` afterwards, links with their target; ``<RFC3339>`` is the time;
* ``seconds``: tag → ``not`` or ``opted in`` → how long that run took.

20250327.00 was run once: for the line that only this tag prints.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data" / "refresher.jsonl"
GATED_SINCE = "20231011.00"
"""From this tag on the program does nothing unless its own metadata server says that the VM opted in."""
UNDATED = "UNDATED "


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the program of one tag."""

    tag: str
    opted_in: bool
    answer: str
    exit: int
    lines: tuple[str, ...]
    files: tuple[str, ...]
    seconds: float

    @property
    def gated(self) -> bool:
        """Whether this tag asks the VM's own metadata server first whether the owner opted in."""
        return self.tag >= GATED_SINCE

    def __str__(self) -> str:
        return f"{self.tag}-{self.answer}-{'opted in' if self.opted_in else 'not'}"


def runs() -> Iterator[Run]:
    """Give every run that was observed."""
    for text in DATA.read_text().splitlines():
        alike = json.loads(text)
        lines = [
            line
            for each in alike["lines"]
            for times, line in [each if isinstance(each, list) else (1, each)]
            for _ in range(times)
        ]
        for tag, took in alike["seconds"].items():
            for opted_in, seconds in took.items():
                yield Run(
                    tag,
                    opted_in == "opted in",
                    alike["answer"],
                    alike["exit"],
                    tuple(lines),
                    tuple(alike["files"]),
                    seconds,
                )


RUNS = tuple(runs())
SAID = frozenset(line for run in RUNS for line in run.lines)
"""Every text that an agent printed."""

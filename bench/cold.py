"""Cold starts: from the process's start to the first answer, in turns with a no-op of the same framework."""

import time
from collections.abc import Iterator
from pathlib import Path

from bench import vms
from bench.figures import Figure, paired
from bench.processes import ask, noop, ours, push, served, workshop

BENCH = "cold"
GAINS = "How long the first event after a pause waits for its answer."
ROUNDS = 9
SAME = "import asyncssh\nimport google.auth.transport.requests\nimport requests"
"""The libraries that reaching a VM takes here."""
GOOGLE = "import asyncssh\nimport google.cloud.compute_v1\nimport google.cloud.logging_v2"
"""Google's own clients for the same work, which docs/adr/0005 does without."""


def measure() -> Iterator[Figure]:
    """Measure each kind of first event."""
    starts = {name: list[float]() for name in ("noop", "first", "same", "google", "decided", "remediated")}
    unmatched = vms.line(1, form="done")
    with vms.crowd(workshop() / "cold") as crowd:
        settings = crowd.settings()
        for number in range(ROUNDS + 1):
            body = push(unmatched, f"cold-{number}")
            took = {
                "noop": _first_answer(noop(), body, "nothing"),
                "first": _first_answer(ours(), body, "unmatched"),
                "same": _first_answer(noop(SAME), body, "nothing"),
                "decided": _first_answer(
                    ours(), push(vms.line(vms.OPTED_IN + number), f"decided-{number}"), "refused", settings
                ),
                "google": _first_answer(noop(GOOGLE), body, "nothing"),
                "remediated": _first_answer(
                    ours(), push(vms.line(number), f"fixed-{number}"), "remediated", settings
                ),
            }
            if number:  # the first round warms the disk's cache
                for name, each in took.items():
                    starts[name].append(1000 * each)
    yield paired(
        BENCH,
        "process start to the first answer that needs no Google client",
        "no-op function",
        starts["first"],
        starts["noop"],
        most=1.3,
    )
    for name in ("decided", "remediated"):
        measured = f"process start to the first VM {name}"
        against = "no-op importing "
        yield paired(
            BENCH,
            measured,
            against + "Google's compute and logging clients, asyncssh",
            starts[name],
            starts["google"],
            most=1.1,
        )
        yield paired(
            BENCH,
            measured,
            against + "requests, google-auth, asyncssh (what we import)",
            starts[name],
            starts["same"],
            most=1.1,
        )


def _first_answer(
    source: Path, body: bytes, expected: str, settings: dict[str, object] | None = None
) -> float:
    with served(source, **(settings or {})) as function:
        status, said = ask(function.port, body)
        took = time.perf_counter() - function.started
    if status != 200 or said["result"] != expected:
        raise AssertionError(f"{source}: {status} {said}, not {expected}")
    return took

"""Cold starts: from the process's start to the first answer, in turns with a no-op of the same framework."""

import time
from collections.abc import Iterator
from pathlib import Path

from bench import vms
from bench.figures import Figure, paired
from bench.processes import ask, noop, ours, push, served, workshop

BENCH = "cold"
GAINS = "The first event after a pause waits less for its answer."
ROUNDS = 9
MOST = 1.15
FIRST = "import msgspec\nimport re2"
"""The libraries, besides the framework's, that an event without any client needs."""
REACHING = "import asyncssh\nimport google.auth.transport.requests\nimport requests"
"""The libraries that reaching a VM needs."""


def measure() -> Iterator[Figure]:
    """Measure each kind of first event in turn with a no-op that imports the same libraries."""
    kinds = ("noop", "noop-first", "first", "noop-reaching", "remediated")
    starts = {name: list[float]() for name in kinds}
    unmatched = vms.line(1, form="done")
    with vms.crowd(workshop() / "cold") as crowd:
        settings = crowd.settings()
        for number in range(ROUNDS + 1):
            body = push(unmatched, f"cold-{number}")
            fixed = push(vms.line(number), f"fixed-{number}")
            took = {
                "noop": _first_answer(noop(), body, "nothing"),
                "noop-first": _first_answer(noop(FIRST), body, "nothing"),
                "first": _first_answer(ours(), body, "unmatched"),
                "noop-reaching": _first_answer(noop(REACHING), body, "nothing"),
                "remediated": _first_answer(ours(), fixed, "remediated", settings),
            }
            if number:  # the first round warms the disk's cache
                for name, each in took.items():
                    starts[name].append(1000 * each)
    for measured, name, against, other, most in (
        ("the first answer that needs no client", "first", "msgspec, re2", "noop-first", MOST),
        ("the first answer that needs no client", "first", "nothing", "noop", None),
        ("the first VM remediated", "remediated", "asyncssh, requests, google-auth", "noop-reaching", MOST),
    ):
        yield paired(
            BENCH,
            f"process start to {measured}",
            f"no-op function importing {against}{' (what we import)' if most else ''}",
            starts[name],
            starts[other],
            most=most,
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

"""Matching an entry with the sink's filter, compiled, against decoding that entry: by default, and all on."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from bench.figures import Figure, paired
from bench.processes import ROOT, push
from logmend import lql, sink_filter
from logmend.model.values import LogEntry
from logmend.runbook import load_all
from logmend.stages import decode
from logmend_cli.pretend.entries import entry

BENCH = "matching"
GAINS = "What a runbook's filter costs for each entry that is not for it."
ROUNDS = 15
TIMES = 1000
VM = ("bench-project", "us-west1-a", "4775836342981993096")
SHAPES = {
    "syslog, matches": {"path": "syslog"},
    "journald, matches": {"path": "journald"},
    "serial console, matches": {"path": "serial-old"},
    "fluentd, JSON, matches": {"path": "fluentd-json"},
    "HTML in the line, matches": {"form": "2025"},
    "another line, does not": {"form": "done"},
    "sudo quotes the line, does not": {"path": "auth"},
}
HEADERS = {"content-type": "application/json"}


def measure() -> Iterator[Figure]:
    """Measure shape by shape, in turns: with the runbooks that are on by default, and with all there are."""
    shipped, every = (ROOT / "sink" / "filter.lql").read_text(), sink_filter.compose(load_all())
    yield from _measured("the sink's filter", shipped)
    yield from _measured("the sink's filter with every runbook on", every)


def _measured(what: str, text: str) -> Iterator[Figure]:
    sink = lql.compile(text)
    for name, shape in SHAPES.items():
        document = entry(VM, **shape)  # type: ignore[arg-type]
        body = push(document, "1")
        _, event = decode.request(body, HEADERS)
        assert isinstance(event, LogEntry)
        works: tuple[Callable[[], object], ...] = (
            partial(sink.matches, event.raw),
            partial(decode.request, body, HEADERS),
        )
        rounds = [[_each(work) for work in works] for _ in range(ROUNDS + 1)][1:]
        matching, decoding = ([each[way] for each in rounds] for way in range(2))
        yield paired(
            BENCH,
            f"{what}: {name}",
            "decoding that entry's push",
            matching,
            decoding,
            unit="µs",
            most=1.0,
        )


def _each(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(TIMES):
        work()
    return (time.perf_counter() - started) / TIMES * 1e6

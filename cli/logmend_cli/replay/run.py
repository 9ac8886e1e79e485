"""One run of a replay: one event after the other, until the end, a limit or a signal."""

import asyncio
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from logmend import catalog
from logmend.explain import Explanation, Rules
from logmend.model.values import Tick
from logmend.settings import Settings
from logmend_cli import application, inputs, output
from logmend_cli.errors import BAD, status_of, warn
from logmend_cli.replay import acts
from logmend_cli.replay.acts import Done, Handler
from logmend_cli.replay.journal import ReplayJournal, default_path
from logmend_cli.replay.options import PULL_LIMIT, ReplayOptions

if TYPE_CHECKING:
    from logmend.model.enums import Result
    from logmend.model.json import JsonObject
    from logmend.wiring import Application
    from logmend_cli.replay.events import Replayable
    from logmend_cli.replay.sources import EventSource

BATCH = 100

_END, _LIMIT, _STOPPED = "end", "limit", "stopped"


class Replay:
    """One run: each event is dealt with and settled before the next."""

    def __init__(self, settings: Settings, options: ReplayOptions) -> None:
        self._settings = settings
        self._options = options
        self._stop = asyncio.Event()
        self._signals: list[int] = []
        self._ended = _STOPPED
        self._journal: ReplayJournal | None = None
        self._rows: list[JsonObject] = []
        self._counts: Counter[str] = Counter()
        self._results: Counter[Result | None] = Counter()
        self._ordered = self._dealt_with = 0

    async def run(self) -> int:
        """Replay the events; return the exit status."""
        configured = catalog.read_all(self._settings)
        rules = Rules.of(configured.runbooks, configured.policies)
        with self._stoppable():
            try:
                await self._run(rules)
            except BaseException:
                if self._dealt_with:
                    self._conclude()
                raise
        self._conclude()
        return status_of(self._results) if self._ended != _STOPPED else BAD

    async def _run(self, rules: Rules) -> None:
        async with AsyncExitStack() as stack:
            app = None
            if self._options.allow_stale or self._options.outcome:
                app = await stack.enter_async_context(application.opened(self._settings))
            if self._options.acting and self._options.subscription is None:
                self._journal = self._opened_journal()
                stack.callback(lambda journal: journal.close(finished=self._ended == _END), self._journal)
            source = self._source(app)
            stack.push_async_callback(source.aclose)
            act = await self._act(app, stack)
            # If each event has its own line, that is progress enough; a bar would garble the lines.
            shown = output.progress("events") if self._options.shape == "json" else nullcontext(_no_bar)
            with shown as more:
                self._ended = await self._every(source, act, rules, more)
            if self._ordered:
                warn(await application.told_of_tick(self._settings.topic))

    async def _every(
        self, source: "EventSource", act: Handler, rules: Rules, more: Callable[[int], None]
    ) -> str:
        """Deal with each event; return how that ended."""
        loop, seen = asyncio.get_running_loop(), set[str]()
        # A log repeats the same about a VM again and again; of dead letters, none may be left out.
        file = self._options.file is not None and self._options.allow_stale
        once = self._options.acting and (file or self._options.where is not None)
        covered: dict[acts._Subject, str] = {}
        limit = self._options.limit or (PULL_LIMIT if self._options.subscription else None)
        next_at = loop.time()
        run = self._journal.run if self._journal else uuid.uuid4().hex if self._options.fresh else ""
        async for each in source.events():
            if self._signals:
                return _STOPPED
            if each.key in seen:
                self._counts["met twice"] += 1
                continue
            seen.add(each.key)
            replay_id = each.replay_id(run)
            explanation = acts.judged(each, rules, datetime.now(UTC))
            subject = acts.subject(explanation) if once else None
            if self._journal is not None and replay_id in self._journal.done:
                self._counts["done by the interrupted run"] += 1
                if subject is not None:
                    covered.setdefault(subject, self._journal.done[replay_id])
                continue
            if limit is not None and self._dealt_with >= limit:
                warn(f"there are more than {limit} events: run it again to continue, or raise --limit")
                return _LIMIT
            if self._options.acting and not (subject and subject in covered):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), next_at - loop.time())
                if self._signals:
                    return _STOPPED
                next_at = max(next_at, loop.time()) + 1 / self._options.rate
            if subject is not None and subject in covered:
                done = Done("covered", covered[subject], "the same VM and runbook")
            elif self._options.acting and isinstance(each.event, Tick):
                done = Done("dropped", why="a tick: the scheduler sends the next")
            else:
                done = await act(each, explanation, replay_id)
            if done.what in ("published", "ordered", "covered", "dropped"):
                if subject is not None:
                    covered.setdefault(subject, done.as_ or "")
                if self._journal is not None:
                    self._journal.note(replay_id, done.as_ or "")
                await source.settled(each)
            self._ordered += done.what == "ordered"
            self._tell(each, explanation, done)
            more(1)
        return _STOPPED if self._signals else _END

    def _opened_journal(self) -> ReplayJournal:
        options = self._options
        what = "publish" if options.publish else "order"
        named = [
            f"{name}={getattr(options, name)}" for name in ("where", "since", "outcome", "project", "topic")
        ]
        file = options.file
        place = str(file) if file is None or file == inputs.STDIN else str(Path(file).resolve())
        path = options.journal or default_path(what, place, self._settings.state, *named)
        about = {"what": what}
        if options.where is not None:
            about |= dict(zip(("since", "until"), _span(options.since), strict=True))
        journal = ReplayJournal(path, about, fresh=options.fresh)
        if journal.resumed:
            warn(f"continuing an interrupted run ({len(journal.done)} done): {path}")
        return journal

    def _source(self, app: "Application | None") -> "EventSource":
        from logmend_cli.replay import sources

        options = self._options
        if options.file is not None:
            return sources.FileSource(options.file)
        if options.outcome is not None:
            assert app is not None
            return sources.OutcomeSource(app, options.outcome, order=options.allow_stale)
        if options.where is not None:
            since, until = _span(options.since)
            if self._journal is not None:
                since, until = self._journal.about["since"], self._journal.about["until"]
            where = f'({options.where}\n) AND timestamp >= "{since}" AND timestamp < "{until}"'
            return sources.QuerySource(self._settings, [f"projects/{options.project}"], where)
        from logmend.adapters.google.pubsub import Subscription

        assert options.subscription is not None
        batch = max(1, min(BATCH, options.limit or BATCH))
        name = options.subscription
        return sources.PulledSource(Subscription(name), name, batch=batch, stop=self._stop)

    async def _act(self, app: "Application | None", stack: AsyncExitStack) -> Handler:
        if self._options.publish:
            from logmend.adapters.google.pubsub import Publisher

            publisher = Publisher()
            stack.push_async_callback(publisher.aclose)
            assert self._options.topic is not None
            return acts.Publish(publisher, self._options.topic, self._options.everything)
        if self._options.allow_stale:
            assert app is not None
            return acts.Order(app.journal, self._options.by)
        return acts.explained

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let the first Ctrl-C end the run between two events, the second at once."""
        loop, before = asyncio.get_running_loop(), {}

        def stop(number: int, _: object) -> None:
            signal.signal(number, signal.default_int_handler)
            self._signals.append(number)
            loop.call_soon_threadsafe(self._stop.set)

        for each in (signal.SIGINT, signal.SIGTERM):
            before[each] = signal.signal(each, stop)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _tell(self, each: "Replayable", explanation: Explanation | None, done: Done) -> None:
        self._counts[done.what] += 1
        self._results[explanation.result if explanation else None] += 1
        self._dealt_with += 1
        document = acts.document(each, explanation, done)
        if self._options.shape == "json":
            self._rows.append(document)
            return
        result = output.word(document["result"], document["reason"])
        vm = "/".join(document["instance"].values()) if document["instance"] else "-"
        word = output.coloured(document["result"]) if document["result"] else document["event"]
        painted = (result or document["event"]).replace(document["result"] or "\0", word, 1)
        pad = " " * max(0, 26 - len(result or document["event"]))
        did = f"{done.what} {done.as_ or ''}{done.why and f'({done.why})'}" if self._options.acting else ""
        where = output.shortened(each.where, 30)
        click.echo(f"{where:<30}  {painted}{pad}  {vm:<44}  {did}".rstrip())

    def _conclude(self) -> None:
        if self._options.shape == "json":
            finished = self._ended == _END
            output.show_json({"events": self._rows, "totals": dict(self._counts), "finished": finished})
        else:
            click.echo(", ".join(f"{count} {word}" for word, count in self._counts.items()) or "no event")
        if self._ended == _STOPPED:
            warn("stopped before the end; run it again to continue")
        elif not self._options.acting and self._dealt_with:
            warn("nothing was changed: --publish publishes them again, --allow-stale queues requests")


def _no_bar(_: int) -> None:
    """Show nothing."""


def _span(since: str | None) -> tuple[str, str]:
    now = datetime.now(UTC)
    begin = inputs.since(since, now) or now - timedelta(days=1)
    return tuple(each.isoformat().replace("+00:00", "Z") for each in (begin, now))  # type: ignore[return-value]

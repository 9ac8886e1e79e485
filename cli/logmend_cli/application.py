"""The application behind the commands that touch the ledger or VMs, opened by the settings."""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.values import InstanceRef, Intent
from logmend.settings import Settings, duration
from logmend.stages import identify
from logmend.stages.identify import NameRef
from logmend_cli.documented import runbook_names
from logmend_cli.errors import warn
from logmend_cli.output import progress

if TYPE_CHECKING:
    from logmend.wiring import Application

T = TypeVar("T")

AT_ONCE = 16
"""The number of concurrent ledger requests."""
TICK = b'{"logmend": "tick"}'

NO_LEDGER = (
    "LOGMEND_STATE is memory:, and this command needs the shared ledger: set"
    " LOGMEND_STATE=firestore:PROJECT/DATABASE (or sqlite:PATH)"
)


def shared_ledger(settings: Settings) -> Settings:
    """Return the settings if their ledger outlives this command; else raise ConfigError."""
    if settings.state == "memory:":
        raise ConfigError([NO_LEDGER])
    return settings


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator["Application"]:
    """Open the application and release everything at the end."""
    from logmend.wiring import application

    app = application(settings)
    try:
        yield app
    finally:
        await app.aclose()


def running(work: Callable[["Application"], Awaitable[T]], settings: Settings) -> T:
    """Run ``work`` with the application, in its own event loop."""

    async def body() -> T:
        async with opened(settings) as app:
            return await work(app)

    return asyncio.run(body())


async def tick_function(topic: str | None) -> bool:
    """Ask the function to process what was written to the ledger; return False if no topic is set."""
    if topic is None:
        return False
    from logmend.adapters.google.pubsub import Publisher

    publisher = Publisher()
    await publisher.publish(topic, TICK, {})
    await publisher.aclose()
    return True


async def told_of_tick(topic: str | None) -> str:
    """Ask the function to process what was written to the ledger; return when it will, in words."""
    if await tick_function(topic):
        return "asked for a tick: the function processes it unless it is stopped or down (`logmend status`)"
    return "the scheduler's next tick processes it; with LOGMEND_TOPIC set, this command asks for one"


async def some_at_once(work: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run all of ``work``, at most ``AT_ONCE`` at the same time; return the results in order."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(each: Callable[[], Awaitable[T]]) -> T:
        async with free:
            return await each()

    return await asyncio.gather(*map(one, work))


async def for_each(what: str, work: Mapping[str, Callable[[], Awaitable[str]]]) -> int:
    """Run the work of each id and print its result; return how many failed.

    A failure is printed and does not stop the others.
    """

    async def one(name: str, do: Callable[[], Awaitable[str]], more: Callable[[int], None]) -> bool:
        try:
            click.echo(await do())
        except (Permanent, Transient) as error:
            warn(f"{name}: {error.reason}: {error.detail}")
            return False
        finally:
            more(1)
        return True

    with progress(what, len(work)) as more:
        finished = await some_at_once(partial(one, name, do, more) for name, do in work.items())
    return finished.count(False)


async def written(app: "Application", orders: Sequence[Intent]) -> list[Intent]:
    """Write requests to the ledger for the function; return those that were written.

    After one that could not be written, no other is begun. Those that were not written are named.
    """
    stop = asyncio.Event()

    async def one(order: Intent, more: Callable[[int], None]) -> bool:
        if stop.is_set():
            return False
        try:
            await app.journal.write(order, order.created_at)
        except (Permanent, Transient) as error:
            stop.set()
            lost = f"; if it was written all the same, it waits as {order.intent_id}"
            warn(f"{order.instance}: {error.reason}: {error.detail}{lost}")
            return False
        more(1)
        return True

    with progress("requests", len(orders)) as more:
        done = await some_at_once(partial(one, order, more) for order in orders)
    if left := done.count(False):
        warn(f"{left} of {len(orders)} requests were not written: make them again")
        for order in [order for order, there in zip(orders, done, strict=True) if not there]:
            warn(f"  {order.instance}")
    return [order for order, there in zip(orders, done, strict=True) if there]


async def instances(app: "Application", named: Sequence[str]) -> list[InstanceRef]:
    """Return the instances that an operator named; names are looked up."""
    refs: list[InstanceRef] = []
    for text in named:
        match identify.parse(text):
            case NameRef(project_id, zone, name):
                refs += [each.ref for each in await app.compute.find(project_id, name, zone)]
            case ref:
                refs.append(ref)
    return list(dict.fromkeys(refs))


def span(text: str) -> timedelta:
    """Read a duration, as ``--for`` takes it."""
    try:
        lasts = duration(text)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"--for {text}: {error}") from error
    if lasts <= timedelta():
        raise click.UsageError(f"--for {text}: must be longer than zero")
    return lasts


def operator() -> str:
    """Return the operator as outcomes and switches record it: ``USER@HOST``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


RECORDED = 1000
"""Most characters of a reason or a name: switches are read at every attempt."""


def _recorded(_: click.Context, parameter: click.Parameter, text: str) -> str:
    """Check a value that the ledger and outcomes keep: text of bounded length; a name must be valid."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8") from None
    if len(text) > RECORDED:
        raise click.BadParameter(f"it has {len(text):,} characters; {RECORDED:,} are kept")
    if parameter.name == "by" and not text.strip():
        raise click.BadParameter("say who asks")
    return text


by_option = click.option(
    "--by",
    default=operator,
    show_default="USER@HOST",
    callback=_recorded,
    help="Who asks, for the record.",
)
why_option = click.option("--why", default="", callback=_recorded, help="Reason, for the record.")
runbook_option = click.option("--runbook", shell_complete=runbook_names, help="Name of a runbook.")

"""The options of ``logmend replay``, and which of them go together."""

from pathlib import Path

import click

from logmend.errors import ConfigError
from logmend.model.struct import Struct, replace
from logmend.settings import Settings
from logmend_cli import application

PULL_LIMIT = 1000


class ReplayOptions(Struct, frozen=True):
    """The command's options by name; None if not given."""

    file: str | None
    subscription: str | None
    where: str | None
    since: str | None
    outcome: str | None
    project: str | None
    publish: bool
    topic: str | None
    allow_stale: bool
    everything: bool
    rate: float
    limit: int | None
    fresh: bool
    journal: Path | None
    by: str
    shape: str

    @property
    def acting(self) -> bool:
        """Whether the events are to be published or ordered."""
        return self.publish or self.allow_stale


def checked(options: ReplayOptions, settings: Settings) -> ReplayOptions:
    """Return the options, completed from the settings."""
    if (
        sum(each is not None for each in (options.file, options.subscription, options.where, options.outcome))
        != 1
    ):
        raise click.UsageError("give one of FILE, --subscription, --filter and --outcome")
    if options.publish and options.allow_stale:
        raise click.UsageError(
            "--publish hands events to the function, --allow-stale writes requests: give one"
        )
    for name, given in (("all", options.everything), ("topic", options.topic)):
        if given and not options.publish:
            raise click.UsageError(f"--{name} goes with --publish")
    if options.since and options.where is None:
        raise click.UsageError("--since goes with --filter")
    problems = []
    subscription = options.subscription
    project, topic = options.project or settings.project, options.topic or settings.topic
    short = subscription is not None and "/" not in subscription
    if (options.where is not None or short) and not project:
        raise ConfigError(["which project? --project or LOGMEND_PROJECT"])
    if short:
        subscription = f"projects/{project}/subscriptions/{subscription}"
    if options.publish and not topic:
        problems.append("publish where? --topic projects/PROJECT/topics/TOPIC or LOGMEND_TOPIC")
    for name, kind, value in (("topic", "topics", topic), ("subscription", "subscriptions", subscription)):
        parts = (value or f"projects/p/{kind}/x").split("/")
        if len(parts) != 4 or parts[0::2] != ["projects", kind]:
            problems.append(f"{value!r} is not a {name}: projects/PROJECT/{kind}/NAME")
    if (options.allow_stale or options.outcome) and settings.state == "memory:":
        problems.append(application.NO_LEDGER)
    if problems:
        raise ConfigError(problems)
    return replace(options, project=project, topic=topic, subscription=subscription)

"""Settings: environment variables with the prefix ``LOGMEND_``, read in one place, once, strictly.

An unknown ``LOGMEND_*`` name, a value that cannot be parsed or two values that do not fit together stop
the start, with every problem in one error. Durations are ``90s``, ``10m``, ``1h``, ``1d``; lists are
comma-separated; Booleans are ``true`` or ``false``.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace  # noqa: TID251  permissions.py has no package
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from logmend import grammar
from logmend.errors import ConfigError
from logmend.model.enums import Mode
from logmend.model.json import JsonObject
from logmend.windows import Hours, Window, opening, spans

E = TypeVar("E", bound=StrEnum)

PREFIX = "LOGMEND_"
PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

LONGEST = timedelta(days=3650)


def duration(text: str) -> timedelta:
    """Parse ``90s``, ``10m``, ``1h`` or ``1d``, at most ten years; ValueError else."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])", text.strip())
    if match is None:
        raise ValueError("expected a duration such as 90s, 10m, 1h or 1d")
    if float(match[1]) > LONGEST / timedelta(**{_UNITS[match[2]]: 1}):
        raise ValueError(f"expected at most {LONGEST.days}d")  # more leads out of the calendar in the end
    return timedelta(**{_UNITS[match[2]]: float(match[1])})


def span(text: str) -> timedelta:
    """Parse a duration above zero: a window or a deadline of nothing is a trap."""
    if not (value := duration(text)):
        raise ValueError("expected a duration above zero")
    return value


def boolean(text: str) -> bool:
    """Parse ``true`` or ``false``, and nothing else: a value that quietly means no is a trap."""
    if text.strip() not in ("true", "false"):
        raise ValueError("expected true or false")
    return text.strip() == "true"


def whole(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or int(text) < 1:
        raise ValueError("expected a whole number of at least 1")
    return int(text)


MOST_IN_COHORT = 500
"""Places that one document of the ledger keeps (:data:`logmend.ledger.places.LARGEST_SHARD`)."""


def cohorts(text: str) -> tuple[tuple[str, int], ...]:
    """Parse ``zone=2,mig=1,label:role=1``: what VMs may have in common, and how many of them at most."""
    limits: dict[str, int] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        what, _, count = each.rpartition("=")
        if what.startswith("label:"):
            grammar.label(f"{what.removeprefix('label:')}=")
        elif what not in ("zone", "mig"):
            raise ValueError("expected zone=N, mig=N or label:KEY=N")
        if what in limits:
            raise ValueError("the same is there twice")
        limits[what] = whole(count)
        if limits[what] > MOST_IN_COHORT:
            raise ValueError(f"expected at most {MOST_IN_COHORT}")
    return tuple(limits.items())


def port(text: str) -> int:
    """Parse a TCP port."""
    if whole(text) > 65535:
        raise ValueError("expected a port from 1 to 65535")
    return int(text)


def ratio(text: str) -> float:
    """Parse a number above 0 and at most 1."""
    if not re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}", text.strip()) or not 0 < float(text) <= 1:
        raise ValueError("expected a number above 0 and at most 1")
    return float(text)


def agent_version(text: str) -> str:
    """Parse a version of the Ops Agent as its installer takes it."""
    if not re.fullmatch(r"latest|[0-9]+\.(?:[0-9]+\.[0-9]+|\*\.\*)", text.strip()):
        raise ValueError("expected latest or 2.*.* or 2.50.0")
    return text.strip()


def _one_of(kind: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return kind(text.strip())
        except ValueError:
            raise ValueError(f"expected one of {', '.join(kind)}") from None

    return parse


class ExecutorChoice(StrEnum):
    """How VMs are reached. ``AUTO`` prefers ssh if a route works and falls back to osconfig."""

    SSH = "ssh"
    OSCONFIG = "osconfig"
    AUTO = "auto"


class RepeatsChoice(StrEnum):
    """Whether an event that says again what is recorded has an entry of its own (``EACH``)."""

    COUNTED = "counted"
    EACH = "each"


class Lone(StrEnum):
    """What the only VM of a managed instance group needs before it is changed."""

    APPROVE = "approve"
    ENFORCE = "enforce"


class SshRoute(StrEnum):
    """Direct to the VM's address, or IAP TCP forwarding."""

    DIRECT = "direct"
    IAP = "iap"


class SshAddress(StrEnum):
    """Which address of the VM the direct route dials."""

    INTERNAL = "internal"
    EXTERNAL = "external"


MOST_IN_SOAK = 1500
"""VMs that waves may change while one has to stand: three quarters of the samples that the ledger keeps of a
runbook (:data:`logmend.ledger.conclusion.SAMPLES`), since those are spread by chance. Of more, none would
ever be seen to have stood."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``count`` enforcements in any span of ``window``."""

    count: int
    window: timedelta

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Parse ``20/10m``."""
        count, slash, window = text.partition("/")
        if not slash:
            raise ValueError("expected COUNT/DURATION such as 20/10m")
        return cls(whole(count), span(window))

    def retry_at(self, now: datetime) -> datetime:
        """Return when a full budget is asked again: a tenth of the window on, or once a place is free."""
        return now + self.window / 10


@dataclass(frozen=True, slots=True)
class Waves:
    """How a budget is opened: ``steps`` are counts, or shares of it; each has to stand for ``soak``."""

    steps: tuple[int | float, ...]
    soak: timedelta
    text: str

    @classmethod
    def parse(cls, text: str) -> "Waves":
        """Parse ``1,5%,25%/1h``."""
        listed, slash, soak = text.strip().rpartition("/")
        if not slash:
            raise ValueError("expected STEPS/DURATION such as 1,5%,25%/1h")
        steps = tuple(_step(each.strip()) for each in listed.split(","))
        return cls(steps, span(soak), text.strip())

    def count(self, step: int, budget: int) -> int:
        """Return how many of a budget's places a step opens: at least one, at most what a document keeps."""
        wanted = self.steps[step]
        places = int(wanted * budget) if isinstance(wanted, float) else wanted
        return max(1, min(places, budget, MOST_IN_COHORT))

    def misfit(self, budget: Budget) -> str | None:
        """Say what is wrong if so many VMs may be changed while a step has to stand that none is seen to."""
        most = max(self.count(step, budget.count) for step in range(len(self.steps)))
        changed = math.ceil(most * (self.soak / budget.window + 1))
        if changed <= MOST_IN_SOAK:
            return None
        return (
            f"a step opens {most} places in {written(budget.window)}, so {changed} VMs could be changed while"
            f" it has to stand for {written(self.soak)}; {MOST_IN_SOAK} are sure to be remembered. Make the"
            " steps smaller, or that time shorter"
        )

    def __str__(self) -> str:
        """Return them as they were written."""
        return self.text


def _step(text: str) -> int | float:
    if not text.endswith("%"):
        return whole(text)
    if not 0 < (percent := whole(text.removesuffix("%"))) < 100:
        raise ValueError("expected a count, or a share below 100%: all is open after the last")
    return percent / 100


def _setting(default: object, parse: Callable[[str], object], doc: str) -> Any:
    return field(default=default, metadata={"parse": parse, "doc": doc})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, its default and its meaning. The variable is ``LOGMEND_`` + the name in capitals."""

    mode: Mode = _setting(
        Mode.OBSERVE, _one_of(Mode), "The most that may be done: observe, approve or enforce."
    )
    executor: ExecutorChoice = _setting(
        ExecutorChoice.SSH, _one_of(ExecutorChoice), "How VMs are reached: ssh, osconfig or auto."
    )
    state: str = _setting(
        "memory:",
        grammar.state,
        "Where the ledger lives: memory:, sqlite:PATH or firestore:PROJECT/DATABASE.",
    )
    outcomes: str = _setting(
        "stdout",
        grammar.outcomes,
        "Where outcomes are recorded: stdout, cloud (Cloud Logging), file:PATH, or none (commands only).",
    )
    repeats: RepeatsChoice = _setting(
        RepeatsChoice.COUNTED,
        _one_of(RepeatsChoice),
        "Events of a VM that are left alone for the same reason again: counted (if the ledger is kept), or an"
        " entry each.",
    )
    project: str | None = _setting(
        None, grammar.project, "Project that logmend runs in and records in; GOOGLE_CLOUD_PROJECT if unset."
    )
    runbooks: Path | None = _setting(
        None,
        lambda text: Path(grammar.path(text)),
        "File that says which runbooks are on, and how; or a folder with all runbooks.",
    )
    scope_projects: tuple[str, ...] = _setting(
        (),
        grammar.listed(grammar.project),
        "Projects whose VMs may be touched; empty means any.",
    )
    scope_zones: tuple[str, ...] = _setting(
        (), grammar.listed(grammar.zone), "Zones whose VMs may be touched; empty means any."
    )
    scope_labels: tuple[tuple[str, str], ...] = _setting(
        (), grammar.labels, "Labels KEY=VALUE that a VM must have, all of them; empty means any."
    )
    exempt_label: tuple[str, str] = _setting(
        ("logmend", "off"), grammar.label, "Label KEY=VALUE that excludes a VM."
    )
    owner_label: str | None = _setting(
        None, grammar.label_key, "Key of the label that names a VM's owner, for outcomes, plans and status."
    )
    outcome_labels: tuple[str, ...] = _setting(
        (),
        grammar.label_keys,
        "Keys of labels whose values are in a VM's outcomes, and in columns and counts of scan, approvals,"
        " status and report: team,env. At most eight.",
    )
    max_event_age: timedelta = _setting(
        timedelta(hours=1), span, "Events older than this when first seen are skipped as stale."
    )
    cooldown_planned: timedelta = _setting(timedelta(days=1), duration, "Cooldown after planned.")
    cooldown_refused: timedelta = _setting(timedelta(days=1), duration, "Cooldown after refused.")
    cooldown_nothing_to_do: timedelta = _setting(
        timedelta(hours=1), duration, "Cooldown after nothing_to_do."
    )
    cooldown_remediated: timedelta = _setting(
        timedelta(hours=1), duration, "Cooldown after remediated or reverted."
    )
    cooldown_failed: timedelta = _setting(
        timedelta(minutes=15),
        duration,
        "Cooldown after the first failure; it doubles with each further failure.",
    )
    cooldown_failed_max: timedelta = _setting(
        timedelta(days=1), duration, "The longest cooldown after failures."
    )
    needs_human_after: int = _setting(
        3, whole, "Failures in a row, or relapses after fixes, before a VM is left to a person."
    )
    disruption_budget: Budget = _setting(
        Budget(20, timedelta(minutes=10)),
        Budget.parse,
        "Most enforcements per runbook in any window: COUNT/DURATION.",
    )
    disruption_limits: tuple[tuple[str, int], ...] = _setting(
        (),
        cohorts,
        "Most enforcements per runbook in the budget's window among VMs that share a zone, a managed instance"
        " group or the value of a label: zone=2,mig=1,label:role=1. Empty: none but the budget.",
    )
    group_share: float = _setting(
        0.25,
        ratio,
        "Largest share of a managed instance group that is changed in the budget's window, by all runbooks,"
        " and at least one VM; never its last healthy one. 1: groups do not matter, and are not looked up.",
    )
    groups_of_one: Lone = _setting(
        Lone.APPROVE,
        _one_of(Lone),
        "Whether the only VM of a managed instance group is changed without a person: approve or enforce.",
    )
    waves: Waves | None = _setting(
        None,
        Waves.parse,
        "How much of its budget a runbook may use at first, step by step, and how long each step has to last"
        " before the next: 1,5%,25%/1h. Then all. A new digest starts over. Unset: all at once.",
    )
    windows: tuple[Hours, ...] = _setting(
        (),
        opening,
        "Maintenance windows, with ; between them; outside them no VM is changed. Each is [label:KEY=VALUE]"
        " [DAYS] [DATES] [HH:MM-HH:MM] ZONE, e.g. Mon-Fri 22:00-06:00 Europe/Berlin. One of those for any VM"
        " has to be open, and one of those for each label that the VM has. Empty: at any time.",
    )
    blackouts: tuple[Window, ...] = _setting(
        (),
        spans,
        "Times in which VMs are not changed, written as LOGMEND_WINDOWS is: 12-24..01-02 Europe/Berlin;"
        " label:role=db Mon-Fri 08:00-18:00 UTC.",
    )
    breaker_ratio: float = _setting(0.5, ratio, "Share of failing VMs at which a runbook's breaker opens.")
    breaker_minimum: int = _setting(
        5, whole, "Number of VMs in the window below which the breaker stays closed."
    )
    breaker_window: timedelta = _setting(timedelta(hours=1), span, "Time that the breaker looks back.")
    attempt_deadline: timedelta = _setting(
        timedelta(seconds=90), span, "Deadline for everything in one attempt on a VM."
    )
    function_timeout: timedelta = _setting(
        timedelta(seconds=300),
        span,
        "The function's own timeout; above the attempt deadline, below the lease.",
    )
    lease: timedelta = _setting(timedelta(minutes=10), span, "How long one attempt may hold a VM.")
    unreachable_tries: int = _setting(3, whole, "Tries before an unreachable VM counts as failed.")
    busy_limit: timedelta = _setting(
        timedelta(days=1), span, "How long a VM may be busy with something else before it counts as failed."
    )
    approval_ttl: timedelta = _setting(timedelta(days=1), span, "How long a plan waits for a person.")
    request_deadline: timedelta = _setting(
        timedelta(hours=2), span, "How long an OS Config request waits for a report."
    )
    unverified_looks: int = _setting(3, whole, "Checks of an unverified VM before it counts as failed.")
    follow_up: bool = _setting(
        default=False,
        parse=boolean,
        doc="On every VM: run a runbook's follow-up after success, and what remediates its cause before it.",
    )
    confirm_silence: bool = _setting(
        default=False,
        parse=boolean,
        doc="After a fix, read the VM's log: did the line stop and others not, or did its agent speak?",
    )
    ops_agent_version: str = _setting(
        "latest",
        agent_version,
        "Version of the Ops Agent that the ops-agent runbook installs.",
    )
    ssh_route: SshRoute = _setting(SshRoute.DIRECT, _one_of(SshRoute), "direct or iap.")
    ssh_address: SshAddress = _setting(
        SshAddress.INTERNAL, _one_of(SshAddress), "Address that the direct route uses: internal or external."
    )
    ssh_port: int = _setting(22, port, "Port of the SSH server.")
    ssh_host_keys: str = _setting(
        "auto",
        grammar.host_keys,
        "Source of VMs' host keys: auto, published, pinned, known-hosts:PATH or insecure.",
    )
    ssh_key: Path | None = _setting(
        None,
        lambda text: Path(grammar.secret_path(text)),
        "Private key file for fleets without OS Login; OS Login if unset.",
    )
    ssh_user: str | None = _setting(None, grammar.user, "User name for the key file.")
    ssh_import_keys: bool = _setting(
        default=True,
        parse=boolean,
        doc="If a VM refuses an OS Login certificate, log in with a key imported into the login profile.",
    )
    service_account: str | None = _setting(
        None,
        grammar.service_account,
        "Service account whose OS Login profile is used; the running one if unset.",
    )
    topic: str | None = _setting(
        None,
        grammar.topic,
        "Topic that feeds the function; commands publish replays and ticks to it.",
    )
    dead_letter_topic: str | None = _setting(
        None,
        grammar.topic,
        "Topic for copies of messages that cannot be decoded.",
    )
    outcome_topic: str | None = _setting(
        None,
        grammar.topic,
        "Topic that every final outcome is published to as well, for tickets and chat.",
    )
    compute_endpoint: str | None = _setting(
        None, grammar.url, "Compute API endpoint instead of the public one."
    )
    compute_reads: int = _setting(
        1500,
        whole,
        "Most calls a minute by which one instance of the function reads from the Compute API, per project."
        " VMs that come later are skipped or parked. The quota is the project's: divide it by the instances.",
    )
    logging_endpoint: str | None = _setting(
        None, grammar.url, "Cloud Logging API endpoint instead of the public one."
    )
    resourcemanager_endpoint: str | None = _setting(
        None, grammar.url, "Resource Manager API endpoint instead of the public one (commands only)."
    )
    osconfig_endpoint: str | None = _setting(
        None, grammar.url, "OS Config API endpoint instead of the public one."
    )
    oslogin_endpoint: str | None = _setting(
        None, grammar.url, "OS Login API endpoint instead of the public one."
    )
    iap_endpoint: str | None = _setting(
        None, grammar.relay, "IAP relay (wss://…/v4) instead of the public one."
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check every ``LOGMEND_*`` variable. :class:`ConfigError` lists all problems at once."""
        by_name = {PREFIX + each.name.upper(): each for each in fields(cls)}
        values: dict[str, Any] = {}
        problems: list[str] = []
        bad: set[str] = set()
        for name, text in sorted(environ.items()):
            if not name.startswith(PREFIX) or name in FOREIGN_NAMES:
                continue
            if (found := by_name.get(name)) is None:
                close = difflib.get_close_matches(name, by_name, 1)
                problems.append(f"{name}: no such setting" + (f"; did you mean {close[0]}?" if close else ""))
                continue
            try:
                values[found.name] = found.metadata["parse"](text)
            except ValueError as error:
                bad.add(name)
                problems.append(f"{name}{_shown(found.metadata['parse'], text)}: {error}")
        if "project" not in values and (inherited := environ.get(PROJECT_VARIABLE)):
            try:
                values["project"] = grammar.project(inherited)
            except ValueError as error:
                problems.append(f"{PROJECT_VARIABLE}: {error}")
        if environ.get(CREDENTIALS_VARIABLE, "/").lstrip().startswith(("{", "-----")):
            problems.append(f"{CREDENTIALS_VARIABLE}: expected the path of a file, not what is in it")
        settings = cls(**values)
        misfits = settings.misfits(cloud="K_SERVICE" in environ)
        problems += [each for each in misfits if bad.isdisjoint(re.findall(r"LOGMEND_[A-Z_]+", each))]
        if problems:
            raise ConfigError(problems)
        return settings

    @property
    def ledger_is_kept(self) -> bool:
        """Whether the ledger outlives the process."""
        return not self.state.startswith("memory:")

    @property
    def counts(self) -> bool:
        """Whether repeats are counted: without a ledger that is kept, a count would end with the process."""
        return self.repeats is RepeatsChoice.COUNTED and self.ledger_is_kept

    def owner_of(self, labels: Mapping[str, str]) -> str | None:
        """Return what a VM's labels say of its owner; None if they do not, or no label is to."""
        return labels.get(self.owner_label or "")

    def labels_of(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return which of a VM's labels its outcomes tell, each of them cut to a label's length."""
        return {key: labels[key][: grammar.LONGEST_LABEL] for key in self.outcome_labels if key in labels}

    def misfits(self, *, cloud: bool) -> list[str]:
        """Name the settings that do not fit together; ``cloud`` says that this is the deployed function."""
        problems = []
        if cloud and self.mode is not Mode.OBSERVE and not self.state.startswith("firestore:"):
            problems.append(
                f"LOGMEND_MODE={self.mode} in the cloud needs LOGMEND_STATE=firestore:PROJECT/DATABASE:"
                " leases, budgets and the freeze must outlive one instance"
            )
        if not self.attempt_deadline < self.function_timeout < self.lease:
            problems.append(
                "LOGMEND_ATTEMPT_DEADLINE < LOGMEND_FUNCTION_TIMEOUT < LOGMEND_LEASE does not hold:"
                f" {self.attempt_deadline}, {self.function_timeout}, {self.lease}"
            )
        if (self.ssh_key is None) != (self.ssh_user is None):
            problems.append("LOGMEND_SSH_KEY and LOGMEND_SSH_USER go together")
        if self.waves is not None and (misfit := self.waves.misfit(self.disruption_budget)):
            problems.append(f"LOGMEND_WAVES does not fit LOGMEND_DISRUPTION_BUDGET: {misfit}")
        if self.exempt_label in self.scope_labels:
            problems.append("LOGMEND_SCOPE_LABELS demands LOGMEND_EXEMPT_LABEL: no VM would be touched")
        if self.cooldown_failed > self.cooldown_failed_max:
            problems.append("LOGMEND_COOLDOWN_FAILED is above LOGMEND_COOLDOWN_FAILED_MAX, its upper bound")
        if self.topic is not None and self.topic == self.dead_letter_topic:
            problems.append("LOGMEND_TOPIC and LOGMEND_DEAD_LETTER_TOPIC are one topic: a loop")
        if self.outcome_topic is not None and self.outcome_topic in (self.topic, self.dead_letter_topic):
            problems.append("LOGMEND_OUTCOME_TOPIC is one of logmend's other topics: a loop")
        if cloud and self.outcomes == "none":
            problems.append("LOGMEND_OUTCOMES=none in the cloud would leave no record: use cloud or stdout")
        if self.outcomes == "cloud" and self.project is None:
            problems.append("LOGMEND_OUTCOMES=cloud needs LOGMEND_PROJECT (or GOOGLE_CLOUD_PROJECT)")
        return problems


@dataclass(frozen=True, slots=True)
class Policies:
    """The settings, and those that hold for one runbook. What a runbook does is decided by its own alone.

    A type of its own, so that the function's mode is not mistaken for a runbook's.
    """

    general: Settings
    by_runbook: Mapping[str, Settings] = field(default_factory=dict)

    def of(self, runbook: str | None) -> Settings:
        """Return a runbook's settings; the general ones for None and for a runbook that is not on."""
        return self.general if runbook is None else self.by_runbook.get(runbook, self.general)


def lower(one: Mode, other: Mode) -> Mode:
    """Return the mode that lets less be done."""
    return min(one, other, key=list(Mode).index)


def narrowed(general: Settings, own: JsonObject) -> Settings:
    """Return the settings of a runbook for which ``own`` fields are set.

    The mode is at most the function's; a scope is the function's too, of which it takes a part; windows and
    blackouts hold beside the function's. ValueError says what does not fit together, each in a sentence.
    """
    values, problems = dict(own), list[str]()
    if (mode := own.get("mode")) is not None:
        values["mode"] = lower(mode, general.mode)
    for name in ("scope_projects", "scope_zones"):
        whole: tuple[str, ...] = getattr(general, name)
        outside = [each for each in own.get(name, ()) if whole and each not in whole]
        problems += [f"{each} is not in {PREFIX}{name.upper()}" for each in outside]
    labels: tuple[tuple[str, str], ...] = own.get("scope_labels", ())
    values["scope_labels"] = tuple(dict.fromkeys((*general.scope_labels, *labels)))
    if len(dict(values["scope_labels"])) < len(values["scope_labels"]):
        problems.append(f"scope.labels and {PREFIX}SCOPE_LABELS demand one label with two values")
    for name in ("windows", "blackouts"):
        values[name] = (*getattr(general, name), *own.get(name, ()))
    settings = replace(general, **values)
    if settings.exempt_label in settings.scope_labels:
        problems.append(f"scope.labels demands {PREFIX}EXEMPT_LABEL: no VM would be touched")
    if settings.cooldown_failed > settings.cooldown_failed_max:
        problems.append("cooldowns.failed is above cooldowns.failed_max, its upper bound")
    if problems:
        raise ValueError("; ".join(problems))
    return settings


def parsed(name: str, text: str) -> object:
    """Parse what a setting's variable would say; ValueError as its parser says."""
    return Settings.__dataclass_fields__[name].metadata["parse"](text)


FOREIGN_NAMES = frozenset(
    {PREFIX + name for name in ("ROOT", "REQUIRE_ALL", "LAB_CACHE", "CHAOS_TRIES", "CHECKOV")}
)
"""``LOGMEND_*`` variables that are not settings of the function: scripts' root and switches of the tests."""


def described() -> list[tuple[str, str, str]]:
    """Rows for the documentation: variable, default as it would be written, meaning."""
    return [
        (PREFIX + each.name.upper(), written(each.default), each.metadata["doc"]) for each in fields(Settings)
    ]


def _shown(parse: Callable[[str], object], text: str) -> str:
    """Show a short word if a word or number was asked for; any other value could be a secret gone astray."""
    plain = parse.__module__ == __name__ and len(text) <= 24 and text.isprintable()
    return f"={text!r}" if plain else ""


def written(value: object) -> str:
    """Return a value as it would be written into the environment."""
    match value:
        case None | () | ():
            return ""
        case bool():
            return str(value).lower()
        case timedelta():
            seconds = int(value.total_seconds())
            size, unit = next(
                (s, u) for s, u in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")) if seconds % s == 0
            )
            return f"{seconds // size}{unit}"
        case Budget():
            return f"{value.count}/{written(value.window)}"
        case (str() as key, str() | int() as worth):
            return f"{key}={worth}"
        case _ if value is MISSING:
            return ""
        case _:
            return str(value)

"""What doctor found: the unchanged answers of the APIs, and what its checks derive from them."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from logmend import catalog, permissions
from logmend.catalog import Catalog
from logmend.errors import ConfigError, Permanent, Transient
from logmend.ledger.damage import Damage
from logmend.model.enums import Mode
from logmend.model.json import JsonObject
from logmend.model.state import Fleet
from logmend.model.struct import Struct, field
from logmend.osconfig import assignment
from logmend.settings import ExecutorChoice, Settings
from logmend_cli.apis import Deployment, Reply

_NAME = re.compile(r"LOGMEND_[A-Z_]+")


class Health(StrEnum):
    """The result of a check. ``UNKNOWN``: it could not be made; its evidence says why."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


OK, WARN, FAIL, UNKNOWN = Health.OK, Health.WARN, Health.FAIL, Health.UNKNOWN


class Check(Struct, frozen=True):
    """One check: its name, result and evidence, and the command that repairs it (None: nothing to do)."""

    name: str
    state: Health
    evidence: str
    repair: str | None = None


class Facts(Struct, frozen=True):
    """Everything that was gathered. ``answers`` are by a short name; one that is missing was not asked for.

    ``found`` are the runbooks here, ``filter`` is the sink's filter that follows from them. ``ledger`` are
    the fleet's switches, or why they could not be read; ``damage`` is what is wrong in the ledger,
    ``repaired`` what was wrong and is now repaired. ``skew`` is how many seconds this machine's clock is
    ahead of Google's, ``without`` why there are no credentials.
    """

    place: Deployment
    now: datetime
    filter: str
    answers: Mapping[str, Reply]
    found: Catalog
    ledger: Fleet | str = "not asked"
    ledger_state: str = ""
    damage: Sequence[Damage] = ()
    repaired: Sequence[Damage] = ()
    skew: float | None = None
    without: Transient | Permanent | None = None
    own_settings: Settings = field(default_factory=Settings)

    @property
    def uses(self) -> Mapping[str, tuple[Mode, ExecutorChoice]]:
        """Mode and executor of each runbook here, by the function's settings."""
        return catalog.uses(self.found, self.settings)

    @property
    def over_ssh(self) -> bool:
        """Whether any runbook may go over SSH."""
        return any(executor is not ExecutorChoice.OSCONFIG for _, executor in self.uses.values())

    @property
    def over_osconfig(self) -> bool:
        """Whether any runbook may go over OS Config."""
        return any(executor is not ExecutorChoice.SSH for _, executor in self.uses.values())

    @property
    def assignments(self) -> list[str]:
        """Ids of the OS policy assignments for each zone, by each runbook's executor and mode."""
        return [
            assignment.assignment_id(name, action)
            for name, (mode, executor) in self.uses.items()
            if executor is not ExecutorChoice.SSH and not self.found.runbooks[name].ssh_only
            for action in assignment.of_mode(self.found.runbooks[name], mode)
        ]

    @property
    def fleet_permissions(self) -> frozenset[str]:
        """Permissions that the function needs on the VMs' projects, by its settings and the runbooks here."""
        settings = self.settings
        declared, silence = catalog.declared(self.found), settings.confirm_silence
        return permissions.fleet_of(
            self.uses.values(), settings.ssh_route, silence=silence, declared=declared
        )

    def __getitem__(self, name: str) -> Reply:
        """Return an answer."""
        return self.answers.get(name, Reply())

    def body(self, name: str) -> JsonObject:
        """Return an answer's body, empty if there is none."""
        return self[name].body or {}

    @property
    def number(self) -> str | None:
        """The project's number."""
        return str(self.body("project").get("name", "")).rpartition("/")[2] or None

    @property
    def service_agent(self) -> str | None:
        """Pub/Sub's own account, which moves dead letters and signs tokens."""
        return f"service-{self.number}@gcp-sa-pubsub.iam.gserviceaccount.com" if self.number else None

    @property
    def service_config(self) -> JsonObject:
        """The deployed function's ``serviceConfig``."""
        config = self.body("function").get("serviceConfig")
        return config if isinstance(config, dict) else {}

    @property
    def account(self) -> str | None:
        """The service account of the function."""
        return self.service_config.get("serviceAccountEmail")

    def deployed(self) -> Settings | Sequence[str] | None:
        """Return the function's settings, read as at its start, or their problems; None if unknown."""
        if not self.service_config:
            return None
        try:
            return self._read(self._environment)
        except ConfigError as error:
            return error.problems

    @property
    def settings(self) -> Settings:
        """The function's settings if they can be read, else those of this shell."""
        deployed = self.deployed()
        if deployed is None or isinstance(deployed, Settings):
            return deployed or self.own_settings
        wrong = {named[0] for each in deployed if (named := _NAME.match(each))}
        try:
            return self._read({k: v for k, v in self._environment.items() if k not in wrong})
        except ConfigError:
            return self.own_settings

    @property
    def _environment(self) -> dict[str, str]:
        variables = self.service_config.get("environmentVariables") or {}
        return {str(key): str(value) for key, value in dict(variables).items()}

    def _read(self, environment: Mapping[str, str]) -> Settings:
        return Settings.from_environment({**environment, "K_SERVICE": self.place.name})


def dicts(value: object) -> list[JsonObject]:
    """Return the objects of a JSON array; leave out anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def latest(reply: Reply) -> list[float]:
    """Return the latest value of each time series."""
    values = []
    for series in dicts((reply.body or {}).get("timeSeries")):
        points = dicts(series.get("points"))
        if points:
            value: JsonObject = points[0].get("value") or {}
            values.append(float(value.get("int64Value", value.get("doubleValue", 0))))
    return values

"""Sources of facts about VMs: none, a file that gcloud wrote, or the Compute Engine API."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from logmend import instance_json
from logmend.errors import ConfigError, Transient
from logmend.model.json import JsonObject
from logmend.model.values import InstanceFacts, InstanceRef, Undecodable, Verdict
from logmend.settings import Settings
from logmend.stages.decode.stream import values
from logmend_cli.inputs import opened

if TYPE_CHECKING:
    import asyncio


class Lookup(Protocol):
    """Looks a VM up: facts, a verdict if the look-up ends in one, or None if the VM is not known here."""

    @property
    def free(self) -> bool:
        """Whether asking costs nothing."""
        ...

    def __call__(self, ref: InstanceRef) -> InstanceFacts | Verdict | None:
        """Return what is known about a VM."""
        ...

    def check(self) -> None:
        """Raise ConfigError if the given facts were about none of the VMs that were looked up."""
        ...


class Nothing:
    """A look-up that knows nothing: guards that need facts are pending."""

    free = True

    def __call__(self, ref: InstanceRef) -> None:
        """Return None."""

    def check(self) -> None:
        """Nothing was given."""


class Described:
    """One or several VMs as ``gcloud compute instances describe`` or ``list`` prints them in JSON."""

    free = True

    def __init__(
        self, file: Path, known: Mapping[InstanceRef, tuple[InstanceFacts, Mapping[str, object]]]
    ) -> None:
        self._file = file
        self._known = known
        self._met = False
        self._missed: InstanceRef | None = None

    @classmethod
    def read(cls, file: Path) -> "Described":
        """Read the file; raise ConfigError if it has no instance."""
        with opened(str(file)) as stream:
            read = [_instance(file, value) for value in values(stream)]
        if not read:
            raise ConfigError([f"{file}: it contains no instance"])
        return cls(file, {facts.ref: (facts, document) for facts, document in read})

    def __call__(self, ref: InstanceRef) -> InstanceFacts | None:
        """Return the facts of a VM that the file describes."""
        found = self._known.get(ref)
        self._met = self._met or found is not None
        self._missed = self._missed or (None if found else ref)
        return found[0] if found else None

    def document(self, ref: InstanceRef) -> JsonObject | None:
        """Return the document of a VM, unchanged, from the file."""
        found = self._known.get(ref)
        return found[1] if found else None

    def check(self) -> None:
        """Raise ConfigError if every event was about another VM."""
        if self._missed is not None and not self._met:
            described = ", ".join(f"{each.name} ({ref})" for ref, (each, _) in list(self._known.items())[:3])
            raise ConfigError(
                [f"{self._file} describes {described}, but the event is about another VM, {self._missed}"]
            )


class Live:
    """The Compute Engine API. Each VM is looked up once."""

    free = False

    def __init__(self, settings: Settings, runner: "asyncio.Runner") -> None:
        from logmend import wiring

        self._compute = wiring.open_compute(settings)
        self._runner = runner
        self._known: dict[InstanceRef, InstanceFacts | Verdict] = {}

    def __call__(self, ref: InstanceRef) -> InstanceFacts | Verdict:
        """Look a VM up. A transient error, which the pipeline would wait out, is raised."""
        if ref not in self._known:
            self._known[ref] = self._runner.run(self._ask(ref))
        return self._known[ref]

    def check(self) -> None:
        """Nothing was given."""

    async def _ask(self, ref: InstanceRef) -> InstanceFacts | Verdict:
        from logmend import settle

        try:
            return await self._compute.facts(ref)
        except Transient:
            raise
        except Exception as error:  # noqa: BLE001  judged as the pipeline judges it
            return settle.of_error(error)

    def close(self) -> None:
        """Close connections."""
        self._runner.run(self._compute.aclose())


@contextmanager
def lookup(settings: Settings, file: Path | None, *, live: bool) -> Iterator[Lookup]:
    """Open the source of facts that the options select."""
    if file is not None:
        yield Described.read(file)
    elif live:
        import asyncio

        with asyncio.Runner() as runner:
            found = Live(settings, runner)
            try:
                yield found
            finally:
                found.close()
    else:
        yield Nothing()


def _instance(file: Path, value: object) -> tuple[InstanceFacts, Mapping[str, object]]:
    try:
        if isinstance(value, Undecodable):
            raise ValueError(value.detail)  # noqa: TRY301, TRY004  one message for all
        if not isinstance(value, Mapping):
            raise ValueError("not a JSON object")  # noqa: TRY301, TRY004
        return instance_json.described(value), value
    except ValueError as error:
        hint = "expected what `gcloud compute instances describe NAME --zone=ZONE --format=json` prints"
        raise ConfigError([f"{file}: {error}; {hint}"]) from error

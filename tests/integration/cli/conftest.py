"""A pretend fleet behind the commands: SSH servers and a Compute API in a thread, a ledger in a file."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from click.testing import Result
from tests import schemas
from tests.contract.http_fake import serving
from tests.discovery import held_to_discovery
from tests.logging_fake import FakeLogging
from tests.unit.cli.conftest import run

from logmend_cli.pretend.fleet import USER, Machine, PretendFleet
from logmend_cli.pretend.story import Story, identity

__all__ = ["held_to_discovery", "run"]


@dataclass
class Place:
    """Where commands are run: `story` makes machines before `open`, `logmend` runs a command after it."""

    story: Story
    invoke: Callable[..., Result]
    logs: FakeLogging = field(default_factory=FakeLogging)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.story.folder

    def ref(self, name: str) -> str:
        """`PROJECT/ZONE/ID` of a machine."""
        return "/".join(identity(self.story.machines[name]))

    def machine(self, name: str) -> Machine:
        return self.story.machines[name]

    def logmend(self, *args: Any, stdin: str | None = None, **settings: str) -> Result:
        """Run a command with the place's settings; those given here come on top."""
        return self.invoke(*args, stdin=stdin, **(self.settings | settings))

    def json(self, *args: Any, status: int = 0, **settings: str) -> Any:
        """Run a command and read its JSON."""
        ran = self.logmend(*args, "--format", "json", **settings)
        assert ran.exit_code == status, (ran.exit_code, ran.stdout, ran.stderr)
        document = json.loads(ran.stdout)
        if args[0] in ("scan", "status"):
            schemas.hold(args[0], document)
        elif args[0] in ("run", "revert") and "--via-function" not in args:
            for each in document:
                schemas.hold("outcome", each)
        return document


@asynccontextmanager
async def _serve(place: Place) -> Any:
    fleet = PretendFleet(
        place.folder, place.story.machines, place.story.compute, asyncssh.generate_private_key("ssh-ed25519")
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fleet.running())
        url = await stack.enter_async_context(serving(place.logs.app))
        place.settings |= {
            "state": f"sqlite:{place.folder / 'ledger.sqlite'}",
            "outcomes": f"file:{place.folder / 'outcomes.jsonl'}",
            "project": "demo-project",
            "compute_endpoint": f"http://127.0.0.1:{fleet.compute_port}",
            "logging_endpoint": url,
            "resourcemanager_endpoint": url,
            "ssh_key": str(fleet.key_file),
            "ssh_user": USER,
            "ssh_port": str(fleet.ssh_port),
        }
        yield


class Served:
    """Serves a place from a thread while commands run in event loops of their own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._ready, self._over = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def open(self) -> None:
        self._thread.start()
        assert self._ready.wait(150)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(150)

    def _run(self) -> None:
        async def body() -> None:
            async with _serve(self._place):
                self._ready.set()
                await asyncio.to_thread(self._over.wait)

        try:
            asyncio.run(body())
        except BaseException as error:  # noqa: BLE001  told in the test's own thread
            self._error = error
        finally:
            self._ready.set()


@pytest.fixture
def opened(
    tmp_path: Path, run: Callable[..., Result]
) -> Iterator[Callable[[Callable[[Story], None]], Place]]:
    """Make a place of the machines that a test adds to a story, and serve it."""
    served: list[Served] = []

    def make(tell: Callable[[Story], None]) -> Place:
        story = Story(tmp_path)
        story.compute.project_metadata = {"demo-project": {}}
        tell(story)
        place = Place(story, run)
        served.append(Served(place))
        served[-1].open()
        return place

    yield make
    for each in served:
        each.close()


@pytest.fixture
def place(opened: Callable[[Callable[[Story], None]], Place]) -> Place:
    """Serve a fleet of seven: two with the fault, and one each with another story."""

    def tell(story: Story) -> None:
        story.machine("web-1")
        story.machine("web-2")
        story.machine("cert-1", metadata={"enable-workload-certificate": "true"})
        story.machine("exempt-1", labels={"logmend": "off"})
        story.machine("closed-1", listens=False)
        story.machine("moved-1", own_id="1111111111111111111")
        story.machine("fine-1", timer="disabled", active=False)

    return opened(tell)

"""One suite for every OutcomeLog, and what each promises besides."""

import asyncio
import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud.logging_v2.types import WriteLogEntriesRequest, WriteLogEntriesResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.contract.http_fake import serving

from logmend.adapters.google.cloud_logging import CloudOutcomeLog
from logmend.adapters.local_log import FileOutcomeLog, StdoutOutcomeLog
from logmend.errors import Permanent, Transient
from logmend.model.enums import Action, Mode, Result
from logmend.model.struct import replace
from logmend.model.values import Evidence, InstanceRef, Latency, Outcome, Source
from logmend.outcome import document
from logmend.ports import OutcomeLog

NOTICE, WARNING = 300, 400
"""Numbers of google.logging.type.LogSeverity."""

AT = datetime(2026, 11, 22, 16, 0, 0, 123456, tzinfo=UTC)
OUTCOME = Outcome(
    result=Result.REMEDIATED,
    reason=None,
    detail="",
    at=AT,
    outcome_id="m-1234-1-remediated",
    mode=Mode.ENFORCE,
    version="0.1.0",
    runbook="workload-cert-refresh",
    runbook_digest="sha256:ab",
    variant="not_configured",
    action=Action.ENFORCE,
    executor="ssh",
    instance=InstanceRef("web-prod", "us-west1-a", "4775836342981993096"),
    instance_name="web-1",
    before=Evidence(101, {"timer_enabled": "enabled"}, AT),
    after=Evidence(100, {"timer_enabled": "disabled"}, AT + timedelta(seconds=2)),
    message_id="1234",
    source=Source("log_entry", "projects/web-prod/logs/syslog", "abc", AT),
    notes=("ä note\u2028with odd characters \u0085",),
    latency=Latency(10, 20, 30, 60),
)
NO_VM = Outcome(Result.REJECTED, "malformed", "not JSON", AT, "m-7-0-rejected", Mode.OBSERVE, "0.1.0")


class Logging:
    """Cloud Logging's ``entries.write``, read with Google's own message types.

    It encodes our reading: entries of the same log name, timestamp and insertId are one.
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, str], Any] = {}
        self.writes = 0
        self.failing: list[Response] = []
        self.app = Starlette(routes=[Route("/v2/entries:write", self._write, methods=["POST"])])

    async def _write(self, request: Request) -> Response:
        self.writes += 1
        if self.failing:
            return self.failing.pop(0)
        message = WriteLogEntriesRequest.from_json(await request.body())
        for entry in message.entries:
            name = entry.log_name or message.log_name
            self.entries[name, entry.timestamp.rfc3339(), entry.insert_id] = entry
        body = WriteLogEntriesResponse.to_json(WriteLogEntriesResponse())
        return Response(body, media_type="application/json")

    def documents(self) -> list[dict[str, Any]]:
        """Give the payloads, as a reader gets them."""
        return [type(entry).to_dict(entry)["json_payload"] for entry in self.entries.values()]


Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture(params=["stdout", "file", "cloud"])
async def log(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[tuple[OutcomeLog, Read]]:
    """Give each kind of log, and how its documents are read back."""
    match request.param:
        case "stdout":
            written = io.StringIO()

            def printed() -> list[dict[str, Any]]:
                written.write(capsys.readouterr().out)
                return [json.loads(line) for line in written.getvalue().splitlines()]

            yield StdoutOutcomeLog(), printed
        case "file":
            path = tmp_path / "deep" / "outcomes.jsonl"
            yield (
                FileOutcomeLog(path),
                lambda: [json.loads(line) for line in path.read_text().splitlines()],
            )
        case _:
            async with cloud() as (fake, cloud_log):
                yield cloud_log, fake.documents


@asynccontextmanager
async def cloud() -> AsyncIterator[tuple[Logging, CloudOutcomeLog]]:
    """Serve the fake, and give the log that writes to it."""
    fake = Logging()
    async with serving(fake.app) as url:
        cloud_log = CloudOutcomeLog("logmend-ops", url, times=(2.0, 2.0))
        yield fake, cloud_log
        await cloud_log.aclose()


@pytest.mark.parametrize("outcome", [OUTCOME, NO_VM], ids=["with a VM", "without"])
async def test_what_was_written_reads_back_as_the_same_outcome(
    log: tuple[OutcomeLog, Read], outcome: Outcome
) -> None:
    """Status, report and replay get exactly what was decided."""
    writer, read = log
    await writer.write(outcome)
    assert [document.from_json(each) for each in read()] == [outcome]


async def test_an_outcome_is_there_before_write_returns(log: tuple[OutcomeLog, Read]) -> None:
    """Nothing is left to a moment after the answer."""
    writer, read = log
    for number in range(3):
        await writer.write(replace(OUTCOME, outcome_id=f"m-{number}"))
        assert len(read()) == number + 1


async def test_writing_again_adds_no_second_story(log: tuple[OutcomeLog, Read]) -> None:
    """A redelivery's outcome is the same document, so that a reader counts it once."""
    writer, read = log
    await writer.write(OUTCOME)
    await writer.write(OUTCOME)
    documents = read()
    assert {each["outcome_id"] for each in documents} == {"m-1234-1-remediated"}
    assert all(each == documents[0] for each in documents)


async def test_many_at_once_all_arrive_whole(log: tuple[OutcomeLog, Read]) -> None:
    """Events are handled side by side."""
    writer, read = log
    many = [replace(OUTCOME, outcome_id=f"m-{number}") for number in range(40)]
    await asyncio.gather(*(writer.write(each) for each in many))
    assert sorted(each["outcome_id"] for each in read()) == sorted(each.outcome_id for each in many)
    await writer.aclose()


# Cloud Logging


async def test_an_entry_is_filed_under_the_vm_with_labels_and_severity() -> None:
    """A person who looks at the VM's logs finds what was done to it."""
    async with cloud() as (fake, writer):
        await writer.write(OUTCOME)
    ((name, timestamp, insert_id), entry) = next(iter(fake.entries.items()))
    assert name == "projects/logmend-ops/logs/logmend"
    assert timestamp == "2026-11-22T16:00:00.123456Z"
    assert insert_id == "m-1234-1-remediated"
    assert entry.resource.type == "gce_instance"
    assert dict(entry.resource.labels) == {
        "project_id": "web-prod",
        "zone": "us-west1-a",
        "instance_id": "4775836342981993096",
    }
    assert dict(entry.labels) == {"result": "remediated", "runbook": "workload-cert-refresh"}
    assert entry.severity == NOTICE


async def test_an_outcome_without_a_vm_is_filed_under_what_logmend_runs_as() -> None:
    """Outside the cloud that is the project as a whole."""
    async with cloud() as (fake, writer):
        await writer.write(NO_VM)
    entry = next(iter(fake.entries.values()))
    assert (entry.resource.type, dict(entry.resource.labels)) == ("global", {"project_id": "logmend-ops"})
    assert entry.severity == WARNING


async def test_the_log_holds_outcomes_and_nothing_else() -> None:
    """The client's own diagnostic entry would match no reader's expectation."""
    async with cloud() as (fake, writer):
        await writer.write(OUTCOME)
    assert len(fake.entries) == 1


async def test_the_same_outcome_twice_is_one_entry() -> None:
    """Same log name, timestamp and insertId."""
    async with cloud() as (fake, writer):
        await writer.write(OUTCOME)
        await writer.write(OUTCOME)
    assert (fake.writes, len(fake.entries)) == (2, 1)


def failure(status: int, word: str, **headers: str) -> Response:
    """Give an error in the form of Google's APIs."""
    content = {"error": {"code": status, "message": word.lower(), "status": word}}
    return JSONResponse(content, status, headers)


@pytest.mark.parametrize(
    "answer",
    [
        failure(429, "RESOURCE_EXHAUSTED"),
        failure(500, "INTERNAL"),
        failure(401, "UNAUTHENTICATED"),
        Response("<html>", media_type="application/json"),
    ],
    ids=["429", "500", "401", "garbage"],
)
async def test_trouble_of_cloud_logging_is_transient(answer: Response) -> None:
    """The ledger keeps the outcome, and it is written later."""
    async with cloud() as (fake, writer):
        fake.failing = [answer]
        with pytest.raises(Transient) as caught:
            await writer.write(OUTCOME)
        assert caught.value.reason == "outcome_log_unavailable"
        await writer.write(OUTCOME)
    assert len(fake.entries) == 1


async def test_one_hiccup_is_not_even_noticed() -> None:
    """Writing twice is harmless, so a 503 is tried again at once."""
    async with cloud() as (fake, writer):
        fake.failing = [failure(503, "UNAVAILABLE")]
        await writer.write(OUTCOME)
    assert len(fake.entries) == 1


async def test_a_missing_role_is_permanent_and_named() -> None:
    """``roles/logging.logWriter`` is what to grant."""
    async with cloud() as (fake, writer):
        fake.failing = [failure(403, "PERMISSION_DENIED")]
        with pytest.raises(Permanent, match=r"not_permitted.*roles/logging\.logWriter"):
            await writer.write(OUTCOME)


async def test_a_silent_cloud_logging_is_given_up_in_time() -> None:
    """The event must still be answered."""

    async def hang(request: Request) -> Response:
        await asyncio.sleep(30)
        return Response()

    async with serving(Starlette(routes=[Route("/{path:path}", hang, methods=["POST"])])) as url:
        writer = CloudOutcomeLog("logmend-ops", url, times=(0.3, 0.3))
        with pytest.raises(Transient, match="outcome_log_unavailable"):
            await asyncio.wait_for(writer.write(OUTCOME), 25)
        await writer.aclose()


def test_making_the_cloud_log_loads_no_client() -> None:
    """An event may end without one."""
    code = (
        "import sys; from logmend.adapters.google.cloud_logging import CloudOutcomeLog; CloudOutcomeLog('p');"
        "print(sorted({'requests', 'grpc', 'google.auth', 'google.cloud.logging_v2'} & set(sys.modules)))"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.strip() == "[]"


# files


WRITER = """
import asyncio, sys
from pathlib import Path
from logmend.adapters.local_log import FileOutcomeLog
from tests.contract.test_outcome_log import OUTCOME
from logmend.model.struct import replace
async def main():
    log = FileOutcomeLog(Path(sys.argv[1]))
    for number in range(100):
        notes = ("x" * 3000,)
        await log.write(replace(OUTCOME, outcome_id=f"{sys.argv[2]}-{number}", notes=notes))
asyncio.run(main())
"""


def test_processes_that_share_a_file_never_mix_lines(tmp_path: Path) -> None:
    """Three at once, a hundred long lines each."""
    path = tmp_path / "outcomes.jsonl"
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], env=environment)
        for number in range(3)
    ]
    assert [each.wait(150) for each in writers] == [0, 0, 0]
    identities = [json.loads(line)["outcome_id"] for line in path.read_text().splitlines()]
    assert len(identities) == len(set(identities)) == 300


async def test_a_full_disk_is_transient_and_leaves_no_torn_line(tmp_path: Path) -> None:
    """A file-size limit cuts the write short as a full disk would."""
    path = tmp_path / "outcomes.jsonl"
    writer = FileOutcomeLog(path)
    await writer.write(OUTCOME)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(Transient) as caught:
            await writer.write(OUTCOME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.reason == "outcome_log_unavailable"
    assert path.read_bytes() == before
    await writer.write(OUTCOME)
    assert len(path.read_text().splitlines()) == 2


async def test_a_device_without_space_is_transient() -> None:
    """The real error of a full disk."""
    with pytest.raises(Transient, match=r"outcome_log_unavailable: /dev/full: No space left"):
        await FileOutcomeLog(Path("/dev/full")).write(OUTCOME)


async def test_a_folder_that_cannot_be_made_is_transient(tmp_path: Path) -> None:
    """Named with its path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Transient, match="outcome_log_unavailable"):
        await FileOutcomeLog(tmp_path / "file" / "outcomes.jsonl").write(OUTCOME)


async def test_a_new_file_is_its_owners_alone_and_no_link_is_followed(tmp_path: Path) -> None:
    """Outcomes name VMs and people; a link in the file's place could lead to any file of this user."""
    path, link = tmp_path / "made" / "outcomes.jsonl", tmp_path / "link"
    await FileOutcomeLog(path).write(OUTCOME)
    assert [each.stat().st_mode & 0o777 for each in (path, path.parent)] == [0o600, 0o700]
    (tmp_path / "dear").write_text("dear\n")
    link.symlink_to(tmp_path / "dear")
    with pytest.raises(Transient, match=r"outcome_log_unavailable: .*/link: a symbolic link"):
        await FileOutcomeLog(link).write(OUTCOME)
    assert (tmp_path / "dear").read_text() == "dear\n"


async def test_the_file_may_be_rotated_away(tmp_path: Path) -> None:
    """The next line starts a new one."""
    path = tmp_path / "outcomes.jsonl"
    writer = FileOutcomeLog(path)
    await writer.write(OUTCOME)
    path.rename(tmp_path / "outcomes.jsonl.1")
    await writer.write(OUTCOME)
    assert len(path.read_text().splitlines()) == 1


def test_standard_output_that_nobody_reads_is_transient() -> None:
    """The process goes on; the ledger keeps the outcome."""
    code = (
        "import asyncio\nfrom logmend.adapters.local_log import StdoutOutcomeLog\n"
        "from logmend.errors import Transient\nfrom tests.contract.test_outcome_log import OUTCOME\n"
        "import sys\nsys.stdin.read()\n"
        "try:\n    asyncio.run(StdoutOutcomeLog().write(OUTCOME))\n"
        "except Transient as error:\n    print(error.reason, file=sys.stderr, flush=True)\n"
        "import os\nos._exit(0)\n"
    )
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout
    process.stdout.close()
    assert process.stdin
    process.stdin.close()
    assert process.stderr
    assert process.stderr.read().decode().strip() == "outcome_log_unavailable"
    process.stderr.close()
    assert process.wait(100) == 0

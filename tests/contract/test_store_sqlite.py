"""What is SQLite's own: broken files, full disks, foreign and newer databases, every error classified."""

import asyncio
import contextlib
import multiprocessing
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs

from logmend.adapters.stores import sqlite_file
from logmend.adapters.stores.sqlite import SqliteStore
from logmend.adapters.stores.sqlite_file import classify
from logmend.errors import Permanent, Transient
from logmend.ports import Document, Key

KEY: Key = ("leases", "one")


def write(data: dict[str, Any], expire_at: datetime | None = None) -> Any:
    return lambda _: ({KEY: Document(data, expire_at=expire_at)}, None)


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """An operator's typo must not destroy another file."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but dear to someone\n" * 100)
    store = SqliteStore(path)
    with pytest.raises(Permanent) as caught:
        await store.get([KEY])
    assert caught.value.reason == "ledger_corrupt"
    assert "not a readable SQLite database" in caught.value.detail
    assert path.read_text().startswith("not a database, but dear")
    await store.aclose()


async def test_a_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """A valid SQLite file without our schema table gains no tables of ours."""
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE people (name TEXT)")
    other.close()
    store = SqliteStore(path)
    with pytest.raises(Permanent, match="logmend did not make"):
        await store.transact([KEY], write({}))
    await store.aclose()
    check = sqlite3.connect(path)
    assert check.execute("SELECT name FROM sqlite_schema").fetchall() == [("people",)]
    check.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An older logmend neither reads nor writes what it does not know, and says which version does."""
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore(path)
    await store.transact([KEY], write({"n": 1}))
    await store.aclose()
    with sqlite3.connect(path) as newer:
        newer.execute("UPDATE logmend_schema SET version = 3")
    newer.close()
    with pytest.raises(Permanent, match="has schema 3, this logmend knows 2") as caught:
        await store.get([KEY])
    assert caught.value.reason == "ledger_schema"
    await store.aclose()


async def test_a_damaged_file_is_an_error_and_not_an_empty_ledger(tmp_path: Path) -> None:
    """Pages overwritten by something else are noticed."""
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore(path)
    await store.transact([KEY], write({"text": "x" * 20_000}))
    await store.aclose()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(Permanent) as caught:
        await store.get([KEY])
    assert caught.value.reason == "ledger_corrupt"
    await store.aclose()


def move(path: Path, to: Path) -> None:
    """Move a ledger with its journal and index."""
    for suffix in ("", "-wal", "-shm"):
        if (part := Path(f"{path}{suffix}")).exists():
            part.rename(f"{to}{suffix}")


def remove(path: Path) -> None:
    """Remove a ledger with its journal and index."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def modes(folder: Path) -> list[int]:
    """Give the permissions of every file in a folder."""
    return [each.stat().st_mode & 0o777 for each in folder.iterdir()]


@pytest.mark.parametrize("how", ["removed", "replaced", "moved away", "a link now"])
async def test_a_ledger_that_is_taken_away_is_noticed_and_nothing_is_written_any_more(
    tmp_path: Path, how: str
) -> None:
    """A freeze in the new file would stop nobody who goes on with the old one."""
    path = tmp_path / "ledger.sqlite"
    store, other = SqliteStore(path), SqliteStore(path)
    await store.transact([KEY], write({"n": 1}))
    if how == "moved away":
        move(path, tmp_path / "elsewhere")
    else:
        remove(path)
    if how == "replaced":
        await other.transact([KEY], write({"frozen": True}))
    if how == "a link now":
        path.symlink_to(tmp_path / "elsewhere")
    for call in (store.get([KEY]), store.transact([KEY], write({"n": 2})), store.scan("leases", None, 9)):
        with pytest.raises(Transient) as caught:
            await call
        assert caught.value.reason == "ledger_replaced"
    assert store._worker
    await asyncio.wrap_future(store._worker._thread.submit(store._worker._disconnect))  # as after an error
    with pytest.raises(Transient, match="ledger_replaced"):
        await store.get([KEY])
    assert path.exists() is (how == "replaced"), "no new ledger is made in its place"
    if how == "moved away":
        move(tmp_path / "elsewhere", path)
        assert (await store.get([KEY]))[KEY].data == {"n": 1}
    if how == "replaced":
        assert (await other.get([KEY]))[KEY].data == {"frozen": True}
    await store.aclose()
    await other.aclose()


async def test_a_ledger_replaced_in_the_middle_of_a_transaction_is_not_written(tmp_path: Path) -> None:
    """The last look is taken just before the commit: the lock may have been waited for."""
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore(path)
    await store.transact([KEY], write({"n": 1}))

    def step(_: Any) -> Any:
        move(path, tmp_path / "old")
        return {KEY: Document({"n": 2})}, None

    with pytest.raises(Transient, match="ledger_replaced"):
        await store.transact([KEY], step)
    await store.aclose()
    old = SqliteStore(tmp_path / "old")
    assert (await old.get([KEY]))[KEY].data == {"n": 1}
    await old.aclose()


async def test_a_new_ledger_is_its_owners_alone_and_no_link_is_followed(tmp_path: Path) -> None:
    """It names VMs, people and what is open; and a link could lead anywhere."""
    path, link = tmp_path / "ledger.sqlite", tmp_path / "link"
    store = SqliteStore(path)
    await store.transact([KEY], write({"n": 1}))
    assert modes(tmp_path) == [0o600] * 3, "the file, its journal and its index"
    await store.aclose()
    for target in (path, tmp_path / "nothing"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        linked = SqliteStore(link)
        with pytest.raises(Permanent, match="symbolic link") as caught:
            await linked.get([KEY])
        assert caught.value.reason == "ledger_forbidden"
        await linked.aclose()
    assert not (tmp_path / "nothing").exists()


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """The ledger makes its file, never directories: a typo would start an empty ledger elsewhere."""
    store = SqliteStore(tmp_path / "nowhere" / "ledger.sqlite")
    with pytest.raises(Permanent, match="nowhere does not exist") as caught:
        await store.get([KEY])
    assert caught.value.reason == "ledger_missing"
    await store.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real file system of one mebibyte."""
    needs(commands=("mount", "umount"), root=True, linux=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "logmend-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    """Write until the disk has not one byte left."""
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


async def test_a_full_disk_is_transient_and_loses_nothing(small_disk: Path) -> None:
    """Writes fail as ledger_unavailable, reads go on, and once there is room the same object writes again."""
    store = SqliteStore(small_disk / "ledger.sqlite")
    await store.transact([KEY], write({"n": 1}))
    filler = small_disk / "filler"
    fill(filler)
    for _ in range(3):
        with pytest.raises(Transient) as caught:
            await store.transact([KEY], write({"n": 2, "text": "x" * 100_000}))
        assert caught.value.reason == "ledger_unavailable"
    assert (await store.get([KEY]))[KEY].data == {"n": 1}
    filler.unlink()
    await store.transact([KEY], write({"n": 3}))
    assert (await store.get([KEY]))[KEY].data == {"n": 3}
    await store.aclose()


async def test_a_lock_held_by_someone_else_is_contention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded waiting, then a transient error; free again, the same object works."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.05)
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore(path)
    await store.transact([KEY], write({"n": 1}))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient) as caught:
        await store.transact([KEY], write({"n": 2}))
    assert caught.value.reason == "ledger_contention"
    other.execute("ROLLBACK")
    other.close()
    await store.transact([KEY], write({"n": 3}))
    assert (await store.get([KEY]))[KEY].data == {"n": 3}
    await store.aclose()


def _count_for_ever(path: Path) -> None:
    async def body() -> None:
        store = SqliteStore(path)

        def step(found: Any) -> Any:
            number = found[KEY].data["n"] + 1 if KEY in found else 1
            document = Document({"n": number, "text": "x" * 50_000})
            return {KEY: document, ("leases", "two"): document}, None

        while True:
            await store.transact([KEY, ("leases", "two")], step)

    asyncio.run(body())


async def test_a_killed_process_leaves_whole_transactions_only(tmp_path: Path) -> None:
    """After kill -9 in the middle of writing: both documents are of the same transaction, others go on."""
    path = tmp_path / "ledger.sqlite"
    context = multiprocessing.get_context("spawn")
    store = SqliteStore(path)
    reached = 0
    for _ in range(3):
        process = context.Process(target=_count_for_ever, args=(path,))
        process.start()
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            found = await store.get([KEY])
            if found and found[KEY].data["n"] > reached + 5:
                break
            await asyncio.sleep(0.01)
        process.kill()
        process.join()
        process.close()
        found = await store.get([KEY, ("leases", "two")])
        assert found[KEY].data == found["leases", "two"].data
        assert found[KEY].data["n"] > reached
        reached = found[KEY].data["n"]
    await store.aclose()


class FixedClock:
    """A clock that a test sets."""

    def __init__(self, now: datetime) -> None:
        self.moment = now

    def now(self) -> datetime:
        return self.moment


async def test_with_a_clock_documents_that_expired_a_day_ago_are_removed(tmp_path: Path) -> None:
    """A file on a workstation does not grow for ever; what expired just now may still be read."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    path = tmp_path / "ledger.sqlite"
    ages = {"old": timedelta(days=2), "fresh": timedelta(hours=2), "future": timedelta(days=-2)}
    writes: Any = {("leases", name): Document({}, expire_at=now - age) for name, age in ages.items()}
    writes["leases", "kept"] = Document({})
    plain = SqliteStore(path)
    await plain.transact(list(writes), lambda _: (writes, None))
    assert len(await plain.get(list(writes))) == 4
    await plain.aclose()
    store = SqliteStore(path, clock=FixedClock(now))
    await store.transact([KEY], write({}))
    assert [name for name, _ in await store.scan("leases", None, 9)] == ["fresh", "future", "kept", "one"]
    await store.aclose()


def test_every_sqlite_error_is_classified() -> None:
    """Every exception class of the module and every result code of this SQLite has a ledger reason."""
    reasons = {
        "ledger_contention", "ledger_unavailable", "ledger_corrupt", "ledger_forbidden", "ledger_rejected",
    }  # fmt: skip
    classes = [
        each for each in vars(sqlite3).values() if isinstance(each, type) and issubclass(each, sqlite3.Error)
    ]
    assert len(classes) >= 9
    codes = {name: value for name, value in vars(sqlite3).items() if name.startswith("SQLITE_")}
    names = {name for name in codes if name.split("_")[1] in _PRIMARY}
    assert len(names) >= 26
    for kind in classes:
        assert classify(kind("boom"), Path("x")).reason in reasons
        for name in names:
            error = kind("boom")
            error.sqlite_errorcode = codes[name]
            verdict = classify(error, Path("x"))
            assert verdict.reason in reasons
            assert isinstance(verdict, _PRIMARY[name.split("_")[1]]), name


_PRIMARY = {
    "BUSY": Transient, "LOCKED": Transient, "FULL": Transient, "IOERR": Transient, "CANTOPEN": Transient,
    "NOMEM": Transient, "INTERRUPT": Transient, "PROTOCOL": Transient, "SCHEMA": Transient,
    "ABORT": Transient,
    "INTERNAL": Transient, "NOLFS": Transient, "EMPTY": Transient,
    "CORRUPT": Permanent, "NOTADB": Permanent, "FORMAT": Permanent, "READONLY": Permanent, "PERM": Permanent,
    "AUTH": Permanent, "TOOBIG": Permanent, "CONSTRAINT": Permanent, "MISMATCH": Permanent,
    "ERROR": Permanent,
    "MISUSE": Permanent, "RANGE": Permanent, "NOTFOUND": Permanent,
}  # fmt: skip


class Crowd:
    """Transactions that all came while the store's thread was held by another one."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.commits: list[str] = []
        self._begun, self._go_on = threading.Event(), threading.Event()

    async def meet(self, steps: Mapping[str, Any]) -> dict[str, "asyncio.Task[Any]"]:
        """Let each step, by the id of its document, wait behind a first transaction; then let it go on."""
        await self.store.transact([KEY], write({}))
        worker = self.store._worker
        assert worker is not None
        await worker.run(lambda file: file.connection.set_trace_callback(self._trace))
        first = asyncio.create_task(self.store.transact([KEY], self._hold))
        await asyncio.to_thread(self._begun.wait)
        tasks = {
            each: asyncio.create_task(self.store.transact([("leases", each)], step))
            for each, step in steps.items()
        }
        await asyncio.sleep(0)  # each has put itself into the queue
        self._go_on.set()
        await first
        return tasks

    def _hold(self, _: Any) -> Any:
        self._begun.set()
        self._go_on.wait()
        return {}, None

    def _trace(self, statement: str) -> None:
        if statement == "COMMIT":
            self.commits.append(statement)


def named(each: str) -> Any:
    """Give the step that writes a document of that id."""
    return lambda _: ({("leases", each): Document({"id": each})}, each)


async def test_transactions_that_wait_share_one_commit_and_none_is_answered_before_it(tmp_path: Path) -> None:
    """Sixteen at once wait for the disk once. Whoever is told, another connection sees it."""
    crowd = Crowd(tmp_path / "ledger.sqlite")
    ids = [f"n{each}" for each in range(16)]
    tasks = await crowd.meet({each: named(each) for each in ids})
    await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
    other = SqliteStore(tmp_path / "ledger.sqlite")
    assert {key[1] for key in await other.get([("leases", each) for each in ids])} == set(ids)
    assert [await task for task in tasks.values()] == ids
    assert len(crowd.commits) == 2
    await other.aclose()
    await crowd.store.aclose()


async def test_each_of_a_shared_commit_sees_what_the_one_before_it_wrote(tmp_path: Path) -> None:
    """They are as if one had come after the other."""
    store = SqliteStore(tmp_path / "ledger.sqlite")

    def count(read: Any) -> Any:
        seen = read[KEY].data["n"] + 1 if KEY in read else 1
        return {KEY: Document({"n": seen})}, seen

    said = await asyncio.gather(*(store.transact([KEY], count) for _ in range(100)))
    assert sorted(said) == list(range(1, 101))
    await store.aclose()


async def test_a_step_that_fails_takes_none_of_the_others_with_it(tmp_path: Path) -> None:
    """Nor does a document that the store or SQLite refuses: each fails by its own fault."""
    path = tmp_path / "ledger.sqlite"
    first = SqliteStore(path)
    await first.transact([KEY], write({}))
    await first.aclose()
    with sqlite3.connect(path) as link:
        link.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON ledger WHEN NEW.id = 'sqlite'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    link.close()

    def raises(_: Any) -> Any:
        raise TimeoutError("mine")

    crowd = Crowd(path)
    tasks = await crowd.meet(
        {
            "a": named("a"),
            "raises": raises,
            "stranger": named("another"),
            "sqlite": named("sqlite"),
            "b": named("b"),
        }
    )
    said = dict(zip(tasks, await asyncio.gather(*tasks.values(), return_exceptions=True), strict=True))
    assert (said["a"], said["b"]) == ("a", "b")
    assert type(said["raises"]) is TimeoutError
    assert isinstance(said["stranger"], ValueError)
    assert isinstance(said["sqlite"], Permanent)
    assert said["sqlite"].reason == "ledger_rejected"
    found = await crowd.store.scan("leases", None, 9)
    assert [each for each, _ in found] == ["a", "b", "one"]
    await crowd.store.aclose()


async def test_a_caller_that_is_cancelled_while_it_waits_writes_nothing(tmp_path: Path) -> None:
    """Its transaction has not begun."""
    crowd = Crowd(tmp_path / "ledger.sqlite")
    await crowd.store.transact([KEY], write({}))
    held = asyncio.create_task(crowd.store.transact([KEY], crowd._hold))
    await asyncio.to_thread(crowd._begun.wait)
    waiting = asyncio.create_task(crowd.store.transact([("leases", "gone")], named("gone")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    crowd._go_on.set()
    await held
    assert [each for each, _ in await crowd.store.scan("leases", None, 9)] == ["one"]
    await crowd.store.aclose()

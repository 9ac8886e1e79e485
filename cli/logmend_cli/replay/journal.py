"""The file that records what an interrupted replay has done, from which the next one continues."""

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from pathlib import Path

from logmend.errors import ConfigError
from logmend_cli import profiles


class ReplayJournal:
    """A run's name and what it has done, a JSON line each; deleted once the run is finished.

    The name is written before anything is published under it. An event that was published but not yet noted
    when the process died is published again under the same name, which the function recognises.
    """

    def __init__(self, path: Path, about: dict[str, str], *, fresh: bool = False) -> None:
        """Open or begin a journal. A new run stores ``about`` beside its name; a resumed one keeps its own.

        ``fresh`` discards an interrupted run. Raises ConfigError if the file is in use or not a journal.
        """
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = open(path, "a+", encoding="utf-8", opener=_own)  # noqa: SIM115  held until close()
        except OSError as error:
            raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError([f"{path}: this replay is already running in another process"]) from None
        if fresh:
            self._file.truncate(0)
        self._file.seek(0)
        whole = [line for line in self._file if line.endswith("\n")]
        try:
            known = [json.loads(line) for line in whole]
            self.about: dict[str, str] = known[0] if known else {}
            self.done: dict[str, str] = {each["id"]: each["as"] for each in known[1:]}
            self.resumed = bool(known)
            if known and not isinstance(self.about["run"], str):
                raise TypeError  # noqa: TRY301  one message for all
        except (ValueError, KeyError, TypeError) as error:
            self._file.close()
            raise ConfigError([f"{path}: not the journal of a replay"]) from error
        self._file.truncate(sum(len(line.encode()) for line in whole))
        if not known:
            self.about = about | {"run": uuid.uuid4().hex}
            self._append(self.about)

    @property
    def run(self) -> str:
        """The run's name."""
        return str(self.about["run"])

    def note(self, replay_id: str, as_: str) -> None:
        """Record what was done with an event."""
        self.done[replay_id] = as_
        self._append({"id": replay_id, "as": as_})

    def close(self, *, finished: bool) -> None:
        """Close the file; delete it if the run is finished."""
        if finished:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        self._file.close()

    def _append(self, line: dict[str, str]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _own(path: str, flags: int) -> int:
    """Open a file without following a symbolic link; a new one is private to its owner."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def default_path(*parts: str) -> Path:
    """Return the journal's path for a replay with these arguments."""
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]
    return profiles.state() / f"replay-{digest}.jsonl"

"""Which deployed function the command refers to: a profile in the user's configuration folder.

A profile has the ``LOGMEND_*`` variables that `logmend use` read from a function. They apply if the shell
does not set them. ``$XDG_CONFIG_HOME/logmend/profiles/NAME.json`` is one; ``…/current`` names the one in use.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from logmend.errors import ConfigError
from logmend.model.enums import PROJECT_PATTERN
from logmend.model.struct import Struct, field

OLD = timedelta(days=7)
"""Age at which a profile is called old: the function may have been deployed with other settings since."""
_PLACE = re.compile(r"[a-z][a-z0-9-]{0,62}")


class Profile(Struct, frozen=True):
    """A function, when its settings were read, and the variables that apply on this machine as well."""

    project: str
    region: str
    function: str
    read_at: datetime
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``PROJECT/REGION/FUNCTION``."""
        return f"{self.project}/{self.region}/{self.function}"

    @property
    def time(self) -> str:
        """When its settings were read, for a person."""
        return f"{self.read_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

    @property
    def announcement(self) -> str:
        """One line that says which fleet a command refers to."""
        old = datetime.now(UTC) - self.read_at > OLD
        advice = f"; they are old: logmend use {self.name} reads them again" if old else ""
        return f"fleet {self.name}, settings of {self.time}{advice}"


def parse(name: str) -> tuple[str, str | None, str | None]:
    """Read ``PROJECT``, ``PROJECT/REGION`` or ``PROJECT/REGION/FUNCTION``; ConfigError says what is wrong."""
    project, *rest = name.split("/")
    if not PROJECT_PATTERN.fullmatch(project):
        raise ConfigError([f"{project!r} is not a project id"])
    if len(rest) > 2 or not all(_PLACE.fullmatch(each) for each in rest):
        raise ConfigError([f"{name!r}: write PROJECT, PROJECT/REGION or PROJECT/REGION/FUNCTION"])
    return project, rest[0] if rest else None, rest[1] if len(rest) == 2 else None


def folder() -> Path:
    """Return the folder of the profiles."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "logmend"


def state() -> Path:
    """Return the folder for the command's own state."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "logmend"


def current() -> Profile | None:
    """Return the profile in use, None if there is none; raise ConfigError if it cannot be read."""
    try:
        name = (folder() / "current").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError([f"{folder() / 'current'}: cannot be read: {error.strerror}"]) from error
    path = _path(name)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.MsgspecError) as error:
        advice = f"logmend use {name} makes it again, logmend use --none does without"
        raise ConfigError([f"{path}: cannot be read: {error}; {advice}"]) from error


def known() -> list[str]:
    """Return the names of the profiles."""
    return sorted(path.stem.replace("~", "/") for path in (folder() / "profiles").glob("*.json"))


def keep(profile: Profile) -> None:
    """Keep a profile and use it from now on."""
    write(_path(profile.name), msgspec.json.format(msgspec.json.encode(profile), indent=2))
    write(folder() / "current", profile.name.encode() + b"\n")


def forget() -> None:
    """Use no profile any more; delete none."""
    (folder() / "current").unlink(missing_ok=True)


def _path(name: str) -> Path:
    project, region, function = parse(name)
    return folder() / "profiles" / f"{project}~{region}~{function}.json"


def write(path: Path, content: bytes) -> None:
    """Replace a whole file, readable only by its owner, and make its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(name).replace(path)

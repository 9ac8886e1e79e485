"""What a function's source has beside ``main.py``: own runbooks, and the file that turns them on."""

import json
from pathlib import Path

from logmend import catalog
from logmend.errors import ConfigError
from logmend.runbook import BUILT_IN, DIAGNOSE, SCRIPT_FILES
from logmend.runbook.load import below
from logmend.runbook.parse import document
from logmend.settings import Settings

FILE = "runbooks.yaml"
"""The value of ``LOGMEND_RUNBOOKS`` in the function, whose working directory has its source."""

FOLDER = "runbooks"


def pack(settings: Settings, target: Path) -> list[Path]:
    """Write them into ``target``; return the paths. ConfigError if a function would not start with them."""
    configured = catalog.read_all(settings)
    if settings.runbooks is None:
        raise ConfigError(["LOGMEND_RUNBOOKS is not set: there is nothing to pack"])
    own = {name: folder for name, folder in configured.folders.items() if folder.parent != BUILT_IN}
    written = [
        _write(target / FOLDER / name / file, (folder / file).read_bytes())
        for name, folder in own.items()
        for file in ("runbook.yaml", DIAGNOSE, *SCRIPT_FILES.values())
        if (folder / file).is_file()
    ]
    content = _said(settings.runbooks, own) | ({"folders": [FOLDER]} if own else {})
    return [*written, _write(target / FILE, json.dumps(content, indent=2).encode() + b"\n")]


def _said(path: Path, own: dict[str, Path]) -> dict[str, object]:
    """Return the content of a file; for a folder, content that turns on only its runbooks."""
    if path.is_file():
        return dict(document(str(path), path.read_text(encoding="utf-8")).values) | {"folders": []}
    built_in = {name: {"replaces": True} if name in own else {"enabled": False} for name in below(BUILT_IN)}
    return {"runbooks": built_in}


def _write(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from error
    return path

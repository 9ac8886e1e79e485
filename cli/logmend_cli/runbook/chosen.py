"""Which runbooks a command is about: all, those with the given names, or one in its own folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from logmend import catalog
from logmend.errors import ConfigError
from logmend.model.struct import Struct
from logmend.runbook.decode import suggestion
from logmend.runbook.load import NONE
from logmend.settings import Settings


class ChosenRunbook(Struct, frozen=True):
    """A runbook's folder; ``apart`` says that the settings do not name it."""

    folder: Path
    parameters: Mapping[str, str]
    apart: bool


def chosen_runbooks(wanted: Sequence[str], settings: Settings) -> list[ChosenRunbook]:
    """Return the runbooks of these names and folders, or all; any other name is a ConfigError."""
    known, parameters = catalog.folders(settings), catalog.parameters(settings)
    chosen, problems = [], []
    for each in wanted or known:
        if each in known:
            chosen.append(ChosenRunbook(known[each], parameters.get(each, NONE), apart=False))
        elif Path(each).is_dir():
            chosen.append(ChosenRunbook(Path(each), NONE, apart=True))
        else:
            problems.append(f"{each}: neither a runbook nor a folder; {suggestion(each, known)}")
    if problems:
        raise ConfigError(problems)
    return chosen

"""Which maintenance windows are closed now, and when they open, by this command's settings."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from logmend import windows
from logmend.settings import Policies


class Shut(NamedTuple):
    """What prevents changes to ``scope``: every VM, or those with a label; ``opens`` as in windows."""

    scope: str
    runbooks: Sequence[str]
    closed: str
    opens: datetime | None


def now_closed(policies: Policies, runbooks: Iterable[str], now: datetime) -> list[Shut]:
    """Return what is closed now, for every VM first; runbooks with the same closed window share a row."""
    found = defaultdict[tuple[str, str, datetime | None], list[str]](list)
    for name in runbooks:
        settings = policies.of(name)
        every = {each.label for each in settings.windows} | {each.label for each in settings.blackouts}
        for label in sorted(every, key=lambda each: each or ()):
            hours = [each for each in settings.windows if each.label == label]
            blackouts = [each for each in settings.blackouts if each.label == label]
            carried: Mapping[str, str] = dict([label]) if label else {}
            if (shut := windows.closed(hours, blackouts, carried, now)) is not None:
                scope = f"label {label[0]}={label[1]}" if label else "every VM"
                found[scope, shut.what, shut.opens].append(name)
    return [Shut(scope, names, what, opens) for (scope, what, opens), names in found.items()]

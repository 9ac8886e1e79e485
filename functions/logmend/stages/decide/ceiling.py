"""How far an intent may go: whether it may change anything, who asked for it, and what the mode allows."""

from logmend.model.enums import Action, Mode
from logmend.model.values import Intent
from logmend.settings import Settings


def ceiling(intent: Intent, settings: Settings) -> bool:
    """Return whether the mode lets this intent change the VM; if not, the attempt ends after the check."""
    if only_checks(intent):
        return False
    match settings.mode:
        case Mode.ENFORCE:
            return True
        case Mode.APPROVE:
            return by_person(intent)
        case _:
            return False


def only_checks(intent: Intent) -> bool:
    """Return whether it only checks, whatever the check sees."""
    return intent.look_only or intent.action is Action.CHECK


def by_person(intent: Intent) -> bool:
    """Return whether a person asked for it."""
    return not intent.automatic

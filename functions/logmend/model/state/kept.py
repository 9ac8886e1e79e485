"""What all documents in the ledger have in common."""

from logmend.model.json import JsonObject
from logmend.model.struct import Struct, field

SCHEMA = 2
"""Version of the whole ledger, kept with the fleet's switches. Each admission and commit reads it."""


class Kept(Struct, frozen=True, kw_only=True):
    """A value that is stored as its own document.

    ``unknown`` are fields of a newer revision, written back unchanged.
    """

    unknown: JsonObject = field(default_factory=dict)

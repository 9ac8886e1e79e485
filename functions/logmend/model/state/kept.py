"""What all documents of the ledger have in common."""

from logmend.model.json import JsonObject
from logmend.model.struct import Struct, field

SCHEMA = 2
"""Version of the ledger as a whole, kept with the fleet's switches: each admission and commit reads it."""


class Kept(Struct, frozen=True, kw_only=True):
    """A value that is stored as a document of its own.

    ``unknown`` are the fields of a newer revision, written back as they were found.
    """

    unknown: JsonObject = field(default_factory=dict)

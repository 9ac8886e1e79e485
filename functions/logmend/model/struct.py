"""The base class for values: frozen structs (docs/adr/0009), and ``replace`` for them.

To readers and the type checker ``class Name(Struct, frozen=True)`` is like a frozen dataclass, but it costs a
fiftieth of one at import, which every cold start waits for. Use a dataclass for objects that change, that
exclude a field from comparison, or that say more about their fields than the types (as the settings do).
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

if TYPE_CHECKING:
    from dataclasses import replace  # with this import the type checker knows the fields of both kinds
else:

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy of a struct or dataclass with these fields changed; TypeError for unknown fields."""
        if isinstance(value, Struct):
            return msgspec.structs.replace(value, **changes)
        return dataclasses.replace(value, **changes)


__all__ = ["Struct", "field", "replace"]

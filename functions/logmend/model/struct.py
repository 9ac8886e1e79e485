"""What values are made of: frozen structs (docs/adr/0009), and ``replace`` for them.

``class Name(Struct, frozen=True)`` is to a reader and to the type checker what a frozen dataclass is, and
costs a fiftieth of one at import, which every cold start waits for. What changes, keeps a field out of its
comparisons or says more of its fields than their types (the settings do) is a dataclass.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

if TYPE_CHECKING:
    from dataclasses import replace  # under this name the type checker knows the fields of both kinds
else:

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy with these fields changed, of a struct or a dataclass; TypeError for unknown ones."""
        if isinstance(value, Struct):
            return msgspec.structs.replace(value, **changes)
        return dataclasses.replace(value, **changes)


__all__ = ["Struct", "field", "replace"]

"""JSON as it comes in, from Google or in a log line: its shape is known only once it is checked."""

from collections.abc import Mapping
from typing import Any

JsonObject = Mapping[str, Any]
"""A JSON object that was parsed and not yet checked: any value may be of any JSON type, or missing."""

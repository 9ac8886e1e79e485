"""JSON as it arrives from Google or in a log line: its shape is unknown until checked."""

from collections.abc import Mapping
from typing import Any

JsonObject = Mapping[str, Any]
"""A JSON object that was parsed but not checked: any value may have any JSON type or be missing."""

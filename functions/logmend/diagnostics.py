"""What the function says of itself: a JSON object a line on standard error, with a severity.

functions-framework configures logging after it has imported ``main`` where the platform sets
``LOG_EXECUTION_ID`` (its ``_configure_app_execution_id_logging``): ``dictConfig`` then disables every logger
that is there, ours and asyncio's, and its own handler writes plain text. So this is put in place with every
request, which costs two comparisons. It writes to the file that was standard error at start, in one call a
line, whatever has been put in front of ``sys.stderr`` since.
Form: cloud.google.com/logging/docs/structured-logging.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

_SEVERITIES = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")


class Diagnostics(logging.Handler):
    """The root logger's only handler. ``execution`` gives the platform's id of the request under way."""

    def __init__(self, execution: Callable[[], str | None], stream: TextIO | None = None) -> None:
        super().__init__()
        self._execution = execution
        self._stream = stream or sys.stderr

    def ensure(self) -> None:
        """Take the root logger over, and turn on again what was turned off, unless both are so already."""
        root = logging.getLogger()
        if root.handlers == [self]:
            return
        root.handlers[:] = [self]
        root.setLevel(logging.WARNING)
        for each in list(root.manager.loggerDict.values()):
            if isinstance(each, logging.Logger):
                each.disabled = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; its traceback goes into the message, where Error Reporting looks for it."""
        try:
            severity = record.levelname if record.levelname in _SEVERITIES else "DEFAULT"
            location = {"file": record.pathname, "line": str(record.lineno), "function": record.funcName}
            self.say(
                severity,
                {
                    "message": self.format(record),
                    "logger": record.name,
                    "logging.googleapis.com/sourceLocation": location,
                },
            )
        except Exception:  # noqa: BLE001  a record that cannot be written must not fail the event
            self.handleError(record)

    def say(self, severity: str, document: Mapping[str, object]) -> None:
        """Write a document of one's own as an entry of the function's log."""
        entry = {"severity": severity, "time": datetime.now(UTC).isoformat()} | dict(document)
        if execution := self._execution():
            entry["logging.googleapis.com/labels"] = {"execution_id": execution}
        self.acquire()
        try:
            self._stream.write(json.dumps(entry, default=str) + "\n")
            self._stream.flush()
        finally:
            self.release()

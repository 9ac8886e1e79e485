"""The query language's only error: a filter that is invalid or cannot be evaluated here."""

from logmend.errors import LogmendError


class FilterError(LogmendError):
    """A filter that cannot be used.

    ``message`` says what is wrong in one clause, ``line`` and ``column`` where (both count from 1),
    ``expected`` what may stand there (may be empty) and ``hint`` what to write instead (may be empty).
    """

    def __init__(self, message: str, line: int, column: int, expected: str = "", hint: str = "") -> None:
        super().__init__(message, line, column, expected, hint)
        self.message = message
        self.line = line
        self.column = column
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        """Return a text like ``line 1, column 14: expected a value after '=' (hint: ...)``."""
        told = f"line {self.line}, column {self.column}: {self.message}"
        if self.expected and self.expected not in self.message:
            told += f", expected {self.expected}"
        return f"{told} (hint: {self.hint})" if self.hint else told

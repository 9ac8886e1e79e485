"""Where Cloud Functions looks for the function: :mod:`logmend.function`."""

from logmend.function import remediate

__all__ = ["remediate"]

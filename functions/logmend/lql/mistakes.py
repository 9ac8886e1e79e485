"""Likely mistakes."""

from logmend.lql.filters import Filter, Warning  # noqa: A004


def of(_filter: Filter) -> list[Warning]:
    """List them."""
    return []

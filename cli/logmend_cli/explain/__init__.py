"""``logmend explain``."""

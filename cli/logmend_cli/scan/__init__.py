"""``logmend scan``."""

"""``logmend replay``."""

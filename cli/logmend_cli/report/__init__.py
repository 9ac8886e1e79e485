"""``logmend report``."""

"""``logmend status``."""

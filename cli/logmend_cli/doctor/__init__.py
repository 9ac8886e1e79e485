"""``logmend doctor``."""

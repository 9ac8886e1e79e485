"""``logmend approvals``."""

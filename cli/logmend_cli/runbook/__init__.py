"""``logmend runbook``."""

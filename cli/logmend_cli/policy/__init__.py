"""``logmend policy``: the OS policy assignments of the osconfig executor."""

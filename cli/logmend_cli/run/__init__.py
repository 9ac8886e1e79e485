"""``logmend run``, and what ``logmend revert`` shares with it."""

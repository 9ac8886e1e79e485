"""The operator's command, ``logmend``. It decides nothing itself: commands ask the production stages."""

"""The operator's command, ``logmend``. Nothing here decides: commands ask the production stages."""

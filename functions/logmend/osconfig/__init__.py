"""Runbooks as OS policy assignments, and how an agent's reports about them are read."""

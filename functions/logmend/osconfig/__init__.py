"""Runbooks as OS policy assignments, and what an agent's report says of them."""

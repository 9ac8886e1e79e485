"""Implementations of the ports: the only code that knows Google, SSH or a database."""

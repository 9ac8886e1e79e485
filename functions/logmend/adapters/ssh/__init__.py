"""The ``ssh`` executor: routes, host keys, credentials, and running scripts over a connection."""

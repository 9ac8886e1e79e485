"""The ``ssh`` executor: routes, host keys, credentials, scripts on a connection."""

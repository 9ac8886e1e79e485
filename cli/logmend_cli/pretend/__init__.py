"""A pretend fleet, which ``make demo`` and the tests use instead of Google Cloud and real VMs."""

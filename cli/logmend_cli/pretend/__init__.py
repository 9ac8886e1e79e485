"""A pretend fleet: what ``make demo`` and the tests run against instead of Google Cloud and real VMs."""

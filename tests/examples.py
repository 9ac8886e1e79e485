"""How many examples a property is tried with: all of them in CI, a fifth in the inner loop.

pytest's ``--hypothesis-profile=full`` chooses by hand. No example has a deadline: a busy machine is no fault.
"""

import os

from hypothesis import HealthCheck, settings

FULL, QUICK = "full", "quick"
IN_CI = bool(os.environ.get("CI")) or os.environ.get("LOGMEND_REQUIRE_ALL") == "1"

for name, percent in ((FULL, 100), (QUICK, 20)):
    settings.register_profile(
        name, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=percent
    )
settings.load_profile(FULL if IN_CI else QUICK)


def examples(count: int) -> settings:
    """Return the settings that try ``count`` examples in CI, and the profile's share of them elsewhere."""
    assert settings.default is not None
    return settings(max_examples=max(1, count * settings.default.max_examples // 100))


def seeds(count: int) -> range:
    """Return ``count`` seeds of a random test in CI, and the profile's share of them elsewhere."""
    assert settings.default is not None
    return range(max(1, count * settings.default.max_examples // 100))

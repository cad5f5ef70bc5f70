"""How hard Hypothesis tries: the same examples every time, or as many new ones as KEEPIP_EXAMPLES says (make laws).

A test's result depends on what is tested and on nothing else; new examples are for who has time to look at one.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
_COMMON = settings(deadline=None, suppress_health_check=_SLOW)
settings.register_profile("same", _COMMON, max_examples=500 if os.environ.get("CI") else 100, derandomize=True)
settings.register_profile("new", _COMMON, max_examples=int(os.environ.get("KEEPIP_EXAMPLES", "1000")), print_blob=True)
settings.load_profile("new" if "KEEPIP_EXAMPLES" in os.environ else "same")

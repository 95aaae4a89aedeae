"""Settings of the indexer's tests."""

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "atlases",
    deadline=None,
    print_blob=True,
    derandomize="CI" in os.environ,  # as Hypothesis does it in its own profile for CI
    # shrinking would build thousands of atlases; the strategies start small anyway
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("atlases")

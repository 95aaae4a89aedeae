"""Settings of the indexer's tests."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from insignia_index.search import scoring

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


@pytest.fixture(scope="session", autouse=True)
def threads_share_however_little_there_is() -> Iterator[None]:
    """Else the few cells of a test would all be scored by one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "WORTH_A_THREAD", 1)
        yield

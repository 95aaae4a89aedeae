"""Attributions equal those of sc-signature, kept in tests/golden/attributions."""

import numpy as np
import pytest
from tests.golden.attributions.answers import (
    FOLDERS,
    METHODS,
    NOISE,
    golden_answer,
    golden_counts,
    golden_model,
)

from insignia_index.attribution import Attributor, Recipe
from insignia_index.attribution.errors import VanishingGradient

#: A transformer at 50 points takes seconds a cell: every third will do.
SLOW = {("scfoundation-signature", "ig"): 3}
OURS = {"ig": "ig", "dl": "deeplift", "ixg": "input-x-gradient"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", FOLDERS)
def test_attributions_equal_those_of_sc_signature(kind: str, method: str) -> None:
    model = golden_model(kind)
    recipe = Recipe(method=OURS[method])
    if (kind, method) in NOISE:
        with pytest.raises(VanishingGradient):
            Attributor(model, recipe)
        return
    cells = slice(None, None, SLOW.get((kind, method), 1))
    found = Attributor(model, recipe).attribute(model.prepare(golden_counts(model)[cells])).toarray()
    expected = golden_answer(kind, method)[cells]
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)
    np.testing.assert_array_equal(found > 0, expected > 0)

"""Rankings without a gene, beside scipy and a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, spearmanr

from insignia_index.search.leave_out import effective_number, leave_out, order_of_means, shares, strongest


def contributions(draw: st.DrawFn) -> np.ndarray:
    n_groups, n_genes = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = rng.integers(-3, 4, (n_groups, n_genes)).astype(float)  # many ties
    return whole if draw(st.booleans()) else whole * rng.gamma(1, 1, whole.shape)


@given(st.composite(contributions)())
def test_rankings_equal_those_of_scipy_and_a_loop(parts: np.ndarray) -> None:
    parts = parts[order_of_means(parts)]
    means = parts.sum(axis=1)
    assert (np.diff(means) <= 1e-9).all()
    found = leave_out(parts)
    for gene in range(parts.shape[1]):
        rest = np.round(np.delete(parts, gene, axis=1).sum(axis=1), 9)
        if parts.shape[1] == 1 or not rest.any():
            assert (found.first[gene], found.rank[gene]) == (-1, -1)
            assert np.isnan(found.correlation[gene])
            continue
        assert found.first[gene] == rest.argmax()
        assert found.rank[gene] == 1 + (rest > rest[0]).sum()
        if len(set(np.round(means, 9))) < 2 or len(set(rest)) < 2:
            assert np.isnan(found.correlation[gene])
        else:
            wanted = spearmanr(np.round(means, 9), rest).statistic
            assert found.correlation[gene] == pytest.approx(wanted, abs=1e-9)


@given(st.composite(contributions)())
def test_shares_and_effective_numbers_are_those_of_the_absolute_contributions(parts: np.ndarray) -> None:
    found, effective, first = shares(parts), effective_number(shares(parts)), strongest(parts)
    for i, row in enumerate(parts):
        total = np.abs(row).sum()
        if total == 0:
            assert np.isnan(found[i]).all()
            assert np.isnan(effective[i])
            assert first[i] == -1
            continue
        np.testing.assert_allclose(found[i], row / total, rtol=1e-12)
        assert effective[i] == pytest.approx(np.exp(entropy(np.abs(row))), rel=1e-9)
        assert 1 - 1e-9 <= effective[i] <= np.count_nonzero(row) + 1e-9
        assert first[i] == np.abs(row).argmax()


def test_equal_genes_count_as_many_and_one_as_one() -> None:
    assert effective_number(shares(np.array([[2.0, 2.0, -2.0, 2.0]]))) == pytest.approx([4])
    assert effective_number(shares(np.array([[0.0, 5.0, 0.0]]))) == pytest.approx([1])

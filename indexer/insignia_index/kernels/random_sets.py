"""Bins of genes: their moments, and scores of random signatures drawn from them."""

from __future__ import annotations

import numpy as np
from numba import njit

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@njit(nogil=True, inline="always")
def _mixed(state):
    """Splitmix64 (Steele et al. 2014, doi:10.1145/2714064.2660195): the random word of a counter's state."""
    z = (state ^ (state >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True)
def bin_moments(by_gene, order, starts, sizes, mean, variance, cubes):
    """Write the moments of every bin's genes, float64 (n_bins, n_groups); those are zero before.

    Mean, variance (divided by genes - 1; 0 for one gene) and sum of third powers around the mean, of
    ``by_gene`` float64 (n_genes, n_groups); ``order`` int64 (n_genes,): genes by bin, of ``sizes`` from
    ``starts``.
    """
    n_groups = by_gene.shape[1]
    for b in range(len(starts)):
        genes = order[starts[b] : starts[b] + sizes[b]]
        for gene in genes:
            for c in range(n_groups):
                mean[b, c] += by_gene[gene, c]
        for c in range(n_groups):
            mean[b, c] /= sizes[b]
        for gene in genes:
            for c in range(n_groups):
                off = by_gene[gene, c] - mean[b, c]
                variance[b, c] += off * off
                cubes[b, c] += off * off * off
        for c in range(n_groups):
            variance[b, c] /= max(sizes[b] - 1, 1)


@njit(nogil=True, cache=True)
def random_scores(values, starts, sizes, weights, seed, out):
    """Write weighted sums under random genes to ``out`` float64 (n_draws, n_groups).

    ``values`` float64 (n_pool, n_groups): of the genes that may be drawn, bin by bin. Gene i of the signature
    has the weight ``weights[i]`` and comes from the ``sizes[i]`` rows from ``starts[i]``; genes of a bin
    stand side by side, and no row is drawn twice. The same ``seed`` uint64 gives the same draws, and more of
    them begin with the fewer.
    """
    pool = np.arange(len(values))
    state = seed
    taken = 0
    for draw in range(len(out)):
        out[draw] = 0.0
        for i in range(len(weights)):
            taken = taken + 1 if i > 0 and starts[i] == starts[i - 1] else 0
            state += _STEP
            left = np.uint64(sizes[i] - taken)
            # 32 random bits times the number of genes left: off by less than genes / 2**32
            at = starts[i] + taken
            pick = at + np.int64(((_mixed(state) >> np.uint64(32)) * left) >> np.uint64(32))
            row = pool[pick]
            pool[pick] = pool[at]
            pool[at] = row
            weight = weights[i]
            for c in range(out.shape[1]):
                out[draw, c] += weight * values[row, c]

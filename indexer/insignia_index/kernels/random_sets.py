"""Scores of random signatures: every gene replaced by one drawn, without replacement, from its bin."""

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
def random_scores(by_gene, columns, pool, starts, sizes, bins, weights, seed, out):
    """Write weighted sums under random genes to ``out`` float64 (n_draws, n_columns).

    ``by_gene`` float64 (n_genes, n_groups), of which ``columns`` int64 are wanted. ``pool`` int64 (n_genes,):
    genes by bin; it is shuffled within bins. ``starts``, ``sizes`` int64 (n_bins,). ``bins`` int64 (n,)
    ascending and ``weights`` float64 (n,): of the signature's genes. ``seed`` uint64. The same arguments
    give the same draws, and more of them begin with the fewer.
    """
    n = len(bins)
    state = seed
    for draw in range(len(out)):
        for c in range(len(columns)):
            out[draw, c] = 0.0
        taken = 0
        for i in range(n):
            taken = taken + 1 if i > 0 and bins[i] == bins[i - 1] else 0
            state += _STEP
            left = np.uint64(sizes[bins[i]] - taken)
            # 32 random bits times the number of genes left: off by less than genes / 2**32
            at = starts[bins[i]] + taken
            pick = at + np.int64(((_mixed(state) >> np.uint64(32)) * left) >> np.uint64(32))
            gene = pool[pick]
            pool[pick] = pool[at]
            pool[at] = gene
            row, weight = by_gene[gene], weights[i]
            for c in range(len(columns)):
                out[draw, c] += weight * row[columns[c]]
